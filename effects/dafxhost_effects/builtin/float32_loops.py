"""Recursions rounded to float32 at every step, as the mda plugins compute them.

Where a decision depends on a filter's state (a threshold that is just reached or not), or a decay is so slow
that rounding governs it, only the same roundings give the same sound. What decays freely is computed by
numpy, which multiplies one after the other in float32; the rest is a Python loop over samples. Python
computes in float64; storing in an `array("f")` rounds, and for one operation on float32 numbers rounding
twice is the same as once (Figueroa, "When is double rounding innocuous?", 1995).
"""

from __future__ import annotations

from array import array
from itertools import pairwise

import numpy as np

f32 = np.float32

PATIENCE = 32
"""Samples of decay after which numpy is asked for the next ones: fewer are quicker in a loop."""

LONGEST = 4096
"""Samples of decay that numpy is asked for at a time."""

FORGET = 8.0
"""Time constants after which lanes of a filter begun at different states are mostly at one."""

FEWEST_LANES = 32
"""Below this a loop is as quick."""

PASSES = 5
"""Passes over lanes begun wrongly, before those still wrong are left to a loop."""


def decay(start: float, factor: float, count: int) -> np.ndarray:
    """`[count + 1]` float32: start, start x factor, x factor again, ..., each product rounded."""
    out = np.full(count + 1, factor, dtype=f32)
    out[0] = start
    return np.multiply.accumulate(out, out=out)


def peak_follower(
    level: np.ndarray, state: np.float32, attack: np.float32, release: np.float32
) -> tuple[np.ndarray, np.float32]:
    """e += attack (x - e) where x > e, else e *= release.

    Args:
        level: x `[N]`, float32.
        state: e before the first sample.
        attack: share of the distance taken in one sample, 0..1.
        release: what is left after one sample, 0..1.

    Returns:
        e after each sample `[N]`, float32, and the last of them.
    """
    n = len(level)
    cells, rounded = array("f", bytes(4 * n)), array("f", (0.0,))
    out, samples = np.frombuffer(cells, dtype=f32), level.tolist()
    e, rise, fall = float(state), float(attack), float(release)
    falling, patience, i = 0, PATIENCE, 0
    while i < n:
        if falling >= patience:
            begin = i
            e, i = _fall(level, out, i, e, fall)
            falling = 0
            # Where peaks follow one another closely, asking costs more than it saves.
            patience = PATIENCE if i - begin > 2 * PATIENCE else min(2 * patience, LONGEST)
            continue
        x = samples[i]
        if x > e:
            rounded[0] = x - e
            rounded[0] = rise * rounded[0]
            cells[i] = e + rounded[0]
            falling = 0
        else:
            cells[i] = e * fall
            falling += 1
        e = cells[i]
        i += 1
    return out, f32(e)


def _fall(level: np.ndarray, out: np.ndarray, i: int, e: float, factor: float) -> tuple[float, int]:
    """Let e fall from sample i on until one is above it; returns e and the index of that one, or N."""
    count = 2 * PATIENCE
    while i < len(level):
        ahead = level[i : i + count]
        values = decay(e, factor, len(ahead))
        above = ahead > values[:-1]
        taken = int(above.argmax())
        if not above[taken]:
            taken = len(ahead)
        out[i : i + taken] = values[1 : taken + 1]
        e, i = float(values[taken]), i + taken
        if taken < len(ahead):
            break
        count = min(4 * count, LONGEST)
    return e, i


def peak_holder(
    level: np.ndarray, above: np.ndarray, state: np.float32, release: np.float32
) -> tuple[np.ndarray, np.float32]:
    """e = x where `above`, else e *= release.

    Args:
        level: x `[N]`, float32.
        above: where x is taken `[N]`, bool.
        state: e before the first sample.
        release: what is left after one sample, 0..1.

    Returns:
        e after each sample `[N]`, float32, and the last of them.
    """
    out = np.where(above, level, f32(0))
    fall = float(release)
    for begin, end in _runs(above):
        if not above[begin]:
            out[begin:end] = decay(float(out[begin - 1] if begin else state), fall, end - begin)[1:]
    return out, out[-1]


