"""Six biquads and a compressor in numpy, for workers; `dafxhost_effects.eq_compressor` names the formulas.

Our own code. The recursions are computed in float64 without a loop over samples (`recursion`), logarithms and
exponentials in float32, which is ten times as quick: -120 dB of the sound.
Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.errors import ParameterError, PluginError
from dafxhost.processor import Processor, RenderSpec
from dafxhost_effects.builtin.recursion import Recursion
from dafxhost_effects.eq_compressor import BANDS, HIGHEST, PARAMETERS, QUIETEST

DECIBELS = 20.0 / np.log(10.0)
NOTHING = np.zeros(0, dtype=np.intp)
LOW = np.array([p.minimum for p in PARAMETERS])
HIGH = np.array([p.maximum for p in PARAMETERS])


def biquads(bands: np.ndarray, rate: float) -> np.ndarray:
    """Gain (dB), frequency (Hz) and Q of each band, `[6, 3]` -> `[6, 5]`: b0, b1, b2, a1, a2, a0 being 1."""
    gain, hertz, q = bands.T
    amplitude = 10.0 ** (gain / 40.0)
    w = 2.0 * np.pi * np.minimum(hertz / rate, HIGHEST)
    cosine, alpha = np.cos(w), np.sin(w) / (2.0 * q)
    return np.stack(
        [
            _shelf(amplitude[0], cosine[0], alpha[0], 1.0),
            *(_peak(amplitude[i], cosine[i], alpha[i]) for i in range(1, len(BANDS) - 1)),
            _shelf(amplitude[-1], cosine[-1], alpha[-1], -1.0),
        ]
    )


def _peak(amplitude: float, cosine: float, alpha: float) -> np.ndarray:
    up, down = alpha * amplitude, alpha / amplitude
    rows = [1.0 + up, -2.0 * cosine, 1.0 - up, -2.0 * cosine, 1.0 - down]
    return np.array(rows) / (1.0 + down)


def _shelf(amplitude: float, cosine: float, alpha: float, side: float) -> np.ndarray:
    """`side` 1: the low shelf; -1: the high one, which is its mirror image: cos w of the other sign."""
    plus, minus, cosine = amplitude + 1.0, amplitude - 1.0, side * cosine
    width = 2.0 * np.sqrt(amplitude) * alpha
    b0 = amplitude * (plus - minus * cosine + width)
    b1 = 2.0 * amplitude * (minus - plus * cosine) * side
    b2 = amplitude * (plus - minus * cosine - width)
    a0 = plus + minus * cosine + width
    a1 = -2.0 * (minus + plus * cosine) * side
    a2 = plus + minus * cosine - width
    return np.array([b0, b1, b2, a1, a2]) / a0


def cascade(coefficients: np.ndarray) -> Recursion:
    """All biquads `[N, 5]` one after the other as one filter (transposed direct form II)."""

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        new = np.empty_like(state)
        for i, (b0, b1, b2, a1, a2) in enumerate(coefficients):
            y = b0 * x + state[2 * i]
            new[2 * i] = b1 * x - a1 * y + state[2 * i + 1]
            new[2 * i + 1] = b2 * x - a2 * y
            x = y
        return new, x

    return Recursion(step, 2 * len(coefficients))


def smoother(attack: float, release: float, rate: float) -> Recursion:
    """One pole with the geometric mean of two times (ms) as its time constant."""
    pole = np.exp(-1000.0 / (rate * np.sqrt(attack * release)))

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        y = pole * state[0] + (1.0 - pole) * x
        return np.array([y]), y

    return Recursion(step, 1)


def gain_decibels(level: np.ndarray, threshold: float, ratio: float, knee: float) -> np.ndarray:
    """Level `[N]` in decibels, float32 -> gain in decibels (0 or below), with a soft knee."""
    f32 = np.float32
    over = level - f32(threshold - knee / 2.0)  # above the knee's beginning
    inside = np.clip(over, f32(0.0), f32(knee))  # a parabola within the knee, a line above it
    np.subtract(over, f32(knee), out=over)
    np.maximum(over, f32(0.0), out=over)
    inside *= inside
    inside *= f32(1.0 / (2.0 * knee))
    over += inside
    over *= f32(1.0 / ratio - 1.0)
    return over


class EqCompressorProcessor(Processor):
    """`eq-compressor`. Plugin values `[24]`: the native values. One gain for both channels, from the louder.

    Takes no options. No latency.
    """

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        if options:
            raise ParameterError(f"eq-compressor takes no options, not {', '.join(sorted(options))}")
        self.spec = spec
        self._values: np.ndarray | None = None

    def prepare(self, values: np.ndarray) -> None:
        """Raises ParameterError for anything but 24 values within their parameters' ranges."""
        values = np.asarray(values, dtype=np.float64)
        slack = 1e-9 * (HIGH - LOW)  # what a way to 0..1 and back may cost
        if values.shape != LOW.shape or not ((values >= LOW - slack) & (values <= HIGH + slack)).all():
            raise ParameterError(f"eq-compressor takes {len(LOW)} plugin values within their ranges")
        rate = float(self.spec.sample_rate)
        eq, (threshold, ratio, attack, release, knee, makeup) = values[:-6], values[-6:]
        self._values = values.copy()
        self._filter = cascade(biquads(eq.reshape(len(BANDS), 3), rate))
        self._smoother = smoother(attack, release, rate)
        self._curve, self._makeup = (threshold, ratio, knee), makeup
        self._state = np.zeros((self.spec.channels, self._filter.order))
        self._gain = np.zeros(1)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        if self._values is None:
            raise PluginError("process called before prepare")
        equalised = np.stack(
            [self._filter.run(x, state, NOTHING)[0] for x, state in zip(audio, self._state, strict=True)]
        ).astype(np.float32)
        level = np.abs(equalised).max(axis=0)
        np.maximum(level, np.float32(QUIETEST), out=level)
        np.log(level, out=level)
        level *= np.float32(DECIBELS)
        gain, _ = self._smoother.run(gain_decibels(level, *self._curve), self._gain, NOTHING)
        gain += self._makeup
        gain *= 1.0 / DECIBELS
        np.multiply(equalised, np.exp(gain, dtype=np.float32, casting="same_kind"), out=out)

    def read_back(self) -> np.ndarray | None:
        return None if self._values is None else self._values.copy()
