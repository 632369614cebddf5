"""Training a controller: supervised on settings that are known, then end to end through the plugin.

Read `train` from top to bottom. The three stages and what they cost are fixed one after the other: how many
examples the pool gets, how many supervised steps, how many end-to-end steps. Where the config leaves that
open (0), the measured speed and `max_minutes` decide, and what was decided is kept in the run. From then on
every random draw depends on the seed and the step's number alone, so a resumed run goes on with the numbers
it would have had.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.chains import canonical
from dafxhost.data.examples import ExampleBatch
from dafxhost.data.stream import ExampleStream
from dafxhost.effects import Effect
from dafxhost.errors import OutputError, RunError, UsageError
from dafxhost.registry import effect as find_effect
from dafxhost.tracking import make_trackers
from dafxhost.training import distributed, runs
from dafxhost.training.config import TrainConfig
from dafxhost.training.proxy_phase import proxy_phase
from dafxhost.training.session import OnEvent, Session, mix
from dafxhost.training.uncertainty import calibrate_run

SLOW_STEPS, MEASURED = 2, 20
"""First steps, which are slower than the rest, and those whose speed then decides how many there will be."""


@dataclass(frozen=True)
class TrainResult:
    """What training left.

    Attributes:
        run: the run folder. reason: "finished", "max_minutes", "patience".
        validation: lowest mean MR-STFT on the validation examples; supervised: that of the supervised phase
            alone; untouched: that of the input left alone.
        steps: end-to-end steps done. seconds: of this call.
    """

    run: Path
    reason: str
    validation: float
    supervised: float
    untouched: float
    steps: int
    seconds: float


def train(
    config: TrainConfig | None = None,
    *,
    resume: str | Path | None = None,
    run_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    on_event: OnEvent | None = None,
) -> TrainResult:
    """Train a controller; see the module's text.

    Args:
        config: what to train (`TrainConfig()` by default). With `resume` it is read from the run; only a
            config given here as well replaces `max_minutes`, `workers`, `device` and `track`.
        resume: a run folder to carry on with. run_dir: a new run folder (by default one in `runs_dir`).
        on_event: called with dictionaries {"event": "start" | "pool" | "step" | "epoch" | "tracker" |
            "end", ...}; "tracker" says that one failed, and why.

    Returns:
        What was reached. The run folder holds a usable controller.

    Raises:
        UsageError, UnknownNameError, EffectUnavailableError, AudioFileError, RunError, OutputError: nothing
            was trained. KeyboardInterrupt: after checkpoints were written.
    """
    if distributed.several():
        return distributed.train_together(config, resume, run_dir, runs_dir, on_event)
    return train_one(config, resume, run_dir, runs_dir, on_event, distributed.Alone())


def train_one(
    config: TrainConfig | None,
    resume: str | Path | None,
    run_dir: str | Path | None,
    runs_dir: str | Path,
    on_event: OnEvent | None,
    group: distributed.Alone,
) -> TrainResult:
    """`train` as one process of a group."""
    path, config, effect, state = _open_run(config, resume, run_dir, runs_dir)
    with ExitStack() as stack:
        try:
            training = _Training(path, config, effect, on_event or (lambda event: None), stack)
            training.group = group
        except BaseException:
            if resume is None:
                _discard(path, made=run_dir is None)
            raise
        if state is not None:
            training.restore(*state)
        return training.run()


def _open_run(
    config: TrainConfig | None, resume: str | Path | None, run_dir: str | Path | None, runs_dir: str | Path
) -> tuple[Path, TrainConfig, Effect, tuple[dict[str, Tensor], dict[str, Any]] | None]:
    """The run's folder, its config, its effect, and the state to go on from if there is one."""
    if resume is None:
        config = config or TrainConfig()
        effect = find_effect(config.effect, config.provider or None)  # unknown: no folder is left behind
        make_trackers(config.track)  # and so is what a tracker lacks
        config = config.replace(effect=canonical(config.effect))  # a chain's file may change
        path = runs.new_run(config.effect, runs_dir) if run_dir is None else _make(Path(run_dir))
        runs.write_file(path / runs.CONFIG, config.to_toml().encode())
        return path, config, effect, None
    path = Path(resume)
    if not (path / runs.CONFIG).is_file():
        raise RunError(f"there is no run to resume in {path}: it has no {runs.CONFIG}")
    kept = TrainConfig.from_toml(path / runs.CONFIG)
    if config is not None:
        kept = kept.replace(
            max_minutes=config.max_minutes, workers=config.workers, device=config.device, track=config.track
        )
    state = runs.load_state(path / runs.STATE) if (path / runs.STATE).is_file() else None
    return path, kept, find_effect(kept.effect, kept.provider or None), state


