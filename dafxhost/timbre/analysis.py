"""Features over a data set: how much each varies, which go together, and which few to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dafxhost.errors import ShapeError, UsageError

ENOUGH = 3
"""Clips with both values that a correlation needs."""


@dataclass(frozen=True)
class Choice:
    """One step of a selection.

    Attributes:
        name: the feature. redundancy: R^2, how much of its variance those chosen before it predict (0..1).
        explained: mean R^2 of all features, predicted by those chosen so far.
    """

    name: str
    redundancy: float
    explained: float


@dataclass(frozen=True)
class Analysis:
    """What a table of features says about itself.

    Attributes:
        names: F features. counts: of defined values. means, deviations, lowest, highest: `[F]`, NaN without a
            value. correlations: `[F, F]`, Pearson's, over the clips that have both; NaN where they are
            fewer than `ENOUGH` or a feature does not vary.
    """

    names: tuple[str, ...]
    counts: np.ndarray
    means: np.ndarray
    deviations: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    correlations: np.ndarray

    def select(self, count: int) -> list[Choice]:
        """The `count` features that say most about all of them.

        Greedy forward selection: at each step that feature which, with those chosen before, leaves the least
        variance of all (standardised) features unexplained by linear regression. It is worked out from the
        correlations alone; a missing one counts as 0. Features that do not vary are never chosen.

        Raises:
            UsageError: fewer than 1, or more than vary.
        """
        useful = [i for i in range(len(self.names)) if self.deviations[i] > 0]
        if not 1 <= count <= len(useful):
            raise UsageError(f"--select takes 1 to {len(useful)}: so many features vary over these files")
        matrix = np.nan_to_num(self.correlations[np.ix_(useful, useful)])
        np.fill_diagonal(matrix, 1.0)
        chosen: list[int] = []
        steps = []
        for _ in range(count):
            left = [i for i in range(len(useful)) if i not in chosen]
            explained = [_predicted(matrix, [*chosen, i]).mean() for i in left]
            best = left[int(np.argmax(explained))]
            redundancy = float(_predicted(matrix, chosen)[best]) if chosen else 0.0
            chosen.append(best)
            steps.append(Choice(self.names[useful[best]], redundancy, float(max(explained))))
        return steps

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; NaN is None."""
        rows = {
            name: {
                "count": int(self.counts[i]),
                "mean": _number(self.means[i]),
                "deviation": _number(self.deviations[i]),
                "variance": _number(self.deviations[i] ** 2),
                "lowest": _number(self.lowest[i]),
                "highest": _number(self.highest[i]),
                "correlations": {
                    other: _number(self.correlations[i, j]) for j, other in enumerate(self.names)
                },
            }
            for i, name in enumerate(self.names)
        }
        return {"features": rows}


def analyse(names: Sequence[str], values: np.ndarray) -> Analysis:
    """Statistics of a table `[files, F]`, NaN where undefined.

    Raises:
        ShapeError: not two axes, or another number of columns than names.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise ShapeError(
            f"a table of {len(names)} features has shape [files, {len(names)}], not {values.shape}"
        )
    columns = [column[np.isfinite(column)] for column in values.T]
    size = len(names)
    correlations = np.full((size, size), np.nan)
    for i in range(size):
        for j in range(i, size):
            correlations[i, j] = correlations[j, i] = _correlation(values[:, i], values[:, j])
    return Analysis(
        tuple(names),
        np.array([len(x) for x in columns]),
        np.array([x.mean() if len(x) else np.nan for x in columns]),
        np.array([x.std() if len(x) else np.nan for x in columns]),
        np.array([x.min() if len(x) else np.nan for x in columns]),
        np.array([x.max() if len(x) else np.nan for x in columns]),
        correlations,
    )


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    both = np.isfinite(one) & np.isfinite(two)
    if both.sum() < ENOUGH:
        return np.nan
    x, y = one[both] - one[both].mean(), two[both] - two[both].mean()
    spread = np.sqrt((x @ x) * (y @ y))
    return float(np.clip(x @ y / spread, -1.0, 1.0)) if spread > 0 else np.nan


def _predicted(correlations: np.ndarray, chosen: list[int]) -> np.ndarray:
    """R^2 of each feature, predicted linearly by the chosen ones."""
    inner, outer = correlations[np.ix_(chosen, chosen)], correlations[chosen]
    return np.clip(np.einsum("ij,ij->j", outer, np.linalg.pinv(inner) @ outer), 0.0, 1.0)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
