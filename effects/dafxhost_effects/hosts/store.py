"""Plugin files: their identity, and descriptions kept on disk so that a plugin is described once."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from dafxhost.cache import cache_folder
from dafxhost.errors import PluginError

FORMAT = 2  # of the descriptions; raised when their shape changes, so that old ones are not read


@cache
def _sha256(path: str, _mtime: int, _size: int) -> str:
    with open(path, "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def file_identity(path: Path) -> str:
    """ "sha256:..." of a file, kept for this process.

    Raises:
        PluginError: the file cannot be read.
    """
    try:
        facts = path.stat()
        return _sha256(str(path), facts.st_mtime_ns, facts.st_size)
    except OSError as error:
        raise PluginError(f"the plugin's file {path} cannot be read: {error.strerror}") from error


def key(*paths: Path) -> str:
    """A name for these files as they are now: path, time and size of each."""
    facts = [(str(p.resolve()), p.stat().st_mtime_ns, p.stat().st_size) for p in paths]
    return hashlib.sha256(json.dumps([FORMAT, facts]).encode()).hexdigest()[:32]


def recall(kind: str, name: str) -> Any:
    """JSON that was kept in the cache folder, or None."""
    try:
        return json.loads((cache_folder() / f"{kind}-{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def remember(kind: str, name: str, value: Any) -> None:
    """Keep JSON in the cache folder, if it can be written."""
    path = cache_folder() / f"{kind}-{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(value, file)
        os.replace(file.name, path)
    except OSError:
        return  # a read-only home is no reason to fail


def cached(kind: str, name: str, make: Callable[[], Any]) -> Any:
    """JSON made once and kept in the cache folder; a corrupt or unwritable cache only costs remaking it."""
    value = recall(kind, name)
    if value is None:
        value = make()
        remember(kind, name, value)
    return value


def vst3_binary(path: Path) -> Path | None:
    """The shared library inside a .vst3 bundle for this machine; the path itself where it is a file; else
    None."""
    if path.is_file():
        return path
    inside = path / "Contents" / f"{platform.machine()}-linux"
    found = sorted(inside.glob("*.so"))
    return found[0] if found else None
