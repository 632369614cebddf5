"""The dispatcher: one thread that follows batches through the worker processes.

It does not hand out jobs, workers take them from a pipe; it is woken when a batch comes, when a worker has
nothing more to do for one, and when something goes wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError, JobFailure
from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena, Region
from dafxhost.execution.batch import Batch
from dafxhost.execution.crew import START_DEADLINE, Crew
from dafxhost.execution.dispatcher import Dispatcher
from dafxhost.execution.ledger import Ledger
from dafxhost.execution.process import WorkerFailedError, WorkerProcess
from dafxhost.execution.reset_proof import TRIALS, ResetProof
from dafxhost.execution.stats import RenderStats, Unrepeatable
from dafxhost.execution.tickets import TicketPipe
from dafxhost.processor import RenderSpec

TICK = 0.25  # s between looks at the deadlines while there is work
PROOF_PATIENCE = 120.0  # s


class Pool(Dispatcher):
    """Worker processes for one effect, and the thread that runs them. Public methods may be called from any
    thread.
    """

    def __init__(
        self,
        effect: Effect,
        *,
        workers: int,
        deadline: float,
        verify: str,
        failure_dir: Path,
        memory_limit: int,
    ) -> None:
        super().__init__("dafxhost-dispatcher")
        self.effect, self.size, self.deadline, self.verify = effect, workers, deadline, verify
        self.arena = Arena()
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._numbers = 0
        self._tickets = TicketPipe()
        # The rest belongs to the dispatcher thread.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        self.ledger = Ledger(effect, self.arena, self._issue, self._on_wake, failure_dir)
        self._crew = self.ledger.crew = Crew(
            self.ledger,
            self.arena,
            self._tickets,
            self._selector,
            size=workers,
            deadline=deadline,
            memory_limit=memory_limit,
        )
        self._descriptions: dict[RenderSpec, tuple[int, Region]] = {}
        self._tick = min(TICK, deadline / 4)
        self._next_watch = 0.0

    # ---- called by the executor, from any thread

    def number(self) -> int:
        """A new batch number."""
        with self._lock:
            self._numbers += 1
            return self._numbers

    def describe(self, spec: RenderSpec) -> tuple[int, Region]:
        """Number of the processor of that specification, and where workers can read what it is."""
        with self._lock:
            if spec not in self._descriptions:
                provider = self.effect.provider
                text = json.dumps(
                    {
                        "processor": provider.processor,
                        "options": dict(provider.options),
                        "tolerance": provider.read_back_tolerance,
                        "verify": self.verify,
                        "candidates": provider.cheaper_resets,
                        "spec": asdict(spec),
                    }
                ).encode()
                region = self.arena.region(len(text))
                self.arena.view(region.offset, len(text))[:] = text
                self._descriptions[spec] = len(self._descriptions) + 1, region
            return self._descriptions[spec]

    def submit(self, batch: Batch) -> None:
        self.post(lambda: self.ledger.add(batch))

    def release(self, batch: Batch, jobs: int) -> None:
        """The clips of the batch's first `jobs` jobs are in place: workers may have them."""
        with batch.lock:
            if batch.error is not None:
                return
            first, batch.issued = batch.issued, jobs
            # With the pool's lock, since `close` closes the pipe.
            with self._lock:
                all_in = self._closed or self._tickets.put(batch.page, range(first, jobs), batch.number)
        if not all_in:
            self.post(self._push_rest)

    def abort(self, batch: Batch, error: BaseException) -> None:
        batch.abort(error)
        self.post(lambda: self.ledger.look_at(batch))

    def start_worker(self) -> WorkerProcess:
        """A worker outside the pool, for a stream. It must come from the dispatcher thread, which outlives
        it.
        """
        answer: Future[WorkerProcess] = Future()

        def start() -> None:
            try:
                answer.set_result(WorkerProcess(self.arena))
            except OSError as error:
                answer.set_exception(error)

        self.post(start)
        try:
            return answer.result(START_DEADLINE)
        except OSError as error:
            raise DafxhostError(f"no worker process can be started: {error}") from error

    def prove_reset(self, spec: RenderSpec) -> ResetProof:
        """Have a worker of its own find the cheapest exact way of resetting the plugin."""
        number, description = self.describe(spec)
        rng = np.random.default_rng(0)
        settings = rng.random((TRIALS, 2, len(self.effect.parameters)))
        for i, parameter in enumerate(self.effect.parameters):
            if parameter.kind == "toggle":  # what is switched off (a bypassed link) shows no leak
                settings[::2, :, i] = parameter.to_setting(parameter.default)
        values = self.effect.plugin_values(settings)
        table = self.arena.region(values.nbytes)
        table.array(np.float64, values.shape)[:] = values
        worker = self.start_worker()
        try:
            place = (description.offset, description.size, table.offset, values.shape[-1])
            worker.send(protocol.pack_open(protocol.PROVE, number, *place))
            patience = START_DEADLINE + self._crew.load_deadline + PROOF_PATIENCE
            answer = json.loads(worker.answer(protocol.PROVED, patience)[1:])
            return ResetProof(**answer)
        except WorkerFailedError as error:
            # Whatever ails it will show, and be told in full, when something is rendered.
            return ResetProof("fresh", reasons={"proof": str(error)})
        finally:
            worker.close()

    def stats(self) -> RenderStats:
        totals = self._crew.totals()
        return RenderStats(
            renders=totals.renders,
            audio_seconds=totals.audio_seconds,
            plugin_seconds=totals.plugin_seconds,
            cpu_seconds=totals.cpu_seconds,
            wall_seconds=self.ledger.busy.seconds(),
            retried=self.ledger.retried,
            replaced=self._crew.replaced,
            recycled=self._crew.recycled,
            workers=self.size,
        )

    @property
    def _workers(self) -> list[WorkerProcess]:  # for tests
        return self._crew.workers

    @property
    def last_failures(self) -> list[JobFailure]:
        return self.ledger.last_failures

    @property
    def unrepeatable(self) -> Unrepeatable | None:
        return self.ledger.unrepeatable

    # ---- the dispatcher thread

    def _deliver(self, action: Callable[[], None]) -> None:
        self._inbox.append(action)
        os.eventfd_write(self._wake, 1)

    def _turn(self) -> None:
        ready = self._selector.select(self._tick if self.ledger.batches else None)
        self._on_wake()  # first: batches must be known before they are spoken of
        for key, _ in ready:
            key.data()
        self.ledger.settle()
        if time.monotonic() >= self._next_watch:
            self._watch()

    def _release(self) -> None:
        self._crew.close()
        self.ledger.close()
        self._selector.close()
        with self._lock:
            if self._closed:
                os.close(self._wake)
                self._tickets.close()
                self.arena.close()

    def _on_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._inbox:
            self._inbox.popleft()()

    def _push_rest(self) -> None:
        """Put what did not fit into the pipe when there is room."""
        if self._tickets.flush():
            if self._tickets.writer in self._selector.get_map():
                self._selector.unregister(self._tickets.writer)
        elif self._tickets.writer not in self._selector.get_map():
            self._selector.register(self._tickets.writer, selectors.EVENT_WRITE, self._push_rest)

    def _fail_all(self, error: BaseException) -> None:
        while self._inbox:  # batches that were never seen
            self._inbox.popleft()()
        self.ledger.fail_all(error)

    def _issue(self, batch: Batch, jobs: list[int]) -> None:
        if not self._tickets.put(batch.page, jobs, batch.number):
            self._push_rest()

    def _watch(self) -> None:
        self._next_watch = time.monotonic() + self._tick
        self._crew.watch()
        if self._tickets.empty():
            self.ledger.find_lost()
