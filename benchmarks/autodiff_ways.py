"""Ways to the gradient of a loss with respect to the settings of `eq-compressor`: automatic, and estimated.

All take the settings that a controller gave and give each example's loss and gradient, so that what trains
the controller is the same code for all. Estimates see the effect as a black box: `render` is all they call.
Examples are worked on one at a time: the spectra of one fit in the processor's cache, which is the quickest
for all ways.
"""

from __future__ import annotations

import argparse
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from autodiff_sets import RATE, Set
from torch import Tensor, nn

from dafxhost.estimators.base import Estimator, Plan, divide
from dafxhost.estimators.spsa import SPSA
from dafxhost.losses import TransferLoss
from dafxhost_effects.eq_compressor import PARAMETERS
from dafxhost_effects.torch_effects.eq_compressor import eq_compressor, spectrum

AUTODIFF, THEIRS = "autodiff", "deepafx-st"
SUPERVISED = "supervised-coordinates-6"
WAYS = {
    AUTODIFF: "backward through loss and effect",
    THEIRS: "DeepAFx-ST's SPSA: signal space, one direction",
    "coordinates-6": "ours: signal space, 6 random coordinates",
    "coordinates-3": "ours: signal space, 3 random coordinates",
    "coordinates-12": "ours: signal space, 12 random coordinates",
    "loss-coordinates-4": "ours: loss space, 4 random coordinates",
    "loss-spsa-2": "ours: loss space, SPSA of 2 directions",
    SUPERVISED: "ours after a supervised start (not an equal start)",
}
"""What can be trained, and what tables call it."""


class TorchBox:
    """The torch effect as a black box, in this process: `[1, C, T]` and settings `[K, P]` -> `[K, C, T]`."""

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate

    @torch.no_grad()
    def render(self, dry: Tensor, settings: Tensor) -> Tensor:
        rows = settings.clamp(0.0, 1.0)
        shared = spectrum(dry, self.sample_rate)  # of all settings on this clip
        return torch.cat([eq_compressor(dry, row, self.sample_rate, shared) for row in rows.split(2)])


