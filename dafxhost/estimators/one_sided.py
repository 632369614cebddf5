"""One-sided simultaneous perturbation: all directions share the unperturbed value.

    g_i = (y(u + c Delta) - y(u)) / (c Delta_i):

D directions cost D + 1 renders instead of 2 D, and D where the unperturbed setting is rendered anyway
(Nesterov and Spokoiny, "Random gradient-free minimization of convex functions", Foundations of Computational
Mathematics 17, 2017, with Gaussian directions). The price is an error of order c, from the curvature, which
mirrored pairs do not have; its mean over the signs is zero, so it is variance rather than bias.

At a bound a move of one sign is shorter than that of the other. Dividing by half the distance between both
ends keeps the estimate for linear functions unbiased: with E g = sum_j slope_j E[move_j 2 Delta_i /
distance_i], the signs are independent and only j = i remains, which is the slope.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dafxhost.estimators.base import Plan, average
from dafxhost.estimators.spsa import SPSA


class OneSidedSPSA(SPSA):
    """Forward SPSA; the unperturbed render is always among the renders (column 0).

    Args:
        step: c, on 0..1; a number or one a parameter.
        directions: an example; each costs a render.
    """

    def renders(self, parameters: int, *, base: bool) -> int:
        return self.directions + 1

    def perturb(
        self,
        settings: Tensor,
        *,
        base: bool = False,
        steps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        both = super().perturb(settings, base=True, steps=steps, generator=generator)
        columns = torch.cat((both.settings[:, :1], both.settings[:, 1::2]), dim=1)
        return Plan(columns, True, both.distances / 2)

    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        values = self._values(plan, values)
        difference = values[:, 1:] - values[:, :1]
        self._count(difference.isnan())
        return average(difference, plan.distances)
