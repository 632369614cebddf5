"""Peaks of spectra, as the function mirpeaks of the MIR toolbox picks them (Lartillot and Toiviainen
2007)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_BELOW = -2.0  # what lies beyond the ends of a spectrum


@dataclass(frozen=True)
class Peaks:
    """Peaks of many spectra, sorted by spectrum, then by frequency.

    Attributes:
        row, index: which spectrum, which bin. height: of that bin in the unscaled spectrum.
        level, position: of the vertex of the parabola through it and its neighbours; position in bins.
    """

    row: np.ndarray
    index: np.ndarray
    height: np.ndarray
    level: np.ndarray
    position: np.ndarray


def find_peaks(scaled: np.ndarray, threshold: float, unscaled: np.ndarray | None = None) -> Peaks:
    """Peaks of `[R, N]` spectra scaled to 0..1.

    A local maximum of at least `threshold` counts if the spectrum falls by `threshold` on both sides before
    it rises higher (contrast); the ends of a spectrum count as falls.

    Args:
        scaled: `[R, N]`. unscaled: `[R, N]`, where levels are taken from; `scaled` if not given.
    """
    row, index = _candidates(scaled, threshold)
    kept = _contrasted(scaled, row, index, threshold)
    return _refined(scaled if unscaled is None else unscaled, row[kept], index[kept])


def _candidates(spectra: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    rise = np.ones(spectra.shape, bool)
    rise[:, 1:] = spectra[:, 1:] > spectra[:, :-1]
    top = rise & (spectra >= threshold)
    top[:, :-1] &= ~rise[:, 1:]
    row, index = np.nonzero(top)
    return row, index


def _contrasted(spectra: np.ndarray, row: np.ndarray, index: np.ndarray, threshold: float) -> np.ndarray:
    """Which candidates stay, bool; all pieces of all spectra are scanned at once, candidate by candidate.

    A spectrum may be cut between two candidates where it falls and rises by the threshold: both sides are
    contrast enough for whatever lies beyond, just as the ends are.
    """
    kept = np.zeros(len(row), bool)
    if not len(row):
        return kept
    values, notches = spectra[row, index], _notches(spectra, row, index)
    begins = np.ones(len(row), bool)
    begins[1:] = row[1:] != row[:-1]
    begins[1:] |= np.minimum(values[1:], values[:-1]) - notches[1:] >= threshold
    first = np.flatnonzero(begins)
    counts = np.diff(first, append=len(row))
    order = np.argsort(-counts, kind="stable")  # so that those still being scanned come first
    first, counts = first[order], counts[order]
    highest, floor = values[first].copy(), np.full(len(first), _BELOW)
    notch, current = np.full(len(first), 2.0), first.copy()
    for step in range(1, int(counts[0])):
        n = int(np.searchsorted(-counts, -step))
        at = first[:n] + step
        top, low, old, now = highest[:n], np.minimum(notch[:n], notches[at]), floor[:n], current[:n]
        deep = top - low >= threshold
        strong = deep & (top - old >= threshold)
        kept[now[strong]] = True
        moves = deep | (values[at] > top)
        floor[:n] = np.where(strong, low, np.minimum(old, low))
        notch[:n] = np.where(moves, 2.0, low)
        current[:n] = np.where(moves, at, now)
        highest[:n] = np.where(moves, values[at], top)
    kept[current[highest - floor >= threshold]] = True
    return kept


def _notches(spectra: np.ndarray, row: np.ndarray, index: np.ndarray) -> np.ndarray:
    """The lowest value between each candidate and the one before it, for the first of a spectrum 2.

    The original looks from the earlier candidate to two bins before the later one, so of two candidates with
    one bin between them it sees no notch; values come out as the reference's only with the same look.
    """
    notches = np.full(len(row), 2.0)
    pairs = np.flatnonzero(row[1:] == row[:-1]) + 1
    if len(pairs):
        flat = row * spectra.shape[1] + index
        ends = np.stack([flat[pairs - 1], flat[pairs] - 1], axis=1).ravel()
        notches[pairs] = np.minimum.reduceat(spectra.ravel(), ends)[::2]
    return notches


def _refined(spectra: np.ndarray, row: np.ndarray, index: np.ndarray) -> Peaks:
    last = spectra.shape[1] - 1
    height = spectra[row, index]
    before, after = spectra[row, np.maximum(index - 1, 0)], spectra[row, np.minimum(index + 1, last)]
    curve = 2.0 * (2.0 * height - after - before)
    inner = (index > 0) & (index < last) & (curve > 0)
    shift = np.where(inner, (after - before) / np.where(inner, curve, 1.0), 0.0)
    return Peaks(row, index, height, height + 0.25 * (after - before) * shift, index + shift)
