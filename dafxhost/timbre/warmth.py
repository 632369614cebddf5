"""Warmth: loudness around the fundamental, and how the spectrum falls above it."""

from __future__ import annotations

import numpy as np

from dafxhost.timbre import spectra
from dafxhost.timbre.clip import Clip, find_all
from dafxhost.timbre.onsets import onset_strength
from dafxhost.timbre.peaks import find_peaks
from dafxhost.timbre.undefined import Undefined, log10, regression

_SIZE = 8192
_LOW = 260.0
_HIGHEST_REGION = 12_000.0
_PEAKS = 0.2
_COEFFICIENTS = {
    "centroid": -4.464258317026696,
    "loudness of high frequencies": -0.08819320850778556,
    "loudness of the warm region": 0.29156539973575546,
    "straightness of the fall": 17.274733561081554,
    "share of low frequencies": 8.403340066029507,
}
_CONSTANT = 45.21212125085579


def warmth(clip: Clip) -> float:
    """Warmth (A. Pearce, T. Brookes, R. Mason, Audio Commons D5.6 and D5.8, model 0.4).

    A regression on: log10 of the mean centroid in Hz; the loudness of 8 to 24 Bark weighted by RMS; the
    loudness of 1 to 4 Bark; how well a straight line fits the level over the logarithm of frequency above
    3.5 times the fundamental (R^2); the share of power from the fundamental to 260 Hz (0 if it lies above).
    All but the loudnesses are taken from the spectrum between one onset and the next.

    A segment without sound has no spectrum; it is left out. (The reference implementation raises.)

    Raises:
        Undefined: no segment has a spectrum.
    """
    loudness = clip.specific
    places = find_all(clip.envelope, onset_strength(clip.stft, clip.rate), clip.rate)
    measured, weights = [], []
    for i, place in enumerate(places):
        end = len(clip.samples) if place == places[-1] else places[i + 1]
        segment = clip.samples[place:end]
        found = _segment(segment, clip.rate)
        if found is not None:
            measured.append(found)
            weights.append(float(np.sqrt(np.mean(np.square(segment)))))
    if not measured:
        raise Undefined("no part of it between two onsets has a spectrum (silence, or a constant)")
    centroid, fall, share = np.array(measured).T
    parts = {
        "centroid": log10(float(centroid.mean())),
        "loudness of high frequencies": loudness.mean(loudness.weighted(80, 240), 1),
        "loudness of the warm region": float(loudness.weighted(10, 40).mean()),
        "straightness of the fall": float(fall.mean()),
        "share of low frequencies": float(share @ weights / np.sum(weights)),
    }
    return regression(parts, _COEFFICIENTS, _CONSTANT)


def _segment(samples: np.ndarray, rate: int) -> tuple[float, float, float] | None:
    """(centroid in Hz, R^2 of the fall, share of low frequencies), or None without a spectrum."""
    if len(samples) < 2:
        return None
    hop = _SIZE - _SIZE // 8
    spectrum = spectra.power(samples, "tukey", _SIZE, hop, np.float64).sum(axis=0)
    if not spectrum.max() > 0:
        return None
    spectrum = spectrum / spectrum.max()
    hertz = np.linspace(0.0, rate / 2.0, len(spectrum))
    peaks = find_peaks(spectrum[None], _PEAKS)
    fundamental = float(peaks.position.min()) * rate / _SIZE
    total = float(spectrum.sum())
    share = 0.0
    if fundamental < _LOW:
        top = int(np.searchsorted(hertz, _LOW, side="right"))
        share = float(spectrum[peaks.index.min() : top].sum()) / total
    above = int(np.searchsorted(hertz, min(3.5 * fundamental, _HIGHEST_REGION), side="right"))
    fall = _straightness(hertz[above:], spectrum[above:])
    return None if fall is None else (float(hertz @ spectrum) / total, fall, share)


def _straightness(hertz: np.ndarray, power: np.ndarray) -> float | None:
    """R^2 of a line through log10 power over log10 frequency; None where a power is 0 or all are one."""
    if not (power > 0).all():
        return None
    x, y = np.log10(hertz), np.log10(power)
    x, y = x - x.mean(), y - y.mean()
    spread = float(x @ x) * float(y @ y)
    return float(x @ y) ** 2 / spread if spread > 0 else None
