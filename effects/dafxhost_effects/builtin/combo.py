"""The amp and speaker simulator mda Combo in numpy, for machines that cannot install the plugin.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaCombo.cpp` and
`lvz/wrapper.cpp` of mda-lv2 (https://github.com/mod-audio/mda-lv2, GPL) and checked against Debian's binary
by `benchmarks/null.py`. docs/combo.md explains them. Imports numpy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dafxhost.processor import RenderSpec
from dafxhost_effects.builtin.base import FLUSH, MdaProcessor, f32
from dafxhost_effects.builtin.recursion import Recursion, run_with_flushes

LINE = 1000  # samples in the plugin's circular delay line: a delay counts modulo this


@dataclass(frozen=True)
class Model:
    """One speaker: level, cut-offs in Hz (0: no low-pass), two echoes: gains, and delays as rates in Hz."""

    trim: float
    low_pass: float
    high_pass: float = 25.0
    gains: tuple[float, float] = (0.0, 0.0)
    rates: tuple[float, float] = (0.0, 0.0)


MODELS = (
    Model(0.5, 0.0),  # D.I.
    Model(0.53, 2700.0, 382.0),  # speaker simulator
    Model(1.10, 1685.0, gains=(-1.70, 0.82), rates=(6546.0, 4315.0)),  # small radio
    Model(0.98, 1385.0, gains=(-0.53, 0.21), rates=(7345.0, 1193.0)),  # small combo, close
    Model(0.96, 1685.0, gains=(-0.85, 0.41), rates=(6546.0, 3315.0)),  # small combo, far
    Model(0.59, 2795.0, 459.0, gains=(-0.29, 0.38), rates=(982.0, 2402.0)),  # large stack, front
    Model(0.30, 1744.0, 382.0, gains=(-0.96, 1.6), rates=(356.0, 1263.0)),  # large stack, side
)


def pole(hz: float, rate: float) -> np.float32:
    """One-pole coefficient for a cut-off in Hz at a sample rate in Hz.

    Solves for the pole whose response at `hz` equals that of a resonator of radius 0.999. The difference of
    squares cancels nearly all digits, so every rounding to float32 has to happen where the plugin has it.
    """
    r = f32(0.999)
    j = r * r - f32(1)
    angle = f32(0.647) * f32(hz) / f32(rate)
    k = f32(2.0 - float(f32(2) * r * r) * math.cos(float(angle)))
    under_root = float(k * k - f32(4) * j * j)
    return f32((math.sqrt(under_root) - float(k)) / float(f32(2) * j))


@dataclass(frozen=True)
class Coefficients:
    """What the seven plugin values come to. Scalars are float32 as in the plugin."""

    stereo: bool
    soft: bool
    drive: np.float32
    clip: np.float32
    bias: np.float32
    gain: np.float32
    resonator: tuple[float, float]  # frequency and damping; frequency 0 is off
    poles: tuple[float, float]  # low-pass, high-pass
    echoes: tuple[tuple[np.float32, int], ...]  # (gain, delay in samples)

    @classmethod
    def of(cls, values: np.ndarray, rate: float) -> Coefficients:
        """From plugin values `[7]` on 0..1 and the sample rate in Hz."""
        model_value, drive_value, bias_value, output, stereo, frequency, resonance = (f32(v) for v in values)
        model = MODELS[int(float(model_value) * 6.9)]
        low = pole(model.low_pass, rate) if model.low_pass else f32(0)
        soft = bool(drive_value < f32(0.5))
        drive, clip, trim = _shape(soft, drive_value, f32(model.trim))
        bias = f32(1.2) * bias_value - f32(0.6)
        bias = bias / (f32(1) + f32(3) * abs(drive_value - f32(0.5)))
        trim = trim * f32(10.0 ** float(f32(2) * output - f32(1)))
        if stereo > 0:
            trim = trim * f32(2)
        if frequency > f32(0.05):
            drive = drive * (f32(1) + f32(0.1) * drive)
        rest = f32(1) - low
        return cls(
            stereo=bool(stereo > 0),
            soft=soft,
            drive=drive,
            clip=clip,
            bias=bias,
            gain=trim * rest * rest * rest * rest,
            resonator=(float(frequency), float(f32(1.1) - resonance)),
            poles=(float(low), float(pole(model.high_pass, rate))),
            echoes=tuple(
                (f32(gain), int(f32(rate) / f32(hz)) % LINE)
                for gain, hz in zip(model.gains, model.rates, strict=True)
                if gain
            ),
        )


def _shape(soft: bool, drive: np.float32, trim: np.float32) -> tuple[np.float32, np.float32, np.float32]:
    """Input gain, hard-clip level and level compensation for a drive on 0..1."""
    if soft:
        gain = f32(10.0 ** float(f32(2) - f32(6) * drive))
        return gain, f32(0), trim * (f32(0.55) + f32(150) * f32(float(drive) ** 4.0))
    if float(drive) > 0.7:
        return f32(10.0 ** float(f32(7) * drive - f32(4.9))), f32(0.5), trim
    return f32(1), f32(11.7) - f32(16) * drive, trim


def resonator(frequency: float, damping: float) -> Recursion:
    """Band output of a Chamberlin state-variable filter; added to the input it makes a resonant high-pass."""

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        low = state[0] + frequency * (state[1] + x)
        band = state[1] - frequency * (low + damping * state[1])
        return np.array([low, band]), band

    return Recursion(step, 2)


def speaker(low: float, high: float) -> Recursion:
    """Four equal one-pole low-passes in a row, then minus a one-pole low-pass of the result: a high-pass."""

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        out = np.empty(5)
        signal = x
        for i in range(4):
            signal = out[i] = low * state[i] + signal
        out[4] = high * (state[4] - signal) + signal
        return out, signal - out[4]

    return Recursion(step, 5)


class Stall:
    """The rest of a constant that the plugin's float32 high-pass cannot remove.

    While its input is constant, the high-pass's memory nears it by (1 - pole) of the distance at a time, and
    stops where such a step is less than half a unit in the last place. The output then stays there. It is
    about 110 dB below that constant, but it is all there is where bias and drive hold a quiet signal against
    the clipper.
    """

    STRIDE = 64

    def __init__(self, low: float, high: float) -> None:
        self._units = math.floor(0.5 / (1.0 - high))
        self._gain = (1.0 - low) ** -4  # of the four low-passes for a constant
        self._settle = max(
            4 * self.STRIDE, math.ceil(40.0 / (1.0 - low))
        )  # samples until they have come to rest
        self._held = 0  # samples for which the input has been constant up to now
        self._last = f32(0)
        self._rest: float | None = None  # where the output stands still, once it does

    def apply(self, u: np.ndarray, y: np.ndarray) -> None:
        """Change `y [N]`, the high-pass's output unrounded; `u [N]` float32 went into the low-passes."""
        if u[0] != self._last:
            self._held, self._rest = 0, None
        bounds = self._bounds(u)
        lengths = np.diff(bounds)
        lengths[0] += self._held
        for run in np.flatnonzero(lengths > self._settle):
            if run > 0:
                self._held, self._rest = 0, None
            self._hold(float(u[bounds[run]]), y[bounds[run] : bounds[run + 1]])
        if len(lengths) > 1 and lengths[-1] <= self._settle:
            self._rest = None
        self._held, self._last = int(lengths[-1]), u[-1]

    def _bounds(self, u: np.ndarray) -> np.ndarray:
        """Where runs of equal samples begin, and N; runs too short to matter may be left out."""
        thin = u[:: self.STRIDE]
        begin = 0
        if self._held == 0 and not (thin[1:] == thin[:-1]).any():
            begin = max(len(u) - 2 * self.STRIDE, 0)  # only a run that is still going on can matter, later
        inner = np.flatnonzero(u[begin + 1 :] != u[begin:-1]) + begin + 1
        return np.concatenate([[begin], inner, [len(u)]])

    def _hold(self, value: float, y: np.ndarray) -> None:
        """Stop `y`, all within one constant run, where its distance from rest is within the stall."""
        begin = max(self._settle - self._held, 0)
        if self._rest is None and value != 0:
            reach = self._units * float(np.spacing(f32(abs(value) * self._gain)))
            near = np.flatnonzero(np.abs(y[begin:]) <= reach)
            if len(near):
                begin += int(near[0])
                self._rest = float(y[begin])
        if self._rest is not None:
            y[begin:] = self._rest


