"""Running medians over 31 values, of many rows at once.

Sixteen neighbouring medians share sixteen of their values, eight of these share another eight, and so on:
each value is sorted into a block only once, and what can no longer be the median is left behind at every step
(A. Adams, "Fast median filters using separable sorting networks", ACM Transactions on Graphics 40, 2021, in
one dimension; merging by K. E. Batcher, "Sorting networks and their applications", AFIPS 1968). That is
about 23 elementwise minima and maxima a value, which numpy does many at once.
"""

from __future__ import annotations

import numpy as np

SIZE = 31
_GROUP = 16  # medians worked out together; SIZE = 2 * _GROUP - 1
_CHUNK = 32_768  # values of a plane that are worked on at once: they stay in the processor's cache

_FEWEST_LANES = 32  # fewer next to each other would be fetched one by one

Planes = list[np.ndarray]


def running_medians(values: np.ndarray) -> np.ndarray:
    """Medians of 31 values along the first axis of `[N, lanes]`, mirrored at the ends, `[N, lanes]`."""
    count, lanes = values.shape
    groups = -(-count // _GROUP)
    padded = np.pad(values, ((_GROUP, _GROUP * (groups + 1) - count), (0, 0)), mode="symmetric")
    padded = padded.reshape(groups + 2, _GROUP, lanes)
    out = np.empty((groups, _GROUP, lanes), values.dtype)
    step = max(_FEWEST_LANES, _CHUNK // (groups + 2))
    for start in range(0, lanes, step):
        part = slice(start, start + step)
        _medians([padded[:, i, part] for i in range(_GROUP)], [out[:, i, part] for i in range(_GROUP)])
    return out.reshape(-1, lanes)[:count]


def _medians(planes: Planes, out: Planes) -> None:
    """`planes`: the values of each place in a block of 16, `[groups + 2, lanes]`; `out` without the two."""
    blocks = {1: [[x] for x in planes]}
    for size in (2, 4, 8):
        smaller = blocks[size // 2]
        blocks[size] = [_merged(a, b) for a, b in zip(smaller[::2], smaller[1::2], strict=True)]
    groups = len(out[0])

    def block(place: int, size: int) -> Planes:
        """The sorted block that begins at a place, counted from 16 before the group."""
        ahead, inside = divmod(place, _GROUP)
        return [x[ahead : ahead + groups] for x in blocks[size][inside // size]]

    def narrow(candidates: Planes, first: int, size: int) -> None:
        """From the candidates of all medians `first` to `first + size` on to those of each half."""
        if size == 1:
            out[first][...] = candidates[0]
            return
        half = size // 2
        narrow(_middle(candidates, block(first + half, half)), first, half)
        narrow(_middle(candidates, block(first + 2 * _GROUP, half)), first + half, half)

    narrow(_merged(block(_GROUP, 8), block(_GROUP + 8, 8)), 0, _GROUP)


def _merged(one: Planes, two: Planes) -> Planes:
    """Two sorted lists of the same length as one (Batcher's odd-even merge)."""
    if len(one) == 1:
        return [np.minimum(one[0], two[0]), np.maximum(one[0], two[0])]
    even, odd = _merged(one[::2], two[::2]), _merged(one[1::2], two[1::2])
    inner = [f(a, b) for a, b in zip(odd[:-1], even[1:], strict=True) for f in (np.minimum, np.maximum)]
    return [even[0], *inner, odd[-1]]


def _middle(many: Planes, few: Planes) -> Planes:
    """The middle third, sorted, of 2 m sorted values and m more."""
    m = len(few)
    bitonic = [np.maximum(many[i], np.minimum(many[m + i], few[m - 1 - i])) for i in range(m)]
    return _sorted_bitonic(bitonic)


def _sorted_bitonic(x: Planes) -> Planes:
    if len(x) == 1:
        return x
    pairs = list(zip(x[: len(x) // 2], x[len(x) // 2 :], strict=True))
    low, high = [np.minimum(a, b) for a, b in pairs], [np.maximum(a, b) for a, b in pairs]
    return _sorted_bitonic(low) + _sorted_bitonic(high)
