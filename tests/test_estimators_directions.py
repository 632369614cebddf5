"""Estimators that perturb along directions of their own: conformance, exact answers, variance, failures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

import dafxhost
from dafxhost.errors import UsageError
from dafxhost.estimators.base import Estimator, Plan, average
from dafxhost.estimators.block import BlockSPSA
from dafxhost.estimators.finite_difference import CentralDifference
from dafxhost.estimators.one_sided import OneSidedSPSA
from dafxhost.estimators.orthogonal import OrthogonalDirections
from dafxhost.estimators.random_coordinates import RandomCoordinates
from dafxhost.estimators.scales import MultiScaleSPSA
from dafxhost.estimators.smoothing import GaussianSmoothing
from dafxhost.estimators.spsa import SPSA
from dafxhost.testing import check_estimator

Make = Callable[..., Estimator]
MAKERS: dict[str, Make] = {
    "Gaussian": GaussianSmoothing,
    "orthogonal": OrthogonalDirections,
    "orthogonal, more than parameters": partial(OrthogonalDirections, directions=6),
    "blocks": BlockSPSA,
    "blocks, more than parameters": partial(BlockSPSA, directions=6),
    "coordinates": RandomCoordinates,
    "one-sided": partial(OneSidedSPSA, directions=3),
    "scales": MultiScaleSPSA,
}
SLOPE = torch.tensor([0.7, -1.3, 0.4, 2.0], dtype=torch.float64)


def estimates(
    estimator: Estimator, at: list[float], draws: int, function: Callable[[Tensor], Tensor]
) -> Tensor:
    centre = torch.tensor([at], dtype=torch.float64).expand(draws, -1)
    plan = estimator.perturb(centre, generator=torch.Generator().manual_seed(1))
    return estimator.gradient(plan, function(plan.settings))


def line(settings: Tensor) -> Tensor:
    return settings @ SLOPE


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_conformance(make: Make) -> None:
    report = check_estimator(make)
    assert report.conformant, str(report)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_unbiased_for_a_line_even_at_the_bounds(make: Make) -> None:
    """Not only up to a factor, and with a step of its own for every parameter."""
    steps = [0.05, 0.1, 0.3, 0.2]
    found = estimates(make(step=steps), [0.0, 1.0, 0.1, 0.95], 20_000, line)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - SLOPE).abs() <= 5 * error + 1e-9).all(), (found.mean(0), error)


@pytest.mark.parametrize(
    "make", [OrthogonalDirections, BlockSPSA, RandomCoordinates], ids=lambda m: m.__name__
)
def test_as_many_directions_as_parameters_are_exact(make: Make) -> None:
    key = "coordinates" if make is RandomCoordinates else "directions"
    found = estimates(make(step=0.1, **{key: 4}), [0.4, 0.5, 0.6, 0.45], 5, line)
    torch.testing.assert_close(found, SLOPE.expand(5, -1), rtol=1e-9, atol=1e-9)


def test_blocks_of_one_parameter_are_central_differences() -> None:
    def bent(settings: Tensor) -> Tensor:
        return (settings**3).sum(-1) + settings.prod(-1)

    at = [0.02, 0.5, 0.99, 0.3]
    expected = estimates(CentralDifference(0.1), at, 3, bent)
    torch.testing.assert_close(estimates(BlockSPSA(0.1, 4), at, 3, bent), expected)
    torch.testing.assert_close(estimates(RandomCoordinates(0.1, 9), at, 3, bent), expected)


def test_variance_of_blocks_and_orthogonal_directions_is_what_theory_says() -> None:
    """SPSA's falls as 1 / D, theirs as (P / D - 1) / (P - 1); slopes are equal, so that blocks are, too."""

    def variance(estimator: Estimator) -> float:
        found = estimates(estimator, [0.5] * 4, 20_000, lambda s: s.sum(-1))
        return float((found - 1).square().mean())

    assert variance(SPSA(0.1, 2)) == pytest.approx(3 / 2, rel=0.05)
    assert variance(BlockSPSA(0.1, 2)) == pytest.approx(1.0, rel=0.05)
    gaussian = variance(GaussianSmoothing(0.01, 2))
    assert gaussian == pytest.approx(5 / 2, rel=0.07)  # (sum of squares + own square) / D
    assert variance(OrthogonalDirections(0.01, 2)) < 0.75 * gaussian


def test_orthogonal_directions_are_orthogonal_and_as_long_as_signs() -> None:
    centre = torch.full((3, 5), 0.5, dtype=torch.float64)
    plan = OrthogonalDirections(0.01, 5).perturb(centre, generator=torch.Generator().manual_seed(0))
    moves = (plan.settings[:, 0::2] - centre.unsqueeze(1)) / 0.01
    torch.testing.assert_close(moves @ moves.mT, 5.0 * torch.eye(5, dtype=torch.float64).expand(3, -1, -1))