class Chain:
    """One channel's way through the amp: state of the resonator, the delay line and the speaker filters."""

    def __init__(self, setup: Coefficients, resonate: Recursion | None, speak: Recursion, block: int) -> None:
        self._setup, self._resonate, self._speak, self._block = setup, resonate, speak, block
        self._resonator_state = np.zeros(2)
        self._speaker_state = np.zeros(5)
        self._past = np.zeros(max((delay for _, delay in setup.echoes), default=0), dtype=f32)
        self._stall = Stall(*setup.poles)

    def process(self, x: np.ndarray) -> np.ndarray:
        """`[N]` float32 (in mono mode the sum of the inputs) -> `[N]` float64."""
        setup = self._setup
        a = (x + setup.bias) * setup.drive
        if self._resonate is not None:
            # Rounded before it is added: a constant then leaves exactly nothing, as in the plugin, and the
            # filters after it are flushed in the same block.
            a += run_with_flushes(self._resonate, a, self._resonator_state, self._block, FLUSH).astype(f32)
        if setup.soft:
            a /= np.abs(a) + f32(1)
        else:
            np.clip(a, -setup.clip, setup.clip, out=a)
        a = self._echo(a)
        a *= setup.gain
        y = run_with_flushes(self._speak, a, self._speaker_state, self._block, FLUSH)
        self._stall.apply(a, y)
        return y

    def _echo(self, b: np.ndarray) -> np.ndarray:
        setup = self._setup
        if not setup.echoes:
            return b
        if setup.stereo:
            # In stereo mode the plugin never moves along its delay line, and reads what it never wrote.
            taps = [gain * b for gain, delay in setup.echoes if delay == 0]
        else:
            line = np.concatenate([self._past, b])
            size = len(self._past)
            self._past = line[len(line) - size :].copy()
            taps = [gain * line[size - delay : len(line) - delay] for gain, delay in setup.echoes]
        return b + sum(taps[1:], start=taps[0]) if taps else b


class ComboProcessor(MdaProcessor):
    """mda Combo. Plugin values `[7]` on 0..1: model (k/6), drive, bias, output, stereo, hpf_freq, hpf_reso.

    In mono mode (stereo 0) the inputs are summed and the outputs equal. In stereo mode neither the resonant
    high-pass nor the speaker's echoes work, as in the plugin.
    """

    name = "mda-combo"
    new_instance = (0.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.5)

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        super().__init__(options, spec)
        self._speakers: dict[tuple[float, float], Recursion] = {}  # one a model: kept between settings

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        setup = Coefficients.of(values, rate)
        self._stereo = setup.stereo
        resonate = resonator(*setup.resonator) if setup.resonator[0] > 0 and not setup.stereo else None
        speak = self._speakers.get(setup.poles)
        if speak is None:
            speak = self._speakers[setup.poles] = speaker(*setup.poles)
        channels = self.spec.channels if setup.stereo else 1
        self._chains = [Chain(setup, resonate, speak, self.spec.block_size) for _ in range(channels)]

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        first = self._chains[0].process(left if self._stereo else left + right)
        return first, self._chains[1].process(right) if len(self._chains) > 1 else first
