"""How a result came about, so that somebody else can make it again: command, versions, hashes, seed."""

from __future__ import annotations

import hashlib
import platform
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import dafxhost
from dafxhost.errors import OutputError
from dafxhost.report.page import Page

PACKAGES = ("torch", "numpy", "scipy", "soundfile", "soxr", "pedalboard", "dawdreamer", "cmaes")


def sha256(path: Path) -> str:
    """Of a file's bytes. Raises OutputError: it is gone, or cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise OutputError(f"the report needs {path}, which cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def versions() -> list[tuple[str, str]]:
    """Of dafxhost, Python, the machine and the packages that results depend on."""
    found = [("dafxhost", dafxhost.__version__)]
    found.append(("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"))
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found


def command_line(arguments: Sequence[str] | None = None) -> str:
    """The command as typed; by default this process's."""
    words = list(sys.argv if arguments is None else arguments)
    words[:1] = ["dafxhost"]
    return shlex.join(words)


def add_reproduction(
    page: Page, command: str, facts: Iterable[tuple[str, str]], files: Mapping[str, Path]
) -> None:
    """A section: the command, what else decides the result, and SHA-256 of the files."""
    page.heading("How to make it again")
    if command:
        page.code(command)
    page.facts(facts)
    if files:
        page.table(
            ("file", "name", "SHA-256"),
            [(what, path.name, sha256(path)) for what, path in files.items()],
        )
    page.raw("<details><summary>Versions</summary>")
    page.facts(versions())
    page.raw("</details>")


def training_seed(run: Path) -> str:
    """The seed in a run's config; "unknown" where that is missing or damaged."""
    try:
        return str(tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))["seed"])
    except (OSError, KeyError, ValueError):
        return "unknown"


def weights_file(run: Path) -> Path | None:
    """The weights of the checkpoint that a run is used with."""
    found = (run / f"{name}.safetensors" for name in ("best", "supervised", "last"))
    return next((path for path in found if path.is_file()), None)
