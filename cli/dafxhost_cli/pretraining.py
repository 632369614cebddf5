"""dafxhost pretrain: an encoder by itself, before any effect is known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dafxhost_cli import completion
from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import DataOption, Json, SeedOption, WorkersOption


def pretrain(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="Which encoder; `dafxhost pretrain list` names them.",
            autocompletion=completion.trainables,
        ),
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
    latent: Annotated[int | None, typer.Option("--latent", help="Number of latents.")] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="Weight of the KL divergence.")] = None,
    kl_schedule: Annotated[
        str | None,
        typer.Option(
            "--kl-schedule", help="Of that weight: constant, linear or cyclical [default: constant]."
        ),
    ] = None,
    draw: Annotated[
        str | None,
        typer.Option(
            "--draw", help="Effects: mixed in every batch, or in turns, one an epoch [default: mixed]."
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            help="Rounds (epochs, or epochs of every effect) without improvement that end it; 0: never "
            "[default: 0; in turns, 1].",
            min=0,
        ),
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option("--max-epochs", help="After how many epochs it ends at the latest.", min=1)
    ] = None,
    examples: Annotated[
        int | None, typer.Option("--examples", help="Clips of 5 s an epoch [default: 250].", min=1)
    ] = None,
    renew: Annotated[
        int | None,
        typer.Option(
            "--renew", help="Epochs that the same clips serve; 0: all [default: 4; embedding-vae, 0].", min=0
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Of Adam, at the beginning.")
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", help="What is seen of a clip: mel or stft [default: mel].")
    ] = None,
    compression: Annotated[
        str | None, typer.Option("--compression", help="Of the magnitudes: power (0.3) or log.")
    ] = None,
    mels: Annotated[int | None, typer.Option("--mels", help="Mel bands.")] = None,
    frames: Annotated[int | None, typer.Option("--frames", help="Frames of a patch of spectrogram.")] = None,
    n_fft: Annotated[int | None, typer.Option("--n-fft", help="Window of the spectrogram, samples.")] = None,
    hop: Annotated[int | None, typer.Option("--hop", help="Samples between frames.")] = None,
    strides: Annotated[
        str | None, typer.Option("--strides", help="Of the convolutions: 2, or one a layer: 3,2.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="The frozen audio encoder of embedding-vae.")
    ] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option("--encoder-weights", help="Weights file of that encoder.")
    ] = None,
    join: Annotated[
        str | None,
        typer.Option("--join", help="Of the two embeddings: concat or difference [default: concat]."),
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

    if name == "list":
        _list([(entry.name, entry.summary) for entry in TRAINABLES], as_json)
        return
    entry = trainable(name)
    options = {
        "latent": latent,
        "beta": beta,
        "kl_schedule": kl_schedule,
        "draw": draw,
        "patience": patience,
        "max_epochs": max_epochs,
        "examples": examples,
        "renew": renew,
        "learning_rate": learning_rate,
        "input": input_,
        "compression": compression,
        "mels": mels,
        "frames": frames,
        "n_fft": n_fft,
        "hop": hop,
        "strides": _strides(strides),
        "encoder": encoder,
        "encoder_weights": encoder_weights,
        "join": join,
    }
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


def _strides(text: str | None) -> int | list[int] | None:
    """ "2" -> 2, "3,2" -> [3, 2]. Raises UsageError."""
    from dafxhost.errors import UsageError

    if text is None:
        return None
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--strides takes a number, or one a layer (3,2), not {text!r}") from error
    return numbers[0] if len(numbers) == 1 else numbers


class _Events:
    """Shows what training reports."""

    def __init__(self, display: Any) -> None:
        self._display = display

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] != "step":
            self._display.line(event["text"])
            return
        text = f"step {event['step']}, {event['text']}"
        self._display.show("pretraining", event["progress"], text)
