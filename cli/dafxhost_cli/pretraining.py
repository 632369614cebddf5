"""dafxhost pretrain: an encoder by itself, before any effect is known."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import DataOption, Json, SeedOption

if TYPE_CHECKING:
    from dafxhost.data.sources import AudioSource

ENCODERS = ("spectrogram-vae",)
SAMPLE_RATE, CLIP_SECONDS = 24000, 2.8


def pretrain(
    encoder: Annotated[str, typer.Argument(metavar="ENCODER", help="Which encoder: spectrogram-vae.")],
    out: Annotated[
        Path, typer.Option("--out", help="Weights file to write (.safetensors; a .json beside it).")
    ],
    data: DataOption = None,
    max_minutes: Annotated[float, typer.Option("--max-minutes", help="When it ends at the latest.")] = 10.0,
    seed: SeedOption = 1,
    as_json: Json = False,
) -> None:
    """Train an encoder by itself.

    Writes its weights, for `dafxhost train --encoder pretrained --encoder-weights FILE`.
    """
    from dafxhost.errors import UnknownNameError, UsageError

    if encoder not in ENCODERS:
        raise UnknownNameError("encoder to pretrain", encoder, ENCODERS)
    if not max_minutes > 0:
        raise UsageError("--max-minutes must be above 0")
    from dafxhost_cli.progress import Display
    from dafxhost_encoders.pretrain import pretrain_spectrogram_vae

    train, held_out = _sources(data, seed)
    note(f"training {encoder} on {train.description}, for {max_minutes:g} min at most, into {out}")
    with Display() as display:
        try:
            done = pretrain_spectrogram_vae(
                _clips(train),
                held_out=_clips(held_out),
                max_minutes=max_minutes,
                out=out,
                seed=seed,
                sample_rate=SAMPLE_RATE,
                on_step=_Steps(display),
            )
        except KeyboardInterrupt:
            if out.with_suffix(".safetensors").exists():
                note(f"interrupted; the best weights so far are in {out.with_suffix('.safetensors')}")
            raise
    if as_json:
        result_json(done)
        return
    rows = [
        (name, f"{done[key]:.3g}")
        for name, key in (
            ("variance explained", "explained"),
            ("beyond the mean spectrum", "explained_beyond_mean_spectrum"),
            ("RMSE", "rmse"),
            ("RMSE of a constant", "constant_rmse"),
            ("steps", "steps"),
            ("seconds", "seconds"),
        )
    ]
    result(table(("on held-out clips", "value"), rows))
    result(f"active latents: {done['active_latents']} of {done['latents']}")
    result(f"weights: {done['weights']}")
    result(f"next: dafxhost train --encoder pretrained --encoder-weights {done['weights']}")


class _Steps:
    """Shows steps: a bar, and a line every half minute where there is none."""

    def __init__(self, display: Any) -> None:
        self._display, self._next = display, time.monotonic() + 30

    def __call__(self, event: dict[str, Any]) -> None:
        text = (
            f"step {event['step']}, error {event['reconstruction']:.4g}, explained {event['explained']:.3f}"
        )
        self._display.show("pretraining", event["progress"], text)
        if time.monotonic() > self._next:
            self._next += 30
            if not self._display.live:
                self._display.line(f"{event['seconds']:.0f} s: {text}")


def _sources(data: Path | None, seed: int) -> tuple[AudioSource, AudioSource]:
    """Recordings to train on, and others to measure on."""
    if data is None:
        from dafxhost.data.corpus import SyntheticCorpus

        return (
            SyntheticCorpus(SAMPLE_RATE, seed, "train", bank=60),
            SyntheticCorpus(SAMPLE_RATE, seed, "validation", bank=12),
        )
    from dafxhost.data.sources import open_source

    return open_source(data, SAMPLE_RATE, "train"), open_source(data, SAMPLE_RATE, "validation")


def _clips(source: AudioSource) -> Any:
    """`(rng, n) -> [n, 1, T]`, as the encoders' training asks for its clips."""
    import numpy as np

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        samples = round(CLIP_SECONDS * SAMPLE_RATE)
        return np.stack([source.draw(rng, samples, SAMPLE_RATE)[0] for _ in range(n)])

    return draw
