"""What an executor has done so far."""

from __future__ import annotations

import time
from dataclasses import astuple, dataclass


@dataclass(frozen=True)
class RenderStats:
    """Totals since the executor was made; subtract an earlier one to see a stretch of time.

    Attributes:
        renders: finished renders, failed ones not counted.
        audio_seconds: length of all rendered audio (s).
        plugin_seconds: time inside the plugins, summed over workers (s).
        cpu_seconds: processor time of the workers in all, plugins and the rest, summed (s).
        wall_seconds: time during which there was something to render (s).
        retried: jobs that were tried a second time.
        replaced: workers that died or were killed.
        recycled: workers that were ended between two renders because their memory was past the limit.
        workers: worker processes in use (a property of the executor, not a total).
    """

    renders: int = 0
    audio_seconds: float = 0.0
    plugin_seconds: float = 0.0
    cpu_seconds: float = 0.0
    wall_seconds: float = 0.0
    retried: int = 0
    replaced: int = 0
    recycled: int = 0
    workers: int = 1

    @property
    def renders_per_second(self) -> float:
        return self.renders / self.wall_seconds if self.wall_seconds else 0.0

    @property
    def share_of_ideal(self) -> float:
        """Plugin time over (wall time x workers): 1 if the workers did nothing but run plugins."""
        return self.plugin_seconds / (self.wall_seconds * self.workers) if self.wall_seconds else 0.0

    def __sub__(self, earlier: RenderStats) -> RenderStats:
        now, before = astuple(self)[:-1], astuple(earlier)[:-1]
        return RenderStats(*(a - b for a, b in zip(now, before, strict=True)), workers=self.workers)


@dataclass(frozen=True)
class Unrepeatable:
    """Two renders of one job, one after the other in one worker, that differ.

    Attributes:
        effect: its name. setting: `[P]` on 0..1. difference: the largest between two samples (full scale is
            1; NaN if one of them was).
    """

    effect: str
    setting: tuple[float, ...]
    difference: float

    def __str__(self) -> str:
        return (
            f"effect {self.effect!r} is not repeatable: the same clip and setting, rendered twice, differed "
            f"by up to {self.difference:.2g}"
        )


class BusyTime:
    """Seconds during which there was something to do. One thread begins and ends, any may ask."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._past = 0.0

    def begin(self, when: float | None = None) -> None:
        """From now on, or from `when` (CLOCK_MONOTONIC, s), unless it had begun."""
        if self._since is None:
            self._since = time.monotonic() if when is None else when

    def end(self) -> None:
        if self._since is not None:
            self._past += time.monotonic() - self._since
            self._since = None

    def seconds(self) -> float:
        since = self._since
        return self._past + (time.monotonic() - since if since is not None else 0.0)
