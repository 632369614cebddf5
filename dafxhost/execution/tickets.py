"""The pipe from which all workers draw their jobs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import termios
import threading
from collections.abc import Iterable

from dafxhost.execution.protocol import TICKET

CAPACITY = 1 << 20  # bytes; what a process without privileges may ask for
ATOMIC = 4096 // TICKET.size  # tickets that a pipe takes or refuses as one (PIPE_BUF)


class TicketPipe:
    """Tickets in order, each read by exactly one worker: the kernel hands over whole ones, because both sides
    move multiples of a ticket's size. Methods may be called from any thread.
    """

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.writer, False)
        with contextlib.suppress(OSError):  # a lower limit on this machine: the backlog does the rest
            fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, CAPACITY)
        self._backlog: list[bytes] = []
        self._lock = threading.Lock()

    def put(self, page: int, jobs: Iterable[int], batch: int) -> bool:
        """Whether all are in the pipe; if not, `flush` when `writer` can be written to."""
        tickets = [TICKET.pack(page, job, batch) for job in jobs]
        pieces = [b"".join(tickets[i : i + ATOMIC]) for i in range(0, len(tickets), ATOMIC)]
        with self._lock:
            self._backlog += pieces
            return self._flush()

    def flush(self) -> bool:
        with self._lock:
            return self._flush()

    def _flush(self) -> bool:
        written = 0
        for piece in self._backlog:
            try:
                os.write(self.writer, piece)
            except BlockingIOError:
                break
            written += 1
        del self._backlog[:written]
        return not self._backlog

    def empty(self) -> bool:
        """Whether no ticket waits, here or in the pipe."""
        waiting = struct.unpack("i", fcntl.ioctl(self.reader, termios.FIONREAD, b"\0" * 4))[0]
        with self._lock:
            return not waiting and not self._backlog

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)
