"""SPSA at several scales: every direction has a step of its own, drawn log-uniformly.

No single step suits all of a loss: a large one sees over dents, a small one sees the slope near the minimum.
The mean of this estimate is the mean, over the steps, of the gradients that SPSA with each of them would
give.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.errors import UsageError
from dafxhost.estimators.base import Plan
from dafxhost.estimators.spsa import SPSA


class MultiScaleSPSA(SPSA):
    """Two-sided SPSA with steps between `step / spread` and `step * spread`.

    Args:
        step: the geometric mean of the steps, on 0..1; a number or one a parameter.
        directions: an example; each costs two renders.
        spread: at least 1; a direction's step is the given one times spread^w, w uniform on -1..1.
    """

    def __init__(
        self, step: float | Sequence[float] | Tensor = 0.07, directions: int = 2, spread: float = 3.0
    ) -> None:
        super().__init__(step, directions)
        if not (math.isfinite(spread) and spread >= 1):
            raise UsageError(f"the spread of steps must be a number of at least 1, not {spread}")
        self.spread = float(spread)

    def _directions(self, batch: int, parameters: int, generator: torch.Generator | None) -> Tensor:
        signs = super()._directions(batch, parameters, generator)
        where = torch.rand(batch, self.directions, 1, generator=generator, dtype=torch.float64)
        return signs * self.spread ** (2.0 * where - 1.0)

    def perturb(
        self,
        settings: Tensor,
        *,
        base: bool = False,
        steps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        plan = super().perturb(settings, base=base, steps=steps, generator=generator)
        ends = plan.settings[:, int(plan.base) :]
        # The true distances: the length of a direction is the same for all its signs, so none is weighed.
        return Plan(plan.settings, plan.base, ends[:, 0::2] - ends[:, 1::2])
