"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dafxhost_cli import completion, console

EFFECT_HELP = 'Name of the effect, or a chain: "mda-delay > mda-combo?", or its TOML file'

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProviderOption = Annotated[
    str | None,
    typer.Option(
        "--provider",
        help="Which host serves the effect: lv2, vst3, builtin, ...",
        autocompletion=completion.providers,
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Recordings: folder, data set or manifest; else a synthetic corpus."),
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of every random draw.", min=0)]
ExecutorOption = Annotated[
    str | None,
    typer.Option(
        "--executor",
        help="Where plugins run: processes, on this machine, or ray, a cluster [default: processes].",
        autocompletion=completion.one_of("processes", "ray"),
    ),
]
ReportOption = Annotated[
    Path | None,
    typer.Option(
        "--report", help="Also write a page to look at and listen to: one HTML file.", metavar="FILE"
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", help="Worker processes; as many as there are CPU cores if not given.", min=1),
]
StrengthOption = Annotated[
    float,
    typer.Option("--strength", help="From 0, the effect's neutral setting, to 1, the match.", metavar="0..1"),
]


def _be_quiet(quiet: bool) -> None:
    if quiet:
        console.be_quiet(True)


def _pattern(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            help="Nothing but results, warnings and errors.",
            callback=_be_quiet,
            expose_value=False,
        ),
    ] = False,
) -> None:
    """A command of which only the option is used."""


def add_quiet(command: Any) -> None:
    """Give a command, or all of a group, the option --quiet."""
    pattern = typer.Typer(add_completion=False, rich_markup_mode=None)
    pattern.command()(_pattern)
    option = next(p for p in typer.main.get_command(pattern).params if "--quiet" in p.opts)
    _add(command, option)


def _add(command: Any, option: Any) -> None:
    if hasattr(command, "commands"):
        for one in command.commands.values():
            _add(one, option)
    elif not any("--quiet" in known.opts for known in command.params):
        command.params.append(option)
