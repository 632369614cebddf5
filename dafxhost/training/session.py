"""What a training run works with: effect, data, networks, validation, checkpoints and events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dafxhost.data.examples import ExampleBatch, Examples
from dafxhost.data.setting_draws import make_draw
from dafxhost.data.sources import AudioSource, Split, open_source
from dafxhost.data.stretching import StretchedSource
from dafxhost.effects import Effect
from dafxhost.encoders import Encoder, load_encoder
from dafxhost.errors import UsageError
from dafxhost.estimators.base import Estimator
from dafxhost.estimators.choice import chosen
from dafxhost.execution.backends import open_executor
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.objectives import make_loss
from dafxhost.registry import encoder as make_encoder
from dafxhost.registry import estimator as make_estimator
from dafxhost.registry import registry
from dafxhost.training import precision, runs
from dafxhost.training.augmentation import AugmentedSource, MixedSource
from dafxhost.training.config import TrainConfig
from dafxhost.training.controller import Controller
from dafxhost.training.distributed import Alone
from dafxhost.training.material import TOGETHER, Batches, Material
from dafxhost.training.material import mix as mix
from dafxhost.training.memory import keep_memory
from dafxhost.training.objective import Objective
from dafxhost.training.pool import Pool
from dafxhost.training.recording import GradientWatch, Recorder, quantiles
from dafxhost.training.scoring import score_settings
from dafxhost.training.usage import CoreUsage

OnEvent = Callable[[dict[str, Any]], None]
WARM_UP = 20
"""Steps over which a learning rate rises."""
RESERVE = 0.04
"""Share of the minutes kept for the last validation and for writing."""
VALIDATION_BANK = 40
"""Most pieces of the synthetic corpus that validation draws from."""


def make_source(config: TrainConfig, split: Split) -> AudioSource:
    """The config's audio: its folder, or the synthetic corpus. `split` is "train" or "validation"."""
    if config.data:
        fraction = config.validation_fraction
        return open_source(config.data, config.sample_rate, split, validation_fraction=fraction)
    from dafxhost.data.corpus import SyntheticCorpus

    bank = config.corpus_bank if split == "train" else min(config.corpus_bank, VALIDATION_BANK)
    return SyntheticCorpus(config.sample_rate, split=split, bank=bank)


def _make_encoder(config: TrainConfig) -> Encoder:
    if not config.encoder_weights:
        return make_encoder(config.encoder, **config.encoder_options)
    if getattr(registry().find("encoder", config.encoder).load(), "from_file", False):
        return make_encoder(config.encoder, weights=config.encoder_weights, **config.encoder_options)
    encoder = load_encoder(config.encoder_weights)
    if encoder.name != config.encoder:
        raise UsageError(
            f"{config.encoder_weights} holds an encoder {encoder.name!r}, not {config.encoder!r}; "
            f"choose encoder {encoder.name!r} or 'pretrained'"
        )
    return encoder


