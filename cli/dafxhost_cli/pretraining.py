"""dafxhost pretrain: an encoder by itself, before any effect is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import DataOption, Json, SeedOption, WorkersOption


def pretrain(
    encoder: Annotated[
        str, typer.Argument(metavar="ENCODER", help="Which encoder; `dafxhost pretrain list` names them.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Weights file to write (.safetensors; a .json beside it)."),
    ] = None,
    data: DataOption = None,
    effects: Annotated[
        str | None,
        typer.Option("--effects", help="Effects that clips go through, by commas; none: clean clips only."),
    ] = None,
    max_minutes: Annotated[float, typer.Option("--max-minutes", help="When it ends at the latest.")] = 10.0,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", help="After how many steps it ends at the latest.")
    ] = None,
    seed: SeedOption = 1,
    start_from: Annotated[
        Path | None, typer.Option("--start-from", help="Weights file of the same encoder to begin with.")
    ] = None,
    latent: Annotated[
        int | None, typer.Option("--latent", help="Size of the embedding [default: 128].")
    ] = None,
    beta: Annotated[
        float | None, typer.Option("--beta", help="Weight of the KL divergence [default: 1].")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu or cuda.")] = "cpu",
    workers: WorkersOption = None,
    as_json: Json = False,
) -> None:
    """Train an encoder by itself.

    Writes its weights, for `dafxhost train --encoder-weights FILE`. An option that the encoder does not have
    is refused.
    """
    from dafxhost.errors import UsageError
    from dafxhost_encoders.trainables import TRAINABLES, PretrainJob, trainable

    if encoder == "list":
        _list([(entry.name, entry.summary) for entry in TRAINABLES], as_json)
        return
    entry = trainable(encoder)
    options = {"latent": latent, "beta": beta}
    if out is None:
        raise UsageError("--out FILE is needed: where the weights are to be written")
    from dafxhost.encoders import weights_paths
    from dafxhost_cli.progress import Display

    weights = weights_paths(out)[0]
    with Display() as display:
        job = PretrainJob(
            out=out,
            data=data,
            effects=_names(effects),
            max_minutes=max_minutes,
            max_steps=max_steps,
            seed=seed,
            device=device,
            workers=workers,
            start_from=start_from,
            options={name: value for name, value in options.items() if value is not None},
            on_event=_Events(display),
        )
        try:
            done = entry.train(job)
        except KeyboardInterrupt:
            if weights.exists():
                note(f"interrupted; the best weights so far are in {weights}")
            raise
    if as_json:
        result_json(done)
        return
    rows = [(label, f"{done[key]:.3g}") for label, key in entry.shown if done.get(key) is not None]
    result(table(("on held-out clips", "value"), rows))
    result(f"weights: {done['weights']}")
    result(f"next: dafxhost train --encoder-weights {done['weights']}")


def _list(entries: list[tuple[str, str]], as_json: bool) -> None:
    if as_json:
        result_json([{"name": name, "summary": summary} for name, summary in entries])
    else:
        result(table(("encoder", "what it is"), entries))


def _names(text: str | None) -> tuple[str, ...] | None:
    """ "a, b" -> ("a", "b"); "none" -> ()."""
    if text is None:
        return None
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return () if names == ("none",) else names


class _Events:
    """Shows what training reports: a bar, and a line every half minute where there is none."""

    def __init__(self, display: Any) -> None:
        self._display, self._next = display, time.monotonic() + 30

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] != "step":
            self._display.line(event["text"])
            return
        text = f"step {event['step']}, {event['text']}"
        self._display.show("pretraining", event["progress"], text)
        if time.monotonic() > self._next:
            self._next += 30
            if not self._display.live:
                self._display.line(f"{event['seconds']:.0f} s: {text}")
