"""One step of training for the gradient benchmarks: through a plugin by an estimator, and by autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

import dafxhost
from dafxhost.estimators.base import Estimator
from dafxhost.losses import TransferLoss

BATCH, SAMPLES, RATE = 4, 131_072, 24_000  # Grant (2023)'s length of a clip

ESTIMATORS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"SPSA, K = {k}": ("spsa", {"directions": k}) for k in (1, 2, 4, 8)},
    "forward differences": ("fd-forward", {}),
    "central differences": ("fd-central", {}),
}


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def estimated_step(
    executor: Any,
    estimator: Estimator,
    space: Literal["loss", "signal"],
    batch: int = BATCH,
    samples: int = SAMPLES,
) -> Callable[[], None]:
    """Renders, loss and gradient to the settings, for `batch` clips of `samples` samples."""
    loss = TransferLoss()
    dry, target = noise(batch, 1, samples), noise(batch, 1, samples, seed=1)
    at = torch.full((batch, len(executor.effect.parameters)), 0.5, requires_grad=True)
    through: Any
    if space == "signal":
        layer = dafxhost.PluginLayer(executor, estimator, sample_rate=RATE, seed=1)
        through = lambda: loss(layer(dry, at), target)  # noqa: E731
    else:
        plugin_loss = dafxhost.PluginLoss(executor, estimator, loss, sample_rate=RATE, seed=1)
        through = lambda: plugin_loss(dry, at, target)  # noqa: E731

    def step() -> None:
        (gradient,) = torch.autograd.grad(through().sum(), at)
        assert torch.isfinite(gradient).all()

    return step


def autograd_step(batch: int = BATCH, samples: int = SAMPLES) -> Callable[[], None]:
    """The same step through a small distortion written in torch, differentiated by autograd."""
    loss = TransferLoss()
    dry, target = noise(batch, 1, samples), noise(batch, 1, samples, seed=1)
    at = torch.full((batch, 2), 0.5, requires_grad=True)

    def step() -> None:
        gain, drive = (at[:, i, None, None] for i in range(2))
        wet = gain * torch.tanh(dry * 10.0 ** (2.0 * drive))
        (gradient,) = torch.autograd.grad(loss(wet, target).sum(), at)
        assert torch.isfinite(gradient).all()

    return step
