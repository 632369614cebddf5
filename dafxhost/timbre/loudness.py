"""Loudness as the models want it: every clip at -24 LUFS, by ITU-R BS.1770-4."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.signal

from dafxhost.timbre.undefined import Undefined

TARGET = -24.0
ABSOLUTE_GATE = -70.0
RELATIVE_GATE = -10.0
BLOCK_SECONDS = 0.4
STEP = 0.25  # of a block
_OFFSET = -0.691


@lru_cache(maxsize=16)
def k_weighting(rate: int) -> np.ndarray:
    """`[2, 6]` second-order sections: a high shelf of +4 dB at 1.5 kHz (Q = 1/sqrt 2), a high-pass at 38 Hz
    (Q = 0.5).

    The shapes of BS.1770-4 at any rate, from R. Bristow-Johnson's "Cookbook formulae for audio EQ biquad
    filter coefficients", as the package pyloudnorm makes them, which the reference implementation uses.
    """
    return np.stack([_high_shelf(4.0, 1 / np.sqrt(2.0), 1500.0, rate), _high_pass(0.5, 38.0, rate)])


def _high_shelf(decibels: float, q: float, frequency: float, rate: int) -> np.ndarray:
    a = 10.0 ** (decibels / 40.0)
    w = 2.0 * np.pi * frequency / rate
    cosine, slope = np.cos(w), 2.0 * np.sqrt(a) * np.sin(w) / (2.0 * q)
    up, down = a + 1.0, a - 1.0
    section = np.array([
        a * (up + down * cosine + slope), -2.0 * a * (down + up * cosine), a * (up + down * cosine - slope),
        up - down * cosine + slope, 2.0 * (down - up * cosine), up - down * cosine - slope,
    ])  # fmt: skip
    return section / section[3]


def _high_pass(q: float, frequency: float, rate: int) -> np.ndarray:
    w = 2.0 * np.pi * frequency / rate
    cosine, alpha = np.cos(w), np.sin(w) / (2.0 * q)
    edge = (1.0 + cosine) / 2.0
    section = np.array([edge, -2.0 * edge, edge, 1.0 + alpha, -2.0 * cosine, 1.0 - alpha])
    return section / section[3]


def integrated_loudness(samples: np.ndarray, rate: int) -> float:
    """Gated loudness of mono audio `[T]`, LUFS; minus infinity if no block passes the gates.

    Blocks of 400 ms every 100 ms; an absolute gate at -70 LUFS, a relative one 10 LU below the mean of what
    passes it (BS.1770-4, equations 1 to 7). Shorter audio is padded with silence to one block.
    """
    block = int(BLOCK_SECONDS * rate)
    padded = np.pad(samples, (0, max(0, block - len(samples))))
    weighted = np.asarray(scipy.signal.sosfilt(k_weighting(rate), padded))
    count = int(np.round((len(padded) / rate - BLOCK_SECONDS) / (BLOCK_SECONDS * STEP)) + 1)
    starts = [int(BLOCK_SECONDS * (j * STEP) * rate) for j in range(count)]
    stops = [int(BLOCK_SECONDS * (j * STEP + 1) * rate) for j in range(count)]
    energy = np.concatenate([[0.0], np.cumsum(np.square(weighted))])
    inside = energy[np.minimum(stops, len(padded))] - energy[np.minimum(starts, len(padded))]
    power = inside / (BLOCK_SECONDS * rate)
    with np.errstate(divide="ignore"):
        blocks = _OFFSET + 10.0 * np.log10(np.maximum(power, 0.0))
        loud = blocks >= ABSOLUTE_GATE
        if not loud.any():
            return -np.inf
        relative = _OFFSET + 10.0 * np.log10(power[loud].mean()) + RELATIVE_GATE
    return float(_OFFSET + 10.0 * np.log10(power[(blocks > relative) & loud].mean()))


def at_target(samples: np.ndarray, rate: int) -> np.ndarray:
    """`[T]` scaled to -24 LUFS, or to a peak of 1 if it would pass that.

    Raises:
        Undefined: it is silent, or quieter than the gate of BS.1770.
    """
    if not np.any(samples):
        raise Undefined("the clip is silent (or its channels cancel each other)")
    loudness = integrated_loudness(samples, rate)
    if not np.isfinite(loudness):
        raise Undefined(
            f"the clip is too quiet or too short for a loudness: no 400 ms of it pass {ABSOLUTE_GATE:g} LUFS"
        )
    scaled = samples * 10.0 ** ((TARGET - loudness) / 20.0)
    return scaled / max(1.0, float(np.abs(scaled).max()))
