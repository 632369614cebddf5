"""The console script. Nothing heavy is imported before a command runs: --help must come at once.

NO_COLOR holds: the only colours are the progress bar's, on a terminal.
Exit codes: 0 done, 1 the work failed, 2 usage or unknown name, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from typing import Annotated, Any

import typer

from dafxhost.errors import DafxhostError
from dafxhost_cli import (
    analyzing,
    applying,
    completion,
    creating,
    demo,
    doctor,
    features,
    learning,
    listing,
    measuring,
    pretraining,
    reconstructing,
    rendering,
    runs,
)
from dafxhost_cli.console import be_quiet, note, result
from dafxhost_cli.data import data_app
from dafxhost_cli.options import add_quiet


class _App(typer.Typer):
    def __call__(self, *arguments: Any, **options: Any) -> Any:
        command = typer.main.get_command(self)
        add_quiet(command)
        # Also as `python -m dafxhost_cli.main`; it decides the name of completion's variable, too.
        return command(*arguments, prog_name="dafxhost", **options)


app = _App(
    name="dafxhost",
    help="Host audio effect plugins, and train a network that makes one recording sound like another.",
    no_args_is_help=True,
    add_completion=False,  # `dafxhost completion` instead of two options in everybody's help
    # Rich's help costs 0.5 s of imports, and its tracebacks are not for users.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command()(listing.plugins)
app.add_typer(listing.effects_app, name="effects")
app.command()(rendering.render)
app.command()(learning.train)
app.command()(rendering.transfer)
app.command()(applying.apply)
app.command()(applying.preset)
app.command()(measuring.evaluate)
app.command()(pretraining.pretrain)
app.command()(demo.demo)
app.command()(demo.report)
app.command()(reconstructing.reconstruct)
app.command()(features.features)
app.command()(analyzing.analyze)
app.add_typer(creating.new)
app.add_typer(runs.runs_app, name="runs")
app.command()(doctor.doctor)
app.command()(completion.completion)
app.add_typer(data_app)


def _version(wanted: bool) -> None:
    if wanted:
        from dafxhost import __version__

        result(f"dafxhost {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing but results, warnings and errors.")] = False,
) -> None:
    global _debug
    _debug = debug
    be_quiet(quiet)


_debug = False
# New releases of typer bring their own copy of click; this finds the base of usage errors in either.
_ClickError = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def main() -> None:
    """Run the command line and exit."""
    be_quiet(False)
    completion.prepare()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has enough (`dafxhost effects | head -3`). Python would complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        code = 130
    except Exception as error:  # noqa: BLE001  (the last resort: one sentence for whatever comes)
        code = _failed(error)
    code = code if isinstance(code, int) else 0
    if code and "torch" in sys.modules:
        from dafxhost.training import distributed

        if distributed.several():
            distributed.end(code)
    sys.exit(code)


def _failed(error: Exception) -> int:
    """Say what went wrong; returns the exit code."""
    if _debug:
        traceback.print_exception(error)
    if isinstance(error, DafxhostError):
        note(f"error: {_one_line(str(error))}")
        return error.exit_code
    if type(error).__name__ == "NoArgsIsHelpError":  # nothing was asked for: the help, and no complaint
        note(error.format_message())  # type: ignore[attr-defined]
        return 2
    if isinstance(error, _ClickError):
        note(f"error: {_one_line(error.format_message())}")  # type: ignore[attr-defined]
        return getattr(error, "exit_code", 2)
    if isinstance(error, OSError):
        note(f"error: {_one_line(str(error))}")
        return 1
    where = "shown above" if _debug else _save_traceback(error)
    what = _one_line(f"{type(error).__name__}: {error}")
    note(f"error: {what} (this is a bug in dafxhost; traceback {where})")
    return 1


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _save_traceback(error: Exception) -> str:
    try:
        with tempfile.NamedTemporaryFile("w", prefix="dafxhost-", suffix=".txt", delete=False) as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return "not saved; --debug shows it"
    return f"in {file.name}"


if __name__ == "__main__":
    main()
