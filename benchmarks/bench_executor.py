"""Throughput of the executor for pytest-benchmark, to be followed over time.

    python -m pytest benchmarks/bench_executor.py --benchmark-autosave
    python -m pytest benchmarks/bench_executor.py --benchmark-json=out.json

The seconds are those of one batch by the executor. `extra_info` holds what can be compared between machines:
share of the ideal and times a loop's and one-process-per-item's speed, all taken in turn (throughput.py).
`DAFXHOST_BENCH_SMALL` takes small batches, to see that it works.
"""

from __future__ import annotations

import os
from typing import Any

import pytest
from bench_effects import REAL, lab, real
from measure import RATE, noise, random_settings
from throughput import compare

import dafxhost
from dafxhost.errors import EffectUnavailableError, UnknownNameError

SMALL = bool(os.environ.get("DAFXHOST_BENCH_SMALL"))
CLIPS, SECONDS, TURNS = (4, 0.2, 2) if SMALL else (32, 5.0, 5)
BESIDE = ("loop", "pipes")


def run(benchmark: Any, effect: dafxhost.Effect, clips: int, columns: int, seconds: float) -> None:
    audio, settings = noise(clips, seconds), random_settings(clips, columns, len(effect.parameters))
    with dafxhost.Executor(effect) as executor:
        wet = benchmark.pedantic(
            executor.render, args=(audio, settings, RATE), rounds=2 if SMALL else 8, warmup_rounds=1
        )
        stats = executor.stats
    assert wet.shape == (clips, columns, 1, audio.shape[2])
    assert stats.retried == stats.replaced == 0
    if not benchmark.enabled:
        return
    row = compare(
        effect, clips, columns, seconds, layouts=BESIDE, turns=TURNS, items=min(clips, 32), budget=20.0
    )
    assert all(row["identical"].values())
    benchmark.extra_info["renders per second"] = clips * columns / benchmark.stats.stats.median
    benchmark.extra_info["share of ideal"] = row["share_of_ideal"]
    benchmark.extra_info["share of ideal, no copy"] = row["share_of_ideal_no_copy"]
    for name, times in row["times"].items():
        benchmark.extra_info[f"times {name}"] = times


@pytest.mark.benchmark(group="real effects")
@pytest.mark.parametrize("columns", [1, 8])
@pytest.mark.parametrize("name", REAL)
def test_real_effect(benchmark: Any, name: str, columns: int) -> None:
    try:
        effect = real(name)
    except (EffectUnavailableError, UnknownNameError) as error:
        pytest.skip(str(error))
    run(benchmark, effect, max(4, CLIPS // columns), columns, SECONDS)


@pytest.mark.benchmark(group="lab effects")
@pytest.mark.parametrize("passes", [2, 18, 44])
def test_lab_effect(benchmark: Any, passes: int) -> None:
    run(benchmark, lab(passes=float(passes)), CLIPS, 1, SECONDS)


@pytest.mark.benchmark(group="64 samples")
def test_many_short_clips(benchmark: Any) -> None:
    """What a job costs besides its plugin."""
    run(benchmark, lab(), *((16, 2) if SMALL else (256, 8)), 64 / RATE)
