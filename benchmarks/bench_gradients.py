"""What a gradient costs: estimators through the real mda Combo beside autograd, and the loss beside auraloss.

    .venv/bin/python -m pytest benchmarks/bench_gradients.py --benchmark-columns=min,median,rounds

Groups: "gradient" is forward and backward for 4 clips of 131,072 samples (Grant 2023's length), everything
included: renders by as many workers as there are cores, multi-resolution STFT + L1, backward. "autograd" is
the same step through a differentiable effect in torch, so its ratio to the others is what not knowing the
effect's inside costs. "loss" is the multi-resolution STFT alone, for one clip, beside auraloss.

torch runs on `DAFXHOST_BENCH_THREADS` threads (default 1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import auraloss
import pytest
import torch
from torch import Tensor

import dafxhost
from dafxhost.estimators.base import Estimator
from dafxhost.losses import GRANT_FFT_SIZES, MultiResolutionSTFT, TransferLoss

BATCH, SAMPLES, RATE = 4, 131_072, 24_000
LOSS = TransferLoss()


@pytest.fixture(autouse=True, scope="module")
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("DAFXHOST_BENCH_THREADS", "1")))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def executor() -> Iterator[Any]:
    with dafxhost.Executor(dafxhost.effect("mda-combo")) as made:
        yield made


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


ESTIMATORS = {
    "spsa, 1 direction": ("spsa", {"directions": 1}),
    "spsa, 2 directions": ("spsa", {"directions": 2}),
    "spsa, 4 directions": ("spsa", {"directions": 4}),
    "fd-forward": ("fd-forward", {}),
    "fd-central": ("fd-central", {}),
}


def run(benchmark: Any, step: Any, renders: int, rounds: int = 5) -> None:
    benchmark.extra_info["renders per clip"] = renders
    benchmark.pedantic(step, rounds=rounds, warmup_rounds=1)


@pytest.mark.benchmark(group="gradient")
@pytest.mark.parametrize("space", ["loss", "signal"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimated_gradient(benchmark: Any, executor: Any, name: str, space: str) -> None:
    registered, options = ESTIMATORS[name]
    estimator: Estimator = dafxhost.estimator(registered, **options)
    parameters = len(executor.effect.parameters)
    dry, target = noise(BATCH, 1, SAMPLES), noise(BATCH, 1, SAMPLES, seed=1)
    at = torch.full((BATCH, parameters), 0.5, requires_grad=True)
    layer = dafxhost.PluginLayer(executor, estimator, sample_rate=RATE, seed=1)
    loss = dafxhost.PluginLoss(executor, estimator, LOSS, sample_rate=RATE, seed=1)

    def step() -> None:
        value = LOSS(layer(dry, at), target) if space == "signal" else loss(dry, at, target)
        (gradient,) = torch.autograd.grad(value.sum(), at)
        assert torch.isfinite(gradient).all()

    run(benchmark, step, estimator.renders(parameters, base=True))


@pytest.mark.benchmark(group="gradient")
def test_autograd_gradient(benchmark: Any) -> None:
    dry, target = noise(BATCH, 1, SAMPLES), noise(BATCH, 1, SAMPLES, seed=1)
    at = torch.full((BATCH, 2), 0.5, requires_grad=True)

    def step() -> None:
        gain, drive = (at[:, i, None, None] for i in range(2))
        wet = gain * torch.tanh(dry * 10.0 ** (2.0 * drive))
        (gradient,) = torch.autograd.grad(LOSS(wet, target).sum(), at)
        assert torch.isfinite(gradient).all()

    run(benchmark, step, 1)


X, Y = noise(1, 1, SAMPLES), noise(1, 1, SAMPLES, seed=1)
OURS = MultiResolutionSTFT()
PREPARED = OURS.prepare(Y)
THEIRS = auraloss.freq.MultiResolutionSTFTLoss(
    fft_sizes=list(GRANT_FFT_SIZES),
    hop_sizes=[n // 2 for n in GRANT_FFT_SIZES],
    win_lengths=list(GRANT_FFT_SIZES),
    w_sc=0,
    w_log_mag=1,
    w_lin_mag=1,
    w_phs=0,
)


@pytest.mark.benchmark(group="loss")
@pytest.mark.parametrize("whose", ["prepared target", "both sides", "auraloss"])
def test_loss(benchmark: Any, whose: str) -> None:
    calls = {
        "prepared target": lambda: OURS.distance(X.unsqueeze(1), PREPARED),
        "both sides": lambda: OURS(X, Y),
        "auraloss": lambda: THEIRS(X, Y),
    }
    with torch.no_grad():
        run(benchmark, calls[whose], 1, rounds=15)


@pytest.mark.benchmark(group="loss and its gradient to the audio")
@pytest.mark.parametrize("whose", ["prepared target", "auraloss"])
def test_loss_with_gradient(benchmark: Any, whose: str) -> None:
    x = X.clone().requires_grad_()

    def step() -> None:
        value = THEIRS(x, Y) if whose == "auraloss" else OURS.distance(x.unsqueeze(1), PREPARED).sum()
        torch.autograd.grad(value, x)

    run(benchmark, step, 1, rounds=10)
