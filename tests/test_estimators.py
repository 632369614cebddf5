"""Estimators against autograd through a differentiable effect, at bounds and with failed renders."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import dafxhost
from dafxhost.errors import ParameterError, ShapeError, UsageError
from dafxhost.estimators.base import Estimator, Plan, steps_for
from dafxhost.estimators.finite_difference import CentralDifference, ForwardDifference
from dafxhost.estimators.spsa import SPSA, plan_directions
from dafxhost.parameters import Parameter
from torch_effects import drive, noise

DRY = noise(1, 200).double()
TARGET = drive(DRY, torch.tensor([0.3, 0.4, 0.7, 0.6], dtype=torch.float64))
INSIDE = torch.tensor([[0.5, 0.6, 0.4, 0.8], [0.7, 0.2, 0.55, 0.3]], dtype=torch.float64)
AT_BOUNDS = torch.tensor([[0.0, 1.0, 0.5, 1.0], [0.999, 0.001, 0.0, 0.5]], dtype=torch.float64)
ALL = [SPSA(0.1, directions=3), ForwardDifference(0.1), CentralDifference(0.1)]


def loss(at: Tensor) -> Tensor:
    """A smooth loss of the torch effect: settings `[..., P]` -> `[...]`, float64."""
    return (drive(DRY, at) - TARGET).square().mean(dim=(-2, -1))


def true_gradient(at: Tensor) -> Tensor:
    at = at.clone().requires_grad_()
    return torch.autograd.grad(loss(at).sum(), at)[0]


def estimate(estimator: Estimator, at: Tensor, seed: int = 0) -> Tensor:
    plan = estimator.perturb(at, generator=torch.Generator().manual_seed(seed))
    return estimator.gradient(plan, loss(plan.settings))


@pytest.mark.parametrize("at", [INSIDE, AT_BOUNDS], ids=["inside", "at the bounds"])
def test_finite_differences_agree_with_autograd(at: Tensor) -> None:
    expected = true_gradient(at)
    assert expected.abs().min() > 1e-5, "the test needs every parameter to matter"
    torch.testing.assert_close(estimate(ForwardDifference(1e-6), at), expected, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(estimate(CentralDifference(1e-6), at), expected, rtol=1e-3, atol=1e-7)
    if at is INSIDE:
        torch.testing.assert_close(estimate(CentralDifference(1e-3), at), expected, rtol=1e-3, atol=0)


def test_error_of_forward_is_of_first_order_and_of_central_of_second() -> None:
    expected = true_gradient(INSIDE)
    for kind, order in ((ForwardDifference, 1), (CentralDifference, 2)):
        errors = [(estimate(kind(c), INSIDE) - expected).norm() for c in (0.02, 0.01)]
        assert (errors[0] / errors[1]).log2().item() == pytest.approx(order, abs=0.1)


@pytest.mark.parametrize("directions", [1, 4])
def test_mean_of_spsa_converges_to_the_gradient(
    directions: int, record_property: Callable[[str, object], None]
) -> None:
    """One direction's i-th entry varies by the sum of the squares of the gradient's other entries."""
    draws = 4000
    at = INSIDE[0]
    estimates = estimate(SPSA(1e-3, directions), at.expand(draws, -1))
    expected = true_gradient(at.unsqueeze(0))[0]
    variance = (expected.square().sum() - expected.square()) / directions
    deviation = (variance / draws).sqrt()
    # Five standard deviations (one run in half a million), and 1e-4 for the bias of order c^2.
    assert ((estimates.mean(0) - expected).abs() <= 5 * deviation + 1e-4 * expected.norm()).all()
    assert (estimates.var(0) / variance).sub(1).abs().max() < 0.15
    cosine = torch.cosine_similarity(estimates, expected.unsqueeze(0))
    record_property("mean cosine with the true gradient", cosine.mean().item())
    # One direction's estimate is (gradient . Delta) Delta: never uphill, with a cosine known for every Delta.
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=4)), dtype=torch.float64)
    single = (signs @ expected).abs() / (expected.norm() * 2.0)
    if directions == 1:
        assert (cosine > -1e-3).all()
        bound = 5 * single.std() / draws**0.5 + 1e-3
        assert cosine.mean().item() == pytest.approx(single.mean().item(), abs=bound.item())
    else:
        assert cosine.mean() > 1.2 * single.mean()


@pytest.mark.parametrize("at", [[0.5, 0.4, 0.6], [0.0, 1.0, 0.03], [0.97, 0.02, 1.0]])
def test_spsa_is_unbiased_on_a_linear_function_with_all_signs_drawn_once(at: list[float]) -> None:
    slope = torch.tensor([1.0, -2.0, 0.3], dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3)), dtype=torch.float64)
    step = torch.tensor([0.05, 0.1, 0.5], dtype=torch.float64)
    plan = plan_directions(torch.tensor([at], dtype=torch.float64), step, signs.unsqueeze(0), base=True)
    gradient = SPSA(directions=8).gradient(plan, plan.settings @ slope + 7.0)
    torch.testing.assert_close(gradient[0], slope, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: type(e).__name__)
def test_the_same_generator_gives_the_same_plan(estimator: Estimator) -> None:
    plans = [estimator.perturb(INSIDE, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(plans[0].settings, plans[1].settings)
    if isinstance(estimator, SPSA):
        assert not torch.equal(plans[0].settings, plans[2].settings)


def test_spsa_drops_failed_directions_and_averages_the_rest() -> None:
    estimator = SPSA(0.05, directions=3)
    plan = estimator.perturb(INSIDE, base=True, generator=torch.Generator().manual_seed(3))
    values = loss(plan.settings)
    values[:, 3] = torch.nan  # plus of the second direction
    rest = Plan(plan.settings[:, [0, 1, 2, 5, 6]], True, plan.distances[:, [0, 2]])
    expected = SPSA(0.05, directions=2).gradient(rest, loss(rest.settings))
    torch.testing.assert_close(estimator.gradient(plan, values), expected)
    assert (estimator.dropped, estimator.empty) == (2, 0)
    values[1] = torch.inf
    values[0, 0] = torch.nan  # the unperturbed render is not needed for the gradient
    gradient = estimator.gradient(plan, values)
    torch.testing.assert_close(gradient[0], expected[0])
    assert torch.equal(gradient[1], torch.zeros(4, dtype=torch.float64))
    assert (estimator.dropped, estimator.empty) == (2 + 1 + 3, 1)


@pytest.mark.parametrize(
    ("estimator", "column"), [(ForwardDifference(1e-3), 2), (CentralDifference(1e-3), 3)]
)
def test_finite_differences_give_zero_for_a_failed_parameter(estimator: Estimator, column: int) -> None:
    plan = estimator.perturb(INSIDE)
    values = loss(plan.settings)
    expected = estimator.gradient(plan, values)
    values[0, column] = torch.nan
    expected[0, 1] = 0.0
    torch.testing.assert_close(estimator.gradient(plan, values), expected)
    assert (estimator.dropped, estimator.empty) == (1, 0)
    estimator.gradient(plan, torch.full_like(values, torch.nan))
    assert (estimator.dropped, estimator.empty) == (9, 2)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
@pytest.mark.parametrize("kind", [SPSA, ForwardDifference, CentralDifference])
def test_plans_stay_in_range_and_linear_functions_are_exact(
    kind: type[Estimator], data: st.DataObject
) -> None:
    batch = data.draw(st.integers(0, 3))
    parameters = data.draw(st.integers(1, 5))
    numbers = st.floats(-0.5, 1.5) | st.sampled_from([0.0, 1.0])
    at = torch.tensor(
        data.draw(st.lists(numbers, min_size=batch * parameters, max_size=batch * parameters)),
        dtype=torch.float64,
    ).reshape(batch, parameters)
    step = data.draw(st.lists(st.floats(1e-3, 1.0), min_size=parameters, max_size=parameters))
    base = data.draw(st.booleans())
    estimator = kind(step)
    plan = estimator.perturb(at, base=base, generator=torch.Generator().manual_seed(0))
    assert plan.settings.shape == (batch, estimator.renders(parameters, base=base), parameters)
    assert plan.settings.dtype == torch.float64
    assert ((plan.settings >= 0) & (plan.settings <= 1)).all()
    assert plan.base or not base
    if plan.base:
        assert torch.equal(plan.settings[:, 0], at.clamp(0, 1))
    slope = torch.linspace(-2, 1, parameters, dtype=torch.float64)
    gradient = estimator.gradient(plan, plan.settings @ slope)
    if kind is SPSA:  # exact in the direction it looked at
        moved = plan.distances[:, 0]
        torch.testing.assert_close(moved * gradient, (moved @ slope).unsqueeze(1).expand(-1, parameters))
    else:
        torch.testing.assert_close(gradient, slope.expand(batch, -1), rtol=1e-9, atol=1e-9)


def test_a_parameter_that_did_not_move_gets_zero() -> None:
    at = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    step = torch.tensor([0.1, 0.0], dtype=torch.float64)
    plan = plan_directions(at, step, torch.ones(1, 1, 2, dtype=torch.float64), base=False)
    assert SPSA().gradient(plan, plan.settings[..., 0])[0].tolist() == pytest.approx([1.0, 0.0])


MIXED = (
    Parameter("amount"),
    Parameter("on", kind="toggle", default=0.0),
    Parameter("model", kind="choice", maximum=4, default=0, choices=("a", "b", "c", "d", "e")),
    Parameter("count", kind="integer", minimum=1, maximum=100, default=1),
)


def test_steps_are_at_least_one_bin_of_a_discrete_parameter() -> None:
    assert steps_for(MIXED, 0.05).tolist() == pytest.approx([0.05, 0.5, 0.2, 0.05])
    assert steps_for(MIXED, [0.3, 0.6, 0.01, 0.001]).tolist() == pytest.approx([0.3, 0.6, 0.2, 0.01])
    assert steps_for((), 0.1).shape == (0,)


@pytest.mark.parametrize("estimator", ALL, ids=lambda e: type(e).__name__)
def test_a_step_of_one_bin_always_sees_the_next_value(estimator: Estimator) -> None:
    """The value of a toggle and of a choice, as a function of the setting, rises: so must every estimate."""
    generator = torch.Generator().manual_seed(5)
    for parameter in MIXED[1:]:
        at = torch.rand(200, 1, generator=generator, dtype=torch.float64)
        steps = steps_for((parameter,), 0.001)
        plan = estimator.perturb(at, steps=steps, generator=generator)
        native = torch.from_numpy(parameter.to_native(plan.settings[..., 0].numpy()))
        assert (estimator.gradient(plan, native) > 0).all(), parameter.name


def test_bad_arguments_are_refused() -> None:
    for step in (0.0, -0.1, 1.5, float("nan"), [0.1, 0.0]):
        with pytest.raises(ParameterError, match="step"):
            SPSA(step)
    with pytest.raises(UsageError, match="direction"):
        SPSA(directions=0)
    with pytest.raises(ShapeError, match="B, P"):
        SPSA().perturb(torch.zeros(3))
    with pytest.raises(ShapeError, match="2 steps"):
        SPSA([0.1, 0.1]).perturb(torch.zeros(1, 3))
    with pytest.raises(ShapeError, match="2 steps"):
        steps_for(MIXED, [0.1, 0.1])
    with pytest.raises(ParameterError, match="finite"):
        SPSA().perturb(torch.full((1, 3), torch.nan))
    plan = SPSA().perturb(torch.zeros(1, 3))
    with pytest.raises(ShapeError, match="as many values"):
        SPSA().gradient(plan, torch.zeros(1, 3))


def test_registered_by_name() -> None:
    spsa = dafxhost.estimator("spsa", step=0.02, directions=4)
    assert isinstance(spsa, SPSA) and spsa.directions == 4
    assert isinstance(dafxhost.estimator("fd-forward"), ForwardDifference)
    assert isinstance(dafxhost.estimator("fd-central"), CentralDifference)


def test_listing_estimators_does_not_import_torch() -> None:
    code = (
        "import sys, dafxhost.estimators.plugin as plugin; plugin.dafxhost_estimators(); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
