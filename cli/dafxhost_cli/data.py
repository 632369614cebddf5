"""dafxhost data: what a folder of recordings holds (`dafxhost data DIR`), and work on such folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dafxhost_cli.data_rendering import render_command
from dafxhost_cli.options import Json


class _DescribesByDefault(TyperGroup):
    """`dafxhost data DIR` means `dafxhost data describe DIR`: a first word that is no command is a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "-h"):
            args = ["describe", *args]
        return super().parse_args(ctx, args)


data_app = typer.Typer(
    name="data",
    cls=_DescribesByDefault,
    help="Look at recordings: `dafxhost data DIR` describes a folder, a data set or a manifest.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@data_app.command()
def describe(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Folder, data set or manifest.")],
    as_json: Json = False,
) -> None:
    """Say what is in a folder: hours, rates, levels, silence, duplicates, unreadable files, splits."""
    raise NotImplementedError


data_app.command("render")(render_command)
