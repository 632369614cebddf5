"""One `render` call on its way through the workers."""

from __future__ import annotations

import math
from collections import deque
from concurrent.futures import Future
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import JobFailure
from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena
from dafxhost.processor import RenderSpec

ALIGNMENT = (
    16  # bytes; what SSE code, compiled to peel unaligned heads off its loops, sees the same every time
)
# of plugin time. A message costs some 0.1 ms of processor time, most of it cold caches after the plugins.
CHUNK_SECONDS = 10e-3
LARGEST_CHUNK = 32


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Batch:
    """Clips `[B, C, T]`, settings `[B, K, P]`, and the state of their B * K renders.

    Jobs are numbered clip by clip. Everything but the constructor is the dispatcher thread's.

    Args:
        owner: kept alive until the batch is done.
        inputs: offset of the clips in the arena if they lie there already, or None to make room for them.
    """

    def __init__(
        self,
        arena: Arena,
        *,
        number: int,
        processor: int,
        effect: Effect,
        spec: RenderSpec,
        settings: np.ndarray,
        shape: tuple[int, int, int],
        inputs: int | None,
        owner: Any,
    ) -> None:
        self.number, self.effect, self.spec, self.settings, self.owner = number, effect, spec, settings, owner
        clips, channels, samples = shape
        self.columns = settings.shape[1]
        self.jobs = clips * self.columns
        clip_bytes = channels * samples * 4
        stride = aligned(clip_bytes)
        self._inputs = arena.region(clips * stride) if inputs is None else None
        self._outputs = arena.region(max(1, self.jobs) * stride)
        layout = dict(  # noqa: C408
            batch=number,
            processor=processor,
            jobs=self.jobs,
            columns=self.columns,
            channels=channels,
            samples=samples,
            parameters=settings.shape[2],
            inputs=self._inputs.offset if self._inputs is not None else inputs or 0,
            input_stride=stride,
            outputs=self._outputs.offset,
            output_stride=stride,
        )
        self._table = arena.region(protocol.BatchLayout(**layout, table=0).table_size)
        self.layout = protocol.BatchLayout(**layout, table=self._table.offset)
        self.packed_layout = protocol.pack_layout(self.layout)
        values = self._table.array(np.float64, (self.jobs, settings.shape[2]))
        values[:] = effect.plugin_values(settings).reshape(values.shape)
        self.state = self._table.array(np.int32, (self.jobs,), self.layout.state_start)
        self.state[:] = protocol.PENDING

        self.future: Future[tuple[np.ndarray, list[JobFailure]]] = Future()
        self.future.set_running_or_notify_cancel()
        self.queue: deque[int] = deque()
        self.released = 0  # jobs whose clip is in place
        self.finished = 0  # done or failed for good
        self.outstanding = 0  # handed to workers
        self.attempts: dict[int, int] = {}
        self.failures: list[JobFailure] = []
        self.error: BaseException | None = None

    def clips(self) -> np.ndarray:
        """`[B, C, T]`, to be filled by the caller (only if `inputs` was None)."""
        if self._inputs is None:
            raise RuntimeError("the clips of this batch lie elsewhere")
        return self._rows(np.asarray(self._inputs), len(self.settings))

    def clip(self, arena: Arena, job: int) -> np.ndarray:
        """Copy of the clip `[C, T]` of one job."""
        layout = self.layout
        start = layout.inputs + job // self.columns * layout.input_stride
        flat = np.frombuffer(arena.view(start, layout.channels * layout.samples * 4), np.float32)
        return flat.reshape(layout.channels, layout.samples).copy()

    def _rows(self, memory: np.ndarray, rows: int) -> np.ndarray:
        layout = self.layout
        size = layout.channels * layout.samples
        padded = memory[: rows * layout.input_stride].view(np.float32).reshape(rows, layout.input_stride // 4)
        return padded[:, :size].reshape(rows, layout.channels, layout.samples)

    def result(self) -> np.ndarray:
        """`[B, K, C, T]`, C-contiguous; without a copy unless a clip's size forces padding between
        renders.
        """
        rows = self._rows(np.asarray(self._outputs), self.jobs)
        for failure in self.failures:
            rows[failure.row * self.columns + failure.column] = np.nan
        shape = (len(self.settings), self.columns, *rows.shape[1:])
        return np.ascontiguousarray(rows).reshape(shape)

    def release(self, jobs: int) -> None:
        """The clips of the first `jobs` jobs are in place."""
        if self.error is None:
            self.queue.extend(range(self.released, jobs))
            self.released = jobs

    def take_chunk(self, workers: int, pace: float | None) -> list[int]:
        """Next jobs for a worker.

        Several at once where renders are short (`pace`, seconds each, None if unknown), fewer towards the
        end, so that all workers finish together.
        """
        wanted = 1 if pace is None else math.ceil(CHUNK_SECONDS / max(pace, 1e-6))
        fair = math.ceil(len(self.queue) / (3 * workers))
        count = max(1, min(wanted, fair, LARGEST_CHUNK))
        return [self.queue.popleft() for _ in range(min(count, len(self.queue)))]

    def setting(self, job: int) -> np.ndarray:
        return self.settings[job // self.columns, job % self.columns]

    def abort(self, error: BaseException) -> None:
        """Give up; jobs that workers have now run to their end unseen."""
        if self.error is None and not self.future.done():
            self.error = error
            self.queue.clear()
            self.future.set_exception(error)

    @property
    def complete(self) -> bool:
        return self.error is None and self.finished == self.jobs

    @property
    def over(self) -> bool:
        """Nothing of it is left with any worker."""
        return self.outstanding == 0 and (self.complete or self.error is not None)
