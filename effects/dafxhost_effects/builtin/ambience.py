"""The small-space reverberator mda Ambience in numpy.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaAmbience.cpp` of
mda-lv2 (https://github.com/mod-audio/mda-lv2, GPL) and checked against Debian's binary by
`benchmarks/null.py`. Imports numpy only.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dafxhost_effects.builtin.base import FLUSH, MdaProcessor, f32
from dafxhost_effects.builtin.recursion import Recursion

FEEDBACK = float(f32(0.8))
LENGTHS = (107, 142, 277, 379)  # of the allpasses, samples at size 1
FORGOTTEN = 1e-20


def damping(share: np.float32) -> Recursion:
    """A low-pass that takes `share` of its input at a time."""
    take = float(share)

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        new = state + take * (x - state)
        return new, float(new[0])

    return Recursion(step, 1)


class Allpass:
    """w[n] = x[n] - 0.8 w[n - d]; y[n] = w[n] + w[n - d]."""

    def __init__(self, delay: int) -> None:
        self._delay = delay
        self.clear()

    def clear(self) -> None:
        self._past = np.zeros(self._delay)

    def process(self, x: np.ndarray) -> np.ndarray:
        """`[N]` -> `[N]`, float64."""
        d, n = self._delay, len(x)
        line = np.concatenate([self._past, x])
        w = line[d:]
        head = min(d, n)
        w[:head] -= FEEDBACK * self._past[:head]
        # By doubling (Hillis and Steele, "Data parallel algorithms", 1986), until the feedback has forgotten.
        reach, factor = d, -FEEDBACK
        while reach < n and abs(factor) > FORGOTTEN:
            w[reach:] += factor * w[:-reach]  # the product is complete before it is added
            reach, factor = 2 * reach, factor * factor
        y = w + line[:n]
        self._past = line[n:].copy()
        return y


class AmbienceProcessor(MdaProcessor):
    """mda Ambience. Plugin values `[4]` on 0..1: size, hf_damp, mix, output.

    Four allpasses in a row, three for the left output and all for the right one. When the filter before them
    has come to rest at a block's end, the plugin empties them, which cuts the reverberation off in a pause.
    Blocks are counted from `prepare` on; the plugin ends one at every call.
    """

    name = "mda-ambience"
    new_instance = (0.7, 0.7, 0.9, 0.5)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        size, damp, mix, output = values
        level = f32(10.0 ** float(f32(2) * output - f32(1)))
        self._dry = level - mix * mix * level
        self._wet = (f32(0.4) + f32(0.4)) * mix * level
        self._damping = damping(f32(0.05) + f32(0.9) * damp)
        self._state = np.zeros(1)
        scale = f32(0.025) + f32(2.665) * size
        self._allpasses = [Allpass(int(f32(length) * scale)) for length in LENGTHS]
        self._into_block = 0  # samples of the current block that have been processed
        self._resting = False  # at the last block's end

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n = len(left)
        block = self.spec.block_size
        ends = np.arange(block - 1 - self._into_block, n, block)
        self._into_block = (self._into_block + n) % block
        # Without a block's end any sample will do to look at.
        drive, seen = self._damping.run(
            self._wet * (left + right), self._state, ends if len(ends) else np.zeros(1, dtype=np.intp)
        )
        bounds = [0, *self._cuts(ends, seen), n]
        first, second = np.empty(n), np.empty(n)
        for begin, end in pairwise(bounds):
            if begin > 0:
                for allpass in self._allpasses:
                    allpass.clear()
            if end > begin:
                first[begin:end], second[begin:end] = self._reverberate(drive[begin:end])
        return first + self._dry * left, second + self._dry * right

    def _cuts(self, ends: np.ndarray, seen: np.ndarray) -> list[int]:
        """After which samples the allpasses are emptied: where a block ends at rest and the last did not."""
        cuts = []
        for end, value in zip(ends.tolist(), seen.tolist(), strict=False):
            rests = abs(value) <= FLUSH
            if rests and not self._resting:
                cuts.append(end + 1)
            self._resting = rests
        return cuts

    def _reverberate(self, drive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        signal, outs = drive, []
        for allpass in self._allpasses:
            signal = allpass.process(signal)
            outs.append(signal - drive)
        return outs[2], outs[3]
