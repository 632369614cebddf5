"""Where words go: results to stdout, everything else to stderr. No colours, so NO_COLOR holds by itself."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KEPT = ("error:", "warning:", "interrupted")
"""How a note begins that --quiet does not silence."""
_quiet = False


def be_quiet(quiet: bool) -> None:
    """Whether notes are left out from now on, except for those that begin like one of `KEPT`."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    return _quiet


def result(text: str) -> None:
    """A line of what was asked for."""
    sys.stdout.write(text + "\n")


def note(text: str) -> None:
    """A line about the work. What is wrong begins with "error:" or "warning:", and is said even if quiet."""
    if _quiet and not text.startswith(KEPT):
        return
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def result_json(value: Any) -> None:
    result(json.dumps(value, indent=2, ensure_ascii=False))


def check_writable(path: Path) -> None:
    """Raise OutputError now rather than after the work."""
    from dafxhost.errors import OutputError

    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: it is a folder, or its folder is missing or read-only.")


def write_text(path: Path, text: str) -> None:
    """Write a text at once, whole or not at all. Raises OutputError."""
    from dafxhost.settings import write_whole

    write_whole(path, text.encode("utf-8"))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned by spaces; the last one is as wide as it is."""
    lines = [list(head), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
