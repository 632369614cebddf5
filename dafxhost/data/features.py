"""Small signal operations that the making of examples needs: fades, peak level, MFCCs (numpy and scipy)."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.sparse
from numpy.lib.stride_tricks import sliding_window_view

PEAK_DBFS = -12.0
PEAK = 10.0 ** (PEAK_DBFS / 20.0)
FADE_SECONDS = 0.05
MFCC_COEFFICIENTS = 30
MFCC_MELS = 60
MFCC_WINDOW = 400
MFCC_HOP = 200
AT_ONCE = 128
"""Frames transformed at a time: more do not fit into the processor's cache."""


def fade(audio: np.ndarray, sample_rate: int, seconds: float = FADE_SECONDS) -> np.ndarray:
    """A copy of `[..., T]` with a linear fade in and out; never longer than half of T each."""
    out = audio.copy()
    n = min(int(seconds * sample_rate), audio.shape[-1] // 2)
    if n:
        rise = np.linspace(0.0, 1.0, n, dtype=np.float32)
        out[..., :n] *= rise
        out[..., -n:] *= rise[::-1]
    return out


def peak_of(audio: np.ndarray) -> float:
    """Largest magnitude of an array, without a copy of it; NaN if it holds any."""
    return max(float(audio.max()), -float(audio.min()))


def mean_square(audio: np.ndarray) -> float:
    """Mean of the squares of an array, without a copy of it; not finite where a sample is not."""
    # einsum, not dot: that goes to BLAS, see `_mel_filters`.
    rows = audio.reshape(-1, audio.shape[-1]) if audio.flags.c_contiguous else np.ascontiguousarray(audio)
    flat = rows.reshape(-1)
    return float(np.einsum("i,i->", flat, flat)) / max(flat.size, 1)


def prepare_into(out: np.ndarray, audio: np.ndarray, sample_rate: int) -> None:
    """`normalise_peak(fade(audio))` of one clip `[C, T]`, written into `out`."""
    out[...] = audio
    n = min(int(FADE_SECONDS * sample_rate), audio.shape[-1] // 2)
    if n:
        rise = np.linspace(0.0, 1.0, n, dtype=np.float32)
        out[..., :n] *= rise
        out[..., -n:] *= rise[::-1]
    normalise_into(out, out)


def normalise_into(out: np.ndarray, audio: np.ndarray) -> None:
    """`normalise_peak(audio)` of one clip `[C, T]`, written into `out`."""
    largest = peak_of(audio)
    np.multiply(audio, np.float32(PEAK / largest) if largest > 0 else np.float32(1), out=out)


def normalise_peak(audio: np.ndarray, peak: float = PEAK) -> np.ndarray:
    """`[..., C, T]` float32 scaled so that the largest sample of each clip is `peak` (silence stays)."""
    largest = np.abs(audio).max(axis=(-2, -1), keepdims=True).astype(np.float64)
    gain = np.where(largest > 0, peak / np.where(largest > 0, largest, 1.0), 1.0)
    return audio.astype(np.float32, copy=False) * gain.astype(np.float32)


@lru_cache(maxsize=8)
def _mel_filters(sample_rate: int) -> scipy.sparse.csr_matrix:
    """`[mels, bins]` triangles, evenly spaced in mel = 2595 log10(1 + f / 700) from 0 to half the rate."""
    mel = np.linspace(0.0, 2595.0 * np.log10(1.0 + sample_rate / 1400.0), MFCC_MELS + 2)
    edges = 700.0 * (10.0 ** (mel / 2595.0) - 1.0)
    bins = np.linspace(0.0, sample_rate / 2.0, MFCC_WINDOW // 2 + 1)[:, None]
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - low) / (middle - low), (high - bins) / (high - middle)
    # Sparse, not only because nearly all of it is 0: a dense product goes to BLAS, whose threads spin and
    # slow everything down several times while plugins keep the cores busy.
    return scipy.sparse.csr_matrix(np.maximum(0.0, np.minimum(rising, falling)).T.astype(np.float32))


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(MFCC_WINDOW) / MFCC_WINDOW)).astype(np.float32)


def mfcc(audio: np.ndarray, sample_rate: int, every: int = 1) -> np.ndarray:
    """30 MFCCs of `[T]` -> `[frames, 30]` float32; if `every` is above 1, of one frame in so many, inside T.

    Parameters as in Grant 2023, that is torchaudio's defaults with 60 mel bands: periodic Hann windows of 400
    samples every 200, centred with reflected edges; power; HTK mel bands from 0 Hz to half the rate without
    area normalisation; decibels, floored at 1e-10 and at 80 dB below the largest; orthonormal DCT-II with the
    zeroth coefficient kept.

    T must be above 200.
    """
    level = mel_levels(audio, sample_rate, every)
    return np.asarray(scipy.fft.dct(level, axis=1, norm="ortho"))[:, :MFCC_COEFFICIENTS]


def mel_levels(audio: np.ndarray, sample_rate: int, every: int = 1) -> np.ndarray:
    """`[T]` -> `[frames, 60]` dB: what the MFCCs are the transform of. See `mfcc` for `every`."""
    audio = audio.astype(np.float32, copy=False)
    whole = np.pad(audio, MFCC_WINDOW // 2, mode="reflect") if every == 1 else audio
    frames = sliding_window_view(whole, MFCC_WINDOW)[:: MFCC_HOP * every]
    level = np.empty((len(frames), MFCC_MELS), np.float32)
    for i in range(0, len(frames), AT_ONCE):
        level[i : i + AT_ONCE] = _levels(frames[i : i + AT_ONCE], sample_rate)
    return np.maximum(level, level.max() - np.float32(80.0))


def _levels(frames: np.ndarray, sample_rate: int) -> np.ndarray:
    """`[n, window]` -> `[n, 60]` dB, floored at 1e-10."""
    spectrum = np.asarray(scipy.fft.rfft(frames * _window(), axis=1))
    power = np.square(np.real(spectrum))
    power += np.square(np.imag(spectrum))  # abs() takes four times as long
    mel = np.asarray(_mel_filters(sample_rate) @ power.T).T
    return np.float32(10.0) * np.log10(np.maximum(mel, np.float32(1e-10)))


def cosine(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of the rows of `[N, D]` and `[N, D]` -> `[N]`."""
    norms = np.sqrt(np.square(a).sum(axis=1) * np.square(b).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(norms, 1e-8)
