"""Depth: how low and how long."""

from __future__ import annotations

import numpy as np

from dafxhost.timbre import envelope, onsets, spectra
from dafxhost.timbre.clip import Clip, steep
from dafxhost.timbre.peaks import find_peaks
from dafxhost.timbre.undefined import Undefined, log10, regression

_SIZE = 4096
_FRAMES = ("hamming", _SIZE, 1024)
_QUIET = 10.0 ** (-60 / 20)  # power of a frame
_DECAYED = 10.0 ** (-40 / 20)  # of the RMS envelope
_RMS = 256
_PEAKS = 0.01
_COEFFICIENTS = {
    "low centroid": -0.0043703565847874465,
    "share of low frequencies": 32.83743202462131,
    "duration": 4.750862716905235,
    "pitch": -14.217438690256062,
    "share times duration": 3.8782339862813924,
    "bent share times duration": -0.8544826091735516,
}
_CONSTANT = 66.69534393444391


def depth(clip: Clip) -> float:
    """Depth (A. Pearce, T. Brookes, R. Mason, Audio Commons D5.2 and D5.8, model 0.4).

    A regression on: the centroid below 2 kHz, Hz; the share R of power below 500 Hz; D = log10 of the mean
    time in seconds that onsets take to fall below -40 dB; log10 of the frequency of the lowest peak of the
    mean spectrum; R D; R^10 / (R^10 + 0.2) D. Frames of 4096 samples every 1024 (Hamming), those below -60
    dB count as 0.

    Raises:
        Undefined: no sound above 20 Hz, or none of its parts.
    """
    spectrum = spectra.power(clip.audible, *_FRAMES)
    scale = spectra.window("hamming", min(_SIZE, len(clip.audible))).sum() ** -2
    power = spectrum.sum(axis=1, dtype=np.float64) * scale
    if not power.sum() > 0:
        raise Undefined("there is no sound above 20 Hz")
    loud = power > _QUIET
    share = float(_share(clip)[loud].sum() * scale / power.sum())
    duration = log10(_mean_duration(clip))
    bent = share**10 / (share**10 + 0.2)
    parts = {
        "low centroid": min(_centroid(clip, loud, power), 2000.0),
        "share of low frequencies": share,
        "duration": duration,
        "pitch": _pitch(spectrum.sum(axis=0, dtype=np.float64), clip.rate),
        "share times duration": share * duration,
        "bent share times duration": bent * duration,
    }
    return regression(parts, _COEFFICIENTS, _CONSTANT)


def _share(clip: Clip) -> np.ndarray:
    """Power of each frame below 500 Hz."""
    low = steep(clip.audible, 500.0, "lowpass", clip.rate)
    return spectra.total_power(low, *_FRAMES)


def _centroid(clip: Clip, loud: np.ndarray, power: np.ndarray) -> float:
    low = steep(clip.audible, 2000.0, "lowpass", clip.rate)
    spectrum = spectra.power(low, *_FRAMES).astype(np.float64)
    hertz = np.linspace(0.0, clip.rate / 2.0, spectrum.shape[1])
    total = spectrum.sum(axis=1)
    centroids = np.where(loud & (total > 0), spectrum @ hertz / np.where(total > 0, total, 1.0), 0.0)
    return float(centroids @ power / power.sum())


def _mean_duration(clip: Clip) -> float:
    """Seconds from an onset's loudest frame to -40 dB or to the next onset, the mean over onsets."""
    shape = envelope.peak_envelope(clip.audible, clip.rate, 0.2)
    strength = onsets.onset_strength(spectra.stft(clip.audible), clip.rate)
    found = [place // _RMS for place in onsets.find_onsets(strength, shape, clip.rate, 512)]
    level = envelope.rms_envelope(clip.audible, _RMS, _RMS)
    level = level / level.max()
    frames = []
    for i, place in enumerate(found):
        segment = level[place:] if place == found[-1] else level[place : found[i + 1]]
        if len(segment):
            after = segment[int(segment.argmax()) :]
            quiet = np.flatnonzero(after < _DECAYED)
            frames.append(int(quiet[0]) if len(quiet) else len(after))
    if not frames:
        raise Undefined("no onset has a duration")
    return float(np.mean(frames)) * _RMS / clip.rate


def _pitch(spectrum: np.ndarray, rate: int) -> float:
    """log10 of the frequency of the lowest peak, Hz; 0 if the strongest is at 0 Hz."""
    span = spectrum.max() - spectrum.min()
    if not span > 0:
        raise Undefined("its spectrum is flat: there is no lowest peak")
    peaks = find_peaks(((spectrum - spectrum.min()) / span)[None], _PEAKS)
    strongest = peaks.position[peaks.height.argmax()]
    return log10(float(peaks.position.min()) * rate / _SIZE) if strongest > 0 else 0.0
