"""From values example by example to means, intervals and parameter errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.stats

from dafxhost.metrics import Metric
from dafxhost.parameters import Parameter
from dafxhost.training.results import Figure, Row

INTERVAL = (2.5, 97.5)
"""Per cent of the bootstrap means between which 95 % of them lie (percentile method)."""
NOTHING = 1e-9
"""A mean distance of the input left alone below which a ratio to it says nothing."""


def resamples(examples: int, times: int, seed: int) -> np.ndarray:
    """`[times, examples]`: how often each example is drawn in each of so many bootstrap samples."""
    drawn = np.random.default_rng([seed, 13]).integers(0, examples, (times, examples))
    return np.stack([np.bincount(row, minlength=examples) for row in drawn]).astype(np.float64)


def rows_of(
    names: Sequence[str], scores: np.ndarray, metrics: dict[str, np.ndarray], table: Sequence[Metric],
    weights: np.ndarray,
) -> tuple[Row, ...]:  # fmt: skip
    """A row a way; the last way is the input left alone.

    Args:
        names: of the ways. scores: MR-STFT `[N, ways]`, finite.
        metrics: by name, `[N, ways]`; where one of an example's values is NaN the example is left out of that
            metric. table: what they are. weights: `[times, N]`, of `resamples`.
    """
    means = _weighted(weights, scores)
    # Where nothing was applied to any example, the input left alone has a distance of 0.
    ratios = means / np.maximum(means[:, -1:], 1e-12)
    figures = {m.name: _figures(metrics[m.name], m.lower, weights) for m in table if m.name in metrics}
    rows = []
    for i, name in enumerate(names):
        mean = scores[:, i].mean()
        ratio = mean / max(scores[:, -1].mean(), 1e-12)
        (low, high), (ratio_low, ratio_high) = _interval(means[:, i]), _interval(ratios[:, i])
        of_this = {metric: many[i] for metric, many in figures.items() if many}
        median = float(np.median(scores[:, i]))
        rows.append(
            Row(name, float(mean), median, low, high, float(ratio), ratio_low, ratio_high, metrics=of_this)
        )
    return tuple(rows)


def _figures(values: np.ndarray, lower: bool, weights: np.ndarray) -> list[Figure]:
    """A figure a way of values `[N, ways]`; none if no example has them all."""
    whole = np.isfinite(values).all(axis=1)
    kept, weights = values[whole], weights[:, whole]
    weights = weights[weights.sum(axis=1) > 0]
    if not len(kept) or not len(weights):
        return []
    means, alone = _weighted(weights, kept), float(kept[:, -1].mean())
    figures = []
    for i in range(kept.shape[1]):
        mean, median = float(kept[:, i].mean()), float(np.median(kept[:, i]))
        relative, ends = None, (None, None)
        if not lower:
            relative, ends = mean - alone, _interval(means[:, i] - means[:, -1])
        elif alone > NOTHING:
            relative, ends = mean / alone, _interval(means[:, i] / np.maximum(means[:, -1], 1e-12))
        figures.append(Figure(mean, median, *_interval(means[:, i]), relative, *ends, len(kept)))
    return figures


def _weighted(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Means `[times, ways]` of values `[N, ways]`, each example counted as often as drawn."""
    return weights @ values / weights.sum(axis=1, keepdims=True)


def _interval(values: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(values, INTERVAL)
    return float(low), float(high)


def parameter_errors(
    parameters: Sequence[Parameter], guessed: np.ndarray, true: np.ndarray
) -> dict[str, dict[str, float | None]]:
    """How well settings `[N, P]` were found; see `Evaluation.parameters`. Empty if N is 0."""
    errors: dict[str, dict[str, float | None]] = {}
    if not len(true):
        return errors
    for i, p in enumerate(parameters):
        if p.levels:
            same = p.to_native(guessed[:, i]) == p.to_native(true[:, i])
            errors[p.name] = {"accuracy": float(np.mean(same))}
        else:
            g, t = guessed[:, i], true[:, i]
            errors[p.name] = {
                "mae": float(np.abs(g - t).mean()),
                "pearson": correlation(g, t),
                "spearman": correlation(scipy.stats.rankdata(g), scipy.stats.rankdata(t)),
            }
    return errors


def correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Pearson's r of `[N]` and `[N]` (of ranks it is Spearman's); None where one of them never changes."""
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt(np.square(a).sum() * np.square(b).sum()))
    return float(np.clip((a * b).sum() / scale, -1.0, 1.0)) if scale > 1e-12 else None