class Session(Material):
    """What one call of `train` works with; `trainer.py` holds the course of it."""

    def __init__(
        self, path: Path, config: TrainConfig, effect: Effect, on_event: OnEvent, stack: ExitStack
    ) -> None:
        self.path, self.config, self.on_event = path, config, on_event
        self.recorder = Recorder(config, path, self._event)
        stack.callback(self.recorder.end, "failed")
        self.began = time.monotonic()
        self.deadline = self.began + 60 * config.max_minutes * (1 - RESERVE)
        self.effect = effect
        self.device = _device(config.device)
        # Everything random below is seeded step by step; the caller's generator is left as it was.
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.manual_seed(config.seed)
        keep_memory()
        self.executor = stack.enter_context(
            open_executor(
                self.effect, config.executor, workers=config.workers or None, deadline=config.deadline
            )
        )
        self.usage = CoreUsage(self.executor)
        # A cluster's workers may be more than this machine has cores.
        own = min(self.executor.workers, len(os.sched_getaffinity(0)))
        self.cores = own if self.device.type == "cpu" else 1
        self.threads = stack.enter_context(ThreadPoolExecutor(self.cores, "dafxhost-training"))
        self.torch_threads = torch.get_num_threads()
        stack.callback(torch.set_num_threads, self.torch_threads)
        plain = make_source(config, "train")
        if config.data and config.corpus_share > 0:
            plain = MixedSource(plain, make_source(config.replace(data=""), "train"), config.corpus_share)
        self.source = self._augmented(plain) if config.augment else plain
        self.draws = make_draw(config.settings, self.executor, config.sample_rate, config.presets)
        self.validation_source = make_source(config, "validation")
        self.controller = Controller(
            _make_encoder(config),
            self.effect.parameters,
            hidden=config.hidden,
            depth=config.depth,
            dropout=config.dropout,
            bins=config.bins,
            sharpness=config.sharpness,
        ).to(self.device)
        if config.encoder_frozen:
            self.controller.encoder.freeze()
        self.frozen = self.controller.encoder.frozen
        self.scaler = precision.prepare(self.controller, config.precision, config.compile, self.device)
        self.group = Alone()
        self.card = runs.card_of(self.effect, self.controller, config.sample_rate, config.samples)
        self.card["data"] = plain.description
        self.objective = self._objective()
        self.judge = MultiResolutionSTFT().to(self.device)
        # What resuming restores, besides weights and optimiser. Counts of 0 are not decided yet.
        self.about: dict[str, Any] = {
            "phase": "supervised",
            "step": 0,
            "before": 0,
            "pool": config.pool,
            "pool_ready": False,
            "supervised_steps": config.supervised_steps,
            "end_to_end_steps": config.end_to_end_steps,
            "best": None,
            "last": None,
            "supervised": None,
            "untouched": None,
            "since_best": 0,
            "failures": 0,
        }
        self.optimiser = self._optimiser()
        self.gradients = GradientWatch(self.controller)
        self._found: dict[str, list[float]] = {}  # settings at the last validation
        self.consistent = True  # False while an update is half done: then no state is written
        self._supervised_batches: Batches | None = None
        self._pool: Pool | None = None
        self._validation: ExampleBatch | None = None
        self._validation_embedded: tuple[Tensor, Tensor] | None = None

    def _augmented(self, source: AudioSource) -> AudioSource:
        config = self.config
        if config.stretch_bank:
            source = StretchedSource(
                source, config.sample_rate, bank=config.stretch_bank, seed=mix(config.seed, 10),
                workers=config.workers or None,
            )  # fmt: skip
        return AugmentedSource(source, config.augmentations)

    def _objective(self) -> Objective:
        config = self.config
        excerpt = config.loss_samples if 0 < config.loss_samples < config.samples else 0
        loss = make_loss(
            config.loss,
            sample_rate=config.sample_rate,
            fft_sizes=config.fft_sizes,
            l1_weight=config.l1_weight,
        )
        return Objective(
            self.controller,
            self.executor,
            self._estimator(loss, excerpt or config.samples),
            loss.to(self.device),
            space=config.space,
            alternatives=config.alternatives,
            sample_rate=config.sample_rate,
            excerpt=excerpt,
            threads=self.threads,
        )

    def _estimator(self, loss: Any, samples: int) -> Estimator:
        config = self.config
        if config.estimator == "auto":
            choice = chosen(self.executor, loss, sample_rate=config.sample_rate, samples=samples)
            self.card["estimator"] = asdict(choice)
            return choice.make()
        options: dict[str, Any] = {"step": config.step}
        if config.estimator in ("spsa", "spsa-blocks"):
            options["directions"] = config.directions
        return make_estimator(config.estimator, **options)

    def _optimiser(self) -> torch.optim.AdamW:
        weights = [p for p in self.controller.parameters() if p.requires_grad]
        return torch.optim.AdamW(weights, lr=1.0, weight_decay=self.config.weight_decay)

    def _examples(self, source: AudioSource) -> Examples:
        config = self.config
        return Examples(
            source, self.executor, sample_rate=config.sample_rate, samples=config.samples,
            apply_probability=config.apply_probability, pairs=config.pairs, draws=self.draws,
        )  # fmt: skip

    def _embed(self, batch: ExampleBatch) -> tuple[Tensor, Tensor]:
        """Embeddings of the dry inputs and of the references; clips side by side if nothing is trained."""
        audio = torch.from_numpy(np.concatenate([batch.dry, batch.reference]))
        embed, rate = self.controller.embed, self.config.sample_rate
        if self.frozen and self.cores > 1:
            embedded = torch.cat(
                list(self.threads.map(lambda some: embed(some, rate), audio.split(TOGETHER)))
            )
        else:
            embedded = embed(audio, rate)
        return embedded[: len(batch)], embedded[len(batch) :]

    def _update(self, loss: Tensor) -> None:
        self.optimiser.zero_grad()
        self.scaler.scale(loss).backward()
        self.group.average(self.controller)  # still scaled, so that all see what overflowed anywhere
        self.scaler.unscale_(self.optimiser)
        if self.about["phase"] != "supervised":  # whose steps are too short for it
            self.gradients.look()
        self.norm = nn.utils.clip_grad_norm_(self.controller.parameters(), self.config.clip)
        self.consistent = False
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.about["step"] += 1
        self.consistent = True

    def _rate(self, peak: float, step: int, steps: int) -> None:
        """Rising over the first steps, then a half cosine down to a fiftieth."""
        done = min(step / steps, 1.0) if steps else 0.0
        factor = min(1.0, (step + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        for group in self.optimiser.param_groups:
            group["lr"] = peak * factor

    def _seed(self, *numbers: int) -> None:
        torch.manual_seed(mix(self.config.seed, *numbers))
        self.controller.train()

    # --- validation, checkpoints, events ------------------------------------------------------------------

    def _validate(self) -> float:
        """Mean MR-STFT on the validation examples, which are the same every time."""
        config = self.config
        if self._validation is None:
            examples = self._examples(self.validation_source)
            self._validation = examples.batch(mix(config.seed, 9), config.validation)
            if self.frozen:
                self._validation_embedded = self._embed(self._validation)
        made = self._validation
        self.controller.eval()
        with torch.no_grad():
            embedded = self._validation_embedded or self._embed(made)
            settings = self.controller.answer(*embedded).cpu().numpy()
        if self.about["untouched"] is None:
            untouched = score_settings(
                made, None, self.executor, self.judge, config.sample_rate, self.threads
            )
            self.about["untouched"] = float(np.nanmean(untouched))
        self._found = quantiles(settings, self.effect.parameters)
        self.recorder.validation(self._count(), made, settings, self.effect.parameters, self.executor)
        scores = score_settings(made, settings, self.executor, self.judge, config.sample_rate, self.threads)
        # Where every render failed there is nothing to praise.
        return float(np.nanmean(scores)) if np.isfinite(scores).any() else float("inf")

    def _epoch(self, phase: str, losses: list[float], timer: float, steps: int, stats: Any = None) -> None:
        """Validate, keep the best and the newest controller, write a line of the log."""
        about, seconds = self.about, time.monotonic() - timer
        busy = self.usage.take()
        value = self._validate()
        about["last"] = value
        better = about["best"] is None or value < about["best"]
        about["since_best"] = 0 if better else about["since_best"] + 1
        if better:
            about["best"] = value
            runs.save_controller(self.path, "best", self.controller, self._figures())
        runs.save_controller(self.path, "last", self.controller, self._figures())
        done = self.executor.stats - stats if stats is not None else None
        totals = {"supervised": about["supervised_steps"], "proxy": self.config.proxy_steps}
        total = totals.get(phase, about["end_to_end_steps"])
        entry = {
            "phase": phase, "step": about["step"], "steps": total, "batch": steps, "loss": _mean(losses),
            "validation": value, "best": about["best"], "untouched": about["untouched"],
            "rate": self.optimiser.param_groups[0]["lr"], "seconds": round(seconds, 3),
            "renders_per_second": done.renders / seconds if done else None,
            "audio_seconds_per_second": done.audio_seconds / seconds if done else None,
            "failures": about["failures"], "pool": about["pool"], "time_left": self._left(), **busy,
            "gradient_cosine": self.gradients.take(), "settings": self._found,
            "elapsed": round(time.monotonic() - self.began, 1),
        }  # fmt: skip
        runs.append_line(self.path / runs.LOG, entry)
        self.usage.take()  # validation is not part of the next epoch's steps
        self._event("epoch", **entry)

    def _figures(self) -> dict[str, Any]:
        about = self.about
        keys = ("phase", "step", "pool", "supervised_steps", "end_to_end_steps", "failures")
        figures = {k: about[k] for k in keys}
        figures |= {"validation_mrstft": about.get("last"), "untouched_mrstft": about["untouched"]}
        return {**self.card, "figures": figures}

    def _save_state(self) -> None:
        tensors = {f"controller.{k}": v for k, v in runs.tensors_of(self.controller).items()}
        for number, state in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{k}": v.detach().cpu().clone() for k, v in state.items()}
        runs.save_state(self.path / runs.STATE, tensors, self.about)

    def restore(self, tensors: dict[str, Tensor], about: dict[str, Any]) -> None:
        """Take up what `_save_state` kept. Raises RunError if it does not fit this effect and encoder."""
        where = self.path / runs.STATE
        weights = {
            k.removeprefix("controller."): v for k, v in tensors.items() if k.startswith("controller.")
        }
        runs.load_weights(self.controller, weights, where)
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith("optimiser."):
                _, number, name = key.split(".")
                state.setdefault(int(number), {})[name] = value
        kept = self.optimiser.state_dict()
        self.optimiser.load_state_dict({**kept, "state": state})
        self.about.update(about)

    def _interrupted(self) -> None:
        """Ctrl-C: keep the newest weights, and the state if no update was half done."""
        about = self.about
        trained = about["phase"] != "supervised" or about["step"] > 0
        if trained:
            runs.save_controller(self.path, "last", self.controller, self._figures())
        if trained and self.consistent:
            self._save_state()
        self._ended("interrupted")

    def _ended(self, reason: str) -> None:
        figures = {k: self.about[k] for k in ("best", "supervised", "untouched", "failures")}
        seconds = time.monotonic() - self.began
        self._event("end", run=str(self.path), reason=reason, seconds=seconds, **figures)

    def _left(self) -> float:
        return max(0.0, round(self.deadline - time.monotonic(), 1))

    def _count(self) -> int:
        """Steps done in all phases."""
        return self.about["before"] + self.about["step"]

    def _event(self, event: str, **values: Any) -> None:
        if event == "start":
            self.recorder.start(self._count(), resumed=self._count() > 0)
        elif event == "step" and self.recorder.active:
            more = {"rate": self.optimiser.param_groups[0]["lr"], "gradient_norm": float(self.norm)}
            self.recorder.step(self._count(), {**values, **more, "gradient_cosine": self.gradients.cosine})
        elif event == "epoch":
            self.recorder.epoch(self._count(), values)
        elif event == "end":
            self.recorder.end(values["reason"])
        self.on_event({"event": event, **values})


def _mean(values: list[float]) -> float | None:
    return float(np.nanmean(values)) if values and np.isfinite(values).any() else None


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"unknown device {name!r}; use cpu, cuda or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("device 'cuda' was asked for, but torch finds no CUDA device here; use cpu")
    return device
