"""How loud a recording is heard: ITU-R BS.1770-4, "Algorithms to measure audio programme loudness" (2015).

Programme loudness in LUFS: K-weighted power of 400 ms blocks that overlap by three quarters, gated at -70
LUFS and at 10 LU below what is left (annex 1). The weighting is tabulated there for 48 kHz only; for other
rates its analogue prototype is transformed anew (the values that reproduce the table: Brecht De Man,
"Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018).
"""

from __future__ import annotations

import math
from importlib import import_module
from typing import Any

import numpy as np

ABSOLUTE_GATE = -70.0
RELATIVE_GATE = -10.0
_OFFSET = -0.691
"""dB that make a 997 Hz sine at full scale in one channel -3.01 LUFS."""
# Left, right, centre, and the two surround channels (BS.1770-4, table 3); further ones count as 1 here.
_WEIGHTS = (1.0, 1.0, 1.0, 1.41, 1.41)
_SHELF = (1681.974450955533, 0.7071752369554196, 3.999843853973347)  # Hz, Q, dB
_HIGH_PASS = (38.13547087602444, 0.5003270373238773)  # Hz, Q
_SHELF_EXPONENT = 0.4996667741545416


def k_weighting(sample_rate: float) -> np.ndarray:
    """Second-order sections `[2, 6]` of the K-weighting at this rate, Hz."""
    frequency, q, gain = _SHELF
    k = math.tan(math.pi * frequency / sample_rate)
    high = 10 ** (gain / 20)
    band = high**_SHELF_EXPONENT
    a0 = 1 + k / q + k * k
    shelf = [high + band * k / q + k * k, 2 * (k * k - high), high - band * k / q + k * k]
    sections = [[b / a0 for b in shelf] + [1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0]]
    frequency, q = _HIGH_PASS
    k = math.tan(math.pi * frequency / sample_rate)
    a0 = 1 + k / q + k * k
    sections.append([1.0, -2.0, 1.0, 1.0, 2 * (k * k - 1) / a0, (1 - k / q + k * k) / a0])
    return np.array(sections)


class LoudnessMeter:
    """Integrated loudness of audio given in blocks.

    Powers of 100 ms steps are kept (10 numbers a second and channel); blocks of 400 ms overlapping by three
    quarters, and the two gates, are made of them at the end (BS.1770-4, equations 1 to 7).

    Args:
        sample_rate: Hz. channels: count; a mono file counts once (it is not doubled to stereo).
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._filter = k_weighting(sample_rate)
        self._state = np.zeros((2, channels, 2))
        self._step = max(1, round(0.1 * sample_rate))
        self._rest = np.zeros((channels, 0))
        self._powers: list[np.ndarray] = []
        self._weights = np.array([_WEIGHTS[c] if c < 5 else 1.0 for c in range(channels)])

    def add(self, block: np.ndarray) -> None:
        """Take in `[C, N]`."""
        filtered: Any = import_module("scipy.signal").sosfilt  # untyped, and slow for pyright to infer
        weighted, self._state = filtered(self._filter, block.astype(np.float64), axis=1, zi=self._state)
        weighted = np.concatenate([self._rest, weighted], axis=1)
        steps = weighted.shape[1] // self._step
        whole, self._rest = weighted[:, : steps * self._step], weighted[:, steps * self._step :]
        if steps:
            power = np.square(whole).reshape(len(whole), steps, self._step).mean(axis=2)
            self._powers.append(self._weights @ power)

    def integrated(self) -> float:
        """LUFS; minus infinity where nothing passes the gates. What is shorter than a block counts as one."""
        steps = np.concatenate([np.zeros(0), *self._powers])
        if len(steps) < 4:
            rest = self._weights @ np.square(self._rest).sum(axis=1)
            samples = len(steps) * self._step + self._rest.shape[1]
            blocks = np.array([(steps.sum() * self._step + rest) / max(samples, 1)])
        else:
            blocks = np.convolve(steps, np.full(4, 0.25), "valid")
        gated = blocks[_lufs(blocks) > ABSOLUTE_GATE]
        if not len(gated):
            return -np.inf
        gated = gated[_lufs(gated) > float(_lufs(gated.mean())) + RELATIVE_GATE]
        return float(_lufs(gated.mean())) if len(gated) else -np.inf


def _lufs(power: np.ndarray) -> np.ndarray:
    return _OFFSET + 10 * np.log10(np.maximum(power, 1e-30))


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of `[C, T]` in LUFS; minus infinity for silence.

    Mono counts as one channel, so it measures 3 dB less than the same signal in both channels of a stereo
    file; see `as_played`.
    """
    meter = LoudnessMeter(sample_rate, len(audio))
    meter.add(audio)
    return meter.integrated()


def as_played(audio: np.ndarray, sample_rate: int) -> float:
    """Loudness in LUFS of audio `[C, T]` as two loudspeakers play it: mono comes out of both."""
    stereo = np.repeat(audio, 2, axis=0) if audio.shape[0] == 1 else audio
    return loudness(stereo, sample_rate)
