"""The rotating speaker mda Leslie in numpy.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaLeslie.cpp` of
mda-lv2 (https://github.com/mod-audio/mda-lv2, GPL) and checked against Debian's binary by
`benchmarks/null.py`. Imports numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dafxhost_effects.builtin.base import MdaProcessor, f32
from dafxhost_effects.builtin.recursion import Recursion

NO_WATCH = np.zeros(1, dtype=np.intp)
LINE = 201  # samples of the horn's delay line that are ever written; what is read beyond them is silence
STEP = 33  # samples from one target of the rotors' waveforms to the next
HORN_START = f32(1.6)  # rad
TWO_PI = f32(6.2831853)
STOP, SLOW, FAST = (0.0, 0.0, 0.12, 0.10), (0.49, 0.66, 0.27, 0.18), (5.31, 6.40, 0.14, 0.09)
"""Speeds of drum and horn (Hz at speed 0.5), and how long each takes to get there (s, to a tenth)."""


@dataclass(frozen=True)
class Rotor:
    """How the drum or the horn turns; float32 as in the plugin."""

    push: np.float32  # rad a sample, added to the speed at each target
    momentum: np.float32  # what is left of the speed at each target


def rotor(hz: float, seconds: float, speed: np.float32, rate: np.float32) -> Rotor:
    """From a row of STOP, SLOW or FAST; `speed` in rad a sample for each Hz."""
    period = f32(1) / rate
    momentum = f32(10.0 ** float(-period / f32(seconds)))
    return Rotor(f32(hz) * speed * (f32(1) - momentum), momentum)


class Motion:
    """The rotors' waveforms, for whole blocks at a time.

    Each is drawn in straight lines over 33 samples, aimed at where it should be after 32. At the start of a
    block the plugin begins a new line from the true value, so the lines depend on the block size. Everything
    is rounded to float32 as in the plugin: the speed stops where its steps round to nothing, up to 0.03 %
    short, which is heard as a drift of phase.
    """

    def __init__(self, drum: Rotor, horn: Rotor, block: int) -> None:
        self._rotors = (drum, horn)
        self._speeds = [f32(0), f32(0)]
        self._phases = [f32(0), HORN_START]
        self._block = block
        self._ready = np.zeros((4, 0), dtype=f32)

    def take(self, count: int) -> np.ndarray:
        """The next samples `[4, count]`, float32: cosine and sine of the drum, cubed cosine and sine of the
        horn."""
        missing = count - self._ready.shape[1]
        if missing > 0:
            fresh = self._blocks(-(-missing // self._block))
            self._ready = np.concatenate([self._ready, fresh], axis=1)
        taken, self._ready = self._ready[:, :count], self._ready[:, count:]
        return taken

    def _blocks(self, count: int) -> np.ndarray:
        steps = -(-self._block // STEP)
        starts, aims = np.empty((2, count), dtype=f32), np.empty((2, count, steps), dtype=f32)
        for i in range(2):
            starts[i], aims[i] = self._turn(i, count, steps)
        first, targets = self._waves(starts), self._waves(aims)  # [4, count], [4, count, steps]
        lines = np.empty((4, count, steps, STEP), dtype=f32)
        value = first
        slopes = np.empty((4, count, STEP + 1), dtype=f32)
        for s in range(steps):  # all blocks at once
            slopes[..., 0] = value
            slopes[..., 1:] = (f32(1 / 32) * (targets[..., s] - value))[..., None]
            sums = np.add.accumulate(slopes, axis=-1)
            lines[..., s, :], value = sums[..., :-1], sums[..., -1]
        return lines.reshape(4, count, -1)[:, :, : self._block].reshape(4, -1)

    def _turn(self, i: int, count: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Phases of one rotor at the block starts `[count]`, and those to aim at `[count, steps]`."""
        setup, speed, phase, reach = self._rotors[i], self._speeds[i], self._phases[i], f32(32)
        tail = f32(self._block - (steps - 1) * STEP - 1)
        starts, aims = np.empty(count, dtype=f32), np.empty((count, steps), dtype=f32)
        for b in range(count):
            starts[b] = phase
            for s in range(steps):
                speed = setup.momentum * speed + setup.push
                phase = phase + reach * speed
                aims[b, s] = phase + reach * speed
            phase = f32(math.fmod(float(phase + tail * speed), float(TWO_PI)))
        self._speeds[i], self._phases[i] = speed, phase
        return starts, aims

    @staticmethod
    def _waves(phases: np.ndarray) -> np.ndarray:
        """`[2, ...]` float32 -> `[4, ...]` float32."""
        wide = phases.astype(np.float64)
        cosines, sines = np.cos(wide).astype(f32), np.sin(wide).astype(f32)
        cubed = cosines[1] * (cosines[1] * cosines[1])
        return np.stack([cosines[0], sines[0], cubed, sines[1]])


