"""dafxhost runs: which there are, what one holds, two side by side, deleting."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from dafxhost_cli import completion
from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import Json

if TYPE_CHECKING:
    from dafxhost.run_folders import RunInfo

ORDERS = ("time", "best", "ratio", "size", "minutes", "effect", "name")
FolderOption = Annotated[Path, typer.Option("--folder", help="Folder that holds the runs.")]
Names = Annotated[
    list[str],
    typer.Argument(metavar="RUN...", help="Names or folders.", autocompletion=completion.run_names),
]


class _RunsGroup(TyperGroup):
    """`runs` is short for `runs list`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] != "--help"):
            args = ["list", *args]
        return super().parse_args(ctx, args)


runs_app = typer.Typer(
    cls=_RunsGroup,
    help="List runs, show one, compare some, delete some.",
    rich_markup_mode=None,
)


@runs_app.command("list")
def list_them(
    folder: FolderOption = Path("runs"),
    sort: Annotated[
        str,
        typer.Option("--sort", help=f"By {', '.join(ORDERS)}.", autocompletion=completion.one_of(*ORDERS)),
    ] = "time",
    as_json: Json = False,
) -> None:
    """List the runs in a folder, the newest first or the best first."""
    from dafxhost.errors import UnknownNameError
    from dafxhost.run_folders import list_runs

    if sort not in ORDERS:
        raise UnknownNameError("order", sort, ORDERS)
    found = list_runs(folder)
    if sort != "time":
        found.sort(key=lambda run: _order(run, sort))
    if as_json:
        result_json([run.to_dict() for run in found])
        return
    if not found:
        note(f"there are no runs in {folder}; train one: dafxhost train")
        return
    head = ("name", "effect", "encoder", "minutes", "steps", "best", "of input alone", "size", "written")
    result(table(head, [_row(run) for run in found]))
    for run in found:
        if run.problem:
            result(f"problem: {run.name}: {run.problem}")
    result(f"{len(found)} runs, {_size(sum(run.size for run in found))}")


def _order(run: RunInfo, sort: str) -> tuple[bool, Any]:
    """The largest first for sizes and minutes, the least first otherwise; what is not known comes last."""
    value = getattr(run, sort)
    if value is None:
        return True, 0
    return False, -value if sort in ("size", "minutes") else value


def _row(run: RunInfo) -> list[str]:
    return [
        run.name,
        run.effect or "-",
        run.encoder or "-",
        _number(run.minutes, ".1f"),
        _number(run.steps, "d"),
        _number(run.best, ".3f"),
        _number(run.ratio, ".2f"),
        _size(run.size),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(run.written)),
    ]


@runs_app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(metavar="RUN", help="Name or folder.", autocompletion=completion.run_names)
    ],
    folder: FolderOption = Path("runs"),
    as_json: Json = False,
) -> None:
    """Show one run: its figures, and the options that are not the defaults."""
    from dafxhost.run_folders import find_run, read_info

    info = read_info(find_run(name, folder))
    options = _changed(info)
    if as_json:
        result_json({**info.to_dict(), "changed": options})
        return
    rows = [*_figures(info), *((f"option {key}", str(value)) for key, value in options.items())]
    result(table(("run", info.name), [(key, value) for key, value in rows]))
    if info.problem:
        result(f"problem: {info.problem}")
    if "best" in info.checkpoints:
        result(f"next: dafxhost transfer input.wav reference.wav -o out.wav --run {info.path}")


@runs_app.command("compare")
def compare(names: Names, folder: FolderOption = Path("runs"), as_json: Json = False) -> None:
    """Show runs side by side: their figures, and the options in which they differ."""
    from dafxhost.errors import UsageError
    from dafxhost.run_folders import find_run, read_info

    if len(names) < 2:
        raise UsageError("name two runs or more: dafxhost runs compare RUN RUN")
    found = [read_info(find_run(name, folder)) for name in names]
    keys = list(dict.fromkeys(key for run in found for key in run.config))
    differing = {
        key: [run.config.get(key) for run in found]
        for key in keys
        if any(run.config.get(key) != found[0].config.get(key) for run in found)
    }
    if as_json:
        result_json({"runs": [run.to_dict() for run in found], "options": differing})
        return
    columns = [dict(_figures(run)) for run in found]
    rows = [[key, *(column[key] for column in columns)] for key in columns[0]]
    rows += [[f"option {key}", *("-" if v is None else str(v) for v in vs)] for key, vs in differing.items()]
    result(table(("run", *(run.name for run in found)), rows))


@runs_app.command("delete")
def delete(
    names: Names,
    folder: FolderOption = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Delete runs, after asking.

    Only folders that lie directly in the runs folder and are runs; links are not followed.
    """
    from dafxhost.errors import UsageError
    from dafxhost.run_folders import check_deletable, delete_run, read_info

    paths = list(dict.fromkeys(check_deletable(name, folder) for name in names))
    for path in paths:
        info = read_info(path)
        note(f"{path}: {info.effect or 'unknown effect'}, {_size(info.size)}")
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("nothing was deleted: there is no terminal to ask at; add --yes")
        typer.confirm(f"Delete {len(paths)} run{'s' * (len(paths) > 1)}?", abort=True, err=True)
    for path in paths:
        delete_run(path, folder)
    if as_json:
        result_json({"deleted": [str(path) for path in paths]})
    else:
        for path in paths:
            result(f"deleted {path}")


def _figures(run: RunInfo) -> list[tuple[str, str]]:
    return [
        ("effect", run.effect or "-"),
        ("provider", run.provider or "-"),
        ("encoder", run.encoder or "-"),
        ("data", run.data or "-"),
        ("minutes", _number(run.minutes, ".1f") + f" of {_number(run.budget, 'g')}"),
        ("end-to-end steps", _number(run.steps, "d")),
        ("best validation MR-STFT", _number(run.best, ".3f")),
        ("input left alone", _number(run.untouched, ".3f")),
        ("best of input alone", _number(run.ratio, ".2f")),
        ("failed renders", _number(run.failures, "d")),
        ("controllers", ", ".join(run.checkpoints) or "none"),
        ("size", _size(run.size)),
        ("written", time.strftime("%Y-%m-%d %H:%M", time.localtime(run.written))),
    ]


def _changed(run: RunInfo) -> dict[str, Any]:
    """Options that are not the defaults, without those that are shown anyway."""
    from dataclasses import asdict

    from dafxhost.training.config import TrainConfig

    defaults = asdict(TrainConfig())
    shown = ("effect", "encoder", "data", "max_minutes")
    fixed = {k: list(v) if isinstance(v, tuple) else v for k, v in defaults.items()}
    return {k: v for k, v in run.config.items() if k not in shown and v != fixed.get(k)}


def _number(value: Any, form: str) -> str:
    return "-" if value is None else format(value, form)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
