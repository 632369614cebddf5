"""Throughput of the executor over time: pytest benchmarks/bench_executor.py --benchmark-autosave.

`extra_info` holds renders per second and the share of the ideal as the workers saw it. For the comparison
with other layouts see throughput.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import dafxhost
from dafxhost.errors import EffectUnavailableError, UnknownNameError
from lab_effects import lab_effect

RATE = 44100


def noise(clips: int, seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal((clips, 1, round(seconds * RATE)))).astype(np.float32)


def run(benchmark, effect: dafxhost.Effect, clips: int, columns: int, seconds: float) -> None:
    audio = noise(clips, seconds)
    settings = np.random.default_rng(1).random((clips, columns, len(effect.parameters)))
    with dafxhost.Executor(effect) as executor:
        executor.render(audio, settings, RATE)
        before = executor.stats
        wet = benchmark.pedantic(executor.render, args=(audio, settings, RATE), rounds=8, warmup_rounds=1)
        spent = executor.stats - before
    assert wet.shape == (clips, columns, 1, audio.shape[2])
    assert spent.retried == spent.replaced == 0
    benchmark.extra_info["renders_per_second"] = clips * columns / benchmark.stats.stats.min
    benchmark.extra_info["share_of_ideal"] = spent.share_of_ideal


@pytest.mark.parametrize("columns", [1, 8])
def test_mda_combo(benchmark, columns):
    try:
        effect = dafxhost.effect("mda-combo")
    except (EffectUnavailableError, UnknownNameError) as error:
        pytest.skip(str(error))
    run(benchmark, effect, 32, columns, 5.0)


@pytest.mark.parametrize("passes", [0, 8, 32])
def test_lab_effect(benchmark, passes):
    run(benchmark, lab_effect("Busy", passes=passes), 32, 1, 5.0)


def test_many_short_clips(benchmark):
    """What a message and a job cost: 2,048 renders of 64 samples."""
    run(benchmark, lab_effect("Gain"), 256, 8, 64 / RATE)
