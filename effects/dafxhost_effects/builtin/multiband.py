"""The three-band compressor mda MultiBand in numpy.

Our own code for Paul Kellett's algorithm; its formulas and constants are facts read in `mdaMultiBand.cpp` of
mda-lv2 (https://github.com/mod-audio/mda-lv2, GPL) and checked against Debian's binary by
`benchmarks/null.py`. The envelopes are Python loops (`float32_loops`). Imports numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dafxhost_effects.builtin.base import MdaProcessor, f32
from dafxhost_effects.builtin.float32_loops import peak_follower
from dafxhost_effects.builtin.recursion import Recursion

NO_WATCH = np.zeros(1, dtype=np.intp)
LOW, MID, HIGH, ALL = range(4)


@dataclass(frozen=True)
class Band:
    """One band's compressor; float32 as in the plugin."""

    drive: np.float32  # how much the gain yields to the level
    trim: np.float32  # output gain
    attack: np.float32  # share of the distance taken in one sample
    release: np.float32  # what is left after one sample


def band(
    compression: np.float32, out: np.float32, attack: np.float32, release: np.float32, speed: float
) -> Band:
    """A band from plugin values on 0..1; `speed` 0 low, 1 mid, 2 high: higher bands act quicker."""
    a, r = float(attack), float(release)
    cube = float(compression * compression * compression)
    trim = f32(0.5 + (4.0 - 2.0 * a) * cube)
    return Band(
        drive=f32(10.0 ** (2.5 * float(compression) - 1.0)),
        trim=f32(float(trim) * 10.0 ** (2.0 * float(out) - 1.0)),
        attack=f32(10.0 ** (-0.05 - (2.5 - 0.5 * speed) * a)),
        release=f32(1) - f32(10.0 ** (-2.0 - (3.5 - 0.5 * speed) * r)),
    )


def one_pole(share: np.float32) -> Recursion:
    """A low-pass that takes `share` of its input at a time, as float32 has it."""
    take, keep = float(share), float(f32(1.0 - float(share)))

    def step(state: np.ndarray, x: float) -> tuple[np.ndarray, float]:
        new = take * x + keep * state
        return new, float(new[0])

    return Recursion(step, 1)


class Follower:
    """A band's gain: 1 / (1 + drive x envelope)."""

    def __init__(self, setup: Band) -> None:
        self._setup = setup
        self._envelope = f32(1)

    def gain(self, x: np.ndarray) -> np.ndarray:
        """`[N]` float32 -> `[N]` float32."""
        s = self._setup
        envelope, self._envelope = peak_follower(np.abs(x), self._envelope, s.attack, s.release)
        return f32(1) / (f32(1) + s.drive * envelope)


class MultiBandProcessor(MdaProcessor):
    """mda MultiBand. Plugin values `[13]` on 0..1: listen (low, mid, high, output), l_m and m_h (crossovers),
    l_comp, m_comp, h_comp, l_out, m_out, h_out, attack, release, stereo (width), process (0: mid, else side).

    The low band is compressed by the high band's gain, as in the plugin.
    """

    name = "mda-multiband"
    new_instance = (1.0, 0.103, 0.878, 0.54, 0.0, 0.6, 0.45, 0.5, 0.5, 0.22, 0.602, 0.55, 0.0)

    def start(self, values: np.ndarray, rate: float, untouched: bool) -> None:
        listen, low_mid, mid_high = values[:3]
        attack, release, width, process = values[9:]
        self._bands = [
            band(c, out, attack, release, speed)
            for speed, (c, out) in enumerate(zip(values[3:6], values[6:9], strict=True))
        ]
        self._listen = min(int(float(listen) * 3.9), ALL)
        self._side = bool(process > 0)
        self._width = width if self._listen == ALL else f32(0)
        low = one_pole(f32(10.0 ** (float(low_mid) - 1.70)))
        self._filters = [one_pole(f32(10.0 ** (float(mid_high) - 1.05))), low, low]
        self._states = [np.zeros(1) for _ in self._filters]
        self._mid, self._high = Follower(self._bands[MID]), Follower(self._bands[HIGH])

    def run(self, left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self._side:
            right = -right
        kept = (left - right) * self._width
        total = left + right
        below, low = self._crossovers(total)
        mid, high = below - low, total - below
        squeeze = self._high.gain(high)
        bands = (low, mid, high)
        gains = (squeeze, self._mid.gain(mid), squeeze)
        heard = range(3) if self._listen == ALL else (self._listen,)
        wet = sum((bands[b] * gains[b] * self._bands[b].trim for b in heard), start=np.zeros_like(total))
        return wet + kept, kept - wet if self._side else wet - kept

    def _crossovers(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What lies below the upper crossover, and below the lower one; float32."""
        signals = [x]
        for recursion, state in zip(self._filters, self._states, strict=True):
            signals.append(recursion.run(signals[-1], state, NO_WATCH)[0])
        return signals[1].astype(f32), signals[3].astype(f32)
