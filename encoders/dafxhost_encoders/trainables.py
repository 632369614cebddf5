"""What `dafxhost pretrain` can train: one table, which imports no torch.

To add an encoder, write a function `train(job: PretrainJob) -> dict` that trains it and saves its weights
with `dafxhost.encoders.save_encoder`, and add its `Trainable` to `TRAINABLES`. An option that no other
trainer takes becomes a parameter of the same name in `dafxhost_cli.pretraining.pretrain`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dafxhost.errors import UnknownNameError, UsageError
from dafxhost.registry import load_attribute

Event = dict[str, Any]


@dataclass(frozen=True)
class PretrainJob:
    """What is asked of a trainer.

    Attributes:
        out: weights file to write (.safetensors; the suffix may be left out).
        data: folder of recordings; None is the synthetic corpus.
        effects: names of the effects that clips go through; None is the trainer's own choice, () is none.
        max_minutes, max_steps: whichever comes first ends the training.
        seed: of every random draw.
        device: "cpu" or "cuda".
        workers: plugin processes in all; None is one a core.
        start_from: weights file of the same encoder to begin with, or None.
        options: values of the options that the `Trainable` names, only those that were given.
        on_event: called with what happens: {"event": "start", "text"}, or {"event": "step", "step",
            "progress" (0..1), "seconds", "text"} after each step. "text" is for people.
    """

    out: Path
    data: Path | None = None
    effects: tuple[str, ...] | None = None
    max_minutes: float = 10.0
    max_steps: int | None = None
    seed: int = 1
    device: str = "cpu"
    workers: int | None = None
    start_from: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    on_event: Callable[[Event], None] | None = None

    def say(self, event: Event) -> None:
        if self.on_event is not None:
            self.on_event(event)


@dataclass(frozen=True)
class Trainable:
    """One entry of the table.

    Attributes:
        name: what it is called on the command line: the encoder's registered name.
        trainer: "module:function" of `(PretrainJob) -> figures`, imported only when asked for. The figures
            are JSON-able; "weights" is the path of the file written.
        summary: one line.
        options: what it takes besides what all take, by the names of `PretrainJob.options`.
        shown: (label, key) of the figures that people see.
    """

    name: str
    trainer: str
    summary: str
    options: frozenset[str] = frozenset()
    shown: tuple[tuple[str, str], ...] = ()

    def train(self, job: PretrainJob) -> dict[str, Any]:
        """Train and save. Raises UsageError for an impossible job, and what the trainer raises."""
        if not job.max_minutes > 0:
            raise UsageError(f"--max-minutes must be above 0, not {job.max_minutes:g}")
        if job.max_steps is not None and job.max_steps < 1:
            raise UsageError(f"--max-steps must be above 0, not {job.max_steps}")
        foreign = sorted(set(job.options) - self.options)
        if foreign:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in foreign)
            known = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(self.options)) or "none"
            raise UsageError(f"{self.name} takes no {flags}; its own options are {known}")
        trainer: Callable[[PretrainJob], dict[str, Any]] = load_attribute(
            self.trainer, f"training of {self.name!r}"
        )
        return trainer(job)


EFFECTS = ("mda-multiband", "mda-overdrive", "mda-ambience", "mda-delay", "mda-thruzero", "mda-limiter")
"""Effects that autoencoders are trained over, unless others are named: those of the second semester's report.
Held out there: mda-leslie, mda-combo, mda-subsynth."""

AUTOENCODER_FIGURES = (
    ("variance explained", "explained"),
    ("beyond the mean", "explained_beyond_mean"),
    ("RMSE", "rmse"),
    ("RMSE of a constant", "constant_rmse"),
    ("active latents", "active_latents"),
    ("latents", "latents"),
    ("epochs", "epochs"),
    ("steps", "steps"),
    ("seconds", "seconds"),
    ("seconds an epoch", "seconds_an_epoch"),
)
_COURSE = {"draw", "patience", "max_epochs", "examples", "renew", "learning_rate"}
_SPECTROGRAM = {"latent", "input", "compression", "mels", "frames", "n_fft", "hop", "strides"}

TRAINABLES = (
    Trainable(
        "spectrogram-vae",
        "dafxhost_encoders.pretrain_jobs:train_spectrogram_vae",
        "Beta-VAE of STFT or mel spectrograms.",
        frozenset(_COURSE | _SPECTROGRAM | {"beta", "kl_schedule"}),
        AUTOENCODER_FIGURES,
    ),
    Trainable(
        "mel-cae",
        "dafxhost_encoders.pretrain_jobs:train_mel_cae",
        "Convolutional autoencoder of mel spectrograms.",
        frozenset(_COURSE | _SPECTROGRAM),
        AUTOENCODER_FIGURES,
    ),
    Trainable(
        "embedding-vae",
        "dafxhost_encoders.pretrain_jobs:train_embedding_vae",
        "Beta-VAE of a frozen encoder's embeddings before and after an effect.",
        frozenset(_COURSE | {"latent", "beta", "kl_schedule", "encoder", "encoder_weights", "join"}),
        AUTOENCODER_FIGURES,
    ),
    Trainable(
        "effect-encoder",
        "dafxhost_encoders.contrastive:train_effect_encoder",
        "Recognises effect and setting across recordings (contrastive).",
        frozenset({"latent"}),
        (
            ("effect recognised", "effect_recognised"),
            ("partner is nearest", "partner_nearest"),
            ("clips trained on", "clips"),
            ("epochs", "epochs"),
            ("seconds", "seconds"),
        ),
    ),
)


def trainable(name: str) -> Trainable:
    """The entry of that name. Raises UnknownNameError."""
    for entry in TRAINABLES:
        if entry.name == name:
            return entry
    raise UnknownNameError("encoder to pretrain", name, [entry.name for entry in TRAINABLES])
