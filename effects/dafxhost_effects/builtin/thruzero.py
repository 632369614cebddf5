"""mda ThruZero in numpy: a tape flanger, two copies of which one moves past the other.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaThruZero.cpp` of
mda-lv2 (GPL; newer versions scale the depth otherwise and smooth the parameters) and checked against Debian's
binary of mda-lv2 1.2.10 by `benchmarks/null.py`.

    p += r, wrapped to -1..1;  d = m + e (1 - p^2) samples
    line <- x + k w;  w = line[-d], linearly interpolated;  output (1 - mix) x - mix w
    r = 2 10^(3 rate - 2) / sample rate;  m + e = 2000 depth^2;  e = depth_mod (m + e)
    k = 1.9 feedback - 0.95

At a block's end the feedback of both channels is dropped if the left one is below 1e-10. A fresh instance
has no feedback, while all values are its defaults. Imports numpy only.
"""

from __future__ import annotations

import numpy as np

from dafxhost_effects.builtin.base import FLUSH, MdaProcessor, f32, rounded_sums

LONGEST = 2048  # samples of the delay line
SEGMENT = 64  # samples: below this delay a loop over samples is quicker than numpy


class ThruZeroProcessor(MdaProcessor):
    """Plugin values `[5]` on 0..1: rate, depth, mix, feedback, depth_mod."""

    name = "mda-thruzero"
    new_instance = (0.3, 0.43, 0.47, 0.3, 1.0)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        speed, depth, mix, feedback, modulation = values
        self._step = float(f32(10.0 ** float(f32(3) * speed - f32(2)) * 2.0 / rate))
        if speed < f32(0.01):
            self._step = 0.0
        whole = f32(2000) * depth * depth
        self._least = whole - whole * modulation
        self._range = whole - self._least
        self._wet, self._dry = mix, f32(1) - mix
        # The constructor clears the feedback after it has computed it.
        self._feedback = 0.0 if untouched else float(f32(1.9) * feedback - f32(0.95))
        self._phase = 0.0
        self._past = np.zeros((2, LONGEST))  # what the lines took last, the newest at the end
        self._moved = np.zeros(2)  # the newest delayed sample of each channel
        self._position = 0  # samples since the start

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        channels = (left,) if right is left else (left, right)
        count = len(left)
        p = self._phases(count)
        delay = self._least + self._range * (f32(1) - p * p)
        whole = delay.astype(np.intp)
        fraction = (delay - whole.astype(f32)).astype(np.float64)
        line = np.concatenate([self._past[: len(channels)], np.stack(channels)], axis=1)
        moved = np.empty((len(channels), count))
        block = self.spec.block_size
        at = 0
        while at < count:
            stop = min(count, at + block - self._position % block)
            self._until(line, moved, whole, fraction, at, stop)
            self._position += stop - at
            if self._position % block == 0 and abs(self._moved[0]) <= FLUSH:
                self._moved[:] = 0.0
            at = stop
        self._past[: len(channels)] = line[:, count:]
        out = [self._dry * x - self._wet * w.astype(f32) for x, w in zip(channels, moved, strict=True)]
        return out[0], out[-1]

    def _until(
        self,
        line: np.ndarray,
        moved: np.ndarray,
        whole: np.ndarray,
        fraction: np.ndarray,
        begin: int,
        end: int,
    ) -> None:
        """Samples `begin` to `end`, none of them beyond a block's end.

        `line` `[C, 2048 + N]` holds the input where the line is not yet known and becomes the line; `moved`
        `[C, N]` is what comes out of it, delayed by `whole + fraction` `[N]` samples.
        """
        at = begin
        while at < end:
            # As far as only what is in the line already is read: up to and with sample `at`.
            reach = int(whole[at]) + 1
            late = np.flatnonzero(np.arange(min(reach, end - at)) > whole[at : min(at + reach, end)])
            n = int(late[0]) if len(late) else min(reach, end - at)
            if n < min(SEGMENT, end - at):
                long = np.flatnonzero(whole[at + SEGMENT : end] > 2 * SEGMENT)
                n = SEGMENT + int(long[0]) if len(long) else end - at
                for channel in range(len(line)):
                    self._loop(channel, line[channel], moved[channel], whole, fraction, at, at + n)
                at += n
                continue
            here = np.arange(at, at + n)
            older = here + LONGEST - whole[here]
            line[:, LONGEST + at] += self._feedback * self._moved[: len(line)]
            near, far = line[:, older], line[:, older - 1]
            w = moved[:, at : at + n] = near + fraction[here] * (far - near)
            line[:, LONGEST + at + 1 : LONGEST + at + n] += self._feedback * w[:, :-1]
            self._moved[: len(line)] = w[:, -1]
            at += n

    def _loop(
        self,
        channel: int,
        line: np.ndarray,
        moved: np.ndarray,
        whole: np.ndarray,
        fraction: np.ndarray,
        begin: int,
        end: int,
    ) -> None:
        """The same for one channel, sample by sample: delays are too short for anything else."""
        k, w = self._feedback, float(self._moved[channel])
        first = LONGEST + begin - int(whole[begin:end].max()) - 1
        values = line[first : LONGEST + begin].tolist()
        out = []
        steps = zip(
            line[LONGEST + begin : LONGEST + end].tolist(),
            whole[begin:end].tolist(),
            fraction[begin:end].tolist(),
            strict=True,
        )
        for x, d, part in steps:
            values.append(x + k * w)
            near = values[-1 - d]
            w = near + part * (values[-2 - d] - near)
            out.append(w)
        moved[begin:end] = out
        line[LONGEST + begin : LONGEST + end] = values[len(values) - len(out) :]
        self._moved[channel] = w

    def _phases(self, count: int) -> np.ndarray:
        """The oscillator's next phases `[N]`, float32, on -1..1."""
        phases = np.empty(count, dtype=f32)
        if self._step == 0:
            phases[:] = self._phase
            return phases
        at = 0
        while at < count:
            sums = rounded_sums(
                self._phase, self._step, min(count - at, int((1.0 - self._phase) / self._step) + 64)
            )
            over = np.flatnonzero(sums > 1)
            n = int(over[0]) + 1 if len(over) else len(sums)
            if len(over):
                sums[n - 1] -= f32(2)
            phases[at : at + n] = sums[:n]
            self._phase = float(sums[n - 1])
            at += n
        return phases
