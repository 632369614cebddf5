"""The trainer of all autoencoders, before any effect is to be imitated."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dafxhost.encoders import save_encoder, weights_paths
from dafxhost.errors import AudioFileError, OutputError, UsageError
from dafxhost.settings import write_whole
from dafxhost_encoders.autoencoder import Autoencoder, Quality, measure
from dafxhost_encoders.effect_clips import Clips
from dafxhost_encoders.epochs import Epochs, make_epoch

SCHEDULES = ("constant", "linear", "cyclical")
_WARM = 0.3
"""Part of the training after which a linear schedule has come to its full weight."""
_CYCLES, _RISING = 4, 0.5
"""Of a cyclical schedule, the values of Fu 2019: M and R."""
_FIRST_STEPS = 20
"""Over which the learning rate rises."""


def kl_weight(schedule: str, progress: float) -> float:
    """What beta is multiplied by at `progress` 0..1 of the training.

    constant: 1. linear: rises from 0 to 1 over the first 30 %. cyclical: Fu 2019, equations 6 and 7, with
    M = 4 cycles, of each of which the first half rises from 0 to 1.
    """
    if schedule == "linear":
        return min(1.0, progress / _WARM)
    if schedule == "cyclical":
        return min(1.0, (progress * _CYCLES) % 1.0 / _RISING)
    return 1.0


@dataclass(frozen=True)
class Plan:
    """How an autoencoder is trained.

    Attributes:
        max_minutes, max_steps, max_epochs: whichever comes first ends it; the learning rate falls to 0
            towards that.
        examples: clips an epoch. held_out: clips that measure it after every epoch.
        batch: inputs (patches of clips, or pairs) a step, drawn without replacement from the epoch's.
        learning_rate: of Adam.
        schedule: of the divergence's weight, see `kl_weight`.
        turns: one effect an epoch, in turn; else all of them mixed in every epoch.
        patience: rounds without improvement on the held-out clips after which it ends; 0 is never. A round is
            an epoch, or, with `turns`, an epoch of every effect: it waits for all of them.
        renew: epochs that the same examples serve, before there are new ones; 0 is all epochs.
        seed: of clips, settings, starting order and sampling.
    """

    max_minutes: float = 10.0
    max_steps: int | None = None
    max_epochs: int | None = None
    examples: int = 250
    held_out: int = 25
    batch: int = 32
    learning_rate: float = 2e-3
    schedule: str = "constant"
    turns: bool = False
    patience: int = 0
    renew: int = 4
    seed: int = 1

    def check(self) -> None:
        """Raise UsageError if it cannot be carried out."""
        limits = [self.max_steps, self.max_epochs]
        counts = [self.examples, self.held_out, self.batch, *[n for n in limits if n is not None]]
        if not self.max_minutes > 0 or min(counts) < 1:
            raise UsageError(
                "minutes, steps, epochs, examples, held-out clips and batch of a pretraining must be above 0"
            )
        if self.schedule not in SCHEDULES:
            raise UsageError(f"the KL schedule is {', '.join(SCHEDULES)}, not {self.schedule!r}")
        if min(self.patience, self.renew) < 0 or not self.learning_rate > 0:
            raise UsageError("patience and renewal must be 0 or more, and the learning rate above 0")


def pretrain(
    encoder: Autoencoder,
    clips: Clips,
    held_out: Clips,
    out: str | Path,
    plan: Plan | None = None,
    *,
    device: str = "cpu",
    fit: bool = True,
    on_step: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train an autoencoder and keep its best weights by the held-out clips in `out`.

    The best weights so far are on disk after every epoch, so that an interrupted training leaves them; one
    interrupted in its first epoch leaves what it has. Beside them, in `STEM.log.jsonl`, a line an epoch.

    Args:
        clips, held_out: make the training and the held-out clips.
        out: weights file (.safetensors; a .json is written beside it).
        fit: take the scale of the inputs from the first epoch's; not for an encoder that was trained already.
        on_step: called after each step with step, epoch, total, reconstruction, divergence, seconds,
            progress (0..1) and explained (held out, the best so far).

    Returns:
        The fields of `Quality` on the held-out clips for the written weights, and weights, log (paths),
        epochs, steps, best_epoch, seconds, seconds_an_epoch (median of all but the first), examples_an_epoch
        (with the held-out ones), unusable_renders, stopped ("time", "steps", "epochs" or "patience"),
        sample_rate, effects, config.

    Raises:
        UsageError, ShapeError: an impossible plan or encoder. OutputError: `out` cannot be written.
        AudioFileError: there is nothing to train on but silence.
    """
    plan = plan or Plan()
    plan.check()
    check_writable(weights_paths(out)[0])
    # The global generator is what sampling in the loss uses; the caller's is put back afterwards.
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(plan.seed)
        training = _Training(encoder.to(device), Path(out), plan, on_step)
        deadline = training.started + 60 * plan.max_minutes
        try:
            with Epochs(clips, encoder, plan.examples, plan.seed, plan.turns, plan.renew, deadline) as epochs:
                return training.run(epochs, held_out, fit)
        except KeyboardInterrupt:
            training.interrupted()
            raise


