"""The effects that come with dafxhost, registered as anybody's would be."""

from __future__ import annotations

from dafxhost.registry import EffectSpec, hookimpl


@hookimpl
def dafxhost_effects() -> list[EffectSpec]:
    return []
