"""One worker process as the executor sees it: starting, speaking, dying."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena, Region
from dafxhost.execution.tickets import TicketPipe

LOG_TAIL = 4000
LARGEST_LOG = 64 << 20
# The worker gets the parent's own search path, so that whatever the parent can import a worker can.
_BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path[:] = setup['path']; "
    "from dafxhost.execution.guard import post; post(); "
    "from dafxhost.execution.worker import main; main(setup)"
)
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


class WorkerFailedError(Exception):
    """A worker gave no answer; `report` is what it said instead, if it said something."""

    def __init__(self, reason: str, report: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.report = report


@dataclass
class Claim:
    """What a worker says it does: phase, since when (CLOCK_MONOTONIC, s), which job (batch 0: none), and
    which of its effect's parts is at work (0: none).
    """

    phase: int
    since: float
    batch: int
    job: int
    part: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Totals:
    """What a worker has done: number of renders, seconds inside the plugin, seconds of audio, and seconds of
    processor time in all.
    """

    renders: int = 0
    plugin_seconds: float = 0.0
    audio_seconds: float = 0.0
    cpu_seconds: float = 0.0

    def __add__(self, other: Totals) -> Totals:
        return Totals(
            self.renders + other.renders,
            self.plugin_seconds + other.plugin_seconds,
            self.audio_seconds + other.audio_seconds,
            self.cpu_seconds + other.cpu_seconds,
        )


class WorkerProcess:
    """A running worker.

    Must be made by a thread that outlives the worker: the kernel kills the worker when the thread that
    started it ends (PR_SET_PDEATHSIG), which is what leaves no orphans behind a killed parent.

    Args:
        tickets: where it takes jobs from; None for a stream's worker.
        memory_limit: bytes of its own at which it ends between two jobs; 0 for none.
        home: core on which it waits for tickets; None for any.
    """

    def __init__(
        self,
        arena: Arena,
        tickets: TicketPipe | None = None,
        memory_limit: int = 0,
        home: int | None = None,
    ) -> None:
        self.home = home
        self._region: Region = arena.region(8 * protocol.CLAIM_WORDS)
        self._claim = arena.view(self._region.offset, 8 * protocol.CLAIM_WORDS).cast("q")
        for word in range(protocol.CLAIM_WORDS):
            self._claim[word] = 0
        self._log = os.memfd_create("dafxhost-worker-log", os.MFD_CLOEXEC)
        self.greeted = False
        self.retiring = False
        self.hung_up: float | None = None  # when (CLOCK_MONOTONIC, s) its end of the socket was closed
        self._cpu_seconds = 0.0
        self.started = time.monotonic()
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # fcntl.F_SETFL by reopening: a second description in append mode, so that truncating rewinds it.
        log = os.open(f"/proc/self/fd/{self._log}", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        setup = {
            "path": [entry or os.getcwd() for entry in sys.path],
            "socket": theirs.fileno(),
            "arena": arena.fd,
            "reserve": arena.reserve,
            "claim": self._region.offset,
            "parent": os.getpid(),
            "tickets": tickets.reader if tickets is not None else -1,
            "memory_limit": memory_limit,
            "home": home,
        }
        shared = (theirs.fileno(), arena.fd, *(() if tickets is None else (tickets.reader,)))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", _BOOT, json.dumps(setup)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=shared,
                env={**os.environ, **_ONE_THREAD},
                start_new_session=True,  # Ctrl-C is for the parent, which decides
            )
            self.pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self.socket.close()
            os.close(self._log)
            raise
        finally:
            theirs.close()
            os.close(log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def claim(self) -> Claim:
        phase = self._claim[protocol.PHASE]  # first: the start time can then only be newer
        since = self._claim[protocol.SINCE] / 1e9
        words = self._claim
        return Claim(phase, since, words[protocol.BATCH], words[protocol.JOB], words[protocol.PART])

    def totals(self) -> Totals:
        words = self._claim
        with contextlib.suppress(OSError):  # it is gone: what it had used when it was last looked at
            # Linux's number for the processor-time clock of another process (CPUCLOCK_SCHED).
            self._cpu_seconds = time.clock_gettime((~self.pid << 3) | 2)
        return Totals(
            words[protocol.RENDERS],
            words[protocol.PLUGIN_NS] / 1e9,
            words[protocol.AUDIO_US] / 1e6,
            self._cpu_seconds,
        )

    def send(self, message: bytes) -> None:
        """A worker that is dead already is noticed through its pidfd; sending to it is no error."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.send(message)

    def receive(self) -> bytes | None:
        """Next message; None when there is none now, b"" when there will be none again."""
        try:
            return self.socket.recv(protocol.LARGEST_MESSAGE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            return b""

    def answer(self, wanted: bytes, patience: float) -> bytes:
        """Its next message if that is `wanted`; for a worker that is not a pool's.

        Raises:
            WorkerFailedError: it died, said FAILED, or said nothing for `patience` seconds.
        """
        end = time.monotonic() + patience
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        poll.register(self.pidfd, select.POLLIN)
        while True:
            left = end - time.monotonic()
            if left <= 0:
                raise WorkerFailedError(f"no answer within {patience:g} s")
            ready = poll.poll(max(1, left * 1000))
            if message := self.receive():
                if message[:1] == wanted:
                    return message
                if message[:1] == protocol.FAILED:
                    report = protocol.unpack_report(message)
                    raise WorkerFailedError(report.get("text", ""), report)
            elif ready:
                raise WorkerFailedError(self.death())

    def log_tail(self) -> str:
        """The last lines that worker and plugin wrote to stdout and stderr."""
        size = os.fstat(self._log).st_size
        tail = os.pread(self._log, LOG_TAIL, max(0, size - LOG_TAIL)).decode("utf-8", "replace")
        return tail if size <= LOG_TAIL else tail.partition("\n")[2]

    def shorten_log(self) -> None:
        """A plugin that prints without end must not fill the memory."""
        if os.fstat(self._log).st_size > LARGEST_LOG:
            os.ftruncate(self._log, 0)

    def kill(self) -> None:
        """SIGKILL to it and to what its plugin started, and wait until it is gone."""
        self._kill_group()
        self._process.wait()

    def _kill_group(self) -> None:
        # The worker leads a session of its own. Its number cannot have passed to others as long as it has
        # not been waited for.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def death(self) -> str:
        """How it ended, in words; waits for the end."""
        if self._process.returncode is None:
            # Once it has ended, SIGKILL changes nothing about it, but reaches children that it left.
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._kill_group()
        code = self._process.wait()
        if code >= 0:
            return f"worker exited with status {code}"
        try:
            return f"worker died of signal {-code} ({signal.Signals(-code).name})"
        except ValueError:
            return f"worker died of signal {-code}"

    def close(self) -> None:
        """Kill it and free what the parent holds for it."""
        self.kill()
        self.socket.close()
        os.close(self.pidfd)
        os.close(self._log)
        self._claim.release()
