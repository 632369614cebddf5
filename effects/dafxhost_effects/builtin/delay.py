"""mda Delay in numpy: a stereo delay whose feedback passes a tone control.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaDelay.cpp` of the
mda VST plug-ins (https://github.com/petruccigp/mda_vst, GPL; newer versions of mda-lv2 scale the delays
and the output otherwise) and checked against Debian's binary of mda-lv2 1.2.10 by `benchmarks/null.py`.

    t = w (left + right) + k (line[-L] + line[-R]);  s = f (s - t) + t;  line <- low s + high t
    left out = d left + line[-L];  right out = d right + line[-R]

L = 32766 l_delay^2 samples at any sample rate; R = L x 4 r_delay, or in the upper half of r_delay L x one of
nine ratios; k = 0.495 feedback; d = 2 output (1 - mix^2); w = output (1 - (1 - mix)^2). Imports numpy only.
"""

from __future__ import annotations

import math

import numpy as np

from dafxhost_effects.builtin.base import NO_WATCH, MdaProcessor, f32
from dafxhost_effects.builtin.recursion import Recursion

SIZE = 32766  # samples: the longest delay
SHORTEST = 4
RATIOS = (
    2.0,
    1.5,
    1.3333,
    1.2,
    1.0,
    0.8333,
    0.75,
    0.6667,
    0.5,
)  # right by left, from int(17.9 r_delay) = 9 on
SEGMENT = 256  # samples: below this delay a loop over samples is quicker than numpy


def delays(left: np.float32, right: np.float32) -> tuple[int, int]:
    """Delays of the left and right output in samples, for the plugin values l_delay and r_delay."""
    number = int(right * f32(17.9))
    ratio = f32(RATIOS[number - 9]) if number >= 9 else f32(4) * right
    base = f32(SIZE) * left * left
    return max(int(base), SHORTEST), min(max(int(base * ratio), SHORTEST), SIZE)


def tone(value: np.float32, rate: float) -> tuple[float, float, float]:
    """Pole of the low-pass, and how much of its output and of its input are fed back; for fb_tone."""
    if value > f32(0.5):
        depth = f32(0.5) * value - f32(0.25)
        low, high = f32(-2) * depth, f32(1)
    else:
        depth = value
        high = f32(2) * depth
        low = f32(1) - high
    hz = 10.0 ** float(f32(2.2) + f32(4.5) * depth)
    return float(f32(math.exp(-float(f32(6.2831853)) * hz / rate))), float(low), float(high)


def tone_control(pole: float, low: float, high: float) -> Recursion:
    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        s = pole * (state[0] - x) + x
        return np.array([s]), low * s + high * x

    return Recursion(step, 1)


class DelayProcessor(MdaProcessor):
    """Plugin values `[6]` on 0..1: l_delay, r_delay, feedback, fb_tone, fx_mix, output."""

    name = "mda-delay"
    new_instance = (0.5, 0.27, 0.7, 0.5, 0.33, 0.5)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        left, right, feedback, colour, mix, output = values
        self._delays = delays(left, right)
        self._tone = tone(colour, rate)
        self._filter = tone_control(*self._tone)
        self._feedback = float(f32(0.495) * feedback)
        rest = f32(1) - mix
        self._wet = float(output * (f32(1) - rest * rest))
        self._dry = output * f32(2) * (f32(1) - mix * mix)
        self._past = np.zeros(max(self._delays))  # what the line took last, the newest at the end
        self._state = np.zeros(1)

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size, count = len(self._past), len(left)
        fed = (left + right) * self._wet
        line = np.concatenate([self._past, fed])
        if min(self._delays) >= SEGMENT:
            self._fill(line, fed)
        else:
            self._fill_by_loop(line, fed)
        self._past = line[count:].copy()
        wet = [line[size - delay : size - delay + count] for delay in self._delays]
        return self._dry * left + wet[0], self._dry * right + wet[1]

    def _fill(self, line: np.ndarray, fed: np.ndarray) -> None:
        """Write what the line takes `[N]` behind its past, as much at a time as is known beforehand."""
        size, (first, second) = len(self._past), self._delays
        reach = min(self._delays)
        for begin in range(0, len(fed), reach):
            here = slice(size + begin, min(size + begin + reach, len(line)))
            back = (
                line[here.start - first : here.stop - first] + line[here.start - second : here.stop - second]
            )
            x = fed[begin : begin + reach] + self._feedback * back
            line[here] = self._filter.run(x, self._state, NO_WATCH)[0]

    def _fill_by_loop(self, line: np.ndarray, fed: np.ndarray) -> None:
        """The same, sample by sample."""
        pole, low, high = self._tone
        feedback, (first, second) = self._feedback, self._delays
        s, values = float(self._state[0]), line[: len(self._past)].tolist()
        for x in fed.tolist():
            t = x + feedback * (values[-first] + values[-second])
            s = pole * (s - t) + t
            values.append(low * s + high * t)
        self._state[0] = s
        line[:] = values
