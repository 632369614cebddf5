"""One `render` call on its way through the nodes of a Ray cluster."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import JobFailure, ParameterNotAppliedError
from dafxhost.execution.failures import HOPELESS, SAVED_INPUTS, UNTRIED, not_taken, save_input
from dafxhost.processor import RenderSpec

SHARD_SECONDS = 0.5
"""Of rendering in a shard: what a lost node loses, and what an interrupt waits for."""
SHARD_BYTES = 32 << 20
"""Most audio in a shard's results, so that few fit into the object stores at once."""
LOSSES = 2  # nodes that died of a shard


@dataclass(eq=False)
class Shard:
    """Clips `first`..`last` of a batch with its settings `left`..`right` (ends excluded).

    Attributes:
        clips: reference to some clips in the object store. base: number of the first of them.
        lost: names of the nodes that died while they had it.
    """

    batch: RayBatch
    first: int
    last: int
    left: int
    right: int
    clips: Any
    base: int
    lost: list[str] = field(default_factory=list)

    @property
    def jobs(self) -> int:
        return (self.last - self.first) * (self.right - self.left)

    @property
    def settings(self) -> np.ndarray:
        return self.batch.settings[self.first : self.last, self.left : self.right]


class RayBatch:
    """Clips `[B, C, T]` float32, settings `[B, K, P]`, and how far their B * K renders have come.

    It is cut into shards only as they are handed out, when it is known who there is to share the work and how
    long a render takes. Everything but the constructor is the dispatcher thread's.

    Args:
        failure_dir: where inputs of failed renders are saved. on_error: "raise" or "nan", as of `render`.
        owner: kept alive until the batch is done.
    """

    def __init__(
        self,
        clips: np.ndarray,
        settings: np.ndarray,
        effect: Effect,
        spec: RenderSpec,
        failure_dir: Path,
        on_error: str,
        owner: Any,
    ) -> None:
        self.clips, self.settings, self.effect, self.spec = clips, settings, effect, spec
        self.failure_dir, self.on_error, self.owner = failure_dir, on_error, owner
        self.columns = settings.shape[1]
        self.jobs = len(clips) * self.columns
        self.result = np.empty((len(clips), self.columns, *clips.shape[1:]), np.float32)
        self.future: Future[tuple[np.ndarray, list[JobFailure]]] = Future()
        self.future.set_running_or_notify_cancel()
        self.failures: list[JobFailure] = []
        self.finished = 0
        self.error: BaseException | None = None
        self.not_applied: ParameterNotAppliedError | None = None
        self.returned: deque[Shard] = deque()  # to be tried again
        self._saved = 0
        self._row, self._column = (0, 0) if self.jobs else (len(clips), 0)  # the first job not in any shard
        self._clip: Any = None  # reference to clip `_row`, while its settings are in several shards

    @property
    def waiting(self) -> int:
        """Jobs that were in no shard yet."""
        return (len(self.clips) - self._row) * self.columns - self._column if self.error is None else 0

    @property
    def has_work(self) -> bool:
        return self.error is None and bool(self.returned or self.waiting)

    @property
    def over(self) -> bool:
        return self.error is not None or self.finished == self.jobs

    def next_shard(
        self, workers: int, all_workers: int, pace: float | None, put: Callable[[np.ndarray], Any]
    ) -> Shard:
        """The next piece, for a node of `workers` among `all_workers`.

        Args:
            pace: plugin seconds a render, None if unknown. put: array -> reference in the object store.
        """
        # Never fewer jobs than workers, and fewer towards the end, so that all nodes finish together.
        wanted = max(workers, math.ceil(self.waiting * workers / (3 * all_workers)))
        limit = workers if pace is None else math.ceil(SHARD_SECONDS * workers / max(pace, 1e-6))
        clip_bytes = max(1, self.clips[:1].nbytes)
        wanted = min(wanted, max(limit, workers), max(1, SHARD_BYTES // clip_bytes))
        row, column = self._row, self._column
        if column == 0 and wanted >= self.columns:
            last = min(len(self.clips), row + wanted // self.columns)
            self._row = last
            return Shard(self, row, last, 0, self.columns, put(self.clips[row:last]), row)
        if self._clip is None:
            self._clip = put(self.clips[row : row + 1])
        shard = Shard(self, row, row + 1, column, min(self.columns, column + wanted), self._clip, row)
        self._column = shard.right
        if self._column == self.columns:
            self._row, self._column, self._clip = row + 1, 0, None
        return shard

    def gather(self, shard: Shard, wet: np.ndarray, failures: tuple[JobFailure, ...]) -> None:
        """Take in what a node rendered."""
        if self.error is not None:
            return
        self.result[shard.first : shard.last, shard.left : shard.right] = wet
        untried = 0
        for failure in failures:
            row, column = failure.row + shard.first, failure.column + shard.left
            if failure.reason == UNTRIED:  # hopeless for the node, which has seen but this shard
                self._return_job(shard, row, column)
                untried += 1
            else:
                tried = bool(failure.saved_input)
                self._note(replace(failure, row=row, column=column, saved_input=""), save=tried)
        self.finished += shard.jobs - untried
        self._give_up_if_hopeless()

    def refuse(self, shard: Shard, error: ParameterNotAppliedError) -> bool:
        """No render of a shard had its parameters taken; one by one they show which it was, and how others
        failed. Returns False if that is the end of the batch, because nothing may fail.
        """
        if self.on_error == "raise":
            return False
        if self.error is None and shard.jobs > 1:
            for row in range(shard.first, shard.last):
                for column in range(shard.left, shard.right):
                    self._return_job(shard, row, column)
        elif self.error is None:
            self.not_applied = self.not_applied or error
            reason = not_taken(self.effect, error)
            self._fail_jobs(shard.first, shard.last, shard.left, shard.right, reason, save=True)
            self._give_up_if_hopeless()
        return True

    def _return_job(self, shard: Shard, row: int, column: int) -> None:
        self.returned.append(Shard(self, row, row + 1, column, column + 1, shard.clips, shard.base))

    def lose(self, shard: Shard, node: str) -> bool:
        """A node was lost with a shard. Returns whether that is tried again: not if no node survives it."""
        if self.error is not None:
            return False
        shard.lost.append(node)
        if len(shard.lost) < LOSSES:
            self.returned.appendleft(shard)
            return True
        reason = f"the nodes that rendered it were lost: {', '.join(shard.lost)}"
        self._fail_jobs(shard.first, shard.last, shard.left, shard.right, reason, save=True)
        return False

    def _give_up_if_hopeless(self) -> None:
        several = len({failure.row for failure in self.failures}) >= min(2, len(self.clips))
        if len(self.failures) < HOPELESS or not several or self.finished > len(self.failures):
            return
        while self.returned:
            s = self.returned.popleft()
            self._fail_jobs(s.first, s.last, s.left, s.right, UNTRIED, save=False)
        if self._column:
            self._fail_jobs(self._row, self._row + 1, self._column, self.columns, UNTRIED, save=False)
            self._row, self._column, self._clip = self._row + 1, 0, None
        self._fail_jobs(self._row, len(self.clips), 0, self.columns, UNTRIED, save=False)
        self._row = len(self.clips)

    def _fail_jobs(self, first: int, last: int, left: int, right: int, reason: str, *, save: bool) -> None:
        self.result[first:last, left:right] = np.nan
        for row in range(first, last):
            for column in range(left, right):
                setting = tuple(float(v) for v in self.settings[row, column])
                self._note(JobFailure(row, column, self.effect.name, setting, reason), save=save)
        self.finished += (last - first) * (right - left)

    def _note(self, failure: JobFailure, *, save: bool) -> None:
        if save and self._saved < SAVED_INPUTS:
            self._saved += 1
            row, column = failure.row, failure.column
            path, problem = save_input(
                self.failure_dir, self.effect, self.spec, self.clips[row], self.settings[row, column],
                failure.reason,
            )  # fmt: skip
            log = "\n".join(filter(None, [failure.log, problem]))
            failure = replace(failure, saved_input=path, log=log)
        self.failures.append(failure)

    def abort(self, error: BaseException) -> None:
        """Give up; shards that nodes have now run to their end unseen."""
        if self.error is None and not self.future.done():
            self.error = error
            self.returned.clear()
            self._clip = None
            self.future.set_exception(error)

    def finish(self) -> None:
        """Hand over the result, once all is finished."""
        if self.not_applied is not None and len(self.failures) == self.jobs:
            self.abort(self.not_applied)  # never taken: no matter of single renders
            return
        self.failures.sort(key=lambda failure: (failure.row, failure.column))
        self.future.set_result((self.result, self.failures))
