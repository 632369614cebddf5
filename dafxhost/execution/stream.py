"""Rendering one long recording in pieces, in a worker of its own."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from dafxhost.errors import ParameterError, PluginError, ShapeError, UsageError
from dafxhost.execution import protocol
from dafxhost.execution.checks import check_audio, finite, like
from dafxhost.execution.crew import SHORTEST_LOAD_DEADLINE, START_DEADLINE
from dafxhost.execution.pool import Pool, not_applied, with_log
from dafxhost.execution.process import WorkerFailedError, WorkerProcess
from dafxhost.processor import RenderSpec


class Stream:
    """A plugin that carries on from chunk to chunk. Use as a context manager, from one thread at a time.

    The plugin's latency is taken out: all that `process` returned and then what `finish` returns, joined,
    are as long as the input and the same samples as one `Executor.render` of the whole (for plugins whose
    output depends on block boundaries: if all chunks but the last are multiples of the block size).

    Attributes:
        latency: the plugin's latency (samples). `process` returns that many samples fewer at the beginning,
            `finish` returns them at the end; with no latency every chunk comes back whole.
    """

    def __init__(self, pool: Pool, spec: RenderSpec, setting: np.ndarray, owner: Any) -> None:
        self._pool, self._spec, self._setting, self._owner = pool, spec, setting, owner
        self._worker: WorkerProcess | None = None
        self._buffer: Any = None
        self._capacity = 0
        self._to_drop = 0
        self._finished = False
        self.latency = 0

    def __enter__(self) -> Stream:
        if self._worker is not None:
            raise UsageError("this stream is open already")
        self._worker = self._pool.start_worker()
        try:
            self._open(self._worker)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, worker: WorkerProcess) -> None:
        effect = self._pool.effect
        values = effect.plugin_values(self._setting)
        table = self._pool.arena.region(values.nbytes)
        table.array(np.float64, values.shape)[:] = values
        number, description = self._pool.describe(self._spec)
        worker.send(
            protocol.pack_open(number, description.offset, description.size, table.offset, len(values))
        )
        patience = START_DEADLINE + max(SHORTEST_LOAD_DEADLINE, self._pool.deadline)
        self.latency = max(0, protocol.unpack_opened(self._answer(worker, protocol.OPENED, patience)))
        self._to_drop = self.latency

    def process(self, chunk: Any) -> Any:
        """Next samples `[C, N]` -> `[C, N]`, except for the plugin's latency (see `latency`).

        Raises:
            ShapeError, UsageError: the chunk is not `[C, N]` of this stream's channels, or the stream is
                closed.
            PluginError: the plugin died, hung or returned NaN; the stream cannot go on.
        """
        audio = check_audio(chunk, "C, N")
        if audio.shape[0] != self._spec.channels:
            raise ShapeError(f"chunk has {audio.shape[0]} channels; this stream has {self._spec.channels}")
        if self._finished:
            raise UsageError("this stream is finished")
        return like(self._feed(audio), chunk)

    def finish(self) -> np.ndarray:
        """The last samples `[C, latency]`, which the plugin still held back; the stream then takes no
        more.
        """
        self._finished = True
        if not self.latency:
            return np.zeros((self._spec.channels, 0), np.float32)
        return self._feed(np.zeros((self._spec.channels, self.latency), np.float32))

    def _feed(self, audio: np.ndarray) -> np.ndarray:
        worker = self._worker
        if worker is None:
            raise UsageError("this stream is not open; use it in a with statement")
        if audio.shape[1] > self._capacity:
            self._capacity = audio.shape[1]
            size = 4 * self._spec.channels * self._capacity
            self._buffer = self._pool.arena.region(size), self._pool.arena.region(size)
        source, target = (region.array(np.float32, audio.shape) for region in self._buffer)
        with np.errstate(over="ignore"):
            source[:] = audio
        if not finite(source):
            raise ParameterError("the chunk holds NaN or infinite samples")
        offsets = (region.offset for region in self._buffer)
        worker.send(protocol.pack_feed(*audio.shape, *offsets))
        self._answer(worker, protocol.FED, self._pool.deadline)
        drop = min(self._to_drop, audio.shape[1])
        self._to_drop -= drop
        return target[:, drop:].copy()

    def _answer(self, worker: WorkerProcess, wanted: bytes, patience: float) -> bytes:
        try:
            return worker.answer(wanted, patience)
        except WorkerFailedError as error:
            if error.report is None:
                self._fail(worker, str(error))
            self._refuse(worker, error.report)

    def _refuse(self, worker: WorkerProcess, report: dict[str, Any]) -> NoReturn:
        effect = self._pool.effect
        if report["reason"] == "parameter":
            error: PluginError = not_applied(effect, report)
        elif report["reason"] == "load":
            where = f"effect {effect.name!r} could not be loaded by {effect.provider.name}"
            error = PluginError(f"{where}: {report['text']}")
        else:
            error = PluginError(f"the stream through effect {effect.name!r} broke off: {report['text']}")
        self.close()
        raise error

    def _fail(self, worker: WorkerProcess, reason: str) -> NoReturn:
        text = with_log(f"the stream through effect {self._pool.effect.name!r} broke off: {reason}", worker)
        self.close()
        raise PluginError(text)

    def close(self) -> None:
        """End the worker. Called on leaving the with statement."""
        worker, self._worker = self._worker, None
        self._buffer = None
        self._capacity = 0
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                worker.close()
