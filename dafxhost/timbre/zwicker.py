"""Specific loudness by Zwicker's method (DIN 45631 / ISO 532 B), of many short windows at once.

Four models look at it: hardness, warmth, sharpness and boominess. The procedure and its tables are those of
Zwicker et al. 1991 (see zwicker_tables.py); that a window of 4096 samples is taken for a steady sound, and
that full scale is 100 dB, is Audio Commons' (Pearce, Brookes and Mason, deliverables D5.2 and D5.8).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.signal

from dafxhost.timbre import filterbank
from dafxhost.timbre import zwicker_tables as tables
from dafxhost.timbre.undefined import Undefined

WINDOW = 4096
REFERENCE_DB = 100.0
BARK_STEPS = 240
"""Steps of 0.1 Bark, from 0.1 to 24."""

_BANDS = 28  # third octaves, 25 Hz to 12.5 kHz
_DIRECT = 4  # of them filtered at the full rate, from the top


@dataclass(frozen=True)
class SpecificLoudness:
    """Of W windows: `pattern [W, 240]` in sone / Bark, `total [W]` in sone, `rms [W]` of the samples."""

    pattern: np.ndarray
    total: np.ndarray
    rms: np.ndarray

    def weighted(self, low: int, high: int) -> np.ndarray:
        """`[W]`: the loudness between two steps of 0.1 Bark, the middle counting most (a bell from 0 to
        1)."""
        steps = np.arange(low, high)
        bell = np.exp(-((steps - (low + high) / 2.0) ** 2) / 2.0 * 0.01**2)
        bell -= bell.min()
        return self.pattern[:, low:high] @ (bell / bell.max())

    def mean(self, values: np.ndarray, power: int) -> float:
        """Mean of `[W]` weighted by RMS to a power.

        Raises:
            Undefined: all windows are silent.
        """
        weights = self.rms**power
        total = float(weights.sum())
        if total == 0.0:
            raise Undefined("all windows are silent")
        return float(values @ weights) / total


def specific_loudness(samples: np.ndarray, rate: int) -> SpecificLoudness:
    """Of mono audio `[T]` at 44.1 kHz or more, in windows of 4096 samples, the last one filled up with zeros
    (a whole window of them, if nothing is over; it counts in unweighted means).
    """
    padded = np.pad(samples, (0, WINDOW - len(samples) % WINDOW)).reshape(-1, WINDOW)
    pattern, total = loudness_pattern(third_octave_levels(padded, rate))
    return SpecificLoudness(pattern, total, np.sqrt(np.square(padded).mean(axis=1)))


def third_octave_levels(windows: np.ndarray, rate: int) -> np.ndarray:
    """Levels `[W, 28]` in dB (full scale is 100) of the third octaves from 25 Hz to 12.5 kHz.

    The four highest are filtered as they are, the others by the three filters below the highest, octave by
    octave, at half the rate each time.
    """
    levels = np.empty((len(windows), _BANDS))
    levels[:, -_DIRECT:] = filterbank.levels(windows, rate, _DIRECT)
    x = windows
    for top in range(_BANDS - _DIRECT, 0, -3):
        x = np.asarray(scipy.signal.lfilter(*filterbank.decimator(), x))[:, 1::2]
        levels[:, top - 3 : top] = filterbank.levels(x, rate, 3)
    return levels + REFERENCE_DB


def loudness_pattern(levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Third-octave levels `[W, 28]` in dB -> (pattern `[W, 240]` in sone / Bark, total `[W]` in sone)."""
    return _with_slopes(_main_loudness(levels))


def _main_loudness(levels: np.ndarray) -> np.ndarray:
    """Loudness in each critical band before masking, `[W, 21]` in sone / Bark; the last is 0."""
    band_levels = np.concatenate([_low_bands(levels), levels[:, 11:]], axis=1)
    above = np.maximum(band_levels - tables.TRANSMISSION - tables.BAND_CORRECTION - tables.THRESHOLD, -1e3)
    factor = 0.0635 * 10.0 ** (0.025 * tables.THRESHOLD)
    loudness = factor * ((0.75 + 0.25 * 10.0 ** (0.1 * above)) ** 0.25 - 1.0)
    loudness = np.where(band_levels > tables.THRESHOLD, np.maximum(loudness, 0.0), 0.0)
    loudness[:, 0] *= np.minimum(1.0, 0.4 + 0.32 * loudness[:, 0] ** 0.2)
    return np.pad(loudness, ((0, 0), (0, 1)))