class _Training:
    def __init__(
        self, encoder: Autoencoder, out: Path, plan: Plan, on_step: Callable[[dict[str, Any]], None] | None
    ) -> None:
        self.encoder, self.out, self.plan, self.on_step = encoder, out, plan, on_step
        self.started = time.monotonic()
        trained = [p for p in encoder.parameters() if p.requires_grad]
        self.parameters = trained
        self.optimiser = torch.optim.Adam(trained, lr=plan.learning_rate)
        self.step = self.epoch = self.best_epoch = self.unusable = 0
        self.progress = 0.0
        self.best: Quality | None = None
        self.weights: Path | None = None
        self.lines: list[dict[str, Any]] = []

    def run(self, epochs: Epochs, held_out: Clips, fit: bool) -> dict[str, Any]:
        plan = self.plan
        first = epochs.take(0)
        check_inputs(first.inputs)
        if fit:
            self.encoder.fit_scale(first.inputs)
        test = make_epoch(held_out, self.encoder, plan.held_out, (plan.seed, 1)).inputs
        self.encoder.train()
        times: list[float] = []
        stopped = ""
        while not stopped:
            began = time.monotonic()
            data = first if self.epoch == 0 else epochs.take(self.epoch)
            self.unusable += data.unusable if epochs.fresh(self.epoch) else 0
            sums = self._steps(data.batches(plan.batch, (plan.seed, 2, self.epoch)))
            self.epoch += 1
            self._evaluate(test, sums, epochs.effect(self.epoch - 1))
            times.append(time.monotonic() - began)
            stopped = self._stopped(epochs.round)
        if self.best is None or self.weights is None:
            raise UsageError("the training diverged: no weights are finite; try a smaller --learning-rate")
        return {
            **asdict(self.best),
            "weights": str(self.weights),
            "log": str(self._log_path()),
            "epochs": self.epoch,
            "steps": self.step,
            "best_epoch": self.best_epoch,
            "seconds": time.monotonic() - self.started,
            "seconds_an_epoch": statistics.median(times[1:] or times),
            "examples_an_epoch": plan.examples + plan.held_out,
            "unusable_renders": self.unusable,
            "stopped": stopped,
            "sample_rate": self.encoder.sample_rate,
            "effects": list(epochs.clips.effects),
            "config": self.encoder.config(),
        }

    def _steps(self, batches: Any) -> dict[str, float]:
        """One epoch of steps, or what of it fits; the mean of what they gave."""
        sums = {"total": 0.0, "reconstruction": 0.0, "divergence": 0.0}
        count = 0
        for inputs in batches:
            if self.progress >= 1.0:
                break
            values = self._one_step(inputs)
            count += 1
            for key, value in zip(sums, values, strict=True):
                sums[key] += value
        return {key: value / max(1, count) for key, value in sums.items()}

    def _one_step(self, inputs: Tensor) -> tuple[float, float, float]:
        plan = self.plan
        for group in self.optimiser.param_groups:
            rising = min(1.0, (self.step + 1) / _FIRST_STEPS)
            group["lr"] = plan.learning_rate * rising * (1 - self.progress)
        total, reconstruction, nats = self.encoder.loss(inputs, kl_weight(plan.schedule, self.progress))
        self.optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimiser.step()
        self.step += 1
        values = (total.item(), reconstruction.item(), nats.item())
        seconds = time.monotonic() - self.started
        self.progress = min(1.0, self._fraction(seconds))
        if self.on_step is not None:
            self.on_step(
                {
                    "step": self.step,
                    "epoch": self.epoch,
                    "total": values[0],
                    "reconstruction": values[1],
                    "divergence": values[2],
                    "seconds": seconds,
                    "progress": self.progress,
                    "explained": None if self.best is None else self.best.explained,
                }
            )
        return values

    def _fraction(self, seconds: float) -> float:
        """How much of the training is done; within the last of a number of epochs still below 1."""
        plan = self.plan
        parts = [seconds / (60 * plan.max_minutes)]
        if plan.max_steps:
            parts.append(self.step / plan.max_steps)
        if plan.max_epochs:
            parts.append(self.epoch / plan.max_epochs)
        return max(parts)

    def _evaluate(self, test: Tensor, means: dict[str, float], effect: str) -> None:
        quality = measure(self.encoder, test)
        better = self.best is None or quality.explained_beyond_mean > self.best.explained_beyond_mean
        if better and all(bool(torch.isfinite(p).all()) for p in self.parameters):
            self.best, self.best_epoch = quality, self.epoch
            self.weights = save_encoder(self.encoder, self.out)
        self.lines.append(
            {
                "epoch": self.epoch,
                "step": self.step,
                "seconds": round(time.monotonic() - self.started, 2),
                "effect": effect,
                **means,
                "kl_weight": kl_weight(self.plan.schedule, self.progress),
                "explained": quality.explained,
                "explained_beyond_mean": quality.explained_beyond_mean,
                "held_out_divergence": quality.divergence,
                "active_latents": quality.active_latents,
            }
        )
        _write_lines(self._log_path(), self.lines)

    def _stopped(self, a_round: int) -> str:
        plan = self.plan
        seconds = time.monotonic() - self.started
        if plan.max_steps and self.step >= plan.max_steps:
            return "steps"
        if plan.max_epochs and self.epoch >= plan.max_epochs:
            return "epochs"
        if seconds >= 60 * plan.max_minutes or self.progress >= 1.0:
            return "time"
        if plan.patience and self.epoch - self.best_epoch >= plan.patience * a_round:
            return "patience"
        return ""

    def interrupted(self) -> None:
        """Keep what there is, if nothing was kept yet."""
        if self.weights is None and self.step:
            self.weights = save_encoder(self.encoder, self.out)

    def _log_path(self) -> Path:
        return weights_paths(self.out)[0].with_suffix(".log.jsonl")


def check_inputs(inputs: Tensor) -> None:
    """Raise AudioFileError if nothing varies in the inputs: then there is nothing to learn."""
    if float(inputs.std()) < 1e-6:
        raise AudioFileError(
            "there is nothing to train on: the clips are silent or all the same, or, where differences are "
            "wanted, went through no effect."
        )


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be made where `path` is to be, its folder included."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def _write_lines(path: Path, lines: list[dict[str, Any]]) -> None:
    write_whole(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
