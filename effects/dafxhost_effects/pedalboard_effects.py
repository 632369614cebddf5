"""pedalboard's built-in effects by name: names, native units and ranges, without importing pedalboard.

Ranges are those that pedalboard 0.9 enforces where it enforces any (reverb, mix, feedback, delay, resonance,
bit depth); the others are what such effects are used with.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
from dataclasses import dataclass, field
from typing import Any

from dafxhost.effects import Effect, Provider
from dafxhost.errors import EffectUnavailableError, UnknownNameError
from dafxhost.parameters import Kind, Parameter, Port, Scale
from dafxhost_effects.factories import Factories

PROCESSOR = "dafxhost_effects.hosts.pedalboard_builtin:PedalboardProcessor"
MODES = ("LPF12", "HPF12", "BPF12", "LPF24", "HPF24", "BPF24")


def _number(
    name: str, low: float, high: float, default: float, unit: str = "", scale: Scale = "linear"
) -> tuple[str, Kind, float, float, float, str, Scale]:
    return name, "continuous", low, high, default, unit, scale


def _db(name: str, low: float, high: float, default: float) -> tuple[Any, ...]:
    return _number(name, low, high, default, "dB")


def _hz(name: str, default: float, low: float = 20.0, high: float = 20000.0) -> tuple[Any, ...]:
    return _number(name, low, high, default, "Hz", "log")


def _ms(name: str, low: float, high: float, default: float) -> tuple[Any, ...]:
    return _number(name, low, high, default, "ms", "log")


_MIX = _number("mix", 0, 1, 0.5)
_FEEDBACK = _number("feedback", 0, 1, 0)


@dataclass(frozen=True)
class _Effect:
    cls: str
    text: str
    parameters: tuple[tuple[Any, ...], ...] = ()
    lag: tuple[float, float, float] | None = None
    choices: dict[str, tuple[str, ...]] = field(default_factory=dict)


_SHELF = (
    _hz("cutoff_frequency_hz", 440),
    _db("gain_db", -24, 24, 0),
    _number("q", 0.1, 10, 0.7071, "", "log"),
)

TABLE = {
    "pedalboard-bitcrush": _Effect(
        "Bitcrush", "Bit depth reduction", (_number("bit_depth", 1, 32, 8, "bits"),)
    ),
    "pedalboard-chorus": _Effect(
        "Chorus",
        "Chorus",
        (
            _number("rate_hz", 0, 20, 1, "Hz"),
            _number("depth", 0, 1, 0.25),
            _number("centre_delay_ms", 1, 50, 7, "ms"),
            _number("feedback", -0.95, 0.95, 0),
            _MIX,
        ),
    ),
    "pedalboard-clipping": _Effect("Clipping", "Hard clipping", (_db("threshold_db", -60, 0, -6),)),
    "pedalboard-compressor": _Effect(
        "Compressor",
        "Compressor",
        (
            _db("threshold_db", -60, 0, 0),
            _number("ratio", 1, 20, 1, "", "log"),
            _ms("attack_ms", 0.1, 500, 1),
            _ms("release_ms", 1, 5000, 100),
        ),
    ),
    "pedalboard-delay": _Effect(
        "Delay", "Delay", (_number("delay_seconds", 0.001, 2, 0.5, "s", "log"), _FEEDBACK, _MIX)
    ),
    "pedalboard-distortion": _Effect("Distortion", "tanh distortion", (_db("drive_db", 0, 60, 25),)),
    "pedalboard-gain": _Effect("Gain", "Gain", (_db("gain_db", -60, 24, 1),)),
    "pedalboard-high-shelf": _Effect("HighShelfFilter", "High shelf filter", _SHELF),
    "pedalboard-highpass": _Effect(
        "HighpassFilter", "High-pass, 6 dB/octave", (_hz("cutoff_frequency_hz", 50),)
    ),
    "pedalboard-invert": _Effect("Invert", "Polarity inversion"),
    "pedalboard-ladder": _Effect(
        "LadderFilter",
        "Ladder filter",
        (
            ("mode", "choice", 0, len(MODES) - 1, 0, "", "linear"),
            _hz("cutoff_hz", 200),
            _number("resonance", 0, 1, 0),
            _number("drive", 1, 50, 1, "", "log"),
        ),
        choices={"mode": MODES},
    ),
    "pedalboard-limiter": _Effect(
        "Limiter",
        "Loudness-maximising limiter",
        (_db("threshold_db", -60, 0, -10), _ms("release_ms", 1, 5000, 100)),
    ),
    "pedalboard-low-shelf": _Effect("LowShelfFilter", "Low shelf filter", _SHELF),
    "pedalboard-lowpass": _Effect(
        "LowpassFilter", "Low-pass, 6 dB/octave", (_hz("cutoff_frequency_hz", 50),)
    ),
    "pedalboard-noise-gate": _Effect(
        "NoiseGate",
        "Noise gate",
        (
            _db("threshold_db", -100, 0, -100),
            _number("ratio", 1, 20, 10, "", "log"),
            _ms("attack_ms", 0.1, 500, 1),
            _ms("release_ms", 1, 5000, 100),
        ),
    ),
    "pedalboard-peak": _Effect("PeakFilter", "Peak filter", _SHELF),
    "pedalboard-phaser": _Effect(
        "Phaser",
        "Phaser",
        (
            _number("rate_hz", 0, 20, 1, "Hz"),
            _number("depth", 0, 1, 0.5),
            _hz("centre_frequency_hz", 1300),
            _number("feedback", -0.95, 0.95, 0),
            _MIX,
        ),
    ),
    # Keeps back 1.03 to 1.13 s of audio, depending on pitch and sample rate (measured 16 to 48 kHz).
    "pedalboard-pitch-shift": _Effect(
        "PitchShift",
        "Pitch shift (Rubber Band)",
        (_number("semitones", -12, 12, 0, "semitones"),),
        lag=(1.05, 2.0, 2048.0),
    ),
    "pedalboard-reverb": _Effect(
        "Reverb",
        "Reverb (Freeverb)",
        (
            _number("room_size", 0, 1, 0.5),
            _number("damping", 0, 1, 0.5),
            _number("wet_level", 0, 1, 0.33),
            _number("dry_level", 0, 1, 0.4),
            _number("width", 0, 1, 1),
            ("freeze_mode", "toggle", 0, 1, 0, "", "linear"),
        ),
    ),
}


def table() -> dict[str, _Effect]:
    return TABLE


def summary(name: str) -> str:
    return TABLE[name].text


def _parameter(index: int, row: tuple[Any, ...], choices: dict[str, tuple[str, ...]]) -> Parameter:
    name, kind, low, high, default, unit, scale = row
    values = tuple(float(i) for i in range(len(choices.get(name, ()))))
    port = Port(index, low, high, values, space="native")
    return Parameter(name, kind, low, high, default, unit, scale, choices.get(name, ()), port, name)


def make(name: str, provider: str | None = None) -> Effect:
    """A built-in effect of pedalboard.

    Raises:
        UnknownNameError: no such provider. EffectUnavailableError: pedalboard is not installed.
    """
    if provider not in (None, "pedalboard"):
        raise UnknownNameError(f"provider of {name}", str(provider), ["pedalboard"])
    if provider_of(name) != "pedalboard":
        raise EffectUnavailableError(f"{name} needs the Python package pedalboard, which is not installed")
    facts = TABLE[name]
    options = {
        "effect": facts.cls,
        "names": [row[0] for row in facts.parameters],
        "choices": {k: list(v) for k, v in facts.choices.items()},
        "lag": facts.lag,
    }
    identity = f"pedalboard {importlib.metadata.version('pedalboard')}"
    return Effect(
        name,
        tuple(_parameter(i, row, facts.choices) for i, row in enumerate(facts.parameters)),
        # Cutoffs are single precision: 1e-3 of 20 kHz is far below what they round to.
        Provider("pedalboard", PROCESSOR, options, identity, read_back_tolerance=2e-3),
        facts.text,
        2,
        2,
    )


def provider_of(name: str) -> str:
    """Cheap: "pedalboard", or "not installed"."""
    del name
    return "pedalboard" if importlib.util.find_spec("pedalboard") else "not installed"


factories = Factories(lambda name: functools.partial(make, name), table)
