"""Envelopes, and the attacks in them."""

from __future__ import annotations

import math

import numpy as np

HOLD_SECONDS = 0.01
_ROUNDING = 1e-12


def peak_envelope(samples: np.ndarray, rate: int, decay_seconds: float) -> np.ndarray:
    """Follows `|samples|` up at once, holds for 10 ms, then falls by the clip's peak in `decay_seconds`.

    The definition is a recursion over samples (Audio Commons D5.2, "sample and hold"). Only samples that
    no earlier one's hold and fall are known to cover can touch the envelope, and there are few of them;
    between two touches it is known.
    """
    level = np.abs(samples)
    top = float(level.max())
    fall = top / (decay_seconds * rate)
    hold = math.ceil(HOLD_SECONDS * rate)
    ramp = fall * np.arange(len(level))
    lowest, highest = _fallen(level, ramp), _fallen(_last_largest(level, hold), ramp)
    # Where the signal is above all that the envelope can be, it is the envelope, and covers what follows. By
    # more than the ramp's rounding: a tail that fades below that would otherwise be taken for certain.
    certain = level.copy()
    certain[1:] *= level[1:] >= highest[:-1] + _ROUNDING * top
    lowest -= 1e-9 * top
    could = np.flatnonzero(level >= np.maximum(lowest, _last_largest(certain, hold), out=lowest))
    touched, falling = _touches(could, level[could], fall, hold)
    at, waits = could[touched], np.where(falling[touched], 0, hold)
    lengths = np.diff(at, append=len(level))
    # Where the fall since the last touch would be negative, the envelope is held.
    fallen = ramp - np.repeat(fall * (at + waits), lengths)
    np.maximum(fallen, 0.0, out=fallen)
    return np.repeat(level[at], lengths) - fallen


def _fallen(values: np.ndarray, ramp: np.ndarray) -> np.ndarray:
    """The largest of each value and of all before it, these fallen along the ramp."""
    out = values + ramp
    np.maximum.accumulate(out, out=out)
    out -= ramp
    return out


def _last_largest(values: np.ndarray, before: int) -> np.ndarray:
    """The largest of each value and so many before it, of values of 0 or more.

    Cut into blocks of that window, it lies in at most two of them, at the end of one and the beginning of
    the next (M. van Herk, Pattern Recognition Letters 13, 1992).
    """
    size = before + 1
    blocks = np.pad(values, (0, -len(values) % size)).reshape(-1, size)
    heads = np.maximum.accumulate(blocks, axis=1).ravel()
    tails = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()
    np.maximum(heads[before:], tails[: len(tails) - before], out=heads[before:])
    return heads[: len(values)]


def _touches(places: np.ndarray, levels: np.ndarray, fall: float, hold: int) -> tuple[np.ndarray, np.ndarray]:
    """Of places where the envelope could be the signal: where it is (bool), and where it is so on its way
    down, from where it goes on falling without a hold (bool).

    Runs of neighbours that rise are looked at as one: once the envelope is the signal it stays so.
    """
    touched, falling = np.zeros(len(places), bool), np.zeros(len(places), bool)
    follows = (np.diff(places) == 1) & (np.diff(levels) >= 0)
    stops = np.append(np.flatnonzero(~follows) + 1, len(places)).tolist()
    at, of = places.tolist(), levels.tolist()
    last, height, wait, start = -1, 0.0, hold, 0
    spans: list[tuple[int, int]] = []
    for stop in stops:
        if at[stop - 1] - last <= wait and of[stop - 1] < height:  # all of it below what is held
            start = stop
            continue
        for i in range(start, stop):
            gap, level = at[i] - last, of[i]
            before = height if gap <= wait + 1 else height - (gap - 1 - wait) * fall
            if level >= before or (gap > wait and level >= before - fall):
                falling[i] = level < before
                spans.append((i, stop))
                last, height = at[stop - 1], of[stop - 1]
                wait = 0 if level < before and i == stop - 1 else hold
                break
        start = stop
    for first, stop in spans:
        touched[first:stop] = True
    return touched, falling


def rms_envelope(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """RMS of frames of `size` every `hop`, the rest of the clip being the last one."""
    count = max(0, -(-(len(samples) - size) // hop))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples, dtype=np.float64))])
    starts = np.arange(count) * hop
    rest = samples[count * hop :]
    last = float(np.mean(np.square(rest))) if len(rest) else 0.0
    means = np.maximum(energy[starts + size] - energy[starts], 0.0) / size
    return np.sqrt(np.append(means, last))


def attack(envelope: np.ndarray, rate: float, longest: float, *, thresholds: str) -> tuple[float, int] | None:
    """The attack of a segment that holds one onset.

    It lies between the last lowest point before the peak and the peak. "effort": its beginning and end are
    where eight equal rises take no longer than three times their mean (G. Peeters, CUIDADO project report,
    2004, "weakest effort"); "fixed": where 20 % and 90 % of the rise are passed.

    Args:
        envelope: `[N]`. rate: its values a second. longest: seconds, longer attacks are cut.

    Returns:
        (log10 of its length in seconds, index at which it begins), or None if the segment begins with its
        peak.
    """
    peak = int(envelope.argmax()) if len(envelope) else 0
    if peak == 0:
        return None
    before = envelope[:peak]
    first = int(np.flatnonzero(before == before.min())[-1])
    rise = envelope[first : peak + 1] / envelope[peak]
    low = float(rise.min())
    height = float(rise.max()) - low
    if thresholds == "effort":
        begin, end = _least_effort(rise, low, height)
    else:
        begin = int((rise >= 0.2 * height + low).argmax())
        end = begin + int((rise[begin:] >= 0.9 * height + low).argmax())
    seconds = 1.0 / rate if begin == end else (end - begin + 1.0) / rate
    if seconds > longest:
        seconds = (int(rate * longest) + 1.0) / rate
    return math.log10(seconds), begin + first


def _least_effort(rise: np.ndarray, low: float, height: float) -> tuple[int, int]:
    passed = np.array([int((rise >= x * height + low).argmax()) for x in np.linspace(0.1, 0.9, 9)])
    efforts = np.diff(passed)
    limit = efforts.mean() * 3.0
    start = int((efforts <= limit).argmax())
    rest = efforts[start:]
    stop = int((rest >= limit).argmax())
    stop = start + (stop if stop else len(rest) - 1)
    begin, end = int(passed[start]), int(passed[stop])
    return (begin, end) if begin != end else (int(passed[0]), int(passed[-1]))
