"""The dispatcher: one thread that follows batches through the worker processes.

It does not hand out jobs, workers take them from a pipe; it is woken when a batch comes, when a worker has
nothing more to do for one, and when something goes wrong.
"""

from __future__ import annotations

import json
import os
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import (
    DafxhostError,
    JobFailure,
    ParameterError,
    ParameterNotAppliedError,
    PluginError,
    UsageError,
)
from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena, Region
from dafxhost.execution.batch import Batch
from dafxhost.execution.crew import START_DEADLINE, Crew
from dafxhost.execution.failures import save_input
from dafxhost.execution.process import Claim, WorkerFailedError, WorkerProcess
from dafxhost.execution.reset_proof import TRIALS, ResetProof
from dafxhost.execution.stats import RenderStats, Unrepeatable
from dafxhost.execution.tickets import TicketPipe
from dafxhost.processor import RenderSpec

TICK = 0.25  # s between looks at the deadlines while there is work
ATTEMPTS = 2
SAVED_INPUTS = 16  # a batch; a plugin that always fails must not fill the disk
PROOF_PATIENCE = 120.0  # s
HOPELESS = 8  # jobs of a batch that failed with none done: the rest is not tried, nor they again


class Pool:
    """Worker processes for one effect, and the thread that runs them. Methods up to `close` may be called
    from any thread.
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
        self.effect, self.size, self.deadline, self.verify = effect, workers, deadline, verify
        self.failure_dir = failure_dir
        self.arena = Arena()
        self.last_failures: list[JobFailure] = []
        self.unrepeatable: Unrepeatable | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._closed = False
        self._broken: BaseException | None = None
        self._numbers = 0
        self._tickets = TicketPipe()
        # The rest belongs to the dispatcher thread.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        self._crew = Crew(
            self,
            self.arena,
            self._tickets,
            self._selector,
            size=workers,
            deadline=deadline,
            memory_limit=memory_limit,
        )
        self._batches: dict[int, Batch] = {}
        self._descriptions: dict[RenderSpec, tuple[int, Region]] = {}
        self._load_deaths = 0
        self._early_deaths = [0, 0]  # of workers that never said anything, and of others
        self._left: set[int] = set()  # batches that a worker has just left
        self._suspects: dict[int, set[int]] = {}
        self._busy_since: float | None = None
        self._tick = min(TICK, deadline / 4)
        self._next_watch = 0.0
        self._retried = 0
        self._wall_seconds = 0.0

    # ---- called by the executor, from any thread

    def post(self, action: Callable[[], None]) -> None:
        """Have the dispatcher thread run `action`; starts the thread if need be.

        Raises:
            UsageError: closed, or used after a fork.
        """
        if os.getpid() != self._pid:
            raise UsageError("an executor cannot be used in a forked process; make a new one there")
        with self._lock:
            if self._closed:
                raise UsageError("this executor is closed")
            if self._broken is not None:
                raise DafxhostError(f"this executor broke down: {self._broken}") from self._broken
            self._inbox.append(action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="dafxhost-dispatcher", daemon=True)
                self._thread.start()
            os.eventfd_write(self._wake, 1)

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
        self.post(lambda: self._add(batch))

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
        self.post(lambda: self._look_at(batch))

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
        values = self.effect.plugin_values(rng.random((TRIALS, 2, len(self.effect.parameters))))
        table = self.arena.region(values.nbytes)
        table.array(np.float64, values.shape)[:] = values
        worker = self.start_worker()
        try:
            place = (description.offset, description.size, table.offset, values.shape[-1])
            worker.send(protocol.pack_prove(number, *place))
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
        wall = self._wall_seconds
        if (since := self._busy_since) is not None:
            wall += time.monotonic() - since
        return RenderStats(
            renders=totals.renders,
            audio_seconds=totals.audio_seconds,
            plugin_seconds=totals.plugin_seconds,
            cpu_seconds=totals.cpu_seconds,
            wall_seconds=wall,
            retried=self._retried,
            replaced=self._crew.replaced,
            recycled=self._crew.recycled,
            workers=self.size,
        )

    @property
    def _workers(self) -> list[WorkerProcess]:  # for tests
        return self._crew.workers

    def close(self) -> None:
        """Kill the workers and end the thread; what is not rendered yet fails with UsageError."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
            if thread is not None:
                os.eventfd_write(self._wake, 1)
        if thread is None:
            self._release_resources()
        # The last reference may be dropped on the dispatcher thread itself.
        elif thread is not threading.current_thread():
            thread.join()

    # ---- the dispatcher thread

    def _run(self) -> None:
        try:
            while not self._closed:
                timeout = self._tick if self._batches else None
                ready = self._selector.select(timeout)
                self._on_wake()  # first: batches must be known before they are spoken of
                for key, _ in ready:
                    key.data()
                if self._left:
                    self._settle()
                if time.monotonic() >= self._next_watch:
                    self._watch()
            self._fail_all(UsageError("this executor was closed before the render was done"))
        except BaseException as error:
            with self._lock:
                self._broken = error
            self._fail_all(DafxhostError(f"the executor broke down: {type(error).__name__}: {error}"))
            raise
        finally:
            self._release_resources()

    def _release_resources(self) -> None:
        self._crew.close()
        self._selector.close()
        with self._lock:
            if self._closed:
                os.close(self._wake)
                self._tickets.close()
                self.arena.close()

    def _on_wake(self) -> None:
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
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
        for batch in list(self._batches.values()):
            batch.abort(error)
        self._batches.clear()
        self._account_wall()

    def _add(self, batch: Batch) -> None:
        self._batches[batch.number] = batch
        if self._busy_since is None:
            self._busy_since = batch.began
        self._look_at(batch)
        self._man()

    def _account_wall(self) -> None:
        if not self._batches and self._busy_since is not None:
            self._wall_seconds += time.monotonic() - self._busy_since
            self._busy_since = None

    def _man(self) -> None:
        """Have as many workers as there is work for."""
        jobs = sum(batch.jobs - batch.done for batch in self._batches.values() if batch.error is None)
        try:
            self._crew.grow(jobs)
        except OSError as error:
            self._fail_all(DafxhostError(f"no worker process can be started: {error}"))

    # -- what workers say

    def on_message(self, worker: WorkerProcess, message: bytes) -> None:
        kind = message[:1]
        if kind == protocol.LEFT:
            self._load_deaths, self._early_deaths = 0, [0, 0]
            self._left.add(protocol.unpack_left(message))
        elif kind == protocol.FAILED:
            self._on_failed(worker, protocol.unpack_report(message))
        elif kind == protocol.UNREPEATABLE:
            self._on_unrepeatable(protocol.unpack_report(message))
        elif kind == protocol.HELLO:
            worker.greeted = True
        elif kind == protocol.RETIRING:
            worker.retiring = True

    def _settle(self) -> None:
        """Look at the batches that workers have left."""
        self._crew.hear()  # what was said before a batch was complete must not come too late
        for number in list(self._left):
            if (batch := self._batches.get(number)) is not None:
                self._look_at(batch)
        self._left.clear()

    def _look_at(self, batch: Batch) -> None:
        """End the batch if nothing is left of it, with nobody still at work in its memory."""
        if batch.number not in self._batches or not (batch.over or self._given_up(batch)):
            return
        if self._crew.holders(batch.number):
            return  # that worker will say so when it leaves
        del self._batches[batch.number]
        self._suspects.pop(batch.number, None)
        self._account_wall()
        if batch.not_applied and not batch.done:
            batch.abort(min(batch.not_applied.items())[1])  # never taken: no matter of single renders
        if batch.error is None:
            batch.failures.sort(key=lambda failure: (failure.row, failure.column))
            self.last_failures = batch.failures
            batch.future.set_result((batch.result(), batch.failures))

    def _given_up(self, batch: Batch) -> bool:
        """Whether the batch is hopeless and all that was left of it has been skipped."""
        if batch.error is not None or not batch.hopeless or batch.waiting():
            return False
        for job in sorted(batch.skipped() + list(range(batch.issued, batch.jobs))):
            first = batch.reasons.get(
                job, f"not tried: the first {HOPELESS} renders of this batch all failed"
            )
            self._give_up(batch, job, first, "", save=job in batch.reasons)
        return batch.over

    def _on_failed(self, worker: WorkerProcess, report: dict[str, Any]) -> None:
        batch, job = self._batches.get(report["batch"]), report["job"]
        if batch is None or batch.error is not None:
            return
        effect = self.effect
        if report["reason"] == "load":
            where = f"effect {effect.name!r} could not be loaded by {effect.provider.name}"
            batch.abort(PluginError(f"{where}: {report['text']}"))
        elif report["reason"] == "parameter":
            error = not_applied(effect, report)
            if not batch.lenient:
                batch.abort(error)
                return
            batch.not_applied.setdefault(job, error)
            self._failed_once(batch, job, str(error).removeprefix(f"effect {effect.name!r} "), worker)
        elif report["reason"] == "input":
            row = job // batch.columns
            batch.abort(ParameterError(f"audio of clip {row} holds NaN or infinite samples"))
        else:
            self._failed_once(batch, job, report["text"], worker)

    def _on_unrepeatable(self, report: dict[str, Any]) -> None:
        batch = self._batches.get(report["batch"])
        if batch is not None and self.unrepeatable is None:
            setting = tuple(float(v) for v in batch.setting(report["job"]))
            self.unrepeatable = Unrepeatable(self.effect.name, setting, report["difference"])

    def _failed_once(self, batch: Batch, job: int, reason: str, worker: WorkerProcess) -> None:
        if job in batch.reasons:
            self._give_up(batch, job, reason, worker.log_tail())
            return
        batch.reasons[job] = reason
        self._retried += 1
        self._issue_again(batch, [job])
        clips = {failed // batch.columns for failed in batch.reasons}
        # One bad clip is no reason to give up the others.
        if len(batch.reasons) >= HOPELESS and len(clips) >= min(2, len(batch.settings)) and not batch.done:
            batch.hopeless = True
            batch.cancel()

    def _issue_again(self, batch: Batch, jobs: list[int]) -> None:
        batch.state[jobs] = protocol.PENDING
        if not self._tickets.put(batch.page, jobs, batch.number):
            self._push_rest()

    def _give_up(self, batch: Batch, job: int, reason: str, log: str, save: bool = True) -> None:
        setting = batch.setting(job)
        saved = ""
        if save and len(batch.failures) < SAVED_INPUTS:
            clip = batch.clip(self.arena, job)
            saved, problem = save_input(self.failure_dir, self.effect, batch.spec, clip, setting, reason)
            log = "\n".join(filter(None, [log, problem]))
        row, column = divmod(job, batch.columns)
        values = tuple(float(v) for v in setting)
        batch.failures.append(JobFailure(row, column, self.effect.name, values, reason, saved, log))
        batch.state[job] = protocol.BROKEN

    # -- death and hanging

    def _watch(self) -> None:
        self._next_watch = time.monotonic() + self._tick
        self._crew.watch()
        if self._suspects and self._tickets.empty():
            self._find_lost()

    def _find_lost(self) -> None:
        """A worker that was killed between taking a ticket and saying so took it along: jobs that nobody
        holds in two looks, with no ticket on its way, are issued again.
        """
        for number, seen in list(self._suspects.items()):
            batch = self._batches.get(number)
            if batch is None:
                del self._suspects[number]
                continue
            missing = batch.waiting() - self._crew.holders(number)
            if lost := seen & missing:
                self._issue_again(batch, sorted(lost))
            self._suspects[number] = missing - lost

    def on_end(self, worker: WorkerProcess, claim: Claim, reason: str | None) -> None:
        """A worker is gone: blame the job that it was at, if that is to blame, and have it done again."""
        batch = self._batches.get(claim.batch)
        if reason is not None and claim.phase == protocol.LOADING:
            self._died_loading(worker, batch, reason)
        elif claim.phase == protocol.IDLE and not worker.retiring:
            self._died_idle(worker, reason or "worker was killed")
        if batch is not None and batch.error is None and batch.state[claim.job] == protocol.PENDING:
            if reason is not None and claim.phase in (protocol.PREPARING, protocol.RUNNING):
                self._failed_once(batch, claim.job, reason, worker)
            else:
                self._issue_again(batch, [claim.job])
        for number in self._batches:
            self._suspects.setdefault(number, set())
        for each in list(self._batches.values()):
            self._look_at(each)
        if self._batches:
            self._man()

    def _died_loading(self, worker: WorkerProcess, batch: Batch | None, reason: str) -> None:
        self._load_deaths += 1
        if self._load_deaths >= ATTEMPTS and batch is not None:
            text = f"effect {self.effect.name!r} could not be loaded by {self.effect.provider.name}: {reason}"
            batch.abort(PluginError(with_log(text, worker)))
            self._load_deaths = 0

    def _died_idle(self, worker: WorkerProcess, reason: str) -> None:
        """Killed between jobs, or unable to start; only a row of these is the machine's or our fault."""
        self._early_deaths[worker.greeted] += 1
        if self._early_deaths[worker.greeted] >= (2 * ATTEMPTS if worker.greeted else ATTEMPTS):
            text = "worker processes keep dying" if worker.greeted else "worker processes do not start"
            for batch in self._batches.values():
                batch.abort(DafxhostError(with_log(f"{text}: {reason}", worker)))
            self._early_deaths[worker.greeted] = 0


def with_log(text: str, worker: WorkerProcess) -> str:
    """The sentence, and the last line the worker wrote, unless that is only Python's own crash report."""
    tail = worker.log_tail()
    lines = [] if "Fatal Python error" in tail else tail.strip().splitlines()
    return f"{text} (it wrote last: {lines[-1].strip()})" if lines else text


def not_applied(effect: Effect, report: dict[str, Any]) -> ParameterNotAppliedError:
    """The error for a worker's report that a parameter was not taken."""
    name = effect.parameters[report["index"]].name
    return ParameterNotAppliedError(
        f"effect {effect.name!r} did not take its parameter {name!r}: sent plugin value {report['sent']:g}, "
        f"read back {report['read']:g}"
    )
