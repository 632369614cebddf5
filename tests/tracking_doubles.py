"""Trackers for tests: one that keeps everything, and ones that fail in their own ways."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.tracking import TrackedRun, Tracker


class Keeping(Tracker):
    """Keeps what it is told in `told`, by the run's name, since training makes its trackers itself."""

    told: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012

    def start(self, run: TrackedRun) -> None:
        self._told = self.told.setdefault(run.name, [])
        self._told.append(("start", run))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._told.append(("scalars", (step, dict(values))))

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        self._told.append(("histograms", (step, dict(values))))

    def audio(self, step: int, clips: Mapping[str, np.ndarray], sample_rate: int) -> None:
        self._told.append(("audio", (step, dict(clips), sample_rate)))

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._told.append(("pictures", (step, dict(pictures))))

    def end(self, reason: str) -> None:
        self._told.append(("end", reason))


class NoNetwork(Keeping):
    def start(self, run: TrackedRun) -> None:
        raise ConnectionError("no network")


class FullDisk(Keeping):
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        raise OSError(28, "No space left on device")


class Leaving(Keeping):
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        raise SystemExit(3)


class Hanging(Keeping):
    release = threading.Event()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self.release.wait(60)


def raising() -> Tracker:
    raise ValueError("not today")
