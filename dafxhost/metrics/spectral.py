"""Spectra: mel-spectral distance, spectral centroid, cosine of MFCCs, MR-STFT."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.sparse
import torch
from numpy.lib.stride_tricks import sliding_window_view

from dafxhost.data.features import cosine, mfcc
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.metrics.clips import Clips

MEL_FFT = 65536
"""Of the mel-spectral distance: 2.7 s at 24 kHz, so that it compares the balance of whole passages."""
MEL_BANDS = 128
SMALLEST_POWER = 1e-8
CENTROID_FFT, CENTROID_HOP = 2048, 1024
CENTROID_FLOOR = 1e-4
"""Frames whose magnitudes sum to less than this part (-80 dB) of the largest sum have no centroid."""
MFCC_EVERY = 2
"""One frame in so many (16.7 ms at 24 kHz) is compared."""
AT_ONCE = 64
"""Frames transformed at a time: more do not fit into the processor's cache."""


def mr_stft(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]`: `dafxhost.losses.MultiResolutionSTFT` with Grant's resolutions."""
    distance = MultiResolutionSTFT()
    with torch.no_grad():
        prepared = distance.prepare(torch.from_numpy(target.audio))
        return distance.distance(torch.from_numpy(clips.audio)[None], prepared)[0].double().numpy()


def mel_distance(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]`: mean |A - B| + mean |ln A - ln B| of mel spectra A and B, over channels, frames and 128 bands.

    DeepAFx-ST's MSD (Steinmetz, Bryan, Reiss 2022) as auraloss's MelSTFTLoss defines it with window and hop
    of 65536 samples: periodic Hann windows, frames centred with reflected edges, magnitudes not below 1e-4,
    mel bands of `mel_filters`. In clips of 32768 samples or fewer the reflection does not fit; there the
    window is halved until it does.
    """
    size = MEL_FFT
    while size // 2 >= clips.audio.shape[-1]:
        size //= 2
    wanted = _mel(target.audio[0], target.sample_rate, size)
    logs = np.log(wanted)
    values = np.empty(len(clips))
    for i, clip in enumerate(clips.audio):
        found = _mel(clip, clips.sample_rate, size)
        values[i] = np.abs(found - wanted).mean() + np.abs(np.log(found) - logs).mean()
    return values


def centroid_error(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]` Hz: difference of the clips' mean spectral centroids.

    The centroid of a frame is sum(f |X|) / sum |X| over its bins, f in Hz; 2048-sample periodic Hann windows
    every 1024, centred with reflected edges; the mean is over frames and channels (as DeepAFx-ST does with
    torchaudio's SpectralCentroid, there every 512). Frames 80 dB below the loudest are left out: in silence
    it is not defined.
    """
    return np.abs(_centroids(clips) - _centroids(target))


def mfcc_cosine(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]`: cosine of the 30 MFCCs of every second frame with the target's, mean over frames and channels.

    The MFCCs of the redraw rule of Grant 2023, see `dafxhost.data.features.mfcc`.
    """
    wanted = [mfcc(channel, target.sample_rate, MFCC_EVERY) for channel in target.audio[0]]
    values = np.empty(len(clips))
    for i, clip in enumerate(clips.audio):
        found = [mfcc(channel, clips.sample_rate, MFCC_EVERY) for channel in clip]
        values[i] = np.mean([cosine(a, b).mean(dtype=np.float64) for a, b in zip(found, wanted, strict=True)])
    return values


def _mel(clip: np.ndarray, sample_rate: int, size: int) -> np.ndarray:
    """`[C, T]` -> `[C frames, bands]`."""
    magnitudes = np.concatenate([_magnitudes(channel, size, size) for channel in clip])
    floored = np.maximum(magnitudes, np.float32(SMALLEST_POWER**0.5))
    filters = mel_filters(sample_rate, size)
    bands = np.stack([np.asarray(filters @ row) for row in floored])  # a third of the time of one product
    return np.maximum(bands, np.float32(SMALLEST_POWER))


def _centroids(clips: Clips) -> np.ndarray:
    """`[K]` Hz."""
    return np.array([np.mean([_centroid(c, clips.sample_rate) for c in clip]) for clip in clips.audio])


def _centroid(channel: np.ndarray, sample_rate: int) -> float:
    hertz = np.fft.rfftfreq(CENTROID_FFT, 1.0 / sample_rate).astype(np.float32)
    weighted, total = [], []
    for magnitudes in _blocks(channel, CENTROID_FFT, CENTROID_HOP):
        weighted.append(np.einsum("fb,b->f", magnitudes, hertz))
        total.append(magnitudes.sum(axis=1))
    sums = np.concatenate(total)
    sounding = sums > CENTROID_FLOOR * sums.max()  # of silence: no frame
    return float((np.concatenate(weighted)[sounding] / sums[sounding]).mean()) if sounding.any() else 0.0


def _magnitudes(channel: np.ndarray, size: int, hop: int) -> np.ndarray:
    """`[T]` -> `[frames, bins]`."""
    return np.concatenate(list(_blocks(channel, size, hop)))


def _blocks(channel: np.ndarray, size: int, hop: int) -> Iterator[np.ndarray]:
    """Magnitudes `[frames, bins]` of a channel `[T]`, some frames at a time."""
    reach = min(size // 2, len(channel) - 1)
    padded = np.pad(channel, reach, mode="reflect")
    frames = sliding_window_view(padded, size)[::hop]
    for i in range(0, len(frames), AT_ONCE):
        # torch's FFT takes half as long as SciPy's.
        spectrum = torch.view_as_real(
            torch.fft.rfft(torch.from_numpy(frames[i : i + AT_ONCE] * _window(size)))
        )
        power = spectrum.square_().numpy()
        yield np.sqrt(power[..., 0] + power[..., 1])


@lru_cache(maxsize=8)
def _window(size: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(size) / size)).astype(np.float32)


@lru_cache(maxsize=8)
def mel_filters(sample_rate: int, size: int) -> scipy.sparse.csr_matrix:
    """`[128, size / 2 + 1]` triangles of equal area, evenly spaced from 0 Hz to half the rate on Slaney's mel
    scale ("Auditory Toolbox", 1998): linear to 1 kHz (200/3 Hz a mel), above it 27 mels an octave of 6.4.
    """
    highest = _to_mel(np.array(sample_rate / 2.0))
    edges = _to_hertz(np.linspace(0.0, float(highest), MEL_BANDS + 2))
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    bins = np.linspace(0.0, sample_rate / 2.0, size // 2 + 1)
    triangles = np.maximum(0.0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
    # Sparse: nearly all of it is 0, and a dense product goes to BLAS, whose threads spin.
    return scipy.sparse.csr_matrix((triangles * 2.0 / (high - low)).astype(np.float32))


def _to_mel(hertz: np.ndarray) -> np.ndarray:
    return np.where(
        hertz < 1000.0,
        3.0 * hertz / 200.0,
        15.0 + 27.0 * np.log(np.maximum(hertz, 1.0) / 1000.0) / np.log(6.4),
    )


def _to_hertz(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15.0, 200.0 * mel / 3.0, 1000.0 * np.exp(np.log(6.4) * (mel - 15.0) / 27.0))
