"""Lists of recordings: a CSV, TSV or JSONL file with a line for each.

Columns (or keys): `path` (relative to the manifest, or absolute), and where wanted `group` (what must not be
divided between training and validation; else the path), `split` (train, validation or test), `start` and
`end` in seconds, `stem`, `stream`. Others are left alone.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dafxhost.data.layouts import Part, Recording
from dafxhost.errors import AudioFileError, UsageError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson")
_PARTS: dict[str, Part] = {
    "": "", "train": "train", "training": "train", "validation": "validation", "valid": "validation",
    "val": "validation", "dev": "validation", "test": "test", "eval": "test",
}  # fmt: skip


def is_manifest(path: Path) -> bool:
    """Whether a path is a file named as a manifest."""
    return path.suffix.lower() in SUFFIXES and path.is_file()


def read_manifest(path: Path) -> list[Recording]:
    """The recordings that a manifest lists, in its order.

    Raises:
        AudioFileError: it cannot be read. UsageError: a line of it is wrong, which one and how.
    """
    recordings: list[Recording] = []
    lines: dict[str, int] = {}
    parts: dict[str, tuple[Part, int]] = {}
    for number, row in _rows(path):
        one = _recording(path, number, row)
        if one.name in lines:
            raise UsageError(f"{path}, line {number}: {one.name} stands in line {lines[one.name]} already.")
        lines[one.name] = number
        part, line = parts.setdefault(one.group, (one.part, number))
        if part != one.part:
            raise UsageError(
                f"{path}, line {number}: group {one.group!r} is in {one.part or 'no split'} here, and in "
                f"{part or 'no split'} in line {line}; a group cannot be divided."
            )
        recordings.append(one)
    if not recordings:
        raise AudioFileError(f"{path} lists no recordings.")
    return recordings


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, values by column) of every line that is not empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise AudioFileError(f"{path} is no text in UTF-8.") from error
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(path, text)
        return
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
    if "path" not in (reader.fieldnames or []):
        raise UsageError(
            f"{path}: its first line must name the columns, 'path' among them, not {reader.fieldnames}."
        )
    for row in reader:
        yield reader.line_num, row


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{path}, line {number} is no JSON: {error}.") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}, line {number} is no JSON object.")
        yield number, row


def _recording(manifest: Path, number: int, row: dict[str, Any]) -> Recording:
    where = f"{manifest}, line {number}"
    file = str(row.get("path") or "").strip()
    if not file:
        raise UsageError(f"{where}: the path is missing.")
    split = str(row.get("split") or "").strip().lower()
    if split not in _PARTS:
        raise UsageError(f"{where}: split {split!r} is none of train, validation, test.")
    start, end = _number(where, row, "start") or 0.0, _number(where, row, "end")
    if start < 0 or (end is not None and end <= start):
        raise UsageError(f"{where}: a stretch from {start:g} s to {end} s is empty.")
    stream = int(_number(where, row, "stream") or 0)
    name = file if not stream else f"{file}:{stream}"
    if start or end is not None:
        name += f" [{start:g}-{'' if end is None else f'{end:g}'}]"
    group = str(row.get("group") or "").strip() or file
    stem = str(row.get("stem") or "").strip()
    return Recording(name, manifest.parent / file, group, _PARTS[split], stem, stream, start, end)


def _number(where: str, row: dict[str, Any], column: str) -> float | None:
    value = row.get(column)
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{where}: {column} is {value!r}, not a number of seconds.")
    return number
