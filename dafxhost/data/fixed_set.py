"""A fixed set of examples on disk, for use elsewhere: `render_set` makes it, or goes on making it.

The folder holds the shards, `manifest.json` (what the set is, and each shard's first example, count and
SHA-256) and `SHA256SUMS` for `sha256sum -c`. A shard is written beside its place and renamed when all of it
is on the disk, and only then listed: whatever ends the work (Ctrl-C, a kill, a full disk), what is
half-written has another name, and is made again. Example k depends on the seed and k alone, so a set made in
several goes is the same to the byte.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import dafxhost
from dafxhost.data.examples import ExampleBatch, Examples
from dafxhost.data.shards import FORMS, Shard, file_sum, shard_class
from dafxhost.data.stream import Ahead
from dafxhost.errors import OutputError, UsageError
from dafxhost.settings import write_whole

MANIFEST, SUMS, PARTIAL = "manifest.json", "SHA256SUMS", ".partial"
FORMAT = 1
PIECE = 16
"""Examples made at a time: what is in memory at once is a few of these."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ShardEntry:
    """A whole shard.

    Attributes:
        name: file or folder. first: number of its first example. examples: count.
        sums: {file in the folder, or "": SHA-256}. counts: what was drawn and refused, see `ExampleBatch`.
    """

    name: str
    first: int
    examples: int
    sums: dict[str, str]
    counts: dict[str, int]


