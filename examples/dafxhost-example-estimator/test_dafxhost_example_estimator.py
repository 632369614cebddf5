"""The regression keeps what dafxhost asks of an estimator, and is exact where it should be."""

import torch

import dafxhost
from dafxhost.testing import conformance

test_conformance = conformance("example-regression", kind="estimator")  # one test item a check


def test_exact_for_a_plane_with_as_many_directions_as_parameters() -> None:
    estimator = dafxhost.estimator("example-regression", directions=3)
    slope = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    plan = estimator.perturb(torch.tensor([[0.5, 0.0, 1.0]]), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(estimator.gradient(plan, plan.settings @ slope)[0], slope)
