"""Hardness: sudden, wide and bright attacks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import scipy.fft

from dafxhost.timbre import envelope, spectra
from dafxhost.timbre.clip import Clip, find_all
from dafxhost.timbre.onsets import HOP, onset_strength
from dafxhost.timbre.undefined import Undefined, log10, regression

_LEAD = 4096  # zeros before the clip, and one more
_BAND_HOP = 128
_ROLL_OFF = 10.0 ** (-75 / 20)
_ROLL_ON = 0.05
_FEW_BINS = 64
_LONGEST = 0.1  # seconds of an attack
_ATTACK_SECONDS = 0.125  # whose centroid is taken
_LEAST_CENTROID = 200.0
_COEFFICIENTS = {
    "bandwidth": 12.079781720638145,
    "attack centroid": 18.52100377170042,
    "loudness of the mid band": 14.139883645260355,
    "share of percussion": 5.567690321917516,
    "onset strength": 3.9346817690405635,
    "attack time": -4.326890461087848,
}
_CONSTANT = -85.60352209068202


@dataclass
class _Attacks:
    """What the onsets of a clip add up to."""

    times: list[float] = field(default_factory=list)
    strengths: list[float] = field(default_factory=list)
    centroids: list[float] = field(default_factory=list)
    bandwidths: list[float] = field(default_factory=list)
    bandwidth_strengths: list[float] = field(default_factory=list)


def hardness(clip: Clip) -> float:
    """Hardness (A. Pearce, T. Brookes, R. Mason, Audio Commons D5.2 and D5.8, model 0.4).

    A regression on log10 of: the widest bandwidth of attacks, Hz, from where 5 % of a spectrum's sum lies
    below to its last bin above -75 dB; the spectral centroid of attacks, Hz; the loudness of 7 to 14 Bark;
    the share of percussion (`spectra.percussive`); the onset strength; the attack time, s. Means over
    onsets.

    An onset whose envelope has no rise has no attack time; it is left out. (The reference implementation
    raises.)

    Raises:
        Undefined: no onset has an attack, or one of the logarithms is of 0.
    """
    loudness = clip.specific
    attacks = _attacks(clip)
    if not attacks.times:
        raise Undefined("no onset has an attack: its envelope never rises")
    width = _weighted(attacks.bandwidths, attacks.bandwidth_strengths)
    least = clip.rate / HOP
    centroid = float(np.mean(attacks.centroids)) if attacks.centroids else 0.0
    parts = {
        "bandwidth": log10(width if width > 512.0 else least),
        "attack centroid": log10(max(centroid, _LEAST_CENTROID)),
        "loudness of the mid band": log10(loudness.mean(loudness.weighted(70, 140), 1)),
        "share of percussion": log10(_percussion(clip)),
        "onset strength": log10(float(np.mean(attacks.strengths))),
        "attack time": float(np.mean(attacks.times)),
    }
    return regression(parts, _COEFFICIENTS, _CONSTANT)


def _weighted(values: list[float], weights: list[float]) -> float:
    """Weighted mean; 0 without values or weights."""
    total = sum(weights)
    return float(np.dot(values, weights)) / total if total > 0 else 0.0


def _attacks(clip: Clip) -> _Attacks:
    samples = np.pad(clip.samples, (_LEAD + 1, 0))
    shape = np.pad(clip.envelope, (_LEAD + 1, 0))
    strength = onset_strength(spectra.stft(samples), clip.rate)
    widths = _bandwidths(samples, clip.rate)
    onsets = find_all(shape, strength, clip.rate)
    steps = [max(0, place - _LEAD) // _BAND_HOP for place in onsets]
    found = _Attacks()
    for i, place in enumerate(onsets):
        last = place == onsets[-1]
        end = len(samples) if last else onsets[i + 1]
        strengths = strength[place // HOP :] if last else strength[place // HOP : end // HOP]
        strongest = float(strengths.max()) if len(strengths) else 0.0
        band = widths[steps[i] :] if steps[i] == steps[-1] else widths[steps[i] : steps[i + 1]]
        widest = _widest(band, clip.rate / _BAND_HOP)
        if widest is not None:
            found.bandwidths.append(widest)
            found.bandwidth_strengths.append(strongest)
        found.strengths.append(strongest)
        attack = envelope.attack(shape[place:end], clip.rate, _LONGEST, thresholds="effort")
        if attack is None:
            continue
        found.times.append(attack[0])
        begin = place + attack[1]
        centroid = _centroid(samples[begin : min(end, begin + int(_ATTACK_SECONDS * clip.rate))], clip.rate)
        if centroid is not None:
            found.centroids.append(centroid)
    return found


def _bandwidths(samples: np.ndarray, rate: int) -> np.ndarray:
    """Bandwidth in Hz of frames of 4096 every 128 samples; 0 for the quietest tenth of the range of
    levels."""
    threshold = np.float32(_ROLL_OFF * np.sqrt(rate))
    levels, first, last = [], [], []
    for magnitude in spectra.magnitude_chunks(samples, _LEAD, _BAND_HOP):
        total = magnitude.sum(axis=1)
        levels.append(total)
        first.append(_roll_on(magnitude, _ROLL_ON * total))
        audible = magnitude[:, ::-1] >= threshold
        top = magnitude.shape[1] - 1 - audible.argmax(axis=1)
        last.append(np.where(audible.any(axis=1), top, -1))
    level, start, stop = (np.concatenate(x) for x in (levels, first, last))
    loud = level > 0.1 * (level.max() - level.min()) + level.min()
    return np.where(loud & (stop >= 0), (stop - start) * (rate / _LEAD), 0.0)


def _roll_on(magnitude: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """First bin `[R]` up to which the rows of `[R, bins]` add up to their limits; it is low as a rule."""
    found = np.empty(len(magnitude), int)
    open_rows, bins = np.arange(len(magnitude)), _FEW_BINS
    while len(open_rows):
        sums = np.cumsum(magnitude[open_rows, :bins], axis=1)
        done = (sums[:, -1] >= limits[open_rows]) | (bins >= magnitude.shape[1])
        found[open_rows[done]] = (sums[done] < limits[open_rows[done], None]).sum(axis=1)
        open_rows, bins = open_rows[~done], 8 * bins
    return found


def _widest(band: np.ndarray, rate: float) -> float | None:
    """The largest bandwidth of an attack; None if the bandwidth never rises."""
    if not len(band) or band.max() <= 0:
        return None
    attack = envelope.attack(band, rate, _LONGEST, thresholds="fixed")
    if attack is None:
        return None
    begin, length = attack[1], int(_LONGEST * rate)
    # "begin +" is in the reference; with it, an attack late in a segment is looked at to the segment's end.
    end = begin + length if len(band) - begin > begin + length else len(band)
    return float(band[begin:end].max())


def _centroid(samples: np.ndarray, rate: int) -> float | None:
    """Spectral centroid above 20 Hz, Hz, of magnitudes; None for 512 samples or fewer, or silence."""
    if len(samples) <= 512:
        return None
    length = 1 << (len(samples) - 1).bit_length()
    magnitude = np.abs(np.asarray(scipy.fft.rfft(samples, length)))
    hertz = np.arange(len(magnitude)) * (rate / length)
    inside = hertz >= 20.0
    total = float(magnitude[inside].sum())
    return float(hertz[inside] @ magnitude[inside]) / total if total > 0 else None


def _percussion(clip: Clip) -> float:
    """Share of percussion in the RMS of frames of 1024 samples every 512."""
    hits = spectra.inverse_stft(spectra.percussive(clip.stft))
    if not len(hits):
        raise Undefined("the clip is too short for a share of percussion: that needs 512 samples")
    rest = clip.samples[: len(hits)] - hits
    one, two = (envelope.rms_envelope(x, 1024, 512) for x in (hits, rest))
    total = float((one + two).sum())
    return float(one.sum()) / total if total > 0 else 0.0
