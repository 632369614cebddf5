"""mda Overdrive in numpy: soft distortion, for machines that cannot install the plugin.

Our own code for Paul Kellett's algorithm; its formulas are facts read in `mdaOverdrive.cpp` of mda-lv2 (GPL)
and checked against Debian's binary by `benchmarks/null.py`.

    s = sign(x) sqrt(abs(x));  u = x + drive (s - x);  y += c (u - y);  output g y
    c = 10^(-1.6 muffle);  g = 10^(2 output - 1)

Imports numpy only.
"""

from __future__ import annotations

import numpy as np

from dafxhost_effects.builtin.base import NO_WATCH, MdaProcessor, f32
from dafxhost_effects.builtin.recursion import Recursion


def low_pass(coefficient: float) -> Recursion:
    """y += coefficient (x - y)."""

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        y = state[0] + coefficient * (x - state[0])
        return np.array([y]), y

    return Recursion(step, 1)


class OverdriveProcessor(MdaProcessor):
    """Plugin values `[3]` on 0..1: drive, muffle, output."""

    name = "mda-overdrive"
    new_instance = (0.0, 0.0, 0.5)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        drive, muffle, output = values
        self._drive = drive
        self._gain = f32(10.0 ** float(f32(2) * output - f32(1)))
        coefficient = float(f32(10.0 ** (-1.6 * float(muffle))))
        self._filter = low_pass(coefficient) if coefficient < 1 else None
        self._states = np.zeros((2, 1))

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = self._channel(left, self._states[0])
        return first, first if right is left else self._channel(right, self._states[1])

    def _channel(self, x: np.ndarray, state: np.ndarray) -> np.ndarray:
        u = np.copysign(np.sqrt(np.abs(x)), x)
        u = self._drive * (u - x) + x
        y = u if self._filter is None else self._filter.run(u, state, NO_WATCH)[0]
        return y * self._gain