class RandomCoordinates(Estimator):
    """Forward differences of `count` parameters of each example, drawn without replacement.

        g_i = (P / count) (y(u + c e_i) - y(u)) / c   for the drawn i, else 0

    Unbiased over the draw, to order c. Unlike SPSA's, the noise of a parameter's estimate comes from its own
    derivative alone (relative variance P / count - 1), not from those of all others (P - 1 a direction).
    Draws are spread over a batch: P successive ones of its examples' hold every parameter once.

    Args:
        step: c, on 0..1. count: parameters moved, of each example; no more than there are.
    """

    def __init__(self, step: float = 0.01, count: int = 8) -> None:
        super().__init__(step)
        self.count = count

    def renders(self, parameters: int, *, base: bool) -> int:
        return min(self.count, parameters) + 1

    def perturb(
        self,
        settings: Tensor,
        *,
        base: bool = False,
        steps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        centre, step = self._start(settings, steps)
        batch, parameters = centre.shape
        count = min(self.count, parameters)
        rounds = -(-batch * count // parameters)
        deck = torch.cat([torch.randperm(parameters, generator=generator) for _ in range(rounds + 1)])
        rows = [self._dealt(deck, i * count, count) for i in range(batch)]
        chosen = torch.stack(rows) if rows else torch.zeros(0, count, dtype=torch.long)
        up = (centre + step <= 1.0) | (centre <= 0.5)
        moved = torch.where(up, centre + step, centre - step).clamp(0.0, 1.0)
        columns = centre.unsqueeze(1).repeat(1, count + 1, 1)
        columns[:, 1:].scatter_(2, chosen.unsqueeze(2), moved.gather(1, chosen).unsqueeze(2))
        distances = columns[:, 1:] - columns[:, :1]
        return Plan(columns, True, distances)

    @staticmethod
    def _dealt(deck: Tensor, start: int, count: int) -> Tensor:
        """`count` different cards from `start` on."""
        hand: list[int] = []
        for card in deck[start:].tolist():
            if card not in hand:
                hand.append(card)
            if len(hand) == count:
                break
        return torch.tensor(hand)

    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        values = self._values(plan, values)
        difference = values[:, 1:] - values[:, :1]
        failed = difference.isnan()
        self._count(failed)
        parameters, count = plan.settings.shape[2], difference.shape[1]
        alive = (~failed).sum(dim=1, keepdim=True).clamp(min=1)
        total = divide(difference.unsqueeze(2), plan.distances).sum(dim=1)
        return total * (parameters / alive if count < parameters else 1.0)


class Way(ABC):
    """One way; `renders` of an example a step, beside those that autograd goes back through."""

    renders = 0

    def __init__(self, loss: TransferLoss) -> None:
        self.loss = loss

    @abstractmethod
    def __call__(
        self, dry: Tensor, target: Tensor, settings: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Dry and target `[B, 1, T]`, settings `[B, P]` -> losses `[B]` and gradients `[B, P]`."""


class Autodiff(Way):
    """Backward through the loss and the torch effect."""

    def __init__(self, loss: TransferLoss, sample_rate: int) -> None:
        super().__init__(loss)
        self.sample_rate = sample_rate

    def __call__(
        self, dry: Tensor, target: Tensor, settings: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        losses, gradients = [], []
        for x, y, u in zip(dry.split(1), target.split(1), settings.detach().split(1), strict=True):
            wanted = self.loss.prepare(y)
            u = u.clone().requires_grad_()
            value = self.loss.distance(eq_compressor(x, u, self.sample_rate)[:, None], wanted)
            gradients.append(torch.autograd.grad(value.sum(), u)[0])
            losses.append(value.detach()[:, 0])
        return torch.cat(losses), torch.cat(gradients)


class Estimated(Way):
    """An estimator in signal space (`PluginLayer`'s way) or in loss space (`PluginLoss`'s).

    Args:
        box: renders. estimator: plans and combines. space: "signal" or "loss".
    """

    def __init__(self, loss: TransferLoss, box: Any, estimator: Estimator, space: str) -> None:
        super().__init__(loss)
        self.renders = estimator.renders(len(PARAMETERS), base=True)
        self.box, self.estimator, self.space = box, estimator, space

    def __call__(
        self, dry: Tensor, target: Tensor, settings: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        plan = self.estimator.perturb(settings, base=True, generator=generator)
        losses, values = [], []
        for x, y, rows in zip(dry.split(1), target.split(1), plan.settings, strict=True):
            loss, one = self._values(self.box.render(x, rows), self.loss.prepare(y))
            losses.append(loss)
            values.append(one)
        return torch.stack(losses), self.estimator.gradient(plan, torch.stack(values)).to(settings)

    def _values(self, renders: Tensor, target: Any) -> tuple[Tensor, Tensor]:
        """Renders `[K, C, T]`, the first unperturbed -> its loss, and what the estimator combines, `[K]`."""
        if self.space == "loss":
            values = self.loss.distance(renders[None], target)[0]
            return values[0], values
        base = renders[:1].clone().requires_grad_()
        loss = self.loss.distance(base[:, None], target).sum()
        slope = torch.autograd.grad(loss, base)[0].flatten()
        # Differences first: float32 is enough for them, and for their product with the slope.
        return loss.detach(), (renders - renders[:1]).flatten(1) @ slope


def new_way(name: str, loss: TransferLoss, o: argparse.Namespace) -> Way:
    """One of `WAYS`."""
    box, count = TorchBox(RATE), int(name.rpartition("-")[2]) if name[-1].isdigit() else 0
    if name == AUTODIFF:
        return Autodiff(loss, RATE)
    if name == THEIRS:
        return Estimated(loss, box, SPSA(o.their_epsilon, 1), "signal")
    if name.startswith("loss-spsa"):
        return Estimated(loss, box, SPSA(o.loss_move, count), "loss")
    if name.startswith("loss-coordinates"):
        return Estimated(loss, box, RandomCoordinates(o.loss_move, count), "loss")
    return Estimated(loss, box, RandomCoordinates(o.move, count), "signal")


# ---- training by one of them


@dataclass
class Training:
    """One controller on its way.

    Attributes:
        seconds, cpu: of each step, wall and processor. validation, test: held-out losses `[N]` by step.
    """

    name: str
    rate: float
    way: Way
    controller: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    validation: dict[int, np.ndarray] = field(default_factory=dict)
    test: dict[int, np.ndarray] = field(default_factory=dict)


def new_controller(features: int, hidden: int, seed: int) -> nn.Module:
    """`[B, features]` -> settings `[B, 24]` on 0..1; the same for everybody who gives this seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(features, hidden), nn.LayerNorm(hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU(),
            nn.Linear(hidden, len(PARAMETERS)), nn.Sigmoid(),
        )  # fmt: skip


def supervise(controller: nn.Module, data: Set, steps: int, seed: int) -> None:
    """Regression of the settings that made the references; renders nothing."""
    order = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(controller.parameters(), lr=1e-3)
    for _ in range(steps):
        rows = torch.randint(len(data), (64,), generator=order)
        error = (controller(data.features[rows]) - data.settings[rows]).square().mean()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()


def start(way: Way, name: str, rate: float, data: Set, o: argparse.Namespace, seed: int) -> Training:
    controller = new_controller(data.features.shape[1], o.hidden, seed)
    if name == SUPERVISED:
        supervise(controller, data, o.supervised, seed)
    optimiser = torch.optim.Adam(controller.parameters(), lr=rate)
    return Training(name, rate, way, controller, optimiser, torch.Generator().manual_seed(seed))


def step(training: Training, data: Set, rows: Tensor, samples: int) -> None:
    """One step of one training on the first `samples` of its clips; gradients are clipped at norm 1."""
    wall, cpu = time.perf_counter(), time.process_time()
    settings = training.controller(data.features[rows])
    audio = (x[rows, :, :samples] for x in (data.dry, data.target))
    _, gradient = training.way(*audio, settings.detach(), training.generator)
    training.optimiser.zero_grad()
    settings.backward(gradient / len(rows))
    nn.utils.clip_grad_norm_(training.controller.parameters(), 1.0)
    training.optimiser.step()
    training.seconds.append(time.perf_counter() - wall)
    training.cpu.append(time.process_time() - cpu)


@torch.no_grad()
def held_out(controller: nn.Module | None, data: Set, loss: TransferLoss) -> np.ndarray:
    """Losses `[N]` over whole clips and all resolutions; None: of the input left alone."""
    box, out = TorchBox(RATE), []
    settings = None if controller is None else controller(data.features)
    for i, (x, y) in enumerate(zip(data.dry.split(1), data.target.split(1), strict=True)):
        wet = x if settings is None else box.render(x, settings[i : i + 1])
        out.append(float(loss.distance(wet[:, None], loss.prepare(y))))
    return np.array(out)
