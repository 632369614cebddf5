"""Finite differences: one parameter moved at a time.

    forward:  g_i = (y(u + c e_i) - y(u)) / c                 P + 1 values, error of order c
    central:  g_i = (y(u + c e_i) - y(u - c e_i)) / (2 c)     2 P values, error of order c^2

Both ends stay on 0..1, and the difference is divided by the distance between them as it really is. Central
differences are clipped at a bound (and so become one-sided there); forward ones turn round.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.estimators.base import Estimator, Plan, divide


class ForwardDifference(Estimator):
    """Forward differences; a parameter within a step of the upper bound is moved down instead.

    The unperturbed render is always among the renders (column 0).

    Args:
        step: on 0..1; a number or one a parameter.
    """

    def __init__(self, step: float | Sequence[float] | Tensor = 0.01) -> None:
        super().__init__(step)

    def renders(self, parameters: int, *, base: bool) -> int:
        return parameters + 1

    def perturb(
        self,
        settings: Tensor,
        *,
        base: bool = False,
        steps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        centre, step = self._start(settings, steps)
        # Where a large step fits on neither side, the side with more room is taken.
        up = (centre + step <= 1.0) | (centre <= 0.5)
        moved = torch.where(up, centre + step, centre - step).clamp(0.0, 1.0)
        columns = torch.cat((centre.unsqueeze(1), _one_at_a_time(centre, moved)), dim=1)
        return Plan(columns, True, torch.diag_embed(moved - centre))

    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        values = self._values(plan, values)
        difference = values[:, 1:] - values[:, :1]
        self._count(difference.isnan())
        return divide(difference, plan.distances.diagonal(dim1=1, dim2=2))


class CentralDifference(Estimator):
    """Central differences; clipped at the bounds.

    Args:
        step: on 0..1; a number or one a parameter.
    """

    def __init__(self, step: float | Sequence[float] | Tensor = 0.01) -> None:
        super().__init__(step)

    def renders(self, parameters: int, *, base: bool) -> int:
        return 2 * parameters + int(base)

    def perturb(
        self,
        settings: Tensor,
        *,
        base: bool = False,
        steps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        centre, step = self._start(settings, steps)
        high, low = (centre + step).clamp(max=1.0), (centre - step).clamp(min=0.0)
        pairs = (_one_at_a_time(centre, high), _one_at_a_time(centre, low))
        columns = torch.stack(pairs, dim=2).flatten(1, 2)
        if base:
            columns = torch.cat((centre.unsqueeze(1), columns), dim=1)
        return Plan(columns, base, torch.diag_embed(high - low))

    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        values = self._values(plan, values)[:, int(plan.base) :]
        difference = values[:, 0::2] - values[:, 1::2]
        self._count(difference.isnan())
        return divide(difference, plan.distances.diagonal(dim1=1, dim2=2))


def _one_at_a_time(centre: Tensor, moved: Tensor) -> Tensor:
    """`[B, P]` twice -> `[B, P, P]`: row i is `centre` with its i-th entry taken from `moved`."""
    own = torch.eye(centre.shape[1], dtype=torch.bool)
    return torch.where(own, moved.unsqueeze(1), centre.unsqueeze(1))
