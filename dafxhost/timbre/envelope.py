"""Envelopes, and the attacks in them."""

from __future__ import annotations

import math

import numpy as np

HOLD_SECONDS = 0.01


def peak_envelope(samples: np.ndarray, rate: int, decay_seconds: float) -> np.ndarray:
    """Follows `|samples|` up at once, holds for 10 ms, then falls by the clip's peak in `decay_seconds`.

    The definition is a recursion over samples (Audio Commons D5.2, "sample and hold"). Only samples that
    no earlier one's fall from its own level would cover can touch the envelope, hold or not, and there are few
    of them; between two touches it is known.
    """
    level = np.abs(samples)
    top = float(level.max())
    fall = top / (decay_seconds * rate)
    hold = math.ceil(HOLD_SECONDS * rate)
    ramp = level + fall * np.arange(len(level))
    could = np.flatnonzero(ramp >= np.maximum.accumulate(ramp) - 1e-9 * top)
    at, heights, waits = _touches(could.tolist(), level[could].tolist(), fall, hold)
    lengths = np.diff([*at, len(level)])
    since = np.arange(len(level)) - np.repeat(at, lengths)
    fallen = np.maximum(since - np.repeat(waits, lengths), 0) * fall
    return np.repeat(heights, lengths) - fallen


def _touches(
    places: list[int], levels: list[float], fall: float, hold: int
) -> tuple[list[int], list[float], list[int]]:
    """(sample, level, samples that it is held) wherever the envelope is the signal."""
    last, height, wait = places[0], levels[0], hold
    at, heights, waits = [last], [height], [wait]
    for place, level in zip(places[1:], levels[1:], strict=True):
        gap = place - last
        if gap <= wait + 1:
            before, below = height, height if gap <= wait else height - fall
        else:
            before = height - (gap - 1 - wait) * fall
            below = before - fall
        if level >= before:
            last, height, wait = place, level, hold
        elif gap > wait and level >= below:
            last, height, wait = place, level, 0  # met on the way down: it goes on falling from here
        else:
            continue
        at.append(last)
        heights.append(height)
        waits.append(wait)
    return at, heights, waits


def rms_envelope(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """RMS of frames of `size` every `hop`, the rest of the clip being the last one."""
    count = max(0, -(-(len(samples) - size) // hop))
    energy = np.concatenate([[0.0], np.cumsum(np.square(samples))])
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
        (log10 of its length in seconds, index at which it begins), or None if the segment begins with its peak.
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
