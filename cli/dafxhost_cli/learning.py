"""dafxhost train, evaluate, pretrain: long work, with what it is doing on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dafxhost_cli.options import DataOption, Json, WorkersOption

Minutes = Annotated[float | None, typer.Option("--max-minutes", help="When training ends at the latest.")]


def train(
    effect: Annotated[
        str | None, typer.Option("--effect", help="Name of the effect [default: mda-combo].")
    ] = None,
    data: DataOption = None,
    max_minutes: Minutes = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda [default: cpu].")] = None,
    encoder: Annotated[str | None, typer.Option("--encoder", help="Name of the audio encoder.")] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option("--encoder-weights", help="Weights file for the encoder.")
    ] = None,
    estimator: Annotated[
        str | None, typer.Option("--estimator", help="Name of the gradient estimator.")
    ] = None,
    space: Annotated[
        str | None, typer.Option("--space", help="Where gradients are estimated: loss or signal.")
    ] = None,
    provider: Annotated[str | None, typer.Option("--provider", help="Which host serves the effect.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random draw.", min=0)] = None,
    workers: WorkersOption = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of training options.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="New run folder [default: runs/...].")
    ] = None,
    resume: Annotated[Path | None, typer.Option("--resume", help="Run folder to carry on with.")] = None,
    as_json: Json = False,
) -> None:
    """Train a controller for an effect.

    Needs no data: without --data it trains on a synthetic corpus. Leaves a run folder for `dafxhost transfer`.
    """
    flags = {
        "effect": effect,
        "data": data,
        "max_minutes": max_minutes,
        "device": device,
        "encoder": encoder,
        "encoder_weights": encoder_weights,
        "estimator": estimator,
        "space": space,
        "provider": provider,
        "seed": seed,
        "workers": workers,
    }
    raise NotImplementedError(
        {k: v for k, v in flags.items() if v is not None}, config, run_dir, resume, as_json
    )


def evaluate() -> None:
    """Measure a run."""
