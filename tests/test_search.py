"""Search by CMA-ES: finds known optima within a budget, with every kind of parameter; never gets worse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dafxhost.errors import ShapeError, UsageError
from dafxhost.parameters import Parameter
from dafxhost.search import search

CONTINUOUS = tuple(Parameter(f"c{i}") for i in range(4))
MIXED = (
    Parameter("gain"),
    Parameter("model", "choice", 0, 4, 2, choices=("a", "b", "c", "d", "e")),
    Parameter("taps", "integer", 1, 8, 4),
    Parameter("on", "toggle", 0, 1, 0),
    Parameter("fixed", "integer", 3, 3, 3),
)
GOAL = np.array([0.8, 0.3, 0.55, 0.1])


def distance(settings: np.ndarray) -> np.ndarray:
    return np.abs(settings - GOAL).max(axis=1)


def test_a_known_optimum_is_found():
    found = search(CONTINUOUS, distance, np.full(4, 0.5), budget=600)
    assert found.score < 0.02 < 0.4 <= found.start_score
    assert np.abs(found.setting - GOAL).max() == pytest.approx(found.score)
    assert found.renders <= 600


@pytest.mark.parametrize("budget", [1, 2, 7, 9, 50])
def test_the_budget_is_kept_and_the_best_so_far_never_rises(budget):
    scored = []

    def counted(settings: np.ndarray) -> np.ndarray:
        scored.extend(settings)
        return distance(settings)

    found = search(CONTINUOUS, counted, np.full(4, 0.5), budget=budget)
    assert len(scored) == found.renders <= budget
    assert found.score == distance(np.array(scored)).min()
    assert [n for n, _ in found.history] == sorted(n for n, _ in found.history)
    best = [s for _, s in found.history]
    assert best == sorted(best, reverse=True) and best[-1] == found.score
    assert all(((s >= 0) & (s <= 1)).all() for s in scored)


def test_choices_toggles_and_integers_are_searched():
    goal = {"model": 4.0, "taps": 7.0, "on": 1.0}

    def score(settings: np.ndarray) -> np.ndarray:
        total = np.abs(settings[:, 0] - 0.7)
        for i, p in enumerate(MIXED):
            if p.name in goal:
                off = np.abs(p.to_native(settings[:, i]) - goal[p.name])
                total = total + (off / 7 if p.name == "taps" else off > 0)
        return total

    start = np.array([float(p.to_setting(p.default)) for p in MIXED])
    found = search(MIXED, score, start, budget=500)
    native = {p.name: float(p.to_native(u)) for p, u in zip(MIXED, found.setting, strict=True)}
    assert {name: native[name] for name in goal} == goal and native["fixed"] == 3.0
    assert abs(found.setting[0] - 0.7) < 0.05


def test_nothing_worse_than_the_start_is_returned():
    start = GOAL.copy()
    found = search(CONTINUOUS, distance, start, budget=100)
    assert np.array_equal(found.setting, start) and found.score == 0.0


def test_failed_renders_are_passed_over():
    def score(settings: np.ndarray) -> np.ndarray:
        return np.where(settings[:, 0] > 0.6, np.nan, distance(settings))

    found = search(CONTINUOUS, score, np.full(4, 0.5), budget=300)
    assert math.isfinite(found.score) and found.score < found.start_score and found.setting[0] <= 0.6
    lost = search(CONTINUOUS, lambda s: np.full(len(s), np.nan), np.full(4, 0.5), budget=300)
    assert np.array_equal(lost.setting, np.full(4, 0.5)) and lost.score == math.inf and lost.renders < 20


def test_the_same_seed_gives_the_same_search():
    a, b, c = (search(CONTINUOUS, distance, np.full(4, 0.5), budget=90, seed=s) for s in (1, 1, 2))
    assert np.array_equal(a.setting, b.setting) and not np.array_equal(a.setting, c.setting)


def test_ctrl_c_keeps_what_was_found():
    calls = []

    def score(settings: np.ndarray) -> np.ndarray:
        calls.append(len(settings))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return distance(settings)

    found = search(CONTINUOUS, score, np.full(4, 0.5), budget=1000)
    assert found.interrupted and found.score <= found.start_score and found.renders == sum(calls[:3])


def test_an_effect_without_parameters_is_left_as_it_is():
    found = search((), lambda s: np.zeros(len(s)), np.zeros(0), budget=10)
    assert found.setting.shape == (0,) and found.renders == 1


def test_bad_arguments():
    with pytest.raises(ShapeError, match=r"\[3\]"):
        search(CONTINUOUS, distance, np.zeros(3), budget=10)
    with pytest.raises(UsageError, match="at least 1"):
        search(CONTINUOUS, distance, np.zeros(4), budget=0)
    with pytest.raises(UsageError, match="sigma"):
        search(CONTINUOUS, distance, np.zeros(4), budget=10, sigma=0.0)
