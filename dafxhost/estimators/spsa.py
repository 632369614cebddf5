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
from dafxhost.estimators.base import Estimator, Plan, average, divide


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
        directions = self._directions(centre.shape[0], centre.shape[1], generator)
        return plan_directions(centre, step, directions, base=base)

    def _directions(self, batch: int, parameters: int, generator: torch.Generator | None) -> Tensor:
        """What is tried around a setting, `[B, D, P]`: entries whose signs are fair coins and whose squares
        are 1 in the mean, or 0 for parameters that a direction leaves alone.
        """
        return random_signs((batch, self.directions, parameters), generator)

    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        values = self._values(plan, values)[:, int(plan.base) :]
        difference = values[:, 0::2] - values[:, 1::2]
        self._count(difference.isnan())
        return average(difference, plan.distances)


def random_signs(shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """-1.0 or 1.0, float64."""
    return 2.0 * torch.randint(0, 2, shape, generator=generator).to(torch.float64) - 1.0


def plan_directions(centre: Tensor, step: Tensor, directions: Tensor, *, base: bool) -> Plan:
    """The plan for given directions `[B, D, P]` around `centre` `[B, P]`: columns plus, minus, plus, ...

    A move of length z steps counts z^2 times: then the mean of (slope . move) z^2 / move over moves of either
    sign and E z^2 = 1 is the slope itself, clipped or not. For signs, z^2 is 1.
    """
    around = centre.unsqueeze(1)
    plus = (around + step * directions).clamp(0.0, 1.0)
    minus = (around - step * directions).clamp(0.0, 1.0)
    settings = torch.stack((plus, minus), dim=2).flatten(1, 2)
    if base:
        settings = torch.cat((around, settings), dim=1)
    return Plan(settings, base, divide(plus - minus, directions.square()))
