"""Which side of a split something is on: decided by its own name, so that it stays there when others come."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

from dafxhost.data.layouts import Recording
from dafxhost.errors import UsageError

Split = Literal["train", "validation", "test", "all"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "all")
_DIVIDED = ("train", "validation", "all")
VALIDATION_FRACTION = 0.2


def file_fraction(name: str) -> float:
    """A name's fixed place on 0..1, from its SHA-256: decides its side of the split."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogateescape")).digest()[:8]) / 2.0**64


def check_split(split: str, validation_fraction: float) -> None:
    """Raise UsageError unless both make sense."""
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is none of {', '.join(SPLITS)}")
    if not 0.0 <= validation_fraction < 1.0:
        raise UsageError(f"validation fraction {validation_fraction} lies outside 0..1")


def split_names(names: Sequence[str], split: Split, validation_fraction: float) -> list[str]:
    """The names on one side ("train" or "validation"; all of them for "all"), sorted.

    A name's side follows from itself, so it stays when others are added. Only if one side would be empty
    while there are two names or more, the name nearest to it moves over.
    """
    if split not in _DIVIDED:
        raise UsageError(f"split {split!r} is none of {', '.join(_DIVIDED)}")
    check_split(split, validation_fraction)
    if split == "all" or len(names) < 2 or validation_fraction == 0.0:
        return sorted(names)
    order = sorted(names, key=lambda name: (file_fraction(name), name))
    count = sum(file_fraction(name) < validation_fraction for name in order)
    count = min(max(count, 1), len(order) - 1)
    return sorted(order[:count] if split == "validation" else order[count:])


def split_recordings(
    recordings: Sequence[Recording], split: Split, validation_fraction: float, where: object
) -> list[Recording]:
    """The recordings on one side, sorted by name; a group (song, speaker) is never divided.

    What a data set itself calls its test part is on the side "test" and on no other. A validation part of its
    own is taken as it is; without one, groups are divided by `split_names`. `where` names the set in errors.

    Raises:
        UsageError: the set has no such part.
    """
    check_split(split, validation_fraction)
    if split == "all":
        return sorted(recordings, key=lambda r: r.name)
    if split == "test":
        chosen = [r for r in recordings if r.part == "test"]
    else:
        rest = [r for r in recordings if r.part != "test"]
        if any(r.part == "validation" for r in rest):
            chosen = [r for r in rest if (r.part == "validation") == (split == "validation")]
        else:
            groups = set(split_names(sorted({r.group for r in rest}), split, validation_fraction))
            chosen = [r for r in rest if r.group in groups]
    if not chosen:
        there = ", ".join(sorted({r.part or "train" for r in recordings}))
        raise UsageError(f"{where} has no recordings for {split}; what it has is for {there}.")
    return sorted(chosen, key=lambda r: r.name)
