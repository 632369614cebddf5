"""At which level an evaluation compares recordings, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dafxhost.errors import UnknownNameError


@dataclass(frozen=True)
class Protocol:
    """How levels are treated before every distance.

    Attributes:
        name: as given to `--protocol`. summary: in words.
        level: "peak": every render at a peak of -12 dBFS, as input and target are; "rms": every render and
            the input at the target's RMS.
    """

    name: str
    level: Literal["peak", "rms"]
    summary: str


GRANT = Protocol("grant", "peak", "renders, inputs and targets at a peak of -12 dBFS")
LEVEL_MATCHED = Protocol(
    "level-matched", "rms", "targets at a peak of -12 dBFS, renders and inputs at their target's RMS"
)
PROTOCOLS = {protocol.name: protocol for protocol in (GRANT, LEVEL_MATCHED)}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises UnknownNameError."""
    if name not in PROTOCOLS:
        raise UnknownNameError("protocol", name, PROTOCOLS)
    return PROTOCOLS[name]
