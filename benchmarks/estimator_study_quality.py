"""How good estimates are: against the true gradient, and against the way to the true setting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from estimator_study_cases import Landscape
from torch import Tensor

from dafxhost.estimators.base import Estimator
from dafxhost.estimators.finite_difference import CentralDifference

TRUTHS = (0.001, 0.003, 0.01)
"""Steps of the central differences that stand for the true gradient; the middle one is compared with."""
WAYS = (*TRUTHS, 0.1)
DRAWS = 2


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Along the last dimension; 0 where one of both is 0."""
    return torch.cosine_similarity(a, b, dim=-1, eps=1e-30)


def dense(landscape: Landscape, at: Tensor, step: float) -> Tensor:
    """Central differences in loss space, `[B, P]`."""
    estimator = CentralDifference(step)
    plan = estimator.perturb(at)
    return estimator.gradient(plan, landscape.losses(plan.settings))


def truths(landscape: Landscape, at: Tensor) -> dict[str, Any]:
    """Dense gradients by step, `[B, P]`, how they agree with their neighbours, and with the way to the true
    setting (the cosine of -gradient with truth - at).
    """
    gradients = {step: dense(landscape, at, step) for step in WAYS}
    middle = gradients[TRUTHS[1]]
    way = at - landscape.truth
    return {
        "gradient": middle,
        "agreement": {
            f"{a:g}": cosine(gradients[a], middle).tolist() for a in WAYS if a != TRUTHS[1]
        },
        "way": {f"{step:g}": cosine(g, way).tolist() for step, g in gradients.items()},
        "norm": {f"{step:g}": g.norm(dim=1).tolist() for step, g in gradients.items()},
    }  # fmt: skip


def quality(
    landscape: Landscape,
    at: Tensor,
    truth: Tensor,
    slopes: Tensor,
    make: Callable[[], Estimator],
    seed: int = 0,
) -> dict[str, Any]:
    """Over `DRAWS` estimates at every example, in loss space and, from the same renders, in signal space.

    Args:
        at: `[B, P]`. truth: the true gradients there, `[B, P]`.
        slopes: of the loss to the waveform, `[B, C, T]`.

    Returns:
        By space: cosines with the truth and with the way to the true setting; bias and variance relative to
        the truth's square. Bias is that of the mean of the draws, less what their variance puts into it, so
        it may come out below 0.
    """
    estimator, generator = make(), torch.Generator().manual_seed(seed)
    drawn: dict[str, list[Tensor]] = {"loss": [], "signal": []}
    for _ in range(DRAWS):
        plan = estimator.perturb(at, generator=generator)
        losses, products = landscape.both(plan.settings, slopes)
        drawn["signal"].append(estimator.gradient(plan, products))
        drawn["loss"].append(estimator.gradient(plan, losses))
    found = {space: _figures(torch.stack(g), truth, at - landscape.truth) for space, g in drawn.items()}
    return {"renders": estimator.renders(at.shape[1], base=False), **found}


def _figures(estimates: Tensor, truth: Tensor, way: Tensor) -> dict[str, list[float]]:
    """Of `[D, B, P]`: one value an example."""
    mean = estimates.mean(dim=0)
    square = truth.square().sum(dim=-1).clamp(min=1e-30)
    variance = (estimates - mean).square().sum(dim=-1).sum(dim=0) / max(1, len(estimates) - 1)
    bias = (mean - truth).square().sum(dim=-1) - variance / len(estimates)
    return {
        "cosine": cosine(estimates, truth).mean(dim=0).tolist(),
        "way": cosine(estimates, way).mean(dim=0).tolist(),
        "bias2": (bias / square).tolist(),
        "variance": (variance / square).tolist(),
    }
