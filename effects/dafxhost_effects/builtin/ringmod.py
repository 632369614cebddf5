"""mda RingMod in numpy: a ring modulator with feedback.

Our own code for Paul Kellett's algorithm; its formulas are facts read in `mdaRingMod.cpp` of mda-lv2 (GPL)
and checked against Debian's binary by `benchmarks/null.py`.

    g = sin(p);  p = (p + dp) mod 2 pi;  left = (k left[-1] + x) g;  right = (k left + x') g
    dp = 2 pi 100 (fine + 160 freq) / sample rate;  k = 0.95 feedback

The right channel's feedback is the left channel's newest output, as in the plugin. Imports numpy only.
"""

from __future__ import annotations

import math
import struct

import numpy as np

from dafxhost_effects.builtin.base import MdaProcessor, f32, rounded_sums, varying_one_pole

TWO_PI = float(f32(6.2831853))
SLOW = 0.2  # radians a sample: from here on few samples lie between two wraps


class RingModProcessor(MdaProcessor):
    """Plugin values `[3]` on 0..1: freq, fine, feedback."""

    name = "mda-ringmod"
    new_instance = (0.0625, 0.0, 0.0)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        coarse, fine, feedback = values
        self._step = float(f32(TWO_PI * 100.0 * (float(fine) + 160.0 * float(coarse)) / rate))
        self._feedback = float(f32(0.95) * feedback)
        self._phase = 0.0
        self._last = 0.0  # the left output

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gain = np.sin(self._phases(len(left))).astype(f32).astype(np.float64)
        first = gain * left
        if self._feedback:
            first = varying_one_pole(first, self._feedback * gain, self._last)
        self._last = float(first[-1])
        return first, (self._feedback * first + right) * gain

    def _phases(self, count: int) -> np.ndarray:
        """The oscillator's next phases `[N]`, radians, each rounded to float32 as in the plugin."""
        if self._step == 0:
            return np.full(count, self._phase)
        if self._step > SLOW:
            return self._phases_by_loop(count)
        phases = np.empty(count)
        at = 0
        while at < count:
            # One more than there should be up to the wrap, for the rounding.
            n = min(count - at, int((TWO_PI - self._phase) / self._step) + 2)
            sums = rounded_sums(self._phase, self._step, n)
            over = np.flatnonzero(sums >= TWO_PI)
            n = int(over[0]) + 1 if len(over) else n
            phases[at] = self._phase
            phases[at + 1 : at + n] = sums[: n - 1]
            self._phase = float(f32(math.fmod(float(sums[n - 1]), TWO_PI)))
            at += n
        return phases

    def _phases_by_loop(self, count: int) -> np.ndarray:
        """The same, sample by sample."""
        single = struct.Struct("f")
        pack, unpack, step, phase = single.pack, single.unpack, self._step, self._phase
        phases = []
        for _ in range(count):
            phases.append(phase)
            phase = unpack(pack(phase + step))[0]
            if phase >= TWO_PI:
                phase = unpack(pack(math.fmod(phase, TWO_PI)))[0]
        self._phase = phase
        return np.array(phases)
