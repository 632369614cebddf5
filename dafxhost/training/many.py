"""One controller for several effects.

The effects share encoder and body. What tells the body which effect it works for is a vector of its own added
to the first layer (an effect embedding: with it, the first layer's bias), and each effect has its own head.
So every effect's part is an ordinary `Controller` whose tensors are partly the very same as the others', and
is kept as an ordinary run: RUN/effects/NAME. There `transfer`, `evaluate` and everything else find it; what
is shared is written once an effect.

Training goes as for one effect (`trainer.py`), the effects taking turns step by step: supervised on pools of
all effects, then end to end. One optimiser moves what is shared. It cannot be resumed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dafxhost.chains import canonical
from dafxhost.data.stream import ExampleStream
from dafxhost.errors import OutputError, UsageError
from dafxhost.registry import effect as find_effect
from dafxhost.run_folders import MANY, MEMBERS
from dafxhost.training import runs
from dafxhost.training.config import TrainConfig
from dafxhost.training.controller import Controller
from dafxhost.training.session import RESERVE, OnEvent, Session, mix
from dafxhost.training.uncertainty import calibrate_run

SLOW_ROUNDS, MEASURED = 2, 10
"""First rounds, which are slower, and those whose speed then decides how many there will be."""


@dataclass(frozen=True)
class ManyResult:
    """What training left.

    Attributes:
        run: the run folder. seconds: that it took. rounds: end-to-end steps of each effect.
        effects: name -> {"validation", "supervised", "untouched"}, mean MR-STFT on its validation examples.
    """

    run: Path
    seconds: float
    rounds: int
    effects: dict[str, dict[str, float]]


def share(controllers: Sequence[Controller]) -> None:
    """Make controllers of several effects share encoder, standardisation and body, all but the first layer's
    bias and the heads.

    Raises:
        UsageError: they were made with different encoders or options.
    """
    first = controllers[0]
    for other in controllers[1:]:
        same = first.encoder.config() == other.encoder.config() and first.config() == other.config()
        if first.encoder.pair_size:
            raise UsageError(
                f"encoder {first.encoder.name} describes pairs for one effect; controllers that share a body "
                "need one of single clips, such as style-statistics"
            )
        if first.encoder.name != other.encoder.name or not same:
            raise UsageError("controllers that share a body need one encoder and the same options")
        other.encoder = first.encoder
        other.mean, other.scale = first.mean, first.scale
        for place, (kept, given) in enumerate(zip(other.body, first.body, strict=True)):
            if place == _first_layer(first):
                _linear(kept).weight = _linear(given).weight
            else:
                other.body[place] = given


def _first_layer(controller: Controller) -> int:
    return next(i for i, layer in enumerate(controller.body) if isinstance(layer, nn.Linear))


def _linear(layer: nn.Module) -> nn.Linear:
    """`layer`, known to be linear. Raises UsageError."""
    if not isinstance(layer, nn.Linear):
        raise UsageError(f"the body's first layer is a {type(layer).__name__}, not linear")
    return layer


def shared_weights(controllers: Sequence[Controller]) -> list[nn.Parameter]:
    """All trainable tensors of the controllers, each once."""
    found = {id(p): p for c in controllers for p in c.parameters() if p.requires_grad}
    return list(found.values())


def train_many(
    config: TrainConfig | None,
    effects: Sequence[str],
    *,
    run_dir: str | Path | None = None,
    runs_dir: str | Path = "runs",
    on_event: OnEvent | None = None,
) -> ManyResult:
    """Train one controller for several effects.

    Args:
        config: as for one effect; its `effect` is not used. `max_minutes` is for all of them; `pool`,
            `supervised_steps`, `end_to_end_steps` and `validation` are each effect's.
        effects: names, at least two.
        run_dir, runs_dir, on_event: see `trainer.train`; every event also names its "effect".

    Raises:
        UsageError: fewer than two effects, or one twice. Besides, what `trainer.train` raises.
    """
    config = config or TrainConfig()
    names = [canonical(name) for name in effects]
    if len(set(names)) < max(2, len(names)):
        raise UsageError(f"one controller for many effects needs two or more different ones, not {names}")
    found = [find_effect(name, config.provider or None) for name in names]  # unknown: no folder is made
    path = runs.new_run("-".join(names), runs_dir) if run_dir is None else _make(Path(run_dir))
    began = time.monotonic()
    with ExitStack() as stack:
        members = []
        for name, effect in zip(names, found, strict=True):
            folder = member_folder(path, name)
            folder.mkdir(parents=True)
            own = config.replace(effect=name, max_minutes=config.max_minutes / len(names))
            runs.write_file(folder / runs.CONFIG, own.to_toml().encode())
            members.append(Session(folder, own, effect, _named(on_event, name), stack))
        about = {"format": 1, "effects": {n: member_folder(Path(MEMBERS), n).name for n in names}}
        runs.write_file(path / MANY, (json.dumps(about, indent=2) + "\n").encode())
        return _Many(path, config, members, began).run()


def member_folder(path: Path, name: str) -> Path:
    """Where the part of an effect lies in a run of many."""
    return path / MEMBERS / "".join(c if c.isalnum() or c in "-_." else "-" for c in name)


def _make(path: Path) -> Path:
    if (path / runs.CONFIG).exists() or (path / MANY).exists():
        raise UsageError(f"{path} already holds a run; choose another folder")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the run folder {path}: {error.strerror}") from error
    return path


def _named(on_event: OnEvent | None, name: str) -> OnEvent:
    return lambda event: None if on_event is None else on_event({**event, "effect": name})


class _Many:
    """One call of `train_many`."""

    def __init__(self, path: Path, config: TrainConfig, members: list[Session], began: float) -> None:
        self.path, self.config, self.members, self.began = path, config, members, began
        self.deadline = began + 60 * config.max_minutes * (1 - RESERVE)
        self.controllers = [m.controller for m in members]
        share(self.controllers)
        for member in members:
            member.frozen = member.controller.encoder.frozen

    def run(self) -> ManyResult:
        for m in self.members:
            m._event("start", run=str(self.path), provider=m.effect.provider.name, data=m.card["data"],
                     device=str(m.device), workers=m.executor.workers, encoder=m.controller.encoder.name,
                     minutes=self.config.max_minutes, seed=self.config.seed)  # fmt: skip
        self._supervised()
        rounds = self._end_to_end()
        figures = {}
        for m in self.members:
            figures[m.effect.name] = {
                "validation": m.about["best"],
                "supervised": m.about["supervised"],
                "untouched": m.about["untouched"],
            }
            for left in (runs.POOL, runs.STATE):  # a part alone cannot be resumed
                (m.path / left).unlink(missing_ok=True)
            if m._validation is not None:
                calibrate_run(runs.load_run(m.path), m._validation)
            m._ended("finished")
        return ManyResult(self.path, time.monotonic() - self.began, rounds, figures)

    def _optimise(self) -> None:
        """A new optimiser, one for all: an effect's step leaves the other heads, without gradient, alone."""
        optimiser = torch.optim.AdamW(shared_weights(self.controllers), lr=1.0, weight_decay=1e-2)
        for member in self.members:
            member.optimiser = optimiser

    def _supervised(self) -> None:
        batches = []
        for m in self.members:
            m.began = time.monotonic()  # each pool has its own share of the time
            batches.append(m._batches())
        if self.members[0].frozen:
            self._standardise()
        self._optimise()
        seconds = 60 * self.config.max_minutes * self.config.supervised_share
        losses: list[list[float]] = [[] for _ in self.members]
        timer = time.monotonic()
        for step, steps in self._rounds(self.config.supervised_steps, seconds):
            for number, m in enumerate(self.members):
                m._seed(1, step, number)
                dry, reference, settings = batches[number](step)
                m._rate(self.config.supervised_rate, step, steps)
                loss = m.controller.supervised_loss(m.controller(dry, reference), settings)
                m._update(loss)
                losses[number].append(float(loss.detach()))
        for m, own in zip(self.members, losses, strict=True):
            m.about["supervised_steps"] = m.about["step"]
            m._epoch("supervised", own[-50:], timer, m.about["step"])
            m.about["supervised"] = m.about["last"]
            runs.save_controller(m.path, "supervised", m.controller, m._figures())
            m.about.update(phase="end-to-end", step=0, since_best=0)

    def _standardise(self) -> None:
        """By the embeddings of all effects, not of the one whose pool was made last."""
        pools = [m.pool() for m in self.members]
        together = [part[:4096].float() for pool in pools for part in (pool.dry, pool.reference)]
        self.controllers[0].standardise(torch.cat(together).to(self.members[0].device))

    def _end_to_end(self) -> int:
        config, rounds = self.config, 0
        with ExitStack() as stack:
            streams = [
                stack.enter_context(
                    ExampleStream(m._examples(m.source), config.batch, mix(config.seed, 2, n), ahead=1)
                )
                for n, m in enumerate(self.members)
            ]
            self._optimise()
            losses: list[list[float]] = [[] for _ in self.members]
            timer, since = time.monotonic(), 0
            seconds = (self.deadline - time.monotonic()) / 1.15
            for step, steps in self._rounds(config.end_to_end_steps, seconds):
                for number, (m, stream) in enumerate(zip(self.members, streams, strict=True)):
                    losses[number].append(self._step(m, next(stream), number, step, steps))
                rounds = step + 1
                if rounds % config.epoch_steps == 0:
                    self._epoch(losses, timer, rounds - since)
                    timer, since, losses = time.monotonic(), rounds, [[] for _ in self.members]
            if rounds > since:
                self._epoch(losses, timer, rounds - since)
        return rounds

    def _step(self, m: Session, batch: object, number: int, step: int, steps: int) -> float:
        config = self.config
        m._seed(3, step, number)
        m._rate(config.rate, step, steps)
        logits = m.controller(*m._embed(batch))  # pyright: ignore[reportArgumentType]
        generator = torch.Generator().manual_seed(mix(config.seed, 4, step, number))
        rng = np.random.default_rng([config.seed, 5, step, number])
        surrogate, values = m.objective(logits, batch, generator, rng)  # pyright: ignore[reportArgumentType]
        m.about["failures"] += int((~values.isfinite()).sum())
        if config.anchor and m.frozen:
            surrogate = surrogate + config.anchor * self._anchor(m, step)
        m._update(surrogate)
        m._event("step", phase="end-to-end", step=step + 1, steps=steps, loss=float(values.nanmean()),
                 time_left=max(0.0, round(self.deadline - time.monotonic(), 1)))  # fmt: skip
        return float(values.nanmean())

    def _anchor(self, m: Session, step: int) -> Tensor:
        dry, reference, settings = m._batches()(m.about["supervised_steps"] + step)
        return m.controller.supervised_loss(m.controller(dry, reference), settings)

    def _epoch(self, losses: list[list[float]], timer: float, steps: int) -> None:
        for m, own in zip(self.members, losses, strict=True):
            m._epoch("end-to-end", own, timer, steps)

    def _rounds(self, wanted: int, seconds: float) -> Iterator[tuple[int, int]]:
        """Numbers of rounds, with how many there will be: `wanted`, or as many as fit; 0 while not known."""
        begun, start, step = time.monotonic(), 0.0, 0
        steps = wanted
        while not steps or step < steps:
            if time.monotonic() > self.deadline and step:
                return
            yield step, steps
            step += 1
            if step == SLOW_ROUNDS:
                start = time.monotonic()
            if not steps and step == SLOW_ROUNDS + MEASURED:
                each = (time.monotonic() - start) / MEASURED
                left = seconds - (time.monotonic() - begun)
                steps = step + max(1, int(left / each))
