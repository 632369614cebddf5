"""One `render` call on its way through the workers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import JobFailure
from dafxhost.execution import protocol
from dafxhost.execution.arena import PAGE, Arena, Region
from dafxhost.processor import RenderSpec

ALIGNMENT = 16
"""Bytes; what SSE code, compiled to peel unaligned heads off its loops, sees the same every time."""


def aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


class Batch:
    """Clips `[B, C, T]`, settings `[B, K, P]`, and the state of their B * K renders.

    Jobs are numbered clip by clip. `issue` belongs to the thread that brings the clips, everything else to
    the dispatcher's.

    Args:
        processor: id, and where in the arena its description is. owner: kept alive until the batch is done.
        lenient: a parameter that a render does not take fails that render only, unless none takes it.
        inputs: offset of the clips in the arena if they lie there already, or None to make room for them.
    """

    def __init__(
        self,
        arena: Arena,
        *,
        number: int,
        processor: tuple[int, Region],
        effect: Effect,
        spec: RenderSpec,
        settings: np.ndarray,
        shape: tuple[int, int, int],
        inputs: int | None,
        owner: Any,
        lenient: bool,
    ) -> None:
        self.number, self.effect, self.spec, self.settings, self.owner = number, effect, spec, settings, owner
        clips, channels, samples = shape
        self.columns = settings.shape[1]
        self.jobs = clips * self.columns
        stride = aligned(channels * samples * 4)
        self._inputs = arena.region(clips * stride) if inputs is None else None
        self._outputs = arena.region(max(1, self.jobs) * stride)
        parameters = settings.shape[2]
        table_size = self.jobs * (parameters * 8 + 4)
        self._header = arena.region(protocol.HEADER_SIZE + table_size)
        self.page = self._header.offset // PAGE
        self.layout = protocol.BatchLayout(
            batch=number,
            processor=processor[0],
            description=processor[1].offset,
            description_size=processor[1].size,
            jobs=self.jobs,
            columns=self.columns,
            channels=channels,
            samples=samples,
            parameters=parameters,
            table=self._header.offset + protocol.HEADER_SIZE,
            inputs=self._inputs.offset if self._inputs is not None else inputs or 0,
            input_stride=stride,
            outputs=self._outputs.offset,
            output_stride=stride,
            holes=arena.holes,
        )
        self._words = self._header.array(np.int64, (protocol.HEADER_SIZE // 8,))
        self._words[:] = 0
        packed = protocol.pack_layout(self.layout)
        self._words[: len(packed) // 8] = np.frombuffer(packed, np.int64)
        values = self._header.array(np.float64, (self.jobs, parameters), protocol.HEADER_SIZE)
        values[:] = effect.plugin_values(settings).reshape(values.shape)
        self.state = self._header.array(np.int32, (self.jobs,), self.layout.state - self._header.offset)
        self.state[:] = protocol.PENDING

        self.future: Future[tuple[np.ndarray, list[JobFailure]]] = Future()
        self.future.set_running_or_notify_cancel()
        self.issued = 0  # jobs whose clip is in place
        self.lock = threading.Lock()  # of `issued` and `error`
        self.began = time.monotonic()
        self.reasons: dict[int, str] = {}  # why jobs failed that are tried a second time
        self.not_applied: dict[int, Exception] = {}  # where a parameter's value was not taken
        self.lenient = lenient
        self.failures: list[JobFailure] = []
        self.error: BaseException | None = None
        self.hopeless = False  # the first renders all failed; what is left is to be skipped

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

    def setting(self, job: int) -> np.ndarray:
        return self.settings[job // self.columns, job % self.columns]

    def cancel(self) -> None:
        """Have workers skip what they have not begun."""
        self._words[protocol.CANCELLED] = 1

    def abort(self, error: BaseException) -> None:
        """Give up; what workers do now runs to its end unseen."""
        with self.lock:
            if self.error is None and not self.future.done():
                self.error = error
                self.cancel()
                self.future.set_exception(error)

    def skipped(self) -> list[int]:
        return np.flatnonzero(self.state == protocol.SKIPPED).tolist()

    def waiting(self) -> set[int]:
        """Jobs that were issued and are neither done nor failed nor skipped."""
        return set(np.flatnonzero(self.state[: self.issued] == protocol.PENDING).tolist())

    @property
    def done(self) -> int:
        return int(np.count_nonzero(self.state == protocol.DONE))

    @property
    def complete(self) -> bool:
        # A job that broke counts when its failure has arrived here, which is later than its state.
        return self.error is None and self.done + len(self.failures) == self.jobs

    @property
    def over(self) -> bool:
        """Nothing of it is left to do."""
        return self.complete or (self.error is not None and not self.waiting())
