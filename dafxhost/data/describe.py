"""What a data set holds: every recording measured once, and the sums that `dafxhost data` prints."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.data.dataset import Dataset
from dafxhost.data.facts import Facts
from dafxhost.data.facts_cache import FactsCache
from dafxhost.data.layouts import Recording
from dafxhost.data.measuring import DEADLINE, Request, measure_all
from dafxhost.data.splits import VALIDATION_FRACTION, split_recordings
from dafxhost.errors import UsageError

Progress = Callable[[int, int, Facts], None]


@dataclass(frozen=True)
class Side:
    """One side of the split: groups (songs, speakers), recordings and seconds."""

    groups: int
    recordings: int
    seconds: float


@dataclass
class Description:
    """What a data set holds.

    Attributes:
        path, layout: of the data set. recordings, files, groups: counts.
        seconds, bytes: of what can be read. remembered: files whose facts came from the cache.
        rates, channels, formats, stems: how many recordings of each.
        levels: per measure ("peak", "rms", "loudness") the 0, 10, 50, 90 and 100 % points, dBFS or LUFS.
        silence: share of the time below -60 dBFS. silent: names of recordings that never rise above -80 dBFS.
        clipped: (name, samples at full scale in runs of three or more) where there are any, most first.
        short: (name, samples missing) of recordings that end before their header says.
        duplicates: names of recordings with the same samples, a list for each content.
        leaks: the duplicates that stand in more than one of training, validation and test.
        unreadable: (path, reason). left_out: files with names of audio that the layout has no place for.
        sides: by "train", "validation" and "test".
        facts: of every recording, by name.
    """

    path: str
    layout: str
    recordings: int = 0
    files: int = 0
    groups: int = 0
    seconds: float = 0.0
    bytes: int = 0
    remembered: int = 0
    rates: dict[str, int] = field(default_factory=dict)
    channels: dict[str, int] = field(default_factory=dict)
    formats: dict[str, int] = field(default_factory=dict)
    stems: dict[str, int] = field(default_factory=dict)
    levels: dict[str, list[float]] = field(default_factory=dict)
    silence: float = 0.0
    silent: list[str] = field(default_factory=list)
    clipped: list[tuple[str, int]] = field(default_factory=list)
    short: list[tuple[str, int]] = field(default_factory=list)
    duplicates: list[list[str]] = field(default_factory=list)
    leaks: list[list[str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    left_out: int = 0
    sides: dict[str, Side] = field(default_factory=dict)
    facts: dict[str, Facts] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def measure_dataset(
    dataset: Dataset,
    *,
    workers: int | None = None,
    fresh: bool = False,
    cache_folder: Path | None = None,
    deadline: float = DEADLINE,
    progress: Progress | None = None,
) -> tuple[dict[tuple[str, int], Facts], int]:
    """The facts of each (path, stream), and how many of them were remembered from before.

    What is learned is kept as it comes: after Ctrl-C the next call goes on from there.

    Args:
        workers: processes; as many as there are cores if not given. fresh: forget what is remembered.
        cache_folder: instead of the user's. progress: called with (done, total, facts) after each.
    """
    wanted: dict[Request, None] = dict.fromkeys((r.path, r.stream) for r in dataset.recordings)
    with FactsCache(cache_folder) as cache:
        known = {} if fresh else cache.get(wanted)
        remembered = len(known)
        left = [(path, stream) for path, stream in wanted if (str(path), stream) not in known]
        states = {path: _state(path) for path, _ in left}
        for facts in measure_all(left, workers=workers, deadline=deadline):
            known[facts.path, facts.stream] = facts
            state = states[Path(facts.path)]
            if state is not None:
                cache.put(facts, *state)
            if progress is not None:
                progress(len(known), len(wanted), facts)
    return known, remembered


def _state(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def describe(
    dataset: Dataset,
    *,
    workers: int | None = None,
    fresh: bool = False,
    validation_fraction: float = VALIDATION_FRACTION,
    cache_folder: Path | None = None,
    progress: Progress | None = None,
) -> Description:
    """Measure a data set and sum it up. Arguments as of `measure_dataset`."""
    known, remembered = measure_dataset(
        dataset, workers=workers, fresh=fresh, cache_folder=cache_folder, progress=progress
    )
    found = [(r, known[str(r.path), r.stream]) for r in dataset.recordings]
    readable = [(r, facts) for r, facts in found if not facts.problem]
    made = Description(str(dataset.path), dataset.layout, remembered=remembered, left_out=dataset.left_out)
    made.recordings = len(readable)
    made.files = len({r.path for r, _ in readable})
    made.groups = len({r.group for r, _ in readable})
    made.seconds = sum(_seconds(r, facts) for r, facts in readable)
    made.bytes = sum({facts.path: facts.bytes for _, facts in readable}.values())
    _count(made, readable)
    _find_faults(made, readable)
    reasons = {str(path): reason for path, reason in dataset.refused}
    reasons |= {facts.path: facts.problem for _, facts in found if facts.problem}
    made.unreadable = sorted(reasons.items())
    made.sides = _sides(dataset, readable, validation_fraction)
    made.leaks = _leaks(made, dataset, readable, validation_fraction)
    made.facts = {r.name: facts for r, facts in found}
    return made


def _seconds(recording: Recording, facts: Facts) -> float:
    end = facts.seconds if recording.end is None else min(recording.end, facts.seconds)
    return max(0.0, end - recording.start)


def _count(made: Description, readable: Sequence[tuple[Recording, Facts]]) -> None:
    some = [facts for _, facts in readable]
    made.rates = _common(str(f.sample_rate) for f in some)
    made.channels = _common(str(f.channels) for f in some)
    made.formats = _common(f"{f.format} {f.subtype}" for f in some)
    made.stems = _common(r.stem for r, _ in readable if r.stem)
    for measure in ("peak", "rms", "loudness"):
        values = [getattr(f, measure) for f in some if not f.silent and getattr(f, measure) is not None]
        if values:
            made.levels[measure] = [round(float(v), 1) for v in np.percentile(values, [0, 10, 50, 90, 100])]
    seconds = math.fsum(f.seconds for f in some)
    made.silence = math.fsum(f.silence * f.seconds for f in some) / seconds if seconds else 0.0


def _common(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _find_faults(made: Description, readable: Sequence[tuple[Recording, Facts]]) -> None:
    made.silent = [r.name for r, facts in readable if facts.silent]
    clipped = [(r.name, facts.clipped) for r, facts in readable if facts.clipped]
    made.clipped = sorted(clipped, key=lambda pair: -pair[1])
    # Bare AAC has no header that could promise anything; ffmpeg guesses its length.
    made.short = [
        (r.name, f.promised - f.frames) for r, f in readable if f.promised > f.frames and f.format != "AAC"
    ]
    same: dict[tuple[str, float, float | None], list[str]] = defaultdict(list)
    for recording, facts in readable:
        same[facts.digest, recording.start, recording.end].append(recording.name)
    made.duplicates = [names for names in same.values() if len(names) > 1]


def _divided(
    dataset: Dataset, recordings: Sequence[Recording], fraction: float
) -> dict[str, list[Recording]]:
    sides: dict[str, list[Recording]] = {}
    for split in ("train", "validation", "test"):
        try:
            sides[split] = split_recordings(recordings, split, fraction, dataset.path)
        except UsageError:
            continue  # the set has no such part
    return sides


def _sides(dataset: Dataset, readable: Sequence[tuple[Recording, Facts]], fraction: float) -> dict[str, Side]:
    lengths = {r.name: _seconds(r, facts) for r, facts in readable}
    return {
        split: Side(len({r.group for r in some}), len(some), sum(lengths[r.name] for r in some))
        for split, some in _divided(dataset, [r for r, _ in readable], fraction).items()
    }


def _leaks(
    made: Description, dataset: Dataset, readable: Sequence[tuple[Recording, Facts]], fraction: float
) -> list[list[str]]:
    """The duplicates that lie on more than one side."""
    sides = _divided(dataset, [r for r, _ in readable], fraction)
    side_of = {r.name: split for split, some in sides.items() for r in some}
    silent = set(made.silent)
    return [
        names
        for names in made.duplicates
        if len({side_of.get(name) for name in names}) > 1 and not silent.intersection(names)
    ]
