"""Trackers: where the course of a training can be watched, besides the run's own log.jsonl.

A `Tracker` is a small class that anybody can write (docs/tracking.md shows one) and that is found by entry
point like effects and encoders. `Tracking` hands what happens to several of them. Each works on a thread of
its own, so that one that waits for a network holds up nothing, and one that fails is left out and named once:
**a tracker never stops a training**, and never changes its numbers as long as it leaves torch's global random
generator alone.
"""

from __future__ import annotations

import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.errors import UsageError

FOLDER = "tracking"
"""Within a run, where each tracker has a folder of its own."""
PENDING = 2000
"""Records that may wait for a tracker before it is given up."""
PATIENCE = 60.0
"""Seconds that trackers have together, after the training, to write or send what is left."""


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told when it starts.

    Attributes:
        name: of the run: its folder's.
        folder: this tracker's own folder in the run; it is there, and is kept for when the run is resumed.
        config: the training options, by name.
        step: the first step that will be recorded, 0 for a new run.
        resumed: whether the run was trained before.
    """

    name: str
    folder: Path
    config: dict[str, Any]
    step: int = 0
    resumed: bool = False


class Tracker(ABC):
    """Where a run can be watched. All methods are called one after the other, on one thread.

    The constructor imports what is needed, and raises a `DafxhostError` that says what to install where
    that is missing: then nothing is trained. What `start` and later methods raise ends this tracker only.
    What a tracker has no use for it need not implement, except for `start` and `scalars`.
    Steps count on from the supervised phase to the end-to-end phase; a resumed run may repeat some.
    """

    @abstractmethod
    def start(self, run: TrackedRun) -> None:
        """Open the run, or go on with it if it is resumed."""

    @abstractmethod
    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Finite numbers by name, such as "train/loss"."""

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:  # noqa: B027
        """Distributions by name: finite numbers `[N]` each."""

    def audio(self, step: int, clips: Mapping[str, np.ndarray], sample_rate: int) -> None:  # noqa: B027
        """Clips by name: `[C, T]` float32 within -1..1, at `sample_rate` Hz."""

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:  # noqa: B027
        """Pictures by name: `[height, width, 3]` uint8."""

    def end(self, reason: str) -> None:  # noqa: B027
        """The training is over: "finished", "max_minutes", "patience", "interrupted" or "failed"."""


def tracker_names(text: str) -> list[str]:
    """ "tensorboard, wandb" -> ["tensorboard", "wandb"]; "" and "none" name none. Raises UsageError: a name
    given twice.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"tracker {twice[0]!r} is named twice in {text!r}")
    return [] if names == ["none"] else names


def make_trackers(text: str) -> dict[str, Tracker]:
    """The trackers that "name, name" asks for.

    Raises:
        UnknownNameError: no such tracker. RegistryError: it is broken, is none, or needs a package that is
            not installed.
    """
    from dafxhost.registry import tracker

    return {name: tracker(name) for name in tracker_names(text)}


class Tracking:
    """Hands records to trackers, each on its own thread.

    Args:
        trackers: by name.
        path: the run's folder. config, step: for `TrackedRun`; resumed: whether the run was trained before.
        on_problem: called, on the caller's thread, with (name, what happened) of a tracker that failed,
            once.
    """

    def __init__(
        self,
        trackers: Mapping[str, Tracker],
        path: Path,
        config: dict[str, Any],
        *,
        step: int = 0,
        resumed: bool = False,
        on_problem: Callable[[str, str], None],
    ) -> None:
        self._on_problem = on_problem
        self._couriers = [
            _Courier(name, tracker, TrackedRun(path.name, path / FOLDER / name, config, step, resumed))
            for name, tracker in trackers.items()
        ]

    @property
    def active(self) -> bool:
        """Whether anybody is left to record for."""
        return bool(self._couriers)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Record what is a finite number among `values`."""
        numbers = {k: float(v) for k, v in values.items() if _is_number(v)}
        self._send("scalars", step, numbers)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        finite = {k: v[np.isfinite(v)] for k, v in values.items()}
        self._send("histograms", step, {k: v for k, v in finite.items() if v.size})

    def audio(self, step: int, clips: Mapping[str, np.ndarray], sample_rate: int) -> None:
        safe = {k: np.clip(np.nan_to_num(np.asarray(v, np.float32)), -1.0, 1.0) for k, v in clips.items()}
        self._send("audio", step, safe, sample_rate)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._send("pictures", step, dict(pictures))

    def end(self, reason: str, patience: float = PATIENCE) -> None:
        """Let all trackers finish, for at most `patience` seconds together. Later calls do nothing."""
        until = time.monotonic() + patience
        for courier in self._couriers:
            courier.close(reason)
        for courier in self._couriers:
            courier.wait(max(0.0, until - time.monotonic()))
        self._drop_failed()
        self._couriers = []

    def _send(self, method: str, *arguments: Any) -> None:
        for courier in self._couriers:
            courier.send(method, *arguments)
        self._drop_failed()

    def _drop_failed(self) -> None:
        failed = [c for c in self._couriers if c.failure]
        self._couriers = [c for c in self._couriers if not c.failure]
        for courier in failed:
            self._on_problem(courier.name, courier.failure)


class _Courier:
    """One tracker and the thread that it works on.

    Attributes:
        failure: why nothing is sent any more, or "".
    """

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun) -> None:
        self.name, self.failure = name, ""
        self._tracker = tracker
        self._waiting: queue.Queue[tuple[str, Sequence[Any]] | None] = queue.Queue(PENDING)
        # A daemon: a tracker that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, args=(run,), name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def send(self, method: str, *arguments: Any) -> None:
        self._put((method, arguments))

    def close(self, reason: str) -> None:
        self.send("end", reason)
        self._put(None)

    def wait(self, seconds: float) -> None:
        self._thread.join(seconds)
        if self._thread.is_alive() and not self.failure:
            self.failure = "it had not finished after the training; what it had not sent yet may be lost"

    def _put(self, message: tuple[str, Sequence[Any]] | None) -> None:
        if self.failure:
            return
        try:
            self._waiting.put_nowait(message)
        except queue.Full:
            self.failure = f"it hangs: {PENDING} records are waiting for it"

    def _work(self, run: TrackedRun) -> None:
        # Somebody else's code may raise anything, even SystemExit; it must end nothing but itself.
        try:
            run.folder.mkdir(parents=True, exist_ok=True)
            self._tracker.start(run)
            while (message := self._waiting.get()) is not None:
                method, arguments = message
                getattr(self._tracker, method)(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            self.failure = " ".join(f"{type(error).__name__}: {error}".split())


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
