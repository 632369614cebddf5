"""The conformance checks of gradient estimators. Each takes a session, returns a remark, or raises Failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dafxhost.errors import DafxhostError, UsageError
from dafxhost.estimators.base import Estimator, Plan
from dafxhost.registry import estimator as registered
from dafxhost.testing.report import Failed

DRAWS = 4000
SLOPE = torch.tensor([0.7, -1.3, 0.4, 2.0], dtype=torch.float64)


@dataclass
class EstimatorSession:
    """A function that makes the estimator anew, so that no check sees what another one counted."""

    make: Callable[[], Estimator]
    name: str
    kind: str = "estimator"
    provider: str = ""

    def close(self) -> None:
        pass


def open_session(subject: Any, **options: Any) -> EstimatorSession:
    """By a registered name, with the factory's options, or by a function that makes the estimator."""

    def make() -> Estimator:
        made = registered(subject, **options) if isinstance(subject, str) else subject(**options)
        if not isinstance(made, Estimator):
            raise UsageError(
                f"an estimator is a dafxhost.estimators.base.Estimator, not {type(made).__name__}"
            )
        return made

    return EstimatorSession(make, subject if isinstance(subject, str) else type(make()).__name__)


def _plan(estimator: Estimator, settings: Tensor, *, base: bool = False, seed: int = 0) -> Plan:
    return estimator.perturb(settings, base=base, generator=torch.Generator().manual_seed(seed))


def _centre(rows: int = 2) -> Tensor:
    return torch.tensor([[0.4, 0.5, 0.6, 0.45]], dtype=torch.float64).expand(rows, -1)


def _line(settings: Tensor) -> Tensor:
    return settings @ SLOPE


def _finite(gradient: Tensor, rows: int) -> Tensor:
    if tuple(gradient.shape) != (rows, len(SLOPE)):
        raise Failed(f"a gradient has shape {[rows, len(SLOPE)]}, not {list(gradient.shape)}")
    if not bool(torch.isfinite(gradient).all()):
        raise Failed("a gradient is not finite")
    return gradient


def plans(session: EstimatorSession) -> str:
    """A plan has as many renders as promised, all on 0..1, with the unperturbed setting where asked for."""
    estimator, said = session.make(), []
    for parameters in (1, 4, 30):
        at = torch.full((2, parameters), 0.5, dtype=torch.float64)
        for base in (False, True):
            plan = _plan(estimator, at, base=base)
            promised = estimator.renders(parameters, base=base)
            if tuple(plan.settings.shape) != (2, promised, parameters):
                raise Failed(
                    f"renders() promises [2, {promised}, {parameters}], the plan has "
                    f"{list(plan.settings.shape)}"
                )
            if plan.settings.dtype != torch.float64 or plan.settings.device.type != "cpu":
                raise Failed("settings of a plan are float64 on the CPU")
            if base and not (plan.base and torch.equal(plan.settings[:, 0], at)):
                raise Failed("column 0 is not the unperturbed setting, though it was asked for")
        said.append(f"{promised} for {parameters}")
    return f"renders with the unperturbed one: {', '.join(said)} parameters"


def repeatable(session: EstimatorSession) -> str:
    """Equal generators give equal plans."""
    one, other = (_plan(session.make(), _centre(), seed=3) for _ in range(2))
    if not torch.equal(one.settings, other.settings):
        raise Failed("two plans from equal generators differ: draw from `generator` only")
    return ""


def linear(session: EstimatorSession) -> str:
    """The gradient is linear in the values, so that it serves signal space too."""
    estimator = session.make()
    plan = _plan(estimator, _centre())
    shape, generator = plan.settings.shape[:2], torch.Generator().manual_seed(1)
    a, b = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    together = _finite(estimator.gradient(plan, 2 * a - 3 * b), 2)
    apart = 2 * estimator.gradient(plan, a) - 3 * estimator.gradient(plan, b)
    if not torch.allclose(together, apart, rtol=1e-9, atol=1e-9 * float(apart.abs().max())):
        raise Failed("the gradient is not linear in the values")
    return ""


def unbiased(session: EstimatorSession) -> str:
    """Averaged over many draws, the gradient of a linear function is its slope, up to a common factor.

    Estimators by regression on few directions give a known fraction of the gradient; its length is for the
    optimiser to scale, its direction is not.
    """
    estimator = session.make()
    plan = _plan(estimator, _centre(DRAWS))
    gradients = _finite(estimator.gradient(plan, _line(plan.settings)), DRAWS)
    mean, deviation = gradients.mean(0), gradients.std(0) / DRAWS**0.5
    factor = float(mean @ SLOPE / (SLOPE @ SLOPE))
    off = (mean - factor * SLOPE).abs()
    if factor <= 0 or bool((off > 5 * deviation + 1e-6).any()):
        raise Failed(f"the mean gradient of a linear function is {_text(mean)}; its slope is {_text(SLOPE)}")
    return f"the mean is {factor:.3g} times the slope"


def _text(values: Tensor) -> str:
    return "(" + ", ".join(f"{v:.3g}" for v in values.tolist()) + ")"


def bounds(session: EstimatorSession) -> str:
    """At 0 and 1 settings stay on 0..1 and the gradient does not point the wrong way."""
    corner = torch.tensor([[0.0, 1.0, 0.0, 1.0]], dtype=torch.float64).expand(DRAWS, -1)
    estimator = session.make()
    plan = _plan(estimator, corner)
    if bool((plan.settings < 0).any() | (plan.settings > 1).any()):
        raise Failed("a plan holds settings outside 0..1")
    mean = _finite(estimator.gradient(plan, _line(plan.settings)), DRAWS).mean(0)
    if float(mean @ SLOPE) <= 0:
        raise Failed(f"at the bounds the mean gradient is {_text(mean)}; the slope is {_text(SLOPE)}")
    return ""


def failed_renders(session: EstimatorSession) -> str:
    """Failed renders (NaN) are left out and counted; with none left the gradient is 0."""
    estimator = session.make()
    plan = _plan(estimator, _centre())
    values = _line(plan.settings)
    values[0, 0] = torch.nan
    one = _finite(estimator.gradient(plan, values), 2)
    if not estimator.dropped:
        raise Failed("a failed render is not counted in `dropped`")
    if not torch.equal(one[1], estimator.gradient(plan, _line(plan.settings))[1]):
        raise Failed("a failed render of one example changes the gradient of another")
    none = _finite(estimator.gradient(plan, torch.full_like(values, torch.nan)), 2)
    if bool(none.any()):
        raise Failed("with all renders failed the gradient is not 0")
    if estimator.empty < 2:
        raise Failed("examples without a usable render are not counted in `empty`")
    return ""


def bad_settings(session: EstimatorSession) -> str:
    """Settings of the wrong shape, NaN among them, and values that do not fit are refused."""
    estimator = session.make()
    plan = _plan(estimator, _centre())
    for what, call in (
        ("settings [P]", lambda: estimator.perturb(torch.zeros(4))),
        ("NaN in settings", lambda: estimator.perturb(torch.full((1, 4), torch.nan))),
        ("values of another shape", lambda: estimator.gradient(plan, torch.zeros(2, 1000))),
    ):
        try:
            call()
        except DafxhostError:
            continue
        raise Failed(f"{what}: not refused by one of dafxhost's errors")
    return ""


CHECKS: dict[str, Callable[[EstimatorSession], str]] = {
    "plans": plans,
    "repeatable": repeatable,
    "linear": linear,
    "unbiased": unbiased,
    "bounds": bounds,
    "failed-renders": failed_renders,
    "bad-settings": bad_settings,
}
