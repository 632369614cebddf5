"""dafxhost demo: a page to match recordings and turn knobs; dafxhost report: the page of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dafxhost_cli.console import note, result
from dafxhost_cli.options import EFFECT_HELP, ProviderOption, WorkersOption


def demo(
    effect: Annotated[str, typer.Option("--effect", help=f"{EFFECT_HELP}; chosen at first.")] = "",
    runs: Annotated[Path, typer.Option("--runs", help="Folder of trained runs.")] = Path("runs"),
    provider: ProviderOption = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve at; 0.0.0.0 lets others in.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None,
        typer.Option("--port", help="Port [default: the first free one from 7860 on].", min=1, max=65535),
    ] = None,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Longest recording taken.")] = 120.0,
    max_megabytes: Annotated[float, typer.Option("--max-megabytes", help="Largest file taken.")] = 50.0,
    deadline: Annotated[
        float, typer.Option("--deadline", help="Seconds that a plugin may take for one render.", min=1.0)
    ] = 60.0,
    workers: WorkersOption = None,
) -> None:
    """Open a page in the browser: match two recordings, turn the knobs, hear it.

    Needs pip install "dafxhost[demo]". Serves this machine alone unless --host says otherwise.
    Ctrl-C ends it.
    """
    from dafxhost.demo.server import LOOPBACK, DemoOptions, serve
    from dafxhost.demo.studio import Limits

    options = DemoOptions(
        effect=effect, runs_dir=runs, provider=provider, host=host, port=port,
        limits=Limits(max_megabytes, max_seconds), workers=workers, deadline=deadline,
    )  # fmt: skip
    if host not in LOOPBACK:
        note(f"warning: whoever reaches {host} can use this demo; there is no password")
    note("starting; Ctrl-C ends it")
    serve(options, result)


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder, as `dafxhost train` made it.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Page to write: one HTML file.", metavar="FILE")
    ],
) -> None:
    """Write the report of a training: curves, figures, examples to listen to."""
    from dafxhost.report.page import check_report
    from dafxhost.report.provenance import command_line
    from dafxhost.report.training import training_report

    check_report(output)
    training_report(run, command=command_line()).write(output)
    result(f"report: {output}")
