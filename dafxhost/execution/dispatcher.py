"""A thread that does what other threads ask of it: what the executors' dispatchers have in common."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from dafxhost.errors import DafxhostError, UsageError


class Dispatcher(ABC):
    """Starts its thread when something is first posted, and ends it on `close`. `post` and `close` may be
    called from any thread.

    Args:
        name: of the thread. patience: seconds for which `close` waits for it; None: as long as it takes.
    """

    def __init__(self, name: str, patience: float | None = None) -> None:
        self._name, self._patience = name, patience
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._broken: BaseException | None = None

    @abstractmethod
    def _deliver(self, action: Callable[[], None]) -> None:
        """Have the thread run `action` soon. Called with the lock held."""

    @abstractmethod
    def _turn(self) -> None:
        """One round of the thread; waits for something to do."""

    @abstractmethod
    def _fail_all(self, error: BaseException) -> None:
        """Fail what is in progress, and what was posted and not yet seen."""

    @abstractmethod
    def _release(self) -> None:
        """Give everything back, at the thread's end, or on `close` if there never was one."""

    def post(self, action: Callable[[], None]) -> None:
        """Have the thread run `action`.

        Raises:
            UsageError: closed, or used after a fork. DafxhostError: the thread broke down before.
        """
        if os.getpid() != self._pid:
            raise UsageError("an executor cannot be used in a forked process; make a new one there")
        with self._lock:
            if self._closed:
                raise UsageError("this executor is closed")
            if self._broken is not None:
                raise DafxhostError(f"this executor broke down: {self._broken}") from self._broken
            self._deliver(action)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self) -> None:
        """End the thread; what is not rendered yet fails with UsageError."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            first, self._closed = not self._closed, True
            thread = self._thread
            if first and thread is not None and self._broken is None:
                self._deliver(lambda: None)
        if thread is None:
            if first:
                self._release()
        # The last reference may be dropped on the thread itself.
        elif thread is not threading.current_thread():
            thread.join(self._patience)

    def _run(self) -> None:
        try:
            while not self._closed:
                self._turn()
            self._fail_all(UsageError("this executor was closed before the render was done"))
        except BaseException as error:
            with self._lock:
                self._broken = error
            self._fail_all(DafxhostError(f"the executor broke down: {type(error).__name__}: {error}"))
            raise
        finally:
            self._release()