def gate(
    opened: np.ndarray, state: np.float32, attack: np.float32, release: np.float32
) -> tuple[np.ndarray, np.float32]:
    """g += attack (1 - g) where `opened`, else g *= release.

    Args:
        opened: `[N]`, bool.
        state: g before the first sample.
        attack: share of the distance to 1 taken in one sample, 0..1.
        release: what is left after one sample, 0..1.

    Returns:
        g after each sample `[N]`, float32, and the last of them.
    """
    cells, rounded = array("f", bytes(4 * len(opened))), array("f", (0.0, 0.0))
    out = np.frombuffer(cells, dtype=f32)
    g, rise, fall = float(state), float(attack), float(release)
    for begin, end in _runs(opened):
        if not opened[begin]:
            out[begin:end] = decay(g, fall, end - begin)[1:]
            g = cells[end - 1]
            continue
        for i in range(begin, end):
            rounded[0] = g + rise
            rounded[1] = rise * g
            cells[i] = rounded[0] - rounded[1]
            if cells[i] == g:  # as open as it gets
                out[i:end] = g
                break
            g = cells[i]
    return out, f32(g)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """(begin, end) of each run of equal values."""
    changes = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    return list(pairwise([0, *changes.tolist(), len(mask)]))


def one_pole(drive: np.ndarray, state: np.float32, pole: np.float32) -> tuple[np.ndarray, np.float32]:
    """y = pole y + drive.

    A long input is cut into lanes that numpy computes side by side, each begun at its guess of where the one
    before ends. Rounded recursions that begin a little apart mostly come together, to the bit, once they have
    forgotten their beginnings. Lanes begun wrongly are computed again, so that the result is the loop's.

    Args:
        drive: what is added at each sample `[N]`, float32.
        state: y before the first sample.
        pole: 0..1.

    Returns:
        y after each sample `[N]`, float32, and the last of them.
    """
    n = len(drive)
    memory = FORGET / max(1.0 - float(pole), 1e-9)  # samples
    lanes = int(n / memory)
    if lanes < FEWEST_LANES:
        out = _one_pole_loop(drive, float(state), float(pole))
        return out, out[-1]
    length = -(-n // lanes)
    padded = np.zeros(lanes * length, dtype=f32)
    padded[:n] = drive
    columns = np.ascontiguousarray(padded.reshape(lanes, length).T)
    result = np.empty((length, lanes), dtype=f32)
    starts = np.zeros(lanes, dtype=f32)
    starts[0] = state
    begun, wrong = starts, np.arange(lanes)
    for _ in range(PASSES):
        _one_pole_lanes(columns, result, starts, pole, wrong)
        begun, starts[1:] = starts.copy(), result[-1, :-1]
        wrong = np.flatnonzero(starts != begun)
        if not len(wrong):
            break
    else:  # in silence they come together late: one after the other
        starts = begun
        for lane in range(int(wrong[0]), lanes):
            if starts[lane] != result[-1, lane - 1]:
                starts[lane] = result[-1, lane - 1]
                result[:, lane] = _one_pole_loop(columns[:, lane], float(starts[lane]), float(pole))
    out = result.T.reshape(-1)[:n].copy()
    return out, out[-1]


def _one_pole_lanes(
    columns: np.ndarray, result: np.ndarray, starts: np.ndarray, pole: np.float32, which: np.ndarray
) -> None:
    """Compute the lanes `which` of `columns [length, lanes]` into `result`, from their `starts [lanes]`."""
    every = len(which) == columns.shape[1]
    drive = columns if every else np.ascontiguousarray(columns[:, which])
    out = result if every else np.empty_like(drive)
    y, kept = starts[which], np.empty(len(which), dtype=f32)
    for x, row in zip(drive, out, strict=True):
        np.multiply(y, pole, out=kept)
        y = np.add(kept, x, out=row)
    if not every:
        result[:, which] = out


def _one_pole_loop(drive: np.ndarray, y: float, pole: float) -> np.ndarray:
    cells, rounded = array("f", bytes(4 * len(drive))), array("f", (0.0,))
    for i, x in enumerate(drive.tolist()):
        rounded[0] = pole * y
        cells[i] = rounded[0] + x
        y = cells[i]
    return np.frombuffer(cells, dtype=f32)
