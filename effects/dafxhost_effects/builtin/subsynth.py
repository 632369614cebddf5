"""The sub-bass synthesizer mda SubSynth in numpy.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaSubSynth.cpp` of
mda-lv2 (https://github.com/mod-audio/mda-lv2, GPL) and in Debian's binary, and checked against that by
`benchmarks/null.py`. The filter before the threshold is exact to the bit (`float32_loops`), because whether
a peak reaches the threshold turns the octave divider over for good. Imports numpy only.
"""

from __future__ import annotations

import numpy as np

from dafxhost_effects.builtin.base import MdaProcessor, f32
from dafxhost_effects.builtin.float32_loops import one_pole
from dafxhost_effects.builtin.recursion import Recursion

NO_WATCH = np.zeros(1, dtype=np.intp)
DISTORT, DIVIDE, INVERT, KEY = range(4)
TURN = float(f32(6.283185))  # rad


def low_pass(take: np.float32, keep: np.float32) -> Recursion:
    """Two one-pole low-passes in a row."""
    t, k = float(take), float(keep)

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        first = k * state[0] + t * x
        second = k * state[1] + t * first
        return np.array([first, second]), second

    return Recursion(step, 2)


class Divider:
    """An octave divider: +1 or -1, turned over each time the three-level input has gone from +1 to -1."""

    def __init__(self) -> None:
        self._last = 1.0  # the input's last level that was not 0
        self._phase = 1.0

    def process(self, levels: np.ndarray) -> np.ndarray:
        """`[N]` of -1, 0, 1 -> `[N]` of -1, 1."""
        marks = np.flatnonzero(levels)
        signs = levels[marks]
        turns = np.zeros(len(levels), dtype=np.intp)
        turns[marks] = (signs < 0) & (np.concatenate([[self._last], signs[:-1]]) > 0)
        phases = self._phase * (1.0 - 2.0 * (np.cumsum(turns) % 2))
        if len(marks):
            self._last = float(signs[-1])
        self._phase = float(phases[-1])
        return phases


class Decay:
    """1 while triggered, then times `release` at each sample, rounded to float32; 0 before the first."""

    def __init__(self, release: np.float32) -> None:
        self._release = release
        self._table = np.ones(1, dtype=f32)
        self._since: int | None = None  # samples since the last trigger

    def process(self, triggered: np.ndarray) -> np.ndarray:
        """`[N]` bool -> `[N]` float32."""
        n = len(triggered)
        # Where the decay counts from, at each sample; far back stands for never.
        never = -(1 << 40)
        before = never if self._since is None else -1 - self._since
        origin = np.maximum.accumulate(np.where(triggered, np.arange(n), before))
        age = np.arange(n) - origin
        known = origin > never
        self._since = int(age[-1]) if known[-1] else None
        longest = int(age[known].max(initial=0))
        if longest >= len(self._table):
            factors = np.full(2 * longest + 1, self._release, dtype=f32)
            factors[0] = 1
            with np.errstate(under="ignore"):
                self._table = np.multiply.accumulate(factors)
        return np.where(known, self._table[np.where(known, age, 0)], f32(0))


class Oscillator:
    """Phases of a sine, rounded to float32 at each sample: a slow one is off its nominal frequency."""

    def __init__(self, step: np.float32) -> None:
        self._step = step
        self._phase = f32(0)
        # More samples than one turn takes.
        self._steps = np.full(int(1.01 * TURN / float(step)) + 3, step, dtype=f32)

    def phases(self, count: int) -> np.ndarray:
        """The next `[count]`, rad, float32."""
        out = np.empty(count, dtype=f32)
        done = 0
        while done < count:
            self._steps[0] = self._phase
            turn = np.add.accumulate(self._steps)
            over = int(np.argmax(turn >= TURN))
            part = turn[: min(over, count - done)]
            out[done : done + len(part)] = part
            done += len(part)
            if len(part) == over:
                self._phase = f32(np.fmod(float(turn[over]), TURN))
            else:
                self._phase = turn[len(part)]
        return out


class SubSynthProcessor(MdaProcessor):
    """mda SubSynth. Plugin values `[6]` on 0..1: type, level, tune, dry_mix, thresh, release.

    Type is cut at 2/7, 4/7 and 6/7 into distort, divide, invert and key oscillator, so the values that the
    LV2 port names (0, 1/4, 1/2, 3/4) give distort, distort, divide and invert, as in Debian's plugin; 1 gives
    the key oscillator. No coefficient depends on the sample rate.
    """

    name = "mda-subsynth"
    new_instance = (0.0, 0.3, 0.6, 1.0, 0.6, 0.65)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        kind, level, tune, dry, threshold, release = values
        self._kind = int(3.5 * float(kind))
        self._level, self._dry = level, dry
        self._take = f32(0.018) if self._kind == KEY else f32(10.0 ** (2.0 * float(tune) - 3.0))
        self._keep = f32(1) - self._take
        self._threshold = f32(10.0 ** (3.0 * float(threshold) - 3.0))
        self._before = [f32(0), f32(0)]
        self._after = low_pass(self._take, self._keep)
        self._after_state = np.zeros(2)
        self._divider = Divider()
        self._decay = Decay(f32(1.0 - 10.0 ** (-2.0 - 3.0 * float(release))))
        self._oscillator = Oscillator(f32(0.456159 * 10.0 ** (1.5 * float(tune) - 2.5)))

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        bass = left + right
        for i in range(2):
            bass, self._before[i] = one_pole(self._take * bass, self._before[i], self._keep)
        sub = self._level * self._after.run(self._generate(bass), self._after_state, NO_WATCH)[0]
        first = left * self._dry + sub
        return first, first if left is right else right * self._dry + sub

    def _generate(self, bass: np.ndarray) -> np.ndarray:
        """`[N]` float32 -> `[N]`: what is added, before its two low-passes."""
        above, below = bass > self._threshold, bass < -self._threshold
        if self._kind == KEY:
            phases = self._oscillator.phases(len(bass)).astype(np.float64)
            return (self._decay.process(above) * np.sin(phases)).astype(f32)
        levels = above.astype(np.float64) - below
        if self._kind == DISTORT:
            return levels
        phases = self._divider.process(levels)
        return phases * levels if self._kind == DIVIDE else phases * bass * 2.0
