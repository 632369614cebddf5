"""One worker process as the executor sees it: starting, speaking, dying."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from dataclasses import dataclass, field

from dafxhost.execution import protocol
from dafxhost.execution.arena import Arena, Region
from dafxhost.execution.batch import Batch

LOG_TAIL = 4000
LARGEST_LOG = 64 << 20
# The worker gets the parent's own search path, so that whatever the parent can import a worker can.
_BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path[:] = setup['path']; "
    "from dafxhost.execution.worker import main; main(setup)"
)
_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)


@dataclass
class Claim:
    """What a worker says it is doing: phase, since when (CLOCK_MONOTONIC, s), and which job."""

    phase: int
    since: float
    batch: int
    job: int


@dataclass
class Chunk:
    """Jobs of one batch handed to a worker together; `jobs` shrinks as failures are reported."""

    batch: Batch
    jobs: list[int] = field(default_factory=list)


class WorkerProcess:
    """A running worker.

    Must be made by a thread that outlives the worker: the kernel kills the worker when the thread that
    started it ends (PR_SET_PDEATHSIG), which is what leaves no orphans behind a killed parent.
    """

    def __init__(self, arena: Arena) -> None:
        self._region: Region = arena.region(8 * protocol.CLAIM_WORDS)
        self._claim = arena.view(self._region.offset, 8 * protocol.CLAIM_WORDS).cast("q")
        for word in range(protocol.CLAIM_WORDS):
            self._claim[word] = 0
        self._log = os.memfd_create("dafxhost-worker-log", os.MFD_CLOEXEC)
        self.outstanding: deque[Chunk] = deque()
        self.processors: set[int] = set()  # ids it has been told about
        self.greeted = False
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
        }
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-c", _BOOT, json.dumps(setup)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(theirs.fileno(), arena.fd),
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
        return Claim(phase, since, self._claim[protocol.BATCH], self._claim[protocol.JOB])

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
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.wait()

    def death(self) -> str:
        """How it ended, in words; waits for the end."""
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
