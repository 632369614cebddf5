"""How busy training keeps the processor's cores."""

from __future__ import annotations

import os
import time
from typing import Any


class CoreUsage:
    """Measures from its making, or from the last call of `take`, to the next.

    Args:
        executor: whose workers render.
    """

    def __init__(self, executor: Any) -> None:
        self._executor = executor
        self._cores = len(os.sched_getaffinity(0))
        self._last = self._now()

    def _now(self) -> tuple[float, float, float, float]:
        stats = self._executor.stats
        return time.monotonic(), time.process_time(), stats.cpu_seconds, stats.plugin_seconds

    def take(self) -> dict[str, float]:
        """Shares of the cores' time since the last look, 0..1: `cores_busy`, with anything of training;
        `cores_rendering`, inside plugins (by the clock, so that it also counts waiting for a core).
        """
        last, self._last = self._last, self._now()
        wall, own, workers, plugins = (b - a for a, b in zip(last, self._last, strict=True))
        time_of_all = max(wall, 1e-9) * self._cores
        return {
            "cores_busy": round((own + workers) / time_of_all, 4),
            "cores_rendering": round(plugins / time_of_all, 4),
        }
