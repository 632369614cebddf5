"""dafxhost data: what a folder of recordings holds (`dafxhost data DIR`), and work on such folders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.data_rendering import render_command
from dafxhost_cli.options import Json, WorkersOption

if TYPE_CHECKING:
    from dafxhost.data.describe import Description
    from dafxhost.data.facts import Facts
    from dafxhost_cli.progress import Display

_MOST = 20
"""Names that are printed of each kind; --json has all."""


class _DescribesByDefault(TyperGroup):
    """`dafxhost data DIR` means `dafxhost data describe DIR`: a first word that is no command is a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["describe", *args]
        return super().parse_args(ctx, args)


data_app = typer.Typer(
    name="data",
    cls=_DescribesByDefault,
    help="Look at recordings: `dafxhost data PATH` describes a folder, a data set or a manifest.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
data_app.command("render")(render_command)


@data_app.command()
def describe(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="Folder, data set or manifest (.csv, .jsonl).")
    ],
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="How it is laid out: musdb18, musdb18-hq, vctk, daps, librispeech, "
            "folders (each subfolder a group) or folder; recognised if not given.",
        ),
    ] = "auto",
    stems: Annotated[
        str | None, typer.Option("--stems", help="Only these stems, by commas: mixture,vocals")
    ] = None,
    validation_fraction: Annotated[
        float, typer.Option("--validation-fraction", help="Share of the groups for validation.")
    ] = 0.2,
    workers: WorkersOption = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what is remembered.")] = False,
    as_json: Json = False,
) -> None:
    """Say what is in a folder: hours, rates, levels, silence, duplicates, unreadable files, splits.

    Every file is decoded once, from beginning to end; what is learned is remembered until the file changes.
    """
    from dafxhost.data.dataset import open_dataset
    from dafxhost.data.describe import describe as describe_dataset
    from dafxhost.data.splits import check_split
    from dafxhost_cli.progress import Display

    check_split("all", validation_fraction)
    dataset = open_dataset(path, layout, stems.split(",") if stems else None)
    try:
        with Display() as display:
            made = describe_dataset(
                dataset,
                workers=workers,
                fresh=fresh,
                validation_fraction=validation_fraction,
                progress=_Progress(display),
            )
    except KeyboardInterrupt:
        note("interrupted; what was measured is kept, and the same command goes on from there")
        raise typer.Exit(130) from None
    if as_json:
        result_json(made.to_dict())
    else:
        _show(made)


class _Progress:
    """A bar where there is a terminal, else a line every half minute."""

    def __init__(self, display: Display) -> None:
        self._display, self._next = display, time.monotonic() + 30

    def __call__(self, done: int, total: int, facts: Facts) -> None:
        text = f"{done}/{total} recordings"
        self._display.show("measuring", done / total, text)
        if time.monotonic() > self._next:
            self._next = time.monotonic() + 30
            if not self._display.live:
                self._display.line(text)


def _show(made: Description) -> None:
    result(f"{made.path} ({made.layout})")
    files = f" in {made.files} files" if made.files != made.recordings else ""
    result(
        f"{made.recordings} recordings{files}, {made.groups} groups, {_length(made.seconds)}, "
        f"{made.bytes / 1e6:.1f} MB; {made.remembered} known from before"
    )
    for what, counts in (
        ("rates, Hz", made.rates),
        ("channels", made.channels),
        ("formats", made.formats),
        ("stems", made.stems),
    ):
        if counts:
            result(f"{what}: {', '.join(f'{name} ({n})' for name, n in counts.items())}")
    _show_levels(made)
    if made.sides:
        rows = [(k, str(s.groups), str(s.recordings), _length(s.seconds)) for k, s in made.sides.items()]
        result("\n" + table(("split", "groups", "recordings", "length"), rows))
    _show_faults(made)


def _show_levels(made: Description) -> None:
    units = {"peak": "peak, dBFS", "rms": "RMS, dBFS", "loudness": "loudness, LUFS"}
    rows = [(units[k], *(f"{v:.1f}" for v in values)) for k, values in made.levels.items()]
    if rows:
        result("\n" + table(("level", "least", "10 %", "median", "90 %", "most"), rows))
    result(f"\n{made.silence:.1%} of the time is below -60 dBFS")


def _show_faults(made: Description) -> None:
    _list("silent", made.silent)
    _list("clipped", [f"{name}: {n} samples in runs at full scale" for name, n in made.clipped])
    _list("shorter than their headers say", [f"{name}: {n} samples" for name, n in made.short])
    _list("the same samples", [" = ".join(names) for names in made.duplicates])
    _list("the same samples on several sides of the split", [" = ".join(names) for names in made.leaks])
    _list("unreadable", [reason for _, reason in made.unreadable])
    if made.left_out:
        result(f"\n{made.left_out} other files have no place in the layout {made.layout}")


def _list(title: str, lines: list[str]) -> None:
    if not lines:
        return
    result(f"\n{title}: {len(lines)}")
    for line in lines[:_MOST]:
        result(f"  {line}")
    if len(lines) > _MOST:
        result(f"  and {len(lines) - _MOST} more (--json has all)")


def _length(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    return f"{int(seconds // 3600)}:{int(seconds // 60) % 60:02d}:{int(seconds) % 60:02d}"