@dataclass
class SetReport:
    """What `render_set` did.

    Attributes:
        folder: of the set. examples, shards: in it. made, kept: shards made now, and found whole.
        broken: shards that were listed but were not what was written, and were made again.
        counts: settings drawn and refused in all of the set.
    """

    folder: Path
    examples: int
    shards: int = 0
    made: int = 0
    kept: int = 0
    broken: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def render_set(
    folder: str | Path,
    examples: Examples,
    total: int,
    *,
    seed: int = 0,
    form: str = "webdataset",
    shard: int = 64,
    bits: int = 32,
    facts: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> SetReport:
    """Write examples 0 to `total` - 1 of a seed to a folder; what is there already, whole, is kept.

    Args:
        folder: new, empty, or of the same set. examples: makes them. total: how many; a set can be made
            larger.
        seed: of the examples. form: "webdataset", "arrow" or "folder". shard: examples in one.
        bits: of a sample, 32 (floating point, as in training) or 16.
        facts: what else decides the examples (JSON-able): kept in the manifest, and compared.
        progress: called with (examples ready, total).

    Raises:
        UsageError: a number out of range, or the folder holds another set. UnknownNameError: no such format.
        OutputError: the folder cannot be written or the disk is full; the shards listed are whole.
    """
    if total < 1 or shard < 1 or seed < 0:
        raise UsageError("a set needs 1 example or more, shards of 1 or more, and a seed of 0 or more")
    make = shard_class(form, bits)
    folder = Path(folder)
    about = _about(examples, seed, form, shard, bits, facts or {})
    wanted = [(i, i * shard, min(shard, total - i * shard)) for i in range(-(-total // shard))]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = _known(folder, about)
        report = SetReport(folder, total, len(wanted))
        held = max((entry.first + entry.examples for entry in known), default=0)
        if held > total:
            raise UsageError(f"{folder} holds {held} examples already; ask for as many or more")
        entries = _whole(folder, known, wanted, form, report)
        _tidy(folder)
        done = sum(entry.examples for entry in entries.values())
        if progress is not None:
            progress(done, total)
        missing = [one for one in wanted if one[0] not in entries]
        if not missing:  # also what was interrupted between a shard and the list
            _list(folder, about, entries, total)
        for number, entry in _made(folder, examples, missing, make, about, seed):
            entries[number] = entry
            report.made += 1
            _list(folder, about, entries, total)
            done += entry.examples
            if progress is not None:
                progress(done, total)
    except OSError as error:
        raise _failed(folder, error) from error
    report.kept = len(entries) - report.made
    report.counts = dict(sum((Counter(entry.counts) for entry in entries.values()), Counter()))
    return report


def _about(
    examples: Examples, seed: int, form: str, shard: int, bits: int, facts: dict[str, Any]
) -> dict[str, Any]:
    """What decides the bytes of the shards, but for their number."""
    effect, judge, source = examples.executor.effect, examples.judge, examples.source
    return {
        "format": FORMAT,
        "form": form,
        "bits": bits,
        "shard": shard,
        "seed": seed,
        "pairs": examples.kind.name,
        "settings": examples.draws.name,
        "sample_rate": examples.sample_rate,
        "samples": examples.samples,
        "effect": effect.name,
        "provider": effect.provider.name,
        "identity": effect.provider.identity,
        "parameters": [p.to_dict() for p in effect.parameters],
        "source": source.description,
        "source_names": sha256("\n".join(source.names).encode()).hexdigest(),
        "apply_probability": examples.apply_probability,
        "rules": [
            judge.inaudible,
            judge.senseless,
            judge.silent,
            examples.max_redraws,
            examples.new_clip_after,
        ],
        "facts": facts,
    }


def _known(folder: Path, about: dict[str, Any]) -> list[ShardEntry]:
    """The shards that the folder's manifest lists. Raises UsageError: another set, or no set at all."""
    path = folder / MANIFEST
    if not path.exists():
        strangers = [p.name for p in folder.iterdir() if not p.name.endswith(PARTIAL)]
        if strangers:
            raise UsageError(
                f"{folder} is not empty and holds no set ({strangers[0]}, ...); choose another folder"
            )
        return []
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        entries = [ShardEntry(**entry) for entry in kept["shards"]]
        there = kept["about"]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is no manifest of a set ({error}); choose another folder") from error
    plain = json.loads(json.dumps(about))
    other = [key for key in plain if plain[key] != there.get(key)]
    if other:
        first = other[0]
        raise UsageError(
            f"{folder} holds another set: its {', '.join(other)} differ{'s' if len(other) == 1 else ''} "
            f"({first}: {_short(there.get(first))} there, {_short(plain[first])} now); choose another folder"
        )
    return entries


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(
    folder: Path, known: list[ShardEntry], wanted: list[tuple[int, int, int]], form: str, report: SetReport
) -> dict[int, ShardEntry]:
    """Those of the wanted shards that lie there as they were written."""
    listed = {entry.name: entry for entry in known}
    entries = {}
    for number, first, count in wanted:
        entry = listed.get(_name(number, form))
        if entry is None or (entry.first, entry.examples) != (first, count):
            continue
        place = folder / entry.name
        if all(file_sum(place / file if file else place) == kept for file, kept in entry.sums.items()):
            entries[number] = entry
        else:
            report.broken.append(entry.name)
    return entries


def _name(number: int, form: str) -> str:
    return f"shard-{number:06d}{FORMS[form].suffix}"  # type: ignore[attr-defined]


def _tidy(folder: Path) -> None:
    for path in folder.glob(f".*{PARTIAL}"):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _made(
    folder: Path,
    examples: Examples,
    missing: list[tuple[int, int, int]],
    make: Callable[..., Shard],
    about: dict[str, Any],
    seed: int,
) -> Iterator[tuple[int, ShardEntry]]:
    """Make shards; while one piece is written, the next ones are made."""
    pieces = [
        range(start, min(start + PIECE, first + count))
        for _, first, count in missing
        for start in range(first, first + count, PIECE)
    ]
    effect = examples.executor.effect

    def batch(index: int) -> ExampleBatch:
        return examples.batch(seed, len(pieces[index]), first=pieces[index].start)

    with Ahead(batch, stop=len(pieces), ahead=2) as ahead:
        for number, first, count in missing:
            name = _name(number, about["form"])
            place = folder / f".{name}{PARTIAL}"
            writer = make(place, effect, about["sample_rate"], about["bits"])
            counts: Counter[str] = Counter()
            try:
                start = first
                while start < first + count:
                    made = next(ahead)
                    writer.add(made, range(start, start + len(made)))
                    counts += Counter(made.counts)
                    start += len(made)
                sums = writer.finish()
                _remove(folder / name)  # a folder cannot be renamed onto another
                place.replace(folder / name)
            except BaseException:
                writer.discard()
                raise
            yield number, ShardEntry(name, first, count, sums, dict(counts))


def _list(folder: Path, about: dict[str, Any], entries: dict[int, ShardEntry], total: int) -> None:
    """Write the manifest and the sums."""
    shards = [asdict(entries[number]) for number in sorted(entries)]
    whole = {
        "dafxhost": dafxhost.__version__,
        "examples": total,
        "complete": sum(s["examples"] for s in shards) == total,
        "about": about,
        "shards": shards,
    }
    lines = [f"{kept}  {Path(s['name'], file)}\n" for s in shards for file, kept in s["sums"].items()]
    write_whole(folder / SUMS, "".join(lines).encode())
    write_whole(folder / MANIFEST, (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode())


def _failed(folder: Path, error: OSError) -> OutputError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    reason = "the disk is full" if full else (error.strerror or str(error))
    return OutputError(
        f"{folder} could not be written: {reason}; the shards that its {MANIFEST} lists are whole, "
        "and the same command goes on from there"
    )
