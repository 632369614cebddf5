"""mda Limiter in numpy: a feedback limiter with a hard or a soft knee.

Our own code for Paul Kellett's algorithm; its formulas are facts read in `mdaLimiter.cpp` of mda-lv2 (GPL)
and checked against Debian's binary by `benchmarks/null.py`. With x = abs(left + right):

    hard knee: v = g x / 2;          g -= a (v - t) where v > t, else g += r (1 - g);  t = 10^(2 thresh - 2)
    soft knee: v = 1 / (1 + t x);    g -= a (g - v) where g > v, else g += r (v - g);  t = 10^(1 - 2 thresh)
    output 10^(2 output - 1) g times each channel;  a = 10^(-2 attack);  r = 10^(-2 - 3 release)

Times therefore depend on the sample rate. A fresh instance's a is 10^(-0.01 - 2 attack), and stays so while
all values are its defaults. Imports numpy only.

The gain needs a loop over samples, and rounding to float32 where the plugin rounds: a slow release moves the
gain by a few units in the last place a sample, and stops for good where it would move it by less than half.
"""

from __future__ import annotations

import numpy as np

from dafxhost_effects.builtin.base import MdaProcessor, f32

SPLIT = float((1 << 29) + 1)
"""c = SPLIT x; c - (c - x) is x rounded to the 24 bits of a float32 (Veltkamp 1968), but for ties."""


class LimiterProcessor(MdaProcessor):
    """Plugin values `[5]`: thresh, output, release, attack on 0..1, knee (0 hard, 1 soft)."""

    name = "mda-limiter"
    new_instance = (0.6, 0.6, 0.5, 0.15, 0.0)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        threshold, output, release, attack, knee = (float(v) for v in values)
        self._soft = knee > 0.5
        self._threshold = float(f32(10.0 ** (1.0 - 2.0 * threshold if knee > 0 else 2.0 * threshold - 2.0)))
        self._trim = f32(10.0 ** (2.0 * output - 1.0))
        self._attack = float(f32(10.0 ** ((-0.01 if untouched else 0.0) - 2.0 * attack)))
        self._release = float(f32(10.0 ** (-2.0 - 3.0 * release)))
        self._gain = 1.0

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        level = np.abs(left + right).astype(np.float64)
        gain = self._soft_gain(level) if self._soft else self._hard_gain(level)
        self._gain = float(gain[-1])
        gain = gain.astype(f32)
        first = left * self._trim * gain
        return first, first if right is left else right * self._trim * gain

    def _hard_gain(self, level: np.ndarray) -> np.ndarray:
        g, attack, release, threshold = self._gain, self._attack, self._release, self._threshold
        gain = []
        for half in (0.5 * level).tolist():
            v = g * half
            c = SPLIT * v
            v = c - (c - v)
            if v > threshold:
                change = threshold - v
                c = SPLIT * change
                change = attack * (c - (c - change))
            else:
                change = release * (1.0 - g)
            c = SPLIT * change
            g += c - (c - change)
            c = SPLIT * g
            g = c - (c - g)
            gain.append(g)
        return np.array(gain)

    def _soft_gain(self, level: np.ndarray) -> np.ndarray:
        g, attack, release = self._gain, self._attack, self._release
        gain = []
        for v in (1.0 / (1.0 + self._threshold * level)).astype(f32).tolist():
            change = v - g
            c = SPLIT * change
            change = (attack if change < 0 else release) * (c - (c - change))
            c = SPLIT * change
            g += c - (c - change)
            c = SPLIT * g
            g = c - (c - g)
            gain.append(g)
        return np.array(gain)
