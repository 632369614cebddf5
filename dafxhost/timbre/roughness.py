"""Roughness: partials so close that they beat."""

from __future__ import annotations

import math

import numpy as np
import scipy.fft

from dafxhost.timbre import spectra
from dafxhost.timbre.clip import Clip
from dafxhost.timbre.peaks import Peaks, find_peaks
from dafxhost.timbre.undefined import Undefined

_FRAME_SECONDS = 0.05
_LEAD = 512
_PEAKS = 0.01
_FLOOR = 0.01  # below it the model says 0
_B1, _B2 = 3.51, 5.75
_FAR = 4.0  # scaled distance s d from which a pair adds less than 1e-6 of what it could


def roughness(clip: Clip) -> float:
    """Roughness: 13.988 log10 r + 48.976, 0 where r < 0.01 (Audio Commons D5.2 and D5.8, model 0.4).

    r is the mean over frames of 50 ms of the sum over all pairs of spectral peaks of
    (a1 a2)^0.1 / 2 (2 a1 / (a1 + a2))^3.11 (exp(-3.51 s d) - exp(-5.75 s d)), where a1 is the higher
    amplitude, d the difference of frequencies f1 < f2 and s = 0.24 / (0.0207 f1 + 18.96): P. Vassilakis,
    "SRA: a web-based research tool for spectral and roughness analysis of sound signals", SMC 2007, after
    R. Plomp and W. Levelt. (Vassilakis has the lower amplitude in the numerator; the published model, and
    this one, the higher.)

    Raises:
        Undefined: shorter than half a frame, or no spectrum.
    """
    spectrum = _spectrum(clip)
    span = spectrum.max() - spectrum.min()
    if not span > 0:
        raise Undefined("its spectrum is flat: it has no peaks")
    peaks = find_peaks((spectrum - spectrum.min()) / span, _PEAKS, spectrum)
    mean = _pairs(peaks, clip.rate / 2.0 / (spectrum.shape[1] - 1)) / len(spectrum)
    return 0.0 if mean < _FLOOR else math.log10(mean) * 13.98779569 + 48.97606571545886


def _spectrum(clip: Clip) -> np.ndarray:
    """Magnitudes of frames of 50 ms every 25 ms (Hamming), filled up to a power of two `[frames, bins]`."""
    samples = np.pad(clip.samples, (_LEAD, 0))
    size = int(clip.rate * _FRAME_SECONDS)
    count = int(len(samples) / (size - size / 2.0))
    if count < 1:
        raise Undefined("the clip is too short: roughness needs 14 ms")
    length = 2 ** int(math.log2(size) + 1)
    frames = np.zeros((count, size))
    if len(samples) > size:
        starts = [int(i * size / 2.0) for i in range(count) if int(i * size / 2.0) + size <= len(samples)]
        frames[: len(starts)] = spectra.cut(samples, size, 1)[starts] * np.hamming(size + 2)[1:-1]
    else:
        frames[0, : len(samples)] = samples
    return np.abs(np.asarray(scipy.fft.rfft(frames, length, axis=1)))


def _pairs(peaks: Peaks, hertz: float) -> float:
    """The sum over all pairs of peaks of one frame. Peaks are sorted by frequency, so the k-th neighbours
    of all of them are taken at once, and a peak whose k-th neighbour is too far away has done its part.
    """
    frequency = peaks.position * hertz
    scale = 0.24 / (0.0207 * frequency + 18.96)
    tenth = peaks.level**0.1
    total, lower, step = 0.0, np.arange(len(frequency)), 1
    while True:
        lower = lower[lower + step < len(frequency)]
        upper = lower + step
        distance = (frequency[upper] - frequency[lower]) * scale[lower]
        near = (peaks.row[upper] == peaks.row[lower]) & (distance < _FAR)
        lower, upper, distance = lower[near], upper[near], distance[near]
        if not len(lower):
            return total
        one, two = peaks.level[lower], peaks.level[upper]
        first = np.where(peaks.height[lower] >= peaks.height[upper], one, two)
        balance = 0.5 * (2.0 * first / (one + two)) ** 3.11
        beating = np.exp(-_B1 * distance) - np.exp(-_B2 * distance)
        total += float((tenth[lower] * tenth[upper] * balance) @ beating)
        step += 1
