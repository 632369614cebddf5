"""`eq-compressor`: a six-band equaliser and a compressor, once in NumPy for workers and once in torch.

The effect on which estimated gradients are measured against automatic ones: its 24 parameters are those of
the effect that DeepAFx-ST trains through (Steinmetz, Bryan and Reiss, "Style transfer of audio effects with
differentiable signal processing", JAES 70(9), 2022): three for each of six bands, six for the compressor. The
code and the ranges are ours.

The formulas, with their sources. `builtin.eq_compressor` computes them sample after sample in NumPy,
`torch_effects.eq_compressor` in the frequency domain, with gradients; a test compares the two.

- Bands: R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients": lowShelf,
  peakingEQ (four of them), highShelf, with Q. A frequency above `HIGHEST` of the sample rate is taken there.
- Compressor: D. Giannoulis, M. Massberg and J. D. Reiss, "Digital dynamic range compressor design: a tutorial
  and analysis", JAES 60(6), 2012: feed-forward, level in decibels sample by sample, soft knee, the gain
  smoothed in decibels by one pole a = exp(-1 / (fs tau)).
- One time constant, as in DeepAFx-ST, where a filter that switched between two could not run in the frequency
  domain. There attack and release are one value; here tau is their geometric mean, so that both matter.
"""

from __future__ import annotations

from dafxhost import __version__
from dafxhost.effects import Effect, Provider
from dafxhost.errors import UnknownNameError
from dafxhost.parameters import Parameter, Port
from dafxhost_effects.factories import Factories

NAME = "eq-compressor"
PROCESSOR = "dafxhost_effects.builtin.eq_compressor:EqCompressorProcessor"
SUMMARY = "Six-band equaliser and compressor, differentiable in torch"

BANDS = ("low_shelf", "peak_1", "peak_2", "peak_3", "peak_4", "high_shelf")
"""In the order in which they follow one another; a setting has gain, frequency and Q of each."""

HIGHEST = 0.45
"""Of the sample rate: where the frequencies of the bands end."""

QUIETEST = 1e-6
"""Amplitude (-120 dBFS) that the level detector takes for silence."""

_HERTZ = ((40, 400, 100), (80, 800, 250), (250, 2500, 800), (800, 5000, 2000), (2000, 9000, 4500),
          (3000, 10000, 8000))  # fmt: skip
_Q = (0.3, 3.0, 0.707)
_COMPRESSOR = (
    ("threshold", -60.0, 0.0, -20.0, "dB", "linear"),
    ("ratio", 1.0, 20.0, 2.0, "", "log"),
    ("attack", 1.0, 100.0, 10.0, "ms", "log"),
    ("release", 10.0, 1000.0, 100.0, "ms", "log"),
    ("knee", 1.0, 24.0, 6.0, "dB", "linear"),
    ("makeup", 0.0, 24.0, 0.0, "dB", "linear"),
)


def _rows() -> list[tuple[str, float, float, float, str, str]]:
    rows = []
    for band, (low, high, usual) in zip(BANDS, _HERTZ, strict=True):
        rows.append((f"{band}_gain", -12.0, 12.0, 0.0, "dB", "linear"))
        rows.append((f"{band}_freq", float(low), float(high), float(usual), "Hz", "log"))
        rows.append((f"{band}_q", *_Q, "", "log"))
    return [*rows, *_COMPRESSOR]


PARAMETERS = tuple(
    Parameter(name, "continuous", low, high, usual, unit, scale, (), Port(i, low, high, space="native"), name)  # pyright: ignore[reportArgumentType]
    for i, (name, low, high, usual, unit, scale) in enumerate(_rows())
)
"""24 of them. What a worker gets are native values."""


def table() -> dict[str, str]:
    return {NAME: SUMMARY}


def summary(name: str) -> str:
    return table()[name]


def provider_of(name: str) -> str:
    del name
    return "builtin"


def make(provider: str | None = None) -> Effect:
    """The effect.

    Raises:
        UnknownNameError: no such provider.
    """
    if provider not in (None, "builtin"):
        raise UnknownNameError(f"provider of {NAME}", str(provider), ["builtin"])
    # dafxhost's own code: its version says which.
    return Effect(
        NAME, PARAMETERS, Provider("builtin", PROCESSOR, {}, f"dafxhost {__version__}"), SUMMARY, 2, 2
    )


factories = Factories(lambda name: make, table)
