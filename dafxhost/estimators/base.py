"""What a gradient estimator is: settings to render around a setting, and the gradient from what came back.

An estimator sees numbers only: no audio, no plugin. Its `gradient` is linear in the values, so that one
serves both spaces: in loss space the values are the losses of the renders, in signal space the inner products
of the renders with the incoming gradient.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dafxhost.errors import ParameterError, ShapeError
from dafxhost.parameters import Parameter


@dataclass(frozen=True)
class Plan:
    """Settings to render for a gradient.

    Attributes:
        settings: `[B, K, P]` on 0..1, float64, CPU.
        base: column 0 is the unperturbed setting.
        distances: `[B, D, P]`, by what each of the estimator's D differences is divided to say how steep it
            is along each parameter: by how much the parameter was moved, signed and measured after clipping
            to 0..1, and over the move's square where moves are of random length; 0 where a difference says
            nothing about a parameter.
    """

    settings: Tensor
    base: bool
    distances: Tensor


class Estimator(ABC):
    """Estimates gradients of what happens to be a black box.

    Args:
        step: how far a parameter is moved, on 0..1; a number or one a parameter.

    Attributes:
        dropped: differences left out so far because a render of theirs failed (its value was not finite).
        empty: examples so far for which no difference was left; their gradient is 0.
    """

    def __init__(self, step: float | Sequence[float] | Tensor) -> None:
        self.step = _checked_step(step)
        self.dropped = 0
        self.empty = 0

    @abstractmethod
    def renders(self, parameters: int, *, base: bool) -> int:
        """K, the renders of one example with that many parameters, with or without the unperturbed one."""

    @abstractmethod
    def perturb(
        self,
        settings: Tensor,
        *,
        base: bool = False,
        steps: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Plan:
        """What to render for the gradient at `settings` `[B, P]`.

        Settings outside 0..1 are taken at the nearest bound, as a plugin would.

        Args:
            base: include the unperturbed setting as column 0. Forward differences always do.
            steps: `[P]`, used instead of the estimator's own step; see `steps_for`.
            generator: a CPU generator for estimators that draw; None draws from torch's global one.

        Raises:
            ShapeError: settings are not `[B, P]`, or steps not `[P]`.
            ParameterError: a setting is not finite, or a step not above 0 and at most 1.
        """

    @abstractmethod
    def gradient(self, plan: Plan, values: Tensor) -> Tensor:
        """Gradient `[B, P]` (float64, CPU) from one value a render, `[B, K]`, any dtype and device.

        Values that are not finite mark failed renders. What needs them is left out and counted in `dropped`;
        the result is always finite.
        """

    def _start(self, settings: Tensor, steps: Tensor | None) -> tuple[Tensor, Tensor]:
        """Settings `[B, P]` as float64 on 0..1 on the CPU, and steps `[P]`."""
        if settings.ndim != 2:
            raise ShapeError(f"settings have shape [B, P], not {list(settings.shape)}")
        settings = settings.detach().to("cpu", torch.float64)
        if not bool(torch.isfinite(settings).all()):
            raise ParameterError("settings must be finite, but some are NaN or infinite")
        step = self.step if steps is None else _checked_step(steps)
        parameters = settings.shape[1]
        if step.ndim == 1 and step.shape[0] != parameters:
            raise ShapeError(f"{step.shape[0]} steps do not fit settings of {parameters} parameters")
        return settings.clamp(0.0, 1.0), step.expand(parameters)

    def _values(self, plan: Plan, values: Tensor) -> Tensor:
        """Values as `[B, K]` float64 on the CPU, checked against the plan; infinities become NaN."""
        if values.shape != plan.settings.shape[:2]:
            raise ShapeError(
                f"a plan of {list(plan.settings.shape[:2])} renders needs as many values, "
                f"not {list(values.shape)}"
            )
        values = values.detach().to("cpu", torch.float64)
        return values.masked_fill(~values.isfinite(), torch.nan)

    def _count(self, failed: Tensor) -> None:
        """Note failed differences `[B, D]`."""
        self.dropped += int(failed.sum())
        if failed.shape[1]:
            self.empty += int(failed.all(dim=1).sum())


def steps_for(parameters: Sequence[Parameter], step: float | Sequence[float] | Tensor) -> Tensor:
    """Steps `[P]` (float64) for these parameters: `step`, but at least one bin for a discrete parameter.

    A parameter of n values cuts 0..1 into n bins; a smaller step would mostly stay in one and see no change.
    """
    wanted = _checked_step(step)
    if wanted.ndim == 1 and wanted.shape[0] != len(parameters):
        raise ShapeError(f"{wanted.shape[0]} steps do not fit {len(parameters)} parameters")
    bins = torch.tensor([1.0 / p.levels if p.levels else 0.0 for p in parameters], dtype=torch.float64)
    return torch.maximum(wanted.expand(len(parameters)), bins)


def _checked_step(step: float | Sequence[float] | Tensor) -> Tensor:
    checked = torch.as_tensor(step, dtype=torch.float64, device="cpu").detach()
    if checked.ndim > 1:
        raise ShapeError(f"a step is a number or [P] numbers, not {list(checked.shape)}")
    if not bool(((checked > 0) & (checked <= 1)).all()):  # also refuses NaN
        raise ParameterError(f"a step must be above 0 and at most 1, not {checked.tolist()}")
    return checked


def average(difference: Tensor, distances: Tensor) -> Tensor:
    """Gradient `[B, P]`: what the differences `[B, D]` say of each parameter, the mean over those that do.

    A difference says nothing of a parameter that it did not move (distance 0), and of none if it failed.
    """
    difference = difference.unsqueeze(-1)
    useful = (distances != 0) & ~difference.isnan()
    return divide(difference, distances).sum(dim=1) / useful.sum(dim=1).clamp(min=1)


def divide(difference: Tensor, distance: Tensor) -> Tensor:
    """`difference / distance`, and 0 where the distance is 0 or the difference is NaN."""
    unusable = (distance == 0) | difference.isnan()
    return torch.where(unusable, 0.0, difference) / torch.where(unusable, 1.0, distance)
