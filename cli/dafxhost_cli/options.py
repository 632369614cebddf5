"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EFFECT_HELP = 'Name of the effect, or a chain: "mda-delay > mda-combo?", or its TOML file'

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ProviderOption = Annotated[
    str | None, typer.Option("--provider", help="Which host serves the effect: lv2, vst3, builtin, ...")
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
