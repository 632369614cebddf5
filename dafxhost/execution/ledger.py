"""What is known of the batches in progress: which are done, what failed and why, what has to be done again.

All of it belongs to the dispatcher thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dafxhost.effects import Effect
from dafxhost.errors import (
    DafxhostError,
    JobFailure,
    ParameterError,
    ParameterNotAppliedError,
    PluginError,
)
from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena
from dafxhost.execution.batch import Batch
from dafxhost.execution.crew import Crew
from dafxhost.execution.failures import (
    HOPELESS,
    SAVED_INPUTS,
    UNTRIED,
    in_part,
    not_loaded,
    not_taken,
    save_input,
)
from dafxhost.execution.process import Claim, WorkerProcess
from dafxhost.execution.stats import BusyTime, Unrepeatable

ATTEMPTS = 2


class Ledger:
    """Batches in progress. It is the crew's foreman.

    Args:
        issue: issues tickets for jobs of a batch. catch_up: has batches added that were submitted by now.
        failure_dir: where inputs of failed renders go.

    Attributes:
        crew: to be set before anything happens. batches: in progress, by number.
        last_failures: of the batch that was completed last. retried: jobs tried a second time.
        busy: time during which there was something to render.
    """

    crew: Crew

    def __init__(
        self,
        effect: Effect,
        arena: Arena,
        issue: Callable[[Batch, list[int]], None],
        catch_up: Callable[[], None],
        failure_dir: Path,
    ) -> None:
        self.effect, self._arena, self._issue, self._failure_dir = effect, arena, issue, failure_dir
        self._catch_up = catch_up
        self.batches: dict[int, Batch] = {}
        self.last_failures: list[JobFailure] = []
        self.unrepeatable: Unrepeatable | None = None
        self.retried = 0
        self._load_deaths = 0
        self._early_deaths = [0, 0]  # of workers that never said anything, and of others
        self._left: set[int] = set()  # batches that a worker has just left
        self._suspects: dict[int, set[int]] = {}
        self.busy = BusyTime()

    def fail_all(self, error: BaseException) -> None:
        for batch in list(self.batches.values()):
            batch.abort(error)
        self.batches.clear()
        self.busy.end()

    def close(self) -> None:
        # A circle would keep the arena's memory until the garbage collector comes by.
        del self._issue, self._catch_up

    def _batch(self, number: int) -> Batch | None:
        """The batch, if it is in progress. Workers may speak of one that nobody here has seen yet."""
        if number and number not in self.batches:
            self._catch_up()
        return self.batches.get(number)

    def add(self, batch: Batch) -> None:
        self.batches[batch.number] = batch
        self.busy.begin(batch.began)
        self.look_at(batch)
        self._man()

    def _man(self) -> None:
        """Have as many workers as there is work for."""
        jobs = sum(batch.jobs - batch.done for batch in self.batches.values() if batch.error is None)
        try:
            self.crew.grow(jobs)
        except OSError as error:
            self.fail_all(DafxhostError(f"no worker process can be started: {error}"))

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

    def settle(self) -> None:
        """Look at the batches that workers have left."""
        if not self._left:
            return
        self.crew.hear()  # what was said before a batch was complete must not come too late
        for number in list(self._left):
            if (batch := self._batch(number)) is not None:
                self.look_at(batch)
        self._left.clear()

    def look_at(self, batch: Batch) -> None:
        """End the batch if nothing is left of it, with nobody still at work in its memory."""
        if batch.number not in self.batches or not (batch.over or self._given_up(batch)):
            return
        if self.crew.holders(batch.number):
            return  # that worker will say so when it leaves
        del self.batches[batch.number]
        self._suspects.pop(batch.number, None)
        if not self.batches:
            self.busy.end()
        if batch.not_applied and not batch.done:
            batch.abort(min(batch.not_applied.items())[1])  # never taken: no matter of single renders
        if batch.error is None:
            batch.failures.sort(key=lambda failure: (failure.row, failure.column))
            self.last_failures = batch.failures
            batch.future.set_result((batch.result(), batch.failures))

    def _given_up(self, batch: Batch) -> bool:
        """Whether the batch is hopeless and all that was left of it has been skipped."""
        if batch.error is not None or not batch.hopeless or batch.issued < batch.jobs or batch.waiting():
            return False
        for job in batch.skipped():
            self._give_up(batch, job, batch.reasons.get(job, UNTRIED), "", save=job in batch.reasons)
        return batch.over

    def _on_failed(self, worker: WorkerProcess, report: dict[str, Any]) -> None:
        batch, job = self._batch(report["batch"]), report["job"]
        if batch is None or batch.error is not None:
            return
        effect = self.effect
        if report["reason"] == "load":
            batch.abort(PluginError(not_loaded(effect, report["text"])))
        elif report["reason"] == "parameter":
            error = not_applied(effect, report)
            if not batch.lenient:
                batch.abort(error)
                return
            batch.not_applied.setdefault(job, error)
            self._failed_once(batch, job, not_taken(effect, error), worker)
        elif report["reason"] == "input":
            row = job // batch.columns
            batch.abort(ParameterError(f"audio of clip {row} holds NaN or infinite samples"))
        else:
            self._failed_once(batch, job, report["text"], worker)

    def _on_unrepeatable(self, report: dict[str, Any]) -> None:
        batch = self._batch(report["batch"])
        if batch is not None and self.unrepeatable is None:
            setting = tuple(float(v) for v in batch.setting(report["job"]))
            self.unrepeatable = Unrepeatable(self.effect.name, setting, report["difference"])

    def _failed_once(self, batch: Batch, job: int, reason: str, worker: WorkerProcess) -> None:
        if job in batch.reasons:
            self._give_up(batch, job, reason, worker.log_tail())
            return
        batch.reasons[job] = reason
        self.retried += 1
        self._issue_again(batch, [job])
        clips = {failed // batch.columns for failed in batch.reasons}
        # One bad clip is no reason to give up the others.
        if len(batch.reasons) >= HOPELESS and len(clips) >= min(2, len(batch.settings)) and not batch.done:
            batch.hopeless = True
            batch.cancel()

    def _issue_again(self, batch: Batch, jobs: list[int]) -> None:
        batch.state[jobs] = protocol.PENDING
        self._issue(batch, jobs)

    def _give_up(self, batch: Batch, job: int, reason: str, log: str, save: bool = True) -> None:
        setting = batch.setting(job)
        saved = ""
        if save and len(batch.failures) < SAVED_INPUTS:
            clip = batch.clip(self._arena, job)
            saved, problem = save_input(self._failure_dir, self.effect, batch.spec, clip, setting, reason)
            log = "\n".join(filter(None, [log, problem]))
        row, column = divmod(job, batch.columns)
        values = tuple(float(v) for v in setting)
        batch.failures.append(JobFailure(row, column, self.effect.name, values, reason, saved, log))
        batch.state[job] = protocol.BROKEN

    # -- death and hanging

    def find_lost(self) -> None:
        """To be called now and then while no ticket is on its way. A worker that was killed between taking a
        ticket and saying so took it along: jobs that nobody holds in two looks are issued again.
        """
        for number, seen in list(self._suspects.items()):
            batch = self.batches.get(number)
            if batch is None:
                del self._suspects[number]
                continue
            missing = batch.waiting() - self.crew.holders(number)
            if lost := seen & missing:
                self._issue_again(batch, sorted(lost))
            self._suspects[number] = missing - lost

    def on_end(self, worker: WorkerProcess, claim: Claim, reason: str | None) -> None:
        """A worker is gone: blame the job that it was at, if that is to blame, and have it done again."""
        batch = self._batch(claim.batch)
        if reason is not None:
            reason = in_part(self.effect, reason, claim.part)
        if reason is not None and claim.phase == protocol.LOADING:
            self._died_loading(worker, batch, reason)
        elif claim.phase == protocol.IDLE and not worker.retiring:
            self._died_idle(worker, reason or "worker was killed")
        if batch is not None and batch.error is None and batch.state[claim.job] == protocol.PENDING:
            if reason is not None and claim.phase in (protocol.PREPARING, protocol.RUNNING):
                self._failed_once(batch, claim.job, reason, worker)
            else:
                self._issue_again(batch, [claim.job])
        for number in self.batches:
            self._suspects.setdefault(number, set())
        for each in list(self.batches.values()):
            self.look_at(each)
        if self.batches:
            self._man()

    def _died_loading(self, worker: WorkerProcess, batch: Batch | None, reason: str) -> None:
        self._load_deaths += 1
        if self._load_deaths >= ATTEMPTS and batch is not None:
            batch.abort(PluginError(with_log(not_loaded(self.effect, reason), worker)))
            self._load_deaths = 0

    def _died_idle(self, worker: WorkerProcess, reason: str) -> None:
        """Killed between jobs, or unable to start; only a row of these is the machine's or our fault."""
        self._early_deaths[worker.greeted] += 1
        if self._early_deaths[worker.greeted] >= (2 * ATTEMPTS if worker.greeted else ATTEMPTS):
            text = "worker processes keep dying" if worker.greeted else "worker processes do not start"
            for batch in self.batches.values():
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
