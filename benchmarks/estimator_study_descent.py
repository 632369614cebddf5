"""How far each estimator's gradients lead in so many renders: settings that descend their losses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from estimator_study_cases import Landscape
from torch import Tensor

from dafxhost.estimators.base import Estimator

RATES = (0.08,)
"""Step lengths of Adam at the start; of several, each estimator is given its best."""
BETAS = (0.8, 0.95)
"""Of Adam: runs of tens of steps have no use for a memory of a thousand."""
FLOOR = 0.02


@dataclass(frozen=True)
class Contestant:
    """An estimator with its options. anneal: what is left of its step at the end."""

    name: str
    make: Callable[[], Estimator]
    anneal: float = 1.0


def descend(
    landscape: Landscape, start: Tensor, contestant: Contestant, budget: int, rate: float, seed: int = 0
) -> Tensor:
    """Losses `[B]` at settings reached from `start` `[B, P]` by Adam with at most `budget` renders each.

    The learning rate falls by a cosine to a fiftieth; the step by a power of what is done.
    """
    estimator = contestant.make()
    generator = torch.Generator().manual_seed(seed)
    parameters = start.shape[1]
    each = estimator.renders(parameters, base=False)
    steps = max(1, budget // each)
    at, first, second = start.clone(), torch.zeros_like(start), torch.zeros_like(start)
    for i in range(steps):
        sizes = (estimator.step * contestant.anneal ** (i / max(1, steps - 1))).expand(parameters)
        plan = estimator.perturb(at, steps=sizes, generator=generator)
        gradient = estimator.gradient(plan, landscape.losses(plan.settings))
        first = BETAS[0] * first + (1 - BETAS[0]) * gradient
        second = BETAS[1] * second + (1 - BETAS[1]) * gradient.square()
        # One length for all parameters of an example: an entry's own would undo what the gradient says.
        scale = (second / (1 - BETAS[1] ** (i + 1))).mean(dim=1, keepdim=True).sqrt() + 1e-12
        length = rate * (FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * i / steps)))
        at = (at - length * first / (1 - BETAS[0] ** (i + 1)) / scale).clamp(0.0, 1.0)
    return landscape.losses(at[:, None])[:, 0]


def random_search(landscape: Landscape, start: Tensor, budget: int, seed: int = 0) -> Tensor:
    """The least loss `[B]` of `budget` uniformly random settings."""
    generator = torch.Generator().manual_seed(seed)
    best = torch.full((len(start),), torch.inf, dtype=torch.float64)
    for k in range(0, budget, 8):
        shape = (len(start), min(8, budget - k), start.shape[1])
        tried = torch.rand(shape, generator=generator, dtype=torch.float64)
        best = torch.minimum(best, landscape.losses(tried).nan_to_num(torch.inf).amin(dim=1))
    return best


def race(
    landscape: Landscape, start: Tensor, contestants: Sequence[Contestant], budget: int
) -> dict[str, Any]:
    """By contestant the ratio of the loss reached to the loss at the start: `[rates][examples]`."""
    before = landscape.losses(start[:, None])[:, 0]
    found = {}
    for one in contestants:
        reached = torch.stack([descend(landscape, start, one, budget, rate) for rate in RATES])
        found[one.name] = (reached / before).tolist()
    return {"start": before.tolist(), "ratios": found}
