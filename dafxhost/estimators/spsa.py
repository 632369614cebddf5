"""Simultaneous perturbation stochastic approximation (SPSA).

Spall, "Multivariate stochastic approximation using a simultaneous perturbation gradient approximation", IEEE
Transactions on Automatic Control 37(3), 1992, equation (2.2): with a random vector Delta of independent signs
and a step c, the estimate of the gradient's i-th entry is

    g_i = (y(u + c Delta) - y(u - c Delta)) / (2 c Delta_i),

two values whatever the number of parameters. Several such estimates, each with its own Delta, are averaged.

A setting lives on 0..1, so both ends are clipped, and the difference is divided by the distance that is left
of 2 c Delta_i rather than by 2 c Delta_i itself. The length of that distance does not depend on the signs,
which therefore still average out: the estimate for a linear function is unbiased at the bounds too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.errors import UsageError
from dafxhost.estimators.base import Estimator, Plan, divide


class SPSA(Estimator):
    """Two-sided SPSA, `directions` random directions averaged.

    Args:
        step: c, on 0..1; a number or one a parameter. Large steps smooth over a loss's small dents.
        directions: random directions an example; each costs two renders. The variance falls as one over it.
    """

    def __init__(self, step: float | Sequence[float] | Tensor = 0.05, directions: int = 1) -> None:
        super().__init__(step)
        if directions < 1:
            raise UsageError(f"SPSA needs at least one direction, not {directions}")
        self.directions = int(directions)

    def renders(self, parameters: int, *, base: bool) -> int:
        return 2 * self.directions + int(base)

    def perturb(
        self,
        settings: Tensor,
        *,
        base: bool = False,
        steps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        centre, step = self._start(settings, steps)
        shape = (centre.shape[0], self.directions, centre.shape[1])
        signs = 2.0 * torch.randint(0, 2, shape, generator=generator).to(torch.float64) - 1.0
        return plan_directions(centre, step, signs, base=base)

    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        values = self._values(plan, values)[:, int(plan.base) :]
        difference = values[:, 0::2] - values[:, 1::2]
        failed = difference.isnan()
        self._count(failed)
        estimates = divide(difference.unsqueeze(-1), plan.distances)
        return estimates.sum(dim=1) / (~failed).sum(dim=1, keepdim=True).clamp(min=1)


def plan_directions(centre: Tensor, step: Tensor, signs: Tensor, *, base: bool) -> Plan:
    """The plan for given signs `[B, D, P]` around `centre` `[B, P]`: columns plus, minus, plus, minus, ..."""
    around = centre.unsqueeze(1)
    plus = (around + step * signs).clamp(0.0, 1.0)
    minus = (around - step * signs).clamp(0.0, 1.0)
    settings = torch.stack((plus, minus), dim=2).flatten(1, 2)
    if base:
        settings = torch.cat((around, settings), dim=1)
    return Plan(settings, base, plus - minus)
