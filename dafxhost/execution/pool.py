"""The dispatcher: one thread that hands jobs to worker processes, watches over them and replaces them."""

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

from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError, JobFailure, ParameterNotAppliedError, PluginError, UsageError
from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena, Region
from dafxhost.execution.batch import Batch
from dafxhost.execution.failures import save_input
from dafxhost.execution.process import Chunk, Claim, WorkerProcess
from dafxhost.execution.stats import RenderStats
from dafxhost.processor import RenderSpec

SHORTEST_LOAD_DEADLINE = 10.0  # s; a plugin may take longer to load than to render
START_DEADLINE = 60.0  # s, for the interpreter and numpy
TICK = 0.25  # s between looks at the deadlines while there is work
SLOW_RENDER = 0.02  # s; above it a worker gets its next job only when it has finished the last
ATTEMPTS = 2
SAVED_INPUTS = 16  # a batch; a plugin that always fails must not fill the disk
HOPELESS = 8  # jobs of a batch that failed with none done: the rest is not tried


class Pool:
    """Worker processes for one effect, and the thread that runs them. All methods may be called from any
    thread.
    """

    def __init__(
        self, effect: Effect, *, workers: int, deadline: float, verify: str, failure_dir: Path
    ) -> None:
        self.effect, self.size, self.deadline, self.verify = effect, workers, deadline, verify
        self.failure_dir = failure_dir
        self.arena = Arena()
        self.last_failures: list[JobFailure] = []
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._inbox: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread: threading.Thread | None = None
        self._closed = False
        self._broken: BaseException | None = None
        self._numbers = 0
        # The rest belongs to the dispatcher thread.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ, self._on_wake)
        self._workers: list[WorkerProcess] = []
        self._batches: dict[int, Batch] = {}
        self._descriptions: dict[RenderSpec, tuple[int, Region, int]] = {}
        self._pace: dict[int, float] = {}  # plugin seconds a sample, by processor id
        self._load_deaths = 0
        self._early_deaths = 0
        self._busy_since: float | None = None
        self._tick = min(TICK, deadline / 4)
        self._next_watch = 0.0
        self._renders, self._retried, self._replaced = 0, 0, 0
        self._audio_seconds, self._plugin_seconds, self._wall_seconds = 0.0, 0.0, 0.0

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

    def processor_id(self, spec: RenderSpec) -> int:
        """Number under which workers know the processor of that specification."""
        with self._lock:
            if spec not in self._descriptions:
                provider = self.effect.provider
                number = len(self._descriptions) + 1
                text = json.dumps(
                    {
                        "id": number,
                        "processor": provider.processor,
                        "options": dict(provider.options),
                        "tolerance": provider.read_back_tolerance,
                        "verify": self.verify,
                        "spec": asdict(spec),
                    }
                ).encode()
                region = self.arena.region(len(text))
                self.arena.view(region.offset, len(text))[:] = text
                self._descriptions[spec] = number, region, len(text)
            return self._descriptions[spec][0]

    def submit(self, batch: Batch) -> None:
        self.post(lambda: self._add(batch))

    def release(self, batch: Batch, jobs: int) -> None:
        """The clips of the batch's first `jobs` jobs are in place."""
        self.post(lambda: batch.release(jobs))

    def abort(self, batch: Batch, error: BaseException) -> None:
        self.post(lambda: batch.abort(error))

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

    def introduce(self, worker: WorkerProcess, processor: int) -> None:
        """Tell a worker what a processor is, once."""
        if processor not in worker.processors:
            worker.processors.add(processor)
            with self._lock:
                _, region, size = next(d for d in self._descriptions.values() if d[0] == processor)
            worker.send(protocol.pack_processor(region.offset, size))

    def stats(self) -> RenderStats:
        wall = self._wall_seconds
        if (since := self._busy_since) is not None:
            wall += time.monotonic() - since
        return RenderStats(
            self._renders,
            self._audio_seconds,
            self._plugin_seconds,
            wall,
            self._retried,
            self._replaced,
            self.size,
        )

    def close(self) -> None:
        """Kill the workers and end the thread; what is not rendered yet fails with UsageError."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        if thread is None:
            self._release_resources()
            return
        os.eventfd_write(self._wake, 1)
        # The last reference may be dropped on the dispatcher thread itself.
        if thread is not threading.current_thread():
            thread.join()

    # ---- the dispatcher thread

    def _run(self) -> None:
        try:
            while not self._closed:
                timeout = self._tick if self._batches else None
                for key, _ in self._selector.select(timeout):
                    key.data()
                if time.monotonic() >= self._next_watch:
                    self._watch()
                self._assign()
            self._fail_all(UsageError("this executor was closed before the render was done"))
        except BaseException as error:
            with self._lock:
                self._broken = error
            self._fail_all(DafxhostError(f"the executor broke down: {type(error).__name__}: {error}"))
            raise
        finally:
            self._release_resources()

    def _release_resources(self) -> None:
        for worker in self._workers:
            self._selector.unregister(worker.socket)
            self._selector.unregister(worker.pidfd)
            worker.close()
        self._workers.clear()
        self._selector.close()
        with self._lock:
            if self._closed:
                os.close(self._wake)
                self.arena.close()

    def _on_wake(self) -> None:
        os.eventfd_read(self._wake)
        while self._inbox:
            self._inbox.popleft()()

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
            self._busy_since = time.monotonic()
        self._close_if_over(batch)

    def _account_wall(self) -> None:
        if not self._batches and self._busy_since is not None:
            self._wall_seconds += time.monotonic() - self._busy_since
            self._busy_since = None

    # -- handing out jobs

    def _assign(self) -> None:
        pending = sum(len(batch.queue) for batch in self._batches.values())
        if not pending:
            return
        self._start_workers(pending)
        for depth in (0, 1):  # every idle worker first, then one chunk ahead for each
            for worker in self._workers:
                batch = next((b for b in self._batches.values() if b.queue), None)
                if batch is None:
                    return
                if len(worker.outstanding) != depth or (depth and not self._may_queue(batch)):
                    continue
                self._hand_out(worker, batch)

    def _start_workers(self, pending: int) -> None:
        while len(self._workers) < self.size and sum(not w.outstanding for w in self._workers) < pending:
            try:
                worker = WorkerProcess(self.arena)
            except OSError as error:
                if self._workers:
                    return  # fewer will do
                self._fail_all(DafxhostError(f"no worker process can be started: {error}"))
                return
            self._workers.append(worker)
            self._selector.register(worker.socket, selectors.EVENT_READ, lambda w=worker: self._on_message(w))
            self._selector.register(worker.pidfd, selectors.EVENT_READ, lambda w=worker: self._on_death(w))

    def _may_queue(self, batch: Batch) -> bool:
        """Whether a busy worker may get a chunk ahead: not for long renders, nor at a batch's end."""
        pace = self._job_pace(batch)
        return len(batch.queue) > self.size and (pace is None or pace < SLOW_RENDER)

    def _job_pace(self, batch: Batch) -> float | None:
        pace = self._pace.get(batch.layout.processor)
        return None if pace is None else pace * batch.layout.samples

    def _hand_out(self, worker: WorkerProcess, batch: Batch) -> None:
        jobs = batch.take_chunk(self.size, self._job_pace(batch))
        batch.outstanding += len(jobs)
        self.introduce(worker, batch.layout.processor)
        worker.outstanding.append(Chunk(batch, jobs))
        worker.send(protocol.pack_chunk(batch.packed_layout, jobs))

    # -- what workers say

    def _on_message(self, worker: WorkerProcess) -> None:
        """One message; if there are more, the selector calls again."""
        if worker not in self._workers:  # buried by an event of the same round
            return
        message = worker.receive()
        if message:
            self._understand(worker, message)
        elif message is not None:
            # It is dying, which its pidfd will tell, or its plugin closed a socket that is not its own.
            worker.kill()

    def _understand(self, worker: WorkerProcess, message: bytes) -> None:
        kind = message[:1]
        if kind == protocol.FINISHED:
            chunk = worker.outstanding.popleft()
            self._done(chunk.batch, chunk.jobs, protocol.unpack_finished(message))
        elif kind == protocol.FAILED:
            self._on_failed(worker, protocol.unpack_failed(message))
        elif kind == protocol.HELLO:
            worker.greeted = True

    def _done(self, batch: Batch, jobs: list[int], seconds: float) -> None:
        batch.outstanding -= len(jobs)
        if batch.error is None and jobs:
            batch.finished += len(jobs)
            self._renders += len(jobs)
            self._plugin_seconds += seconds
            self._audio_seconds += len(jobs) * batch.layout.samples / batch.spec.sample_rate
            pace = seconds / len(jobs) / batch.layout.samples
            if pace:
                known = self._pace.setdefault(batch.layout.processor, pace)
                self._pace[batch.layout.processor] = 0.8 * known + 0.2 * pace
            self._load_deaths = self._early_deaths = 0
        self._close_if_over(batch)

    def _close_if_over(self, batch: Batch) -> None:
        # A chunk whose last job failed ends after its batch has.
        if not batch.over or batch.number not in self._batches:
            return
        del self._batches[batch.number]
        self._account_wall()
        if batch.error is None:
            batch.failures.sort(key=lambda failure: (failure.row, failure.column))
            self.last_failures = batch.failures
            batch.future.set_result((batch.result(), batch.failures))

    def _on_failed(self, worker: WorkerProcess, report: dict[str, Any]) -> None:
        chunk = worker.outstanding[0]
        batch, job = chunk.batch, report["job"]
        chunk.jobs.remove(job)
        batch.outstanding -= 1
        effect = self.effect
        if report["kind"] == "load":
            where = f"effect {effect.name!r} could not be loaded by {effect.provider.name}"
            batch.abort(PluginError(f"{where}: {report['text']}"))
        elif report["kind"] == "parameter":
            batch.abort(_not_applied(effect, report))
        else:
            self._failed_once(batch, job, report["text"], worker)
        self._close_if_over(batch)

    def _failed_once(self, batch: Batch, job: int, reason: str, worker: WorkerProcess) -> None:
        if batch.error is not None:
            return
        batch.attempts[job] = batch.attempts.get(job, 0) + 1
        if batch.attempts[job] < ATTEMPTS:
            self._retried += 1
            self._requeue(batch, [job])
            return
        self._give_up(batch, job, reason, worker.log_tail())
        if len(batch.failures) >= HOPELESS and batch.finished == len(batch.failures):
            for rest in batch.queue:
                reason = f"not tried: the first {HOPELESS} renders of this batch all failed"
                self._give_up(batch, rest, reason, "", save=False)
            batch.queue.clear()

    def _requeue(self, batch: Batch, jobs: list[int]) -> None:
        batch.state[jobs] = protocol.PENDING
        batch.queue.extendleft(reversed(jobs))

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
        batch.finished += 1

    # -- death and hanging

    def _watch(self) -> None:
        now = time.monotonic()
        self._next_watch = now + self._tick
        for worker in list(self._workers):
            claim = worker.claim()
            if claim.phase == protocol.RUNNING and now - claim.since > self.deadline:
                self._end(worker, claim, f"no answer within {self.deadline:g} s")
            elif claim.phase == protocol.LOADING and now - claim.since > self._load_deadline:
                self._end(worker, claim, f"no answer within {self._load_deadline:g} s")
            elif not worker.greeted and now - worker.started > START_DEADLINE:
                self._end(worker, claim, f"no answer within {START_DEADLINE:g} s")
            else:
                worker.shorten_log()

    @property
    def _load_deadline(self) -> float:
        return max(self.deadline, SHORTEST_LOAD_DEADLINE)

    def _end(self, worker: WorkerProcess, seen: Claim, reason: str) -> None:
        worker.kill()
        # It may have come to its end of its own accord, and begun something else, before the signal.
        self._bury(worker, reason if worker.claim() == seen else None)

    def _on_death(self, worker: WorkerProcess) -> None:
        if worker in self._workers:
            self._bury(worker, worker.death())

    def _bury(self, worker: WorkerProcess, reason: str | None) -> None:
        """Take a dead worker away and its unfinished jobs back; `reason` None blames nobody."""
        while message := worker.receive():  # what it said before it died
            self._understand(worker, message)
        self._selector.unregister(worker.socket)
        self._selector.unregister(worker.pidfd)
        self._workers.remove(worker)
        self._replaced += 1
        claim = worker.claim()
        if reason is not None and claim.phase == protocol.LOADING:
            self._died_loading(worker, reason)
        elif claim.phase == protocol.IDLE:
            self._died_idle(worker, reason or "worker was killed")
        for chunk in worker.outstanding:
            self._take_back(worker, chunk, claim, reason)
        worker.close()

    def _take_back(self, worker: WorkerProcess, chunk: Chunk, claim: Claim, reason: str | None) -> None:
        batch = chunk.batch
        done = [job for job in chunk.jobs if batch.state[job] == protocol.DONE]
        left = [job for job in chunk.jobs if batch.state[job] != protocol.DONE]
        guilty = [
            job
            for job in left
            if reason is not None
            and (claim.phase, claim.batch, claim.job) == (protocol.RUNNING, batch.number, job)
        ]
        batch.outstanding -= len(left)
        if batch.error is None:
            self._requeue(batch, [job for job in left if job not in guilty])
        for job in guilty:
            self._failed_once(batch, job, reason or "", worker)
        self._done(batch, done, 0.0)

    def _died_loading(self, worker: WorkerProcess, reason: str) -> None:
        self._load_deaths += 1
        if self._load_deaths >= ATTEMPTS and worker.outstanding:
            text = f"effect {self.effect.name!r} could not be loaded by {self.effect.provider.name}: {reason}"
            worker.outstanding[0].batch.abort(PluginError(_with_log(text, worker)))
            self._load_deaths = 0

    def _died_idle(self, worker: WorkerProcess, reason: str) -> None:
        """Killed between jobs, or unable to start; only a row of these is the machine's or our fault."""
        self._early_deaths += 1
        if self._early_deaths >= (2 * ATTEMPTS if worker.greeted else ATTEMPTS):
            text = "worker processes keep dying" if worker.greeted else "worker processes do not start"
            for batch in self._batches.values():
                batch.abort(DafxhostError(_with_log(f"{text}: {reason}", worker)))
            self._early_deaths = 0


def _with_log(text: str, worker: WorkerProcess) -> str:
    """The sentence, and the last line the worker wrote, unless that is only Python's own crash report."""
    tail = worker.log_tail()
    lines = [] if "Fatal Python error" in tail else tail.strip().splitlines()
    return f"{text} (it wrote last: {lines[-1].strip()})" if lines else text


def _not_applied(effect: Effect, report: dict[str, Any]) -> ParameterNotAppliedError:
    name = effect.parameters[report["index"]].name
    return ParameterNotAppliedError(
        f"effect {effect.name!r} did not take its parameter {name!r}: sent plugin value {report['sent']:g}, "
        f"read back {report['read']:g}"
    )
