"""Tempo and pitch as an effect that whole clips are rendered with, found by its place:
"pedalboard:time_stretch".

It has no name in the registry, since its output is not the input moment by moment: nothing can be trained
through it.
"""

from __future__ import annotations

from dafxhost.effects import Effect, Provider
from dafxhost.errors import UnknownNameError
from dafxhost.parameters import Parameter, Port
from dafxhost_effects import pedalboard_effects

LOCATION = "pedalboard:time_stretch"
FINE = LOCATION + "#fine"
"""With Rubber Band's better and slower engine."""


def at(location: str, provider: str | None = None) -> Effect | None:
    """The effect, or None if it is another place. Raises UnknownNameError, EffectUnavailableError."""
    if location not in (LOCATION, FINE):
        return None
    if provider not in (None, "pedalboard"):
        raise UnknownNameError(f"provider of {location}", str(provider), ["pedalboard"])
    identity = pedalboard_effects.make("pedalboard-pitch-shift").provider.identity
    processor = "dafxhost_effects.hosts.time_stretch:TimeStretch"
    tempo = Parameter(
        "tempo", minimum=0.5, maximum=2.0, default=1.0, scale="log", port=Port(0, 0.5, 2.0, space="native")
    )
    pitch = Parameter(
        "semitones",
        minimum=-12.0,
        maximum=12.0,
        default=0.0,
        unit="semitones",
        port=Port(1, -12.0, 12.0, space="native"),
    )
    return Effect(
        "time-stretch",
        (tempo, pitch),
        Provider("pedalboard", processor, {"fine": location == FINE}, identity),
        "Tempo and pitch of whole clips (Rubber Band)",
        2,
        2,
    )
