"""Gradients by regression: everything that a package needs to add a gradient estimator to dafxhost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dafxhost.registry import EstimatorSpec, hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor


@hookimpl
def dafxhost_estimators() -> list[EstimatorSpec]:
    """What this package adds. torch is imported only when somebody asks for it."""
    return [
        EstimatorSpec(
            "example-regression", "dafxhost_example_estimator:make", "Least squares, see Conn 2009."
        )
    ]


def make(step: float = 0.05, directions: int = 4) -> Any:
    """The estimator; its options are those of `dafxhost.estimator("example-regression", directions=...)`."""
    import torch

    from dafxhost.errors import UsageError
    from dafxhost.estimators.base import Estimator, Plan

    class Regression(Estimator):
        """The plane through pairs of renders, in the least squares sense and with the smallest slope.

        Exact for a linear function from as many directions as parameters on; from fewer, the part of the
        gradient that lies in their span. Conn, Scheinberg and Vicente, "Introduction to Derivative-Free
        Optimization", SIAM 2009, chapters 2 and 4.
        """

        def renders(self, parameters: int, *, base: bool) -> int:
            return 2 * directions + int(base)

        def perturb(
            self,
            settings: Tensor,
            *,
            base: bool = False,
            steps: Tensor | None = None,
            generator: Generator | None = None,
        ) -> Plan:
            centre, step = self._start(settings, steps)  # checks them; [B, P] and [P], float64
            shape = (centre.shape[0], directions, centre.shape[1])
            towards = torch.randn(shape, generator=generator, dtype=torch.float64)
            towards = towards / towards.abs().amax(-1, keepdim=True)
            middle = centre.unsqueeze(1)
            plus, minus = ((middle + sign * step * towards).clamp(0, 1) for sign in (1, -1))
            columns = torch.stack((plus, minus), dim=2).flatten(1, 2)  # plus, minus, plus, minus, ...
            if base:
                columns = torch.cat((middle, columns), dim=1)
            return Plan(columns, base, plus - minus)

        def gradient(self, plan: Plan, values: Tensor) -> Tensor:
            values = self._values(plan, values)[:, int(plan.base) :]  # checks them; failed renders are NaN
            difference = values[:, 0::2] - values[:, 1::2]  # [B, D]
            failed = difference.isnan()
            self._count(failed)
            distances = plan.distances.masked_fill(failed.unsqueeze(-1), 0.0)
            return torch.linalg.pinv(distances).matmul(difference.nan_to_num(0.0).unsqueeze(-1)).squeeze(-1)

    if directions < 1:
        raise UsageError(f"example-regression needs at least one direction, not {directions}")
    return Regression(step)
