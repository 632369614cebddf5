"""The encoders that come with dafxhost, registered as anybody's would be."""

from __future__ import annotations

from dafxhost.registry import EncoderSpec, hookimpl


@hookimpl
def dafxhost_encoders() -> list[EncoderSpec]:
    return []
