"""Many recordings measured at once, in processes of their own: a decoder that crashes harms no other."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from dafxhost.data.facts import Facts
from dafxhost.errors import DafxhostError

Request = tuple[Path, int]
DEADLINE = 120.0
"""Seconds that one recording may take before it counts as hung; one more for each 4 MB of it."""
BYTES_A_SECOND = 4e6


class _Worker:
    """A process of `dafxhost.data.facts` and the request that it has in hand."""

    def __init__(self) -> None:
        # A session of its own: Ctrl-C is for the parent, which keeps what is learned and ends its workers.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dafxhost.data.facts"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
            start_new_session=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        if self._process.stdin is None or self._process.stdout is None:
            raise DafxhostError("a process that measures recordings could not be started")
        self._to, self.output = self._process.stdin, self._process.stdout
        os.set_blocking(self.output.fileno(), False)
        self.request: Request | None = None
        self.until = 0.0
        self._partial = b""

    def give(self, request: Request, deadline: float) -> None:
        path, stream = request
        self.request = request
        with suppress(OSError):
            deadline += path.stat().st_size / BYTES_A_SECOND
        self.until = time.monotonic() + deadline
        line = json.dumps({"path": os.fsencode(path).hex(), "stream": stream}) + "\n"
        with suppress(BrokenPipeError):  # it has died: reading its output says so
            self._to.write(line.encode())

    def take(self) -> Facts | None:
        """Its answer if all of it has come. Raises EOFError where the process has ended."""
        piece = self.output.read(1 << 16)
        if piece == b"":
            raise EOFError
        self._partial += piece or b""
        if not self._partial.endswith(b"\n"):
            return None
        said, self._partial = json.loads(self._partial), b""
        return Facts(**{**said, "path": os.fsdecode(bytes.fromhex(said["path"]))})

    def end(self) -> str:
        """Kill it and what it started; says how it had ended, if it had."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5 if self.request is not None else 0)
        code = self._process.poll()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._to.close()
        self.output.close()
        if code is None:
            return "it was stopped"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def measure_all(
    requests: Iterable[Request], *, workers: int | None = None, deadline: float = DEADLINE
) -> Iterator[Facts]:
    """The facts of every recording, in the order in which they are known.

    A recording whose decoder crashes or hangs is named as unreadable, and its process replaced. Closing the
    iterator, or an exception while it waits, ends all processes.

    Args:
        requests: (path, audio stream). workers: processes; as many as there are cores if not given.
        deadline: seconds a recording may take, and one more for each 4 MB of it.
    """
    crew = _Crew(deque(requests), deadline)
    try:
        crew.hire(workers or len(os.sched_getaffinity(0)))
        while crew.workers:
            yield from crew.wait()
    finally:
        crew.close()


class _Crew:
    """Processes that share a queue of requests."""

    def __init__(self, waiting: deque[Request], deadline: float) -> None:
        self.workers: list[_Worker] = []
        self._waiting, self._deadline = waiting, deadline
        self._selector = selectors.DefaultSelector()

    def hire(self, count: int) -> None:
        """Start up to so many more workers, as long as there is work."""
        for _ in range(min(count, len(self._waiting))):
            worker = _Worker()
            self.workers.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)
            worker.give(self._waiting.popleft(), self._deadline)

    def wait(self) -> Iterator[Facts]:
        """Wait for whoever answers, dies or hangs next, and hand out further requests."""
        soonest = min(worker.until for worker in self.workers)
        for key, _ in self._selector.select(max(0.0, soonest - time.monotonic())):
            worker: _Worker = key.data
            try:
                facts = worker.take()
            except EOFError:
                yield self._lost(worker, "its decoder crashed")
                continue
            if facts is not None:
                self._next(worker)
                yield facts
        for worker in [w for w in self.workers if w.until < time.monotonic()]:
            yield self._lost(worker, "its decoder hung")

    def _next(self, worker: _Worker) -> None:
        worker.request = None
        if self._waiting:
            worker.give(self._waiting.popleft(), self._deadline)
        else:
            self._dismiss(worker)

    def _lost(self, worker: _Worker, what: str) -> Facts:
        """Replace a worker; what there is to say of the recording that it had in hand."""
        path, stream = worker.request or (Path(), 0)
        words = self._dismiss(worker)
        self.hire(1)
        return Facts(str(path), stream, problem=f"{path} cannot be read: {what} ({words}).")

    def _dismiss(self, worker: _Worker) -> str:
        self._selector.unregister(worker.output)
        self.workers.remove(worker)
        return worker.end()

    def close(self) -> None:
        for worker in self.workers:
            worker.end()
        self._selector.close()