def _low_bands(levels: np.ndarray) -> np.ndarray:
    """Levels of the three lowest critical bands `[W, 3]`, dB, from eleven third octaves; 0 where silent."""
    low = levels[:, None, :11]
    limits = tables.RANGES[:7, None] - tables.LOW_CORRECTION[:7]
    rank = np.logical_and.accumulate(low > limits, axis=1).sum(axis=1)
    corrected = levels[:, :11] + np.take_along_axis(tables.LOW_CORRECTION, rank, axis=0)
    power = np.add.reduceat(10.0 ** (corrected / 10.0), [0, 6, 9], axis=1)
    return np.where(power > 0, 10.0 * np.log10(np.maximum(power, 1e-300)), 0.0)


def _with_slopes(main: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add the slopes of masking towards high frequencies to `[W, 21]`.

    Each window walks from 0 to 24 Bark, a flat or a sloping piece at a time; all windows take a step at once.
    Positions are rounded to 0.1 Bark as in the BASIC listing, in the same order of operations, because a
    position that lies a rounding error past a limit ends a piece in another way.
    """
    walk = _Walk(main)
    while len(walk.active):
        walk.step()
    piece = np.maximum.accumulate(np.where(walk.starts, np.arange(BARK_STEPS), 0), axis=1)
    rows = np.arange(len(main))[:, None]
    along = (np.arange(BARK_STEPS) - piece) * 0.1
    pattern = walk.heights[rows, piece] - along * walk.slopes[rows, piece]
    n = np.maximum(walk.total, 0.0)
    fine, coarse = np.floor(n * 1000.0 + 0.5) / 1000.0, np.floor(n * 100.0 + 0.05) / 100.0
    return pattern, np.where(n <= 16.0, fine, coarse)


class _Walk:
    """The state of `_with_slopes`: one entry a window.

    Pieces are noted by the step of 0.1 Bark at which they begin; a later one at the same step replaces it.
    """

    def __init__(self, main: np.ndarray) -> None:
        count = len(main)
        self.main = main
        self.active = np.arange(count)
        self.band = np.zeros(count, int)
        self.range = np.full(count, len(tables.STEEPNESS_RANGES) - 1)
        self.place, self.height, self.total = np.zeros(count), np.zeros(count), np.zeros(count)
        self.starts = np.zeros((count, BARK_STEPS), bool)
        self.heights, self.slopes = np.zeros((count, BARK_STEPS)), np.zeros((count, BARK_STEPS))

    def step(self) -> None:
        w = self.active
        band, height, place = self.band[w], self.height[w], self.place[w]
        level, limit = self.main[w, band], tables.UPPER_LIMITS[band]
        first = (level[:, None] >= tables.STEEPNESS_RANGES).argmax(axis=1)
        rank = np.where(height < level, first, self.range[w])
        flat = height <= level
        slope = tables.SLOPES[rank, np.minimum(band - 1, 7)]
        low = np.maximum(tables.STEEPNESS_RANGES[rank], level)
        width = np.rint((height - low) / slope * 10.0) * 0.1
        width = np.where(width == 0.0, 0.1, width)
        over = place + width > limit
        width = np.where(over, limit - place, width)
        low = np.where(over, height - width * slope, low)
        self._note(w, place, np.where(flat, level, height), np.where(flat, 0.0, slope))
        self.total[w] += np.where(flat, level * (limit - place), width * (height + low) / 2.0)
        end, after = np.where(flat | over, limit, place + width), np.where(flat, level, low)
        self.range[w] = np.minimum(
            rank + (after == tables.STEEPNESS_RANGES[rank]), len(tables.STEEPNESS_RANGES) - 1
        )
        self.height[w], self.place[w] = after, np.rint(end * 10.0) * 0.1
        self.band[w] = band + (self.place[w] >= limit)
        self.active = w[self.band[w] < len(tables.UPPER_LIMITS)]

    def _note(self, w: np.ndarray, place: np.ndarray, height: np.ndarray, slope: np.ndarray) -> None:
        at = np.maximum(np.rint(place * 10.0).astype(int) - 1, 0)
        self.starts[w, at] = True
        self.heights[w, at], self.slopes[w, at] = height, slope
