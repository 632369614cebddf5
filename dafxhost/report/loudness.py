"""How loud a recording is heard: ITU-R BS.1770-4, "Algorithms to measure audio programme loudness" (2015).

Programme loudness in LUFS: K-weighted power of 400 ms blocks that overlap by three quarters, gated at -70
LUFS and at 10 LU below what is left (annex 1). The weighting is tabulated there for 48 kHz only; for other
rates its analogue prototype is transformed anew (the values that reproduce the table: Brecht De Man,
"Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018).
"""

from __future__ import annotations

import math

import numpy as np

BLOCK, STEP = 0.4, 0.1
"""Seconds of a gating block, and from one to the next."""
ABSOLUTE, RELATIVE = -70.0, -10.0
OFFSET = -0.691
"""dB that make a 997 Hz sine at full scale in one channel -3.01 LUFS."""
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


def loudness(audio: np.ndarray, sample_rate: float) -> float:
    """Programme loudness in LUFS of mono or stereo audio `[C, T]`; -inf for silence.

    What is shorter than a block counts as one. Mono counts as one channel, so it measures 3 dB less than the
    same signal in both channels of a stereo file; see `as_played`.
    """
    from scipy.signal import sosfilt

    weighted = np.asarray(sosfilt(k_weighting(sample_rate), audio.astype(np.float64), axis=1))
    step = max(1, round(STEP * sample_rate))
    power = np.square(weighted).sum(axis=0)
    if power.size < round(BLOCK * sample_rate):
        blocks = np.array([power.mean()]) if power.size else np.zeros(1)
    else:
        steps = power[: power.size // step * step].reshape(-1, step).mean(axis=1)
        blocks = np.convolve(steps, np.full(round(BLOCK / STEP), STEP / BLOCK), mode="valid")
    heard = blocks[blocks > _power(ABSOLUTE)]
    if heard.size:
        heard = heard[heard > heard.mean() * 10 ** (RELATIVE / 10)]
    return OFFSET + 10 * math.log10(heard.mean()) if heard.size else -math.inf


def as_played(audio: np.ndarray, sample_rate: float) -> float:
    """Loudness in LUFS of audio `[C, T]` as two loudspeakers play it: mono comes out of both."""
    stereo = np.repeat(audio, 2, axis=0) if audio.shape[0] == 1 else audio
    return loudness(stereo, sample_rate)


def _power(lufs: float) -> float:
    return 10 ** ((lufs - OFFSET) / 10)
