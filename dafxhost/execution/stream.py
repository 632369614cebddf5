"""Rendering one long recording in pieces, in a worker of its own."""

from __future__ import annotations

import contextlib
from typing import Any, NoReturn, cast

import numpy as np

from dafxhost.errors import ParameterError, PluginError
from dafxhost.execution import protocol
from dafxhost.execution.checks import finite
from dafxhost.execution.crew import SHORTEST_LOAD_DEADLINE, START_DEADLINE
from dafxhost.execution.failures import in_part, not_loaded
from dafxhost.execution.front import BaseStream
from dafxhost.execution.ledger import not_applied, with_log
from dafxhost.execution.pool import Pool
from dafxhost.execution.process import WorkerFailedError, WorkerProcess
from dafxhost.processor import RenderSpec


class Stream(BaseStream):
    """A stream whose plugin has a worker of its own on this machine."""

    def __init__(self, pool: Pool, spec: RenderSpec, setting: np.ndarray, owner: Any) -> None:
        super().__init__(pool.effect, spec, setting, owner)
        self._pool = pool
        self._worker: WorkerProcess | None = None
        self._buffer: Any = None
        self._capacity = 0
        self._to_drop = 0

    def _is_open(self) -> bool:
        return self._worker is not None

    def _open(self) -> None:
        worker = self._worker = self._pool.start_worker()
        values = self._effect.plugin_values(self._setting)
        table = self._pool.arena.region(values.nbytes)
        table.array(np.float64, values.shape)[:] = values
        number, description = self._pool.describe(self._spec)
        place = (description.offset, description.size, table.offset, len(values))
        worker.send(protocol.pack_open(protocol.OPEN, number, *place))
        patience = START_DEADLINE + max(SHORTEST_LOAD_DEADLINE, self._pool.deadline)
        self.latency = max(0, protocol.unpack_opened(self._answer(worker, protocol.OPENED, patience)))
        self._to_drop = self.latency

    def _drain(self) -> np.ndarray:
        return self._feed(np.zeros((self._spec.channels, self.latency), np.float32))

    def _feed(self, audio: np.ndarray) -> np.ndarray:
        worker = cast("WorkerProcess", self._worker)  # `process` has seen to that
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
        effect = self._effect
        if report["reason"] == "parameter":
            error: PluginError = not_applied(effect, report)
        elif report["reason"] == "load":
            error = PluginError(not_loaded(effect, report["text"]))
        else:
            error = PluginError(f"the stream through effect {effect.name!r} broke off: {report['text']}")
        self.close()
        raise error

    def _fail(self, worker: WorkerProcess, reason: str) -> NoReturn:
        reason = in_part(self._effect, reason, worker.claim().part)
        text = with_log(f"the stream through effect {self._effect.name!r} broke off: {reason}", worker)
        self.close()
        raise PluginError(text)

    def close(self) -> None:
        worker, self._worker = self._worker, None
        self._buffer = None
        self._capacity = 0
        if worker is not None:
            with contextlib.suppress(ProcessLookupError):
                worker.close()
