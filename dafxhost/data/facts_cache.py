"""What was learned about recordings, kept between runs: one SQLite file in the user's cache folder."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import asdict
from pathlib import Path

from dafxhost.cache import cache_folder
from dafxhost.data.facts import Facts

FORMAT = 1
"""Of what is kept; raised when `Facts` or how they are measured changes, so that old ones are not read."""
_BATCH_SECONDS = 0.5
_TABLE = """create table if not exists facts (
    path blob, stream integer, size integer, modified integer, format integer, facts text,
    primary key (path, stream))"""


class FactsCache:
    """Facts by path and stream, valid while the file's size and time stay; a context manager.

    A cache that cannot be read or written costs measuring again and nothing else. What `put` was given is on
    disk with the first `put` half a second later, or when the cache is closed.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._database: sqlite3.Connection | None = None
        self._written = time.monotonic()
        folder = folder or cache_folder()
        with suppress(OSError, sqlite3.Error):
            folder.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(folder / "recordings.sqlite", timeout=5)
            database.execute(_TABLE)
            self._database = database

    def get(self, asked: Iterable[tuple[Path, int]]) -> dict[tuple[str, int], Facts]:
        """The facts that still hold, by (path, stream)."""
        found: dict[tuple[str, int], Facts] = {}
        if self._database is None:
            return found
        query = "select size, modified, facts from facts where path = ? and stream = ? and format = ?"
        for path, stream in asked:
            try:
                now = path.stat()
                with closing(self._database.execute(query, (os.fsencode(path), stream, FORMAT))) as rows:
                    row = rows.fetchone()
                if row and row[:2] == (now.st_size, now.st_mtime_ns):
                    found[str(path), stream] = Facts(**json.loads(row[2]))
            except (OSError, sqlite3.Error, ValueError, TypeError):
                continue
        return found

    def put(self, facts: Facts, size: int, modified: int) -> None:
        """Keep facts of a file that had this size and time (ns) before it was read."""
        if self._database is None:
            return
        row = (os.fsencode(facts.path), facts.stream, size, modified, FORMAT, json.dumps(asdict(facts)))
        with suppress(sqlite3.Error):
            self._database.execute("insert or replace into facts values (?, ?, ?, ?, ?, ?)", row)
            if time.monotonic() - self._written > _BATCH_SECONDS:
                self._database.commit()
                self._written = time.monotonic()

    def close(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.commit()
            self._database.close()
            self._database = None

    def __enter__(self) -> FactsCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