def low_pass(keep: np.float32) -> Recursion:
    """Two one-pole low-passes in a row."""
    k = float(keep)

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        first = k * (state[0] - x) + x
        second = k * (state[1] - first) + first
        return np.array([first, second]), second

    return Recursion(step, 2)


class LeslieProcessor(MdaProcessor):
    """mda Leslie. Plugin values `[9]` on 0..1: mode, lo_width, lo_throb, hi_width, hi_depth, hi_throb,
    x_over, output, speed.

    The inputs are summed. Blocks are counted from `prepare` on, so that the result does not depend on how
    the input is cut; the plugin starts one at every call. Where hi_depth squared times the sample rate
    exceeds 97280 Hz, the plugin reads foreign memory; silence is read here.

    Mode is cut at 0.1 and 0.5 into stop, slow and fast, so the values that the LV2 port names (0, 1/2, 1)
    give stop, fast and fast, as in Debian's plugin.
    """

    name = "mda-leslie"
    new_instance = (0.66, 0.5, 0.6, 0.7, 0.6, 0.7, 0.48, 0.5, 0.5)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        mode, low_width, low_throb, high_width, high_depth, high_throb, crossover, output, speed = values
        rate32 = f32(rate)
        per_hz = TWO_PI * (f32(1) / rate32) * f32(2) * speed
        low_hz, high_hz, low_time, high_time = STOP if mode < f32(0.1) else SLOW if mode < f32(0.5) else FAST
        self._motion = Motion(
            rotor(low_hz, low_time, per_hz, rate32),
            rotor(high_hz, high_time, per_hz, rate32),
            self.spec.block_size,
        )
        exponent = crossover * (f32(2.27) - f32(0.54) * crossover) - f32(1.92)
        self._low_pass = low_pass(f32(1) - f32(10.0 ** float(exponent)))
        self._state = np.zeros(2)
        self._gain = f32(0.4) * f32(10.0 ** float(f32(2) * output - f32(1)))
        self._levels = (
            self._gain * f32(0.9) * low_throb * low_throb,
            self._gain * f32(0.9) * high_throb * high_throb,
        )
        self._widths = (low_width * low_width, high_width * high_width)
        self._depth = high_depth * high_depth * rate32 / f32(760)
        self._past = np.zeros(LINE, dtype=f32)  # of the horn, before its delay
        self._at = 0  # samples processed, modulo LINE

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        drum_cosine, drum_sine, horn_cube, horn_sine = self._motion.take(len(left))
        x = left + right
        below = self._low_pass.run(x, self._state, NO_WATCH)[0].astype(f32)
        horn = self._delay((self._gain - self._levels[1] * horn_cube) * (x - below), horn_cube)
        drum = (self._gain - self._levels[0] * drum_cosine) * below
        middle = drum + horn
        if left is right:  # the sides cancel in the mean
            return middle, middle
        side = horn * (self._widths[1] * horn_sine) - drum * (self._widths[0] * drum_sine)
        return middle + side, middle - side

    def _delay(self, horn: np.ndarray, cube: np.ndarray) -> np.ndarray:
        """The horn and an echo of it, whose delay follows its cosine, interpolated between two samples.

        The plugin writes its line backwards, 201 samples round, and reads ahead of where it writes.
        """
        n = len(horn)
        written = LINE - 1 - (self._at + np.arange(n)) % LINE
        self._at = (self._at + n) % LINE
        read = written.astype(f32) + self._depth * (f32(1) + cube)
        whole = read.astype(np.intp)
        rest = read - whole.astype(f32)
        line = np.concatenate([self._past, horn])
        self._past = line[-LINE:].copy()
        now = LINE + np.arange(n)
        near, far = (self._read(line, now, written, cell) for cell in (whole, whole + 1))
        return horn + (near + rest * (far - near))

    @staticmethod
    def _read(line: np.ndarray, now: np.ndarray, written: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """The line's cell at the moment `now`, when `written` was written."""
        cell = np.where(cell >= LINE, cell - LINE, cell)
        return np.where(cell < LINE, line[now - (cell - written) % LINE], f32(0))
