"""What a gradient costs: estimators through the real mda Combo beside autograd, and the loss beside auraloss.

    python -m pytest benchmarks/bench_gradients.py --benchmark-columns=min,median --benchmark-json=out.json

Groups: "gradient" is forward and backward for 4 clips of 131,072 samples, everything included: renders by as
many workers as there are cores, multi-resolution STFT + L1, backward. Before each of its rounds the same step
is taken through a differentiable effect in torch by autograd; `extra_info["steps of autograd"]` is the ratio,
round by round: what not knowing the effect's inside costs. "loss" is the multi-resolution STFT alone, for one
clip, beside auraloss.

torch runs on `DAFXHOST_BENCH_THREADS` threads (default 1); `DAFXHOST_BENCH_SMALL` takes short clips and few
rounds, to see that it works.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any, Literal

import auraloss
import pytest
import torch
from gradients import BATCH, ESTIMATORS, SAMPLES, autograd_step, estimated_step, noise
from measure import ratios, timed

import dafxhost
from dafxhost.errors import EffectUnavailableError, UnknownNameError
from dafxhost.losses import GRANT_FFT_SIZES, MultiResolutionSTFT

SMALL = bool(os.environ.get("DAFXHOST_BENCH_SMALL"))
SIZE = (1, 40_000) if SMALL else (BATCH, SAMPLES)
ROUNDS = 2 if SMALL else 9


@pytest.fixture(autouse=True, scope="module")
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("DAFXHOST_BENCH_THREADS", "1")))
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def executor() -> Iterator[Any]:
    try:
        effect = dafxhost.effect("mda-combo")
    except (EffectUnavailableError, UnknownNameError) as error:
        pytest.skip(str(error))
    with dafxhost.Executor(effect) as made:
        yield made


@pytest.fixture(scope="module")
def reference() -> Callable[[], None]:
    return autograd_step(*SIZE)


def beside(benchmark: Any, step: Callable[[], None], other: Callable[[], Any], key: str, rounds: int) -> None:
    """Time `step`, with `other` before each of its rounds; the ratio goes to the report."""
    others: list[float] = []
    benchmark.pedantic(step, setup=lambda: others.append(timed(other)), rounds=rounds, warmup_rounds=1)
    if benchmark.enabled:
        benchmark.extra_info[key] = ratios(benchmark.stats.stats.data, others[-rounds:])


@pytest.mark.benchmark(group="gradient")
@pytest.mark.parametrize("space", ["loss", "signal"])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_estimated_gradient(
    benchmark: Any,
    executor: Any,
    reference: Callable[[], None],
    name: str,
    space: Literal["loss", "signal"],
) -> None:
    registered, options = ESTIMATORS[name]
    estimator = dafxhost.estimator(registered, **options)
    benchmark.extra_info["provider"] = executor.effect.provider.name
    benchmark.extra_info["renders per clip"] = estimator.renders(len(executor.effect.parameters), base=True)
    beside(
        benchmark, estimated_step(executor, estimator, space, *SIZE), reference, "steps of autograd", ROUNDS
    )


@pytest.mark.benchmark(group="gradient")
def test_autograd_gradient(benchmark: Any, reference: Callable[[], None]) -> None:
    benchmark.pedantic(reference, rounds=ROUNDS, warmup_rounds=1)


X, Y = noise(1, 1, SIZE[1]), noise(1, 1, SIZE[1], seed=1)
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
@pytest.mark.parametrize("whose", ["prepared target", "both sides"])
def test_loss(benchmark: Any, whose: str) -> None:
    calls: dict[str, Callable[[], Any]] = {
        "prepared target": lambda: OURS.distance(X.unsqueeze(1), PREPARED),
        "both sides": lambda: OURS(X, Y),
    }
    with torch.no_grad():
        beside(benchmark, calls[whose], lambda: THEIRS(X, Y), "of auraloss", 2 if SMALL else 15)


@pytest.mark.benchmark(group="loss and its gradient to the audio")
def test_loss_with_gradient(benchmark: Any) -> None:
    x = X.clone().requires_grad_()
    beside(
        benchmark,
        lambda: torch.autograd.grad(OURS.distance(x.unsqueeze(1), PREPARED).sum(), x),
        lambda: torch.autograd.grad(THEIRS(x, Y), x),
        "of auraloss",
        2 if SMALL else 11,
    )