def test_each_parameter_is_in_one_block_of_every_division() -> None:
    centre = torch.full((50, 7), 0.5, dtype=torch.float64)
    plan = BlockSPSA(0.1, 10).perturb(centre, generator=torch.Generator().manual_seed(0))
    moved = (plan.distances != 0).sum(dim=1)
    assert (moved == 2).all()  # seven blocks of one, then three of two or three
    sizes = (plan.distances != 0).sum(dim=2)
    assert (sizes[:, :7] == 1).all()
    assert ((sizes[:, 7:] >= 2) & (sizes[:, 7:] <= 3)).all()


def test_one_sided_shares_the_unperturbed_render_and_cancels_it() -> None:
    estimator = OneSidedSPSA(0.1, 5)
    centre = torch.full((2, 3), 0.5, dtype=torch.float64)
    plan = estimator.perturb(centre)
    assert plan.base and plan.settings.shape == (2, 6, 3) and estimator.renders(3, base=False) == 6
    assert torch.equal(plan.settings[:, 0], centre)
    values = torch.full((2, 6), 7.0)
    assert not estimator.gradient(plan, values).any()
    values[0, 0] = torch.nan  # what all share failed
    assert not estimator.gradient(plan, values).any()
    assert (estimator.dropped, estimator.empty) == (5, 1)


def test_scales_lie_in_their_range_and_differ() -> None:
    centre = torch.full((200, 3), 0.5, dtype=torch.float64)
    plan = MultiScaleSPSA(0.06, 1, 3.0).perturb(centre, generator=torch.Generator().manual_seed(0))
    steps = plan.distances.abs() / 2
    assert steps.min() >= 0.02 and steps.max() <= 0.18
    torch.testing.assert_close(steps[..., 0], steps[..., 1])  # one step a direction
    assert (steps[:, 0, 0] < 0.06).double().mean().item() == pytest.approx(0.5, abs=0.15)
    fixed = MultiScaleSPSA(0.06, 1, 1.0).perturb(centre, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fixed.distances.abs(), torch.full_like(fixed.distances, 0.12))


def test_a_failed_direction_leaves_the_parameters_of_others_alone() -> None:
    estimator = BlockSPSA(0.1, 2)
    centre = torch.full((1, 4), 0.5, dtype=torch.float64)
    plan = estimator.perturb(centre, generator=torch.Generator().manual_seed(0))
    values = line(plan.settings)
    whole = estimator.gradient(plan, values)
    values[0, 0] = torch.nan
    rest = estimator.gradient(plan, values)
    lost = plan.distances[0, 0] != 0
    assert lost.any() and not lost.all()
    assert torch.equal(rest[0, ~lost], whole[0, ~lost]) and not rest[0, lost].any()
    assert (estimator.dropped, estimator.empty) == (1, 0)


def test_average_counts_what_says_something_only() -> None:
    distances = torch.tensor([[[1.0, 0.0, 2.0], [1.0, 0.0, 0.0], [1.0, 4.0, 1.0]]])
    difference = torch.tensor([[2.0, 4.0, torch.nan]])
    assert average(difference, distances).tolist() == [[3.0, 0.0, 1.0]]


def test_an_example_by_itself_gives_the_same_gradient() -> None:
    """Training takes plans apart: settings, base and distances are all that `gradient` may need."""
    for make in MAKERS.values():
        estimator = make()
        centre = torch.rand(4, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        plan = estimator.perturb(centre, generator=torch.Generator().manual_seed(0))
        values = line(plan.settings)
        together = estimator.gradient(plan, values)
        for row in range(4):
            one = Plan(plan.settings[row : row + 1], plan.base, plan.distances[row : row + 1])
            assert torch.equal(estimator.gradient(one, values[row : row + 1])[0], together[row])


def test_bad_options_are_refused() -> None:
    with pytest.raises(UsageError, match="coordinate"):
        RandomCoordinates(coordinates=0)
    for spread in (0.5, float("nan")):
        with pytest.raises(UsageError, match="spread"):
            MultiScaleSPSA(spread=spread)
    with pytest.raises(UsageError, match="direction"):
        BlockSPSA(directions=0)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("spsa-blocks", BlockSPSA),
        ("spsa-one-sided", OneSidedSPSA),
        ("spsa-scales", MultiScaleSPSA),
        ("orthogonal", OrthogonalDirections),
        ("gaussian-smoothing", GaussianSmoothing),
        ("random-coordinates", RandomCoordinates),
    ],
)
def test_each_has_its_name(name: str, kind: type[Estimator]) -> None:
    assert type(dafxhost.estimator(name, step=0.2)) is kind
