"""Running chosen metrics on recordings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dafxhost.errors import ShapeError, UsageError
from dafxhost.metrics.clips import Clips
from dafxhost.metrics.table import Metric, choose


class Measurer:
    """Measures renders of an example against its target; may be called from several threads at once.

    Args:
        metrics: what to measure. sample_rate: of all audio, Hz.
    """

    def __init__(self, metrics: Sequence[Metric], sample_rate: int) -> None:
        self.metrics, self.sample_rate = tuple(metrics), sample_rate

    def measure(self, renders: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Values `[K, M]` of renders `[K, C, T]` against the target `[C, T]`.

        NaN where a render failed (holds NaN), or where a metric has no answer.
        """
        values = np.full((len(renders), len(self.metrics)), np.nan)
        equal = np.array([np.array_equal(render, target) for render in renders], dtype=bool)
        for m, metric in enumerate(self.metrics):
            if metric.perfect is not None:
                values[equal, m] = metric.perfect
        self._fill(values, renders, target, ~equal, [m for m, _ in enumerate(self.metrics)])
        unknown = [m for m, metric in enumerate(self.metrics) if metric.perfect is None]
        self._fill(values, renders, target, equal, unknown)
        return values

    def _fill(
        self,
        values: np.ndarray,
        renders: np.ndarray,
        target: np.ndarray,
        rows: np.ndarray,
        columns: list[int],
    ) -> None:
        """Measure those rows by those metrics."""
        places = [k for k in np.flatnonzero(rows) if np.isfinite(renders[k]).all()]
        if not places or not columns:
            return
        wanted = Clips(target[None], self.sample_rate)
        clips = Clips(renders[places], self.sample_rate)
        for m in columns:
            values[places, m] = self.metrics[m].measure(clips, wanted)


def compare(
    prediction: np.ndarray, target: np.ndarray, sample_rate: int, names: Sequence[str] | None = None
) -> dict[str, float]:
    """How far `prediction` `[C, T]` lies from `target` `[C, T]`, by metric; levels are taken as they are.

    Args:
        sample_rate: of both, Hz. names: as of `dafxhost.metrics.choose`, without adding "mr-stft".

    Raises:
        ShapeError: different or other shapes, or fewer than 1024 samples. UsageError: samples that are not
            finite, or a metric that is not installed. UnknownNameError: no such metric.
    """
    a, b = (np.asarray(x, dtype=np.float32) for x in (prediction, target))
    if a.shape != b.shape or a.ndim != 2:
        raise ShapeError(
            f"recordings to compare have one shape [C, T], not {list(a.shape)} and {list(b.shape)}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise UsageError("recordings to compare hold NaN or infinite samples")
    Clips(b[None], sample_rate)  # refuses what is too short, also where both are equal
    metrics = choose(names).metrics
    if names and not {"default", "all", "mr-stft"} & set(names):
        metrics = tuple(metric for metric in metrics if metric.name in names)
    values = Measurer(metrics, sample_rate).measure(a[None], b)[0]
    return {metric.name: float(value) for metric, value in zip(metrics, values, strict=True)}
