"""Where notes begin: spectral flux, then the exact sample by the envelope."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from dafxhost.timbre import spectra

HOP = spectra.STFT_HOP
_LOOK_BACK, _HYSTERESIS, _APART = 0.020, 0.300, 0.100  # seconds
_NOISE = 0.1  # of the envelope's range
_LEAST_STRENGTH = 3.0
_DELTA = 0.07


def onset_strength(spectrum: np.ndarray, rate: int) -> np.ndarray:
    """Of an STFT `[frames, 1025]` (`spectra.stft`), `[frames]`: mean rise of 128 mel bands from frame to
    frame, dB.

    S. Boeck and G. Widmer, "Maximum filter vibrato suppression for onset detection", DAFx 2013, without the
    maximum filter: what librosa's `onset_strength` computes by default, floor of 80 dB and shift included.
    """
    power = spectra.squared(spectrum)
    mel = np.asarray(spectra.mel_bands(rate) @ power.T)
    level = 10.0 * np.log10(np.maximum(mel, 1e-10))
    level = np.maximum(level, level.max() - 80.0)
    flux = np.maximum(np.diff(level, axis=1), 0.0).mean(axis=0, dtype=np.float64)
    return np.concatenate([np.zeros(3), flux])[: level.shape[1]]


def find_onsets(strength: np.ndarray, envelope: np.ndarray, rate: int, margin: int) -> list[int]:
    """Onsets in samples, sorted; [0] if there are none (Audio Commons D5.2, section on hardness).

    Peaks of the strength go back to its last minimum, then down the envelope to where the rise begins. Of
    these, onsets whose rise is below a tenth of the envelope's range, that follow another within 100 ms, or
    whose strength stays below 3 are dropped.

    Args:
        strength: the clip's `onset_strength`. envelope: `[T]`, its `peak_envelope`.
        margin: an onset within so many samples of the beginning is taken to be there.
    """
    picked = _backtracked(_picked(strength, rate), strength) * HOP
    if not len(picked):
        return [0]
    span = float(envelope.max() - envelope.min())
    refined: list[int] = []
    for place in picked.tolist():
        if place == 0:
            refined.append(0)
        elif place < len(envelope) and (not refined or place + HOP - 1 < len(envelope)):
            refined.append(_beginning(place, envelope, rate, 0.1 * span, margin))
    onsets = list(dict.fromkeys(p for i, p in enumerate(refined) if p or i == 0))
    onsets = _apart(_rising(onsets, envelope, _NOISE * span), _APART * rate)
    return _strong(onsets, strength) or [0]


def _picked(strength: np.ndarray, rate: int) -> np.ndarray:
    """Frames that are the largest of about 30 ms and 0.07 above the mean of 200 ms around them, the strength
    scaled to 0..1 (S. Boeck, F. Krebs and M. Schedl, ISMIR 2012; windows as librosa's).
    """
    x = strength - strength.min()
    x = x / (x.max() + np.finfo(float).tiny)
    if not x.any():
        return np.zeros(0, int)
    before, around = int(np.ceil(0.03 * rate // HOP)), int(np.ceil(0.10 * rate // HOP))
    padded = np.concatenate([np.full(before, -1.0), x])
    tops = np.flatnonzero((x == sliding_window_view(padded, before + 1).max(axis=1)) & (x >= _DELTA))
    first, last = np.maximum(tops - around, 0), np.minimum(tops + around + 1, len(x))
    sums = np.concatenate([[0.0], np.cumsum(x)])
    prominent = x[tops] >= (sums[last] - sums[first]) / (last - first) + _DELTA
    frames, free = [], 0
    for n in tops[prominent].tolist():
        if n >= free:
            frames.append(n)
            free = n + before + 1
    return np.array(frames, int)


def _backtracked(frames: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Each frame moved to the last minimum of the strength at or before it."""
    inner = strength[1:-1]
    minima = 1 + np.flatnonzero((inner <= strength[:-2]) & (inner < strength[2:]))
    minima = np.concatenate([[0], minima])
    return minima[np.searchsorted(minima, frames, side="right") - 1]


def _beginning(place: int, envelope: np.ndarray, rate: int, least_rise: float, margin: int) -> int:
    """Down the envelope from `place` to where a rise begins: 20 ms back at a time while it is not lower
    there, and over bumps of less than `least_rise` within 300 ms. 0 if that comes near the clip's
    beginning.
    """
    back, far = int(_LOOK_BACK * 1000 * 0.001 * rate), int(_HYSTERESIS * 1000 * rate * 0.001)
    while True:
        here = envelope[place]
        if place - back > 0:
            start = max(0, place - back - 1)
            near = envelope[start:place]
        else:
            start, near = place - back - 1, envelope[: place - 1]
        if not len(near):
            return 0
        lowest = int(near.argmin())
        if near[lowest] <= here:
            place = lowest + start
            if place <= margin:
                return 0
            continue
        start = max(0, place - far - 1)
        longer = envelope[start:place]
        lower = np.flatnonzero(longer < here)
        if not len(lower):
            return place
        bump = longer[lower[-1] :]
        if bump.max() - bump.min() >= least_rise:
            return place
        place = start + int(lower[-1])
        if place < margin:
            return 0


def _segment(values: np.ndarray, places: list[int], i: int) -> np.ndarray:
    """From place i to the next one, or to the end from what equals the last."""
    return values[places[i] :] if places[i] == places[-1] else values[places[i] : places[i + 1]]


def _rising(onsets: list[int], envelope: np.ndarray, least: float) -> list[int]:
    """Those whose segment rises by `least`; the segment of a dropped one falls to the one before it."""
    if len(onsets) < 2:
        return onsets
    for i in reversed(range(len(onsets))):
        segment = _segment(envelope, onsets, i)
        peak = int(segment.argmax()) if len(segment) else 0
        if peak == 0 or segment[peak] - segment[:peak].min() < least:
            onsets = onsets[:i] + onsets[i + 1 :]
            if not onsets:
                break
    return onsets


def _apart(onsets: list[int], least: float) -> list[int]:
    """Onsets without those that follow another too soon; again, until none does."""
    while len(onsets) > 1:
        close = [i + 1 for i in range(len(onsets) - 1) if abs(onsets[i + 1] - onsets[i]) < least]
        if not close and min(np.diff(onsets)) >= least:
            break
        onsets = [place for i, place in enumerate(onsets) if i not in close]
        if not close:
            break
    return onsets


def _strong(onsets: list[int], strength: np.ndarray) -> list[int]:
    frames, kept = [place // HOP for place in onsets], []
    for i in reversed(range(len(onsets))):
        segment = _segment(strength, frames, i)
        if len(segment) and segment.max() >= _LEAST_STRENGTH:
            kept.append(onsets[i])
        else:
            del frames[i]
            if not frames:
                break
    return sorted(kept)
