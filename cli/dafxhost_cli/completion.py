"""dafxhost completion, and what the shell offers when Tab is pressed: names from the registry, runs.

Nothing here imports torch or loads a plugin: an answer has to come while somebody waits for it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dafxhost_cli.console import result

VARIABLE = "_DAFXHOST_COMPLETE"
INSTALL = {
    "bash": 'eval "$(dafxhost completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(dafxhost completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "dafxhost completion fish > ~/.config/fish/completions/dafxhost.fish",
}
Complete = Callable[[str], list[str]]


def one_of(*words: str) -> Complete:
    """Completes to one of these words."""

    def complete(incomplete: str) -> list[str]:
        return _beginning(words, incomplete)

    return complete


def completion(
    shell: Annotated[
        str, typer.Argument(help="bash, zsh or fish.", autocompletion=one_of(*INSTALL), metavar="SHELL")
    ],
) -> None:
    """Print what makes Tab complete commands, effects, runs, encoders.

    In ~/.bashrc or ~/.zshrc: eval "$(dafxhost completion bash)", or zsh. For fish: dafxhost completion fish >
    ~/.config/fish/completions/dafxhost.fish
    """
    from typer.completion import get_completion_script  # pyright: ignore[reportPrivateImportUsage]

    from dafxhost.errors import UnknownNameError

    if shell not in INSTALL:
        raise UnknownNameError("shell", shell, INSTALL)
    result(f"# {INSTALL[shell]}")
    result(get_completion_script(prog_name="dafxhost", complete_var=VARIABLE, shell=shell))


def prepare() -> None:
    """If a shell asks for completions, get ready to answer; otherwise this costs nothing."""
    if os.environ.get(VARIABLE):
        from typer.completion import completion_init  # pyright: ignore[reportPrivateImportUsage]

        completion_init()


def effects(incomplete: str) -> list[str]:
    """Effects; of a chain, its last link."""
    before, arrow, last = incomplete.rpartition(">")
    blank = " " * (len(last) - len(last.lstrip()))
    return [before + arrow + blank + name for name in _beginning(_names("effect"), last.lstrip())]


def encoders(incomplete: str) -> list[str]:
    return _beginning(_names("encoder"), incomplete)


def trainables(incomplete: str) -> list[str]:
    """What `dafxhost pretrain` trains."""
    from dafxhost_encoders.trainables import TRAINABLES

    return _beginning([entry.name for entry in TRAINABLES], incomplete)


def estimators(incomplete: str) -> list[str]:
    return _beginning(_names("estimator"), incomplete)


def trackers(incomplete: str) -> list[str]:
    """Trackers, after those that are there already."""
    before, comma, last = incomplete.rpartition(",")
    there = before.split(",")
    names = [name for name in [*_names("tracker"), *([] if comma else ["none"])] if name not in there]
    return [before + comma + name for name in _beginning(names, last)]


def providers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Providers of the effect that was named before; of all effects where none was."""
    from dafxhost.errors import DafxhostError, UnknownNameError
    from dafxhost.registry import effect

    name = ctx.params.get("effect") or ctx.params.get("name")
    if not name:
        return _beginning(("builtin", "lv2", "pedalboard", "vst3", "dawdreamer"), incomplete)
    try:
        effect(name, "?")  # none has that name: the error says which there are
    except UnknownNameError as error:
        return _beginning(error.known, incomplete)
    except DafxhostError:
        pass
    return []


def runs(incomplete: str) -> list[str]:
    """Runs in ./runs, or in the folder that was begun to be typed, newest first; files are the shell's."""
    folder = os.path.dirname(incomplete) or "runs"
    found: list[tuple[float, str]] = []
    try:
        for entry in os.scandir(folder):
            if entry.is_dir() and (Path(entry.path) / "config.toml").is_file():
                found.append((-entry.stat().st_mtime, os.path.join(folder, entry.name)))
    except OSError:
        return []
    return [path for _, path in sorted(found) if path.startswith(incomplete)]


def run_names(incomplete: str) -> list[str]:
    """Names of the runs in ./runs."""
    return _beginning([os.path.basename(path) for path in runs("")], incomplete)


def _names(kind: str) -> list[str]:
    from dafxhost.registry import registry

    return registry().names(kind)


def _beginning(words: Sequence[Any], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]
