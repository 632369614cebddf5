"""Central differences of a few parameters, drawn anew for every example.

    g_i = P / S (y(u + c e_i) - y(u - c e_i)) / (2 c)  for the S parameters drawn, 0 for the others:

unbiased, since a parameter is drawn with the probability S / P (randomised coordinate descent: Nesterov,
"Efficiency of coordinate descent methods on huge-scale optimization problems", SIAM Journal on Optimization
22(2), 2012). No parameter disturbs another's difference; the variance comes from those left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.errors import UsageError
from dafxhost.estimators.base import Estimator, Plan, divide
from dafxhost.estimators.spsa import plan_directions


class RandomCoordinates(Estimator):
    """Central differences of `coordinates` parameters an example.

    Args:
        step: c, on 0..1; a number or one a parameter.
        coordinates: S, parameters an example, all different; each costs two renders. At most all are taken.
    """

    def __init__(self, step: float | Sequence[float] | Tensor = 0.05, coordinates: int = 2) -> None:
        super().__init__(step)
        if coordinates < 1:
            raise UsageError(f"random coordinates need at least one coordinate, not {coordinates}")
        self.coordinates = int(coordinates)

    def renders(self, parameters: int, *, base: bool) -> int:
        return 2 * min(self.coordinates, parameters) + int(base)

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
        taken = min(self.coordinates, parameters)
        order = torch.rand(batch, parameters, generator=generator, dtype=torch.float64).argsort(dim=1)
        drawn = torch.nn.functional.one_hot(order[:, :taken], max(parameters, 1))[..., :parameters]
        plan = plan_directions(centre, step, drawn.to(torch.float64), base=base)
        return Plan(plan.settings, plan.base, plan.distances * taken / max(parameters, 1))

    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        values = self._values(plan, values)[:, int(plan.base) :]
        difference = values[:, 0::2] - values[:, 1::2]
        self._count(difference.isnan())
        return divide(difference.unsqueeze(-1), plan.distances).sum(dim=1)
