"""The worker processes of a pool: starting, watching, replacing. All of it is the dispatcher thread's."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Callable
from typing import Protocol

from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena
from dafxhost.execution.process import Claim, Totals, WorkerProcess
from dafxhost.execution.tickets import TicketPipe

SHORTEST_LOAD_DEADLINE = 10.0  # s; a plugin may take longer to load than to render
START_DEADLINE = 60.0  # s, for the interpreter and numpy
DYING = 1.0  # s that a worker may live on after its connection has ended


class Foreman(Protocol):
    """Whom the crew tells what happened."""

    def on_message(self, worker: WorkerProcess, message: bytes) -> None: ...

    def on_end(self, worker: WorkerProcess, claim: Claim, reason: str | None) -> None:
        """A worker is gone; `claim` is what it did last, `reason` None blames nobody."""


class Crew:
    """Worker processes that share one pipe of tickets.

    Attributes:
        workers: those that live. replaced: that died or were killed; recycled: that ended because of their
            memory. past: what the dead had rendered.
    """

    def __init__(
        self,
        foreman: Foreman,
        arena: Arena,
        tickets: TicketPipe,
        selector: selectors.BaseSelector,
        *,
        size: int,
        deadline: float,
        memory_limit: int,
    ) -> None:
        self._foreman, self._arena, self._tickets, self._selector = foreman, arena, tickets, selector
        self.size, self.deadline, self.memory_limit = size, deadline, memory_limit
        self.workers: list[WorkerProcess] = []
        self.replaced = self.recycled = 0
        self.past = Totals()
        self._books = threading.Lock()  # who lives, and what the dead did: read from other threads

    @property
    def load_deadline(self) -> float:
        return max(self.deadline, SHORTEST_LOAD_DEADLINE)

    def grow(self, wanted: int) -> None:
        """Have `wanted` workers, at most the crew's size.

        Raises:
            OSError: not a single one can be started.
        """
        while len(self.workers) < min(self.size, wanted):
            try:
                worker = WorkerProcess(self._arena, self._tickets, self.memory_limit, self._free_core())
            except OSError:
                if self.workers:
                    return  # fewer will do
                raise
            with self._books:
                self.workers.append(worker)
            self._register(worker.socket, lambda w=worker: self._on_message(w))
            self._register(worker.pidfd, lambda w=worker: self._on_death(w))

    def _free_core(self) -> int | None:
        """A core for a new worker to wait on: one with as few others as possible."""
        cores = sorted(os.sched_getaffinity(0))
        taken = [worker.home for worker in self.workers]
        return min(cores, key=taken.count) if len(cores) > 1 else None

    def _register(self, file: object, action: Callable[[], None]) -> None:
        self._selector.register(file, selectors.EVENT_READ, action)  # type: ignore[arg-type]

    def holders(self, batch: int) -> set[int]:
        """Jobs of the batch that living workers hold."""
        claims = [worker.claim() for worker in self.workers]
        return {claim.job for claim in claims if claim.batch == batch}

    def totals(self) -> Totals:
        """What all workers together have rendered. From any thread."""
        with self._books:
            total = self.past
            for worker in self.workers:
                total += worker.totals()
            return total

    def _take_off(self, worker: WorkerProcess) -> None:
        if worker.hung_up is None:
            self._selector.unregister(worker.socket)
        self._selector.unregister(worker.pidfd)
        with self._books:
            self.workers.remove(worker)
            self.past += worker.totals()

    def watch(self) -> None:
        """End workers that took too long."""
        now = time.monotonic()
        for worker in list(self.workers):
            claim = worker.claim()
            if worker.hung_up is not None and now - worker.hung_up > DYING:
                worker.kill()
                self._bury(worker, "the plugin closed its connection to the executor")
            elif claim.phase == protocol.RUNNING and now - claim.since > self.deadline:
                self._end(worker, claim, self.deadline)
            elif (
                claim.phase in (protocol.LOADING, protocol.PREPARING)
                and now - claim.since > self.load_deadline
            ):
                self._end(worker, claim, self.load_deadline)
            elif not worker.greeted and now - worker.started > START_DEADLINE:
                self._end(worker, claim, START_DEADLINE)
            else:
                worker.shorten_log()

    def _end(self, worker: WorkerProcess, seen: Claim, patience: float) -> None:
        worker.kill()
        # It may have come to its end of its own accord, and begun something else, before the signal.
        self._bury(worker, f"no answer within {patience:g} s" if worker.claim() == seen else None)

    def _on_message(self, worker: WorkerProcess) -> None:
        """One message; if there are more, the selector calls again."""
        if worker not in self.workers:  # buried by an event of the same round
            return
        message = worker.receive()
        if message:
            self._foreman.on_message(worker, message)
        elif message is not None:
            # It is dying, which its pidfd will tell, or its plugin closed a socket that is not its own.
            worker.hung_up = time.monotonic()
            self._selector.unregister(worker.socket)

    def hear(self) -> None:
        """Read what workers have said."""
        for worker in list(self.workers):
            while worker in self.workers and (message := worker.receive()):
                self._foreman.on_message(worker, message)

    def _on_death(self, worker: WorkerProcess) -> None:
        if worker in self.workers:
            self._bury(worker, worker.death())

    def _bury(self, worker: WorkerProcess, reason: str | None) -> None:
        while message := worker.receive():  # what it said before it died
            self._foreman.on_message(worker, message)
        self._take_off(worker)
        if worker.retiring:
            self.recycled += 1
        else:
            self.replaced += 1
        self._foreman.on_end(worker, worker.claim(), None if worker.retiring else reason)
        worker.close()

    def close(self) -> None:
        for worker in list(self.workers):
            self._take_off(worker)
            worker.close()
        del self._foreman  # a circle would keep the arena's memory until the garbage collector comes by