def _make(path: Path) -> Path:
    if (path / runs.CONFIG).exists():
        raise UsageError(f"{path} already holds a run; resume it, or choose another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the run folder {path}: {error.strerror}") from error
    return path


def _discard(path: Path, made: bool) -> None:
    """Remove a run that was refused: there is nothing in it but its config. `made`: the folder, too."""
    with suppress(OSError):
        (path / runs.CONFIG).unlink(missing_ok=True)
        if made:
            path.rmdir()


class _Pace:
    """How long a step takes, once enough of them are done to tell."""

    def __init__(self) -> None:
        self._steps, self._start = 0, 0.0

    def step(self) -> float | None:
        """Note a step -> seconds a step, or None as long as that is not known."""
        self._steps += 1
        now, counted = time.monotonic(), self._steps - SLOW_STEPS
        if counted == 0:
            self._start = now
        return (now - self._start) / counted if counted >= MEASURED else None


class _Training(Session):
    """One call of `train`."""

    def run(self) -> TrainResult:
        self._event(
            "start", run=str(self.path), effect=self.effect.name, provider=self.effect.provider.name,
            data=self.card["data"], device=str(self.device), workers=self.executor.workers,
            encoder=self.controller.encoder.name, minutes=self.config.max_minutes, seed=self.config.seed,
        )  # fmt: skip
        try:
            reason = self._supervised() if self.about["phase"] == "supervised" else ""
            if not reason and self.about["phase"] == "proxy":
                self._proxy()
            if not reason:
                reason = self._end_to_end()
        except KeyboardInterrupt:
            self._interrupted()
            raise
        self._save_state()
        if self._validation is not None:
            calibrate_run(runs.load_run(self.path), self._validation)
        if not self.config.keep_pool:
            (self.path / runs.POOL).unlink(missing_ok=True)
        seconds = time.monotonic() - self.began
        result = TrainResult(
            self.path, reason, self.about["best"], self.about["supervised"], self.about["untouched"],
            self.about["step"], seconds,
        )  # fmt: skip
        self._ended(reason)
        return result

    def _supervised(self) -> str:
        """Cross-entropy with the settings that made the references. Returns why training must end, or ""."""
        config, about = self.config, self.about
        batches = self._batches()
        self.group.same(self.controller)
        # A small network gains little from a second thread, and loses much where the cores are busy.
        torch.set_num_threads(1 if self.frozen and self.device.type == "cpu" else self.torch_threads)
        ends = self.began + 60 * config.max_minutes * (config.pool_share + config.supervised_share)
        timer, losses, first, pace = time.monotonic(), [], about["step"], _Pace()
        while not about["supervised_steps"] or about["step"] < about["supervised_steps"]:
            step = about["step"]
            self._seed(1, step)
            dry, reference, settings = batches(step)
            self._rate(config.supervised_rate, step, about["supervised_steps"])
            loss = self.controller.supervised_loss(self.controller(dry, reference), settings)
            self._update(loss)
            losses.append(float(loss.detach()))
            each = pace.step()
            if not about["supervised_steps"] and each is not None:
                left = max(ends - time.monotonic(), 0.05 * (self.deadline - self.began))
                about["supervised_steps"] = self.group.agree(max(about["step"] + 1, int(left / each)))
            if about["step"] % 20 == 0:
                self._event("step", phase="supervised", step=about["step"], steps=about["supervised_steps"],
                            loss=float(np.mean(losses[-50:])), time_left=self._left())  # fmt: skip
            if self.group.any(time.monotonic() > self.deadline):
                break
            if about["step"] % 500 == 0:
                self._save_state()
        self._epoch("supervised", losses, timer, about["step"] - first)
        about["supervised"] = about["last"]
        runs.save_controller(self.path, "supervised", self.controller, self._figures())
        self._next_phase("proxy")
        return ""

    def _proxy(self) -> None:
        proxy_phase(self)
        self._next_phase("end-to-end")

    def _next_phase(self, phase: str) -> None:
        """Begin a phase, from the best controller so far."""
        about = self.about
        about.update(phase=phase, before=about["before"] + about["step"], step=0, since_best=0)
        runs.load_best(self.path, self.controller)
        self.group.same(self.controller)
        self.optimiser = self._optimiser()
        self._save_state()

    def _end_to_end(self) -> str:
        """The loss of what the plugin makes of the settings. Returns why training ended."""
        config, about = self.config, self.about
        torch.set_num_threads(1 if self.cores > 1 else self.torch_threads)
        losses: list[float] = []
        timer, since, pace = time.monotonic(), about["step"], _Pace()
        stats = self.executor.stats
        self.usage.take()
        if about["end_to_end_steps"] and about["step"] >= about["end_to_end_steps"]:
            return "finished"  # a run that had ended: its pool is gone
        with self._fresh_batches() as fresh:
            while not about["end_to_end_steps"] or about["step"] < about["end_to_end_steps"]:
                step = about["step"]
                if self.group.any(time.monotonic() > self.deadline):
                    return self._finish("max_minutes", losses, timer, about["step"] - since)
                batch, dry, reference = fresh(step)
                self._seed(3, step)
                self._rate(config.rate, step, about["end_to_end_steps"])
                logits = self.controller(dry, reference)
                generator = torch.Generator().manual_seed(mix(config.seed, 4, step))
                surrogate, values = self.objective(
                    logits, batch, generator, np.random.default_rng([config.seed, 5, step]), (dry, reference)
                )
                about["failures"] += int((~values.isfinite()).sum())
                if config.anchor and self.frozen:
                    dry, reference, settings = self._batches()(about["supervised_steps"] + step)
                    entropy = self.controller.supervised_loss(self.controller(dry, reference), settings)
                    surrogate = surrogate + config.anchor * entropy
                self._update(surrogate)
                losses.append(float(values.nanmean()))
                each = pace.step()
                if not about["end_to_end_steps"] and each is not None:
                    # Validations take their share, and the machine may get slower.
                    left = max(self.deadline - time.monotonic(), 0.0) / 1.15
                    about["end_to_end_steps"] = self.group.agree(about["step"] + max(1, int(left / each)))
                now, taken = self.executor.stats - stats, max(time.monotonic() - timer, 1e-9)
                self._event("step", phase="end-to-end", step=about["step"], steps=about["end_to_end_steps"],
                            loss=float(np.nanmean(losses[-config.epoch_steps:])), time_left=self._left(),
                            renders_per_second=now.renders / taken,
                            audio_seconds_per_second=now.audio_seconds / taken)  # fmt: skip
                if about["step"] % config.epoch_steps == 0:
                    self._epoch("end-to-end", losses, timer, about["step"] - since, stats)
                    timer, since, stats, losses = time.monotonic(), about["step"], self.executor.stats, []
                    self._save_state()
                    if config.patience and about["since_best"] >= config.patience:
                        return "patience"
        return self._finish("finished", losses, timer, about["step"] - since)

    @contextmanager
    def _fresh_batches(self) -> Iterator[Callable[[int], tuple[ExampleBatch, Tensor, Tensor]]]:
        """What gives each step of the end-to-end phase its examples, and the embeddings of their clips."""
        config, seed = self.config, mix(self.config.seed, 2)
        if self.pooled:
            pool = self.pool()

            def pooled(step: int) -> tuple[ExampleBatch, Tensor, Tensor]:
                rng = np.random.default_rng([seed, step])
                batch, dry, reference = pool.batch(rng, config.batch, config.apply_probability)
                return batch, dry.to(self.device), reference.to(self.device)

            yield pooled
            return
        examples = self._examples(self.source)
        with ExampleStream(examples, config.batch, seed, start=self.about["step"], ahead=2) as stream:

            def streamed(step: int) -> tuple[ExampleBatch, Tensor, Tensor]:
                batch = next(stream)
                # A trained encoder's dropout is seeded by the step.
                self._seed(3, step)
                return batch, *self._embed(batch)

            yield streamed

    def _finish(self, reason: str, losses: list[float], timer: float, steps: int) -> str:
        if steps:
            self._epoch("end-to-end", losses, timer, steps)
        return reason
