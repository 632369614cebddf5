"""Frames, spectra, mel bands and medians: what several models look at."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal
import scipy.sparse
from numpy.lib.stride_tricks import sliding_window_view

from dafxhost.timbre.medians import running_medians

STFT_SIZE, STFT_HOP = 2048, 512
MELS = 128
_CHUNK = 64  # frames transformed at once: they stay in the processor's cache


@lru_cache(maxsize=32)
def window(name: str, size: int) -> np.ndarray:
    """Periodic window of scipy's name, `[size]`; "tukey" is a cosine taper of a quarter."""
    return np.asarray(scipy.signal.get_window(("tukey", 0.25) if name == "tukey" else name, size))


def cut(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Whole frames of `[T]`, a view `[frames, size]`."""
    return sliding_window_view(samples, size)[::hop]


def squared(spectrum: np.ndarray) -> np.ndarray:
    """Squared magnitudes."""
    return np.square(np.real(spectrum)) + np.square(np.imag(spectrum))


def power(samples: np.ndarray, name: str, size: int, hop: int, dtype: type = np.float32) -> np.ndarray:
    """One-sided power spectra of frames without their mean, times a window: `[frames, size / 2 + 1]`.

    Inner bins count twice; the window's gain is left in. A clip shorter than a frame is one frame. Single
    precision leaves a floor some 130 dB below a frame's strongest bin.
    """
    frames, means = _whole(samples.astype(dtype, copy=False), size, hop)
    shape = window(name, frames.shape[1]).astype(dtype, copy=False)
    out = np.empty((len(frames), size // 2 + 1), dtype)
    for start in range(0, len(frames), _CHUNK):
        part = slice(start, start + _CHUNK)
        chunk = frames[part] - means[part, None]
        chunk *= shape
        spectrum = np.asarray(scipy.fft.rfft(chunk, size, axis=1))
        out[part] = squared(spectrum)
    out[:, 1:-1] *= 2.0
    return out


def total_power(samples: np.ndarray, name: str, size: int, hop: int) -> np.ndarray:
    """`power(...).sum(axis=1)` without a transform (Parseval), float64."""
    frames, means = _whole(samples, size, hop)
    length = frames.shape[1]
    weights = np.square(window(name, length))
    squares = cut(np.square(samples), length, hop if length == size else length)
    spread = np.einsum("ij,j->i", squares, weights) - 2.0 * means * np.einsum("ij,j->i", frames, weights)
    return size * np.maximum(spread + np.square(means) * weights.sum(), 0.0)


def _whole(samples: np.ndarray, size: int, hop: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames (a view) and their means; a clip shorter than a frame is one frame."""
    if len(samples) < size:
        size = hop = len(samples)
    frames = cut(samples, size, hop)
    if size % hop:
        return frames, frames.mean(axis=1)
    blocks = samples[: (len(frames) + size // hop - 1) * hop].reshape(-1, hop).sum(axis=1)
    return frames, sliding_window_view(blocks, size // hop).sum(axis=1) / size


def stft(samples: np.ndarray) -> np.ndarray:
    """Centred STFT: Hann windows of 2048 every 512, zeros beyond the ends -> `[frames, 1025]` complex64."""
    frames = cut(np.pad(samples.astype(np.float32), STFT_SIZE // 2), STFT_SIZE, STFT_HOP)
    shape = window("hann", STFT_SIZE).astype(np.float32)
    out = np.empty((len(frames), STFT_SIZE // 2 + 1), np.complex64)
    for start in range(0, len(frames), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = np.asarray(scipy.fft.rfft(frames[part] * shape, axis=1))
    return out


def inverse_stft(spectrum: np.ndarray) -> np.ndarray:
    """`[frames, 1025]` -> `[(frames - 1) * 512]`: overlap-add with the same window, divided by its
    squares."""
    hann = window("hann", STFT_SIZE).astype(np.float32)
    blocks = np.asarray(scipy.fft.irfft(spectrum, STFT_SIZE, axis=1)) * hann
    parts, frames = STFT_SIZE // STFT_HOP, len(blocks)
    out = np.zeros((frames + parts - 1, STFT_HOP), np.float32)
    weight = np.zeros_like(out)
    for k in range(parts):
        inside = slice(k * STFT_HOP, (k + 1) * STFT_HOP)
        out[k : k + frames] += blocks[:, inside]
        weight[k : k + frames] += np.square(hann[inside])
    middle = slice(STFT_SIZE // 2, out.size - STFT_SIZE // 2)
    return out.ravel()[middle] / np.maximum(weight.ravel()[middle], 1e-30)


@lru_cache(maxsize=8)
def mel_bands(rate: int) -> scipy.sparse.csr_matrix:
    """`[128, 1025]` triangles from 0 Hz to half the rate, each of unit area.

    Mel as in M. Slaney's Auditory Toolbox (1998): linear below 1 kHz (200/3 Hz a mel), logarithmic above
    (27 mels a factor of 6.4).
    """
    edges = _hertz(np.linspace(0.0, float(_mel(rate / 2.0)), MELS + 2))
    bins = np.linspace(0.0, rate / 2.0, STFT_SIZE // 2 + 1)
    widths = np.diff(edges)[:, None]
    rising = (bins - edges[:-2, None]) / widths[:-1]
    falling = (edges[2:, None] - bins) / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return scipy.sparse.csr_matrix(triangles.astype(np.float32))


_LINEAR, _BREAK, _LOG_STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0


def _mel(hertz: float) -> float:
    if hertz < _BREAK:
        return hertz / _LINEAR
    return _BREAK / _LINEAR + float(np.log(hertz / _BREAK)) / _LOG_STEP


def _hertz(mel: np.ndarray) -> np.ndarray:
    knee = _BREAK / _LINEAR
    return np.where(mel < knee, _LINEAR * mel, _BREAK * np.exp(_LOG_STEP * (np.maximum(mel, knee) - knee)))


def percussive(spectrum: np.ndarray) -> np.ndarray:
    """The percussive part of an STFT `[frames, bins]`, what is left of it being the harmonic part.

    Medians over 31 frames (harmonic) and over 31 bins (percussive) of the magnitude, soft masks of power 2:
    D. Fitzgerald, "Harmonic/percussive separation using median filtering", DAFx 2010.
    """
    magnitude = np.abs(spectrum)
    wanted = running_medians(np.ascontiguousarray(magnitude.T)).T
    wanted, other = np.square(wanted, order="C"), np.square(running_medians(magnitude))
    other += wanted
    mask = np.full_like(wanted, 0.5)
    np.divide(wanted, other, out=mask, where=other > 0)
    return spectrum * mask


def magnitude_chunks(samples: np.ndarray, size: int, hop: int) -> Iterator[np.ndarray]:
    """Magnitudes of rectangular frames without their mean, scaled to a spectral density at a rate of 1.

    Yields `[up to 64, size / 2 + 1]` float32: all of them at once would be hundreds of MB a minute.
    """
    frames = cut(samples.astype(np.float32), size, hop)
    for start in range(0, len(frames), _CHUNK):
        spectrum = np.asarray(scipy.fft.rfft(frames[start : start + _CHUNK], axis=1))
        out = np.abs(spectrum)
        out *= np.float32(size**-0.5)
        out[:, 0] = 0.0  # what is left of the mean
        yield out
