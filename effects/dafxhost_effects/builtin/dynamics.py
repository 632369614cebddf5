"""The compressor, limiter and gate mda Dynamics in numpy.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaDynamics.cpp` of
mda-lv2 (https://github.com/mod-audio/mda-lv2, GPL) and checked against Debian's binary by
`benchmarks/null.py`. The envelopes are Python loops (`float32_loops`). Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dafxhost_effects.builtin.base import MdaProcessor, f32
from dafxhost_effects.builtin.float32_loops import gate, peak_follower, peak_holder

NO_LIMIT = 1000.0  # limiter level where it is off; a ratio below 0 can reach it


def power(exponent: np.float32) -> np.float32:
    """10 to a float32 exponent, rounded to float32."""
    return f32(10.0 ** float(exponent))


@dataclass(frozen=True)
class Coefficients:
    """What the ten plugin values come to; float32 as in the plugin."""

    threshold: np.float32  # of the compressor, amplitude
    ratio: np.float32  # how much the gain yields to the level above the threshold; below 0: expands
    gain: np.float32
    dry: np.float32
    attack: np.float32  # share of the distance taken in one sample
    release: np.float32  # what is left after one sample
    compressor_only: bool  # neither limiter nor gate, and a plain ratio
    limit: np.float32  # amplitude
    gate_threshold: np.float32  # amplitude
    gate_attack: np.float32
    gate_release: np.float32

    @classmethod
    def of(cls, values: np.ndarray) -> Coefficients:
        """From plugin values `[10]` on 0..1, float32. No coefficient depends on the sample rate."""
        thresh, slope, output, attack, release, limiter, gate_thr, gate_att, gate_rel, mix = values
        threshold = power(f32(2) * thresh - f32(2))
        ratio = f32(2.5) * slope - f32(0.5)
        plain = True
        if ratio > 1:
            ratio = f32(1) + f32(16) * (ratio - f32(1)) * (ratio - f32(1))
            plain = False
        if ratio < 0:
            ratio = f32(0.6) * ratio
            plain = False
        limit = f32(NO_LIMIT)
        if not float(limiter) > 0.98:
            # In whole decibels, cut towards 0.
            limit = f32(0.99) * power(f32(int(30.0 * float(limiter) - 20.0)) / f32(20))
            plain = False
        gate_threshold = f32(0)
        if not float(gate_thr) < 0.02:
            gate_threshold = power(f32(3) * gate_thr - f32(3))
            plain = False
        if ratio < 0 and threshold < f32(0.1):
            ratio = ratio * (threshold * f32(15))
        return cls(
            threshold=threshold,
            ratio=ratio,
            gain=power(f32(2) * output) * mix,
            dry=f32(1) - mix,
            attack=power(f32(-0.002) - f32(2) * attack),
            release=f32(1) - power(f32(-2) - f32(3) * release),
            compressor_only=plain,
            limit=limit,
            gate_threshold=gate_threshold,
            gate_attack=power(f32(-0.002) - f32(3) * gate_att),
            gate_release=f32(1) - power(f32(-2) - f32(3.3) * gate_rel),
        )


class DynamicsProcessor(MdaProcessor):
    """mda Dynamics. Plugin values `[10]` on 0..1: thresh, ratio, output, attack, release, limiter (above
    0.98: off), gate_thr (below 0.02: off), gate_att, gate_rel, mix.

    One gain for both channels, from the louder one.
    """

    name = "mda-dynamics"
    new_instance = (0.6, 0.4, 0.1, 0.18, 0.55, 1.0, 0.0, 0.1, 0.5, 1.0)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        self._c = Coefficients.of(values)
        self._envelope = self._peak = self._open = f32(0)

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        c = self._c
        level = np.abs(left) if left is right else np.maximum(np.abs(left), np.abs(right))
        envelope, self._envelope = peak_follower(level, self._envelope, c.attack, c.release)
        # A ratio below 0 can bring the divisor to 0 or below: the gain meets the limiter, or is cut at 0.
        with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
            over = c.gain / (f32(1) + c.ratio * (envelope / c.threshold - f32(1)))
            gain = np.where(envelope > c.threshold, over, c.gain)
            if not c.compressor_only:
                gain = self._limit_and_gate(level, envelope, np.where(gain < 0, f32(0), gain))
            gain = gain + c.dry
            wet = left * gain
            return wet, wet if left is right else right * gain

    def _limit_and_gate(self, level: np.ndarray, envelope: np.ndarray, gain: np.ndarray) -> np.ndarray:
        c = self._c
        peak, self._peak = peak_holder(level, level > envelope, self._peak, c.release)
        gain = np.where(gain * peak > c.limit, c.limit / peak, gain)
        opened, self._open = gate(envelope > c.gate_threshold, self._open, c.gate_attack, c.gate_release)
        return gain * opened
