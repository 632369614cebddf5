"""Searching for a setting by rendering: CMA-ES started at a given answer, within a budget of renders.

CMA-ES: Hansen and Ostermeier, "Completely Derandomized Self-Adaptation in Evolution Strategies" (Evolutionary
Computation 2001). Choices, toggles and integers take part by CatCMA with margin: Hamano et al., "CatCMA with
Margin: Stochastic Optimization for Continuous, Integer, and Categorical Variables" (GECCO 2025). Both by the
package cmaes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dafxhost.errors import ShapeError, UsageError
from dafxhost.parameters import Parameter

SIGMA = 0.06
"""First step size on 0..1: about the error that a trained controller makes."""
KEPT = 0.6
"""First probability of the choice that the search starts with; the others share the rest."""
SMALLEST_POPULATION = 8
STALE = 30
"""Generations without anything better after which the search ends."""
Score = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        setting: `[P]` on 0..1, the best that was scored, the start among them. score: its score.
        start_score: of the setting that the search began with (NaN or infinite if that failed).
        renders: settings scored in all. history: (renders so far, best score so far), after every generation.
        interrupted: whether it ended by Ctrl-C, before its budget.
    """

    setting: np.ndarray
    score: float
    start_score: float
    renders: int
    history: list[tuple[int, float]] = field(default_factory=list)
    interrupted: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary; null for scores that are not finite."""
        before, after = (s if math.isfinite(s) else None for s in (self.start_score, self.score))
        tried = {"settings_tried": self.renders, "score_before": before, "score_after": after}
        return {**tried, "interrupted": self.interrupted}


def search(
    parameters: Sequence[Parameter],
    score: Score,
    start: np.ndarray,
    *,
    budget: int,
    sigma: float = SIGMA,
    population: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> SearchResult:
    """Look for a setting with a lower score.

    Args:
        parameters: of the effect; discrete ones are searched, too.
        score: settings `[N, P]` on 0..1 -> scores `[N]`, lower is better; NaN or infinite where it failed.
        start: `[P]` on 0..1. budget: settings that may be scored, the start among them.
        sigma: first step size of continuous and integer parameters, on 0..1.
        population: settings of a generation; by default 4 + 3 ln P (Hansen), at least 8.
        progress: called with (renders so far, best score so far) after every generation.

    Returns:
        Never something worse than the start, by `score`. Ctrl-C ends the search, and what was found is kept.

    Raises:
        ShapeError: `start` is not `[P]`. UsageError: a budget below 1, or a step size that is not positive.
    """
    start = np.clip(np.asarray(start, dtype=np.float64), 0.0, 1.0)
    if start.shape != (len(parameters),):
        raise ShapeError(f"start has shape {list(start.shape)}, not [{len(parameters)}]")
    if budget < 1:
        raise UsageError(f"a search within {budget} renders is none; give at least 1")
    if not sigma > 0:
        raise UsageError(f"sigma is {sigma}; it must be positive")
    space = _Space(parameters, start)
    first = float(np.asarray(score(start[None]), dtype=np.float64)[0])
    best, lowest, renders = start, first if math.isfinite(first) else math.inf, 1
    history, interrupted, stale = [(renders, lowest)], False, 0
    optimizer = space.optimizer(sigma, population, seed) if space.searchable else None
    try:
        # Not `optimizer.should_stop()`: of mixed spaces it is true at the start.
        while optimizer is not None and renders < budget and stale < STALE:
            asked = [optimizer.ask() for _ in range(optimizer.population_size)]
            settings = np.stack([space.setting(solution) for solution in asked])
            within = settings[: budget - renders]
            scores = np.asarray(score(within), dtype=np.float64)
            scores = np.where(np.isfinite(scores), scores, np.inf)
            renders += len(within)
            lead, stale = int(scores.argmin()), stale + 1
            if scores[lead] < lowest:
                best, lowest, stale = within[lead], float(scores[lead]), 0
            history.append((renders, lowest))
            if progress is not None:
                progress(renders, lowest)
            if len(within) < len(asked) or not np.isfinite(scores).any():
                break  # the budget's end, or nothing that the next generation could learn from
            worst = scores[np.isfinite(scores)].max()
            ranked = np.where(np.isfinite(scores), scores, worst + 1.0 + abs(worst))
            optimizer.tell(list(zip(asked, ranked.tolist(), strict=True)))
    except KeyboardInterrupt:
        interrupted = True
    return SearchResult(best.copy(), lowest, first, renders, history, interrupted)


def reflected(settings: np.ndarray) -> np.ndarray:
    """Settings on 0..1 of ones up to 1 beyond it: a step past an end comes back from there."""
    inside = np.abs(settings)
    return np.where(inside > 1, 2 - inside, inside).clip(0, 1)


class _Space:
    """An effect's parameters as CatCMA has them: continuous, integers (on 0..1, too), categories."""

    def __init__(self, parameters: Sequence[Parameter], start: np.ndarray) -> None:
        self.parameters, self.start = parameters, start
        several = [i for i, p in enumerate(parameters) if p.levels != 1 and p.minimum < p.maximum]
        self.continuous = [i for i in several if not parameters[i].levels]
        # A toggle, or an integer of two values, has no order to speak of.
        self.integers = [i for i in several if parameters[i].kind == "integer" and parameters[i].levels > 2]
        self.categories = [i for i in several if parameters[i].levels and i not in self.integers]
        self.searchable = bool(several)

    def optimizer(self, sigma: float, population: int | None, seed: int) -> Any:
        from cmaes import CatCMAwM

        ordered = self.continuous + self.integers
        levels = [self.parameters[i].levels for i in self.categories]
        if population is None:
            dimensions = len(ordered) + len(levels)
            population = max(SMALLEST_POPULATION, 4 + int(3 * math.log(max(dimensions, 1))))
        return CatCMAwM(
            x_space=[[0.0, 1.0]] * len(self.continuous) or None,
            z_space=[self._grid(i) for i in self.integers] or None,
            c_space=levels or None,
            population_size=population,
            mean=self.start[ordered] if ordered else None,
            sigma=sigma if ordered else None,
            # By default it is made of the distance of the mean to the bounds, which may be nothing.
            cov=np.eye(len(ordered)) if ordered else None,
            cat_param=self._chances(levels) if levels else None,
            seed=seed,
        )

    def _grid(self, index: int) -> list[float]:
        levels = self.parameters[index].levels
        return [(k + 0.5) / levels for k in range(levels)]

    def _chances(self, levels: list[int]) -> np.ndarray:
        """`[categories, most levels]`: probabilities to begin with."""
        chances = np.zeros((len(levels), max(levels)))
        for row, (index, count) in enumerate(zip(self.categories, levels, strict=True)):
            chances[row, :count] = (1.0 - KEPT) / (count - 1)
            chances[row, self._level(index)] = KEPT
        return chances

    def _level(self, index: int) -> int:
        p = self.parameters[index]
        return round(float(p.to_native(self.start[index])) - p.minimum)

    def setting(self, solution: Any) -> np.ndarray:
        setting = self.start.copy()
        if self.continuous:
            setting[self.continuous] = np.clip(solution.x, 0.0, 1.0)
        if self.integers:
            setting[self.integers] = solution.z
        for row, index in enumerate(self.categories):
            level = int(np.argmax(solution.c[row]))
            setting[index] = (level + 0.5) / self.parameters[index].levels
        return setting
