"""Work made ahead of whoever needs it: in order, by a few threads, a bounded number of items at a time."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, Generic, Self, TypeVar

if TYPE_CHECKING:
    from dafxhost.data.examples import ExampleBatch, Examples  # noqa: F401  (one within a text)

T = TypeVar("T")
THREADS = max(2, min(8, len(os.sched_getaffinity(0))))
"""That make items side by side, at most: while one waits for its renders, another reads clips or judges."""


class Ahead(Generic[T]):
    """`make(start)`, `make(start + 1)`, ... in order, made ahead. Iterate, and close it (`with`).

    At most `ahead + 1` items are ready or in the making at any time. What `make` raises is raised where its
    item was due, and ends the series. With `ahead=0` there is no thread, and items are made when asked for.

    Args:
        make: number -> item; called from several threads at once if `threads` and `ahead` are above 1.
        start: number of the first item. stop: number at which the series ends, or None.
        ahead: how many to keep ready. threads: that make them.

    Attributes:
        index: number of the item that comes next.
    """

    def __init__(
        self,
        make: Callable[[int], T],
        *,
        start: int = 0,
        stop: int | None = None,
        ahead: int = 2,
        threads: int = THREADS,
        name: str = "dafxhost-ahead",
    ) -> None:
        self.index = start
        self._make, self._stop, self._ahead = make, stop, ahead
        self._next = start  # first item that nobody makes yet
        self._waiting: deque[Future[T]] = deque()
        self._closed = threading.Event()
        self._lock = threading.Lock()  # nothing is handed to a pool that is being closed
        self._pool: ThreadPoolExecutor | None = None
        if ahead > 0:
            self._pool = ThreadPoolExecutor(min(threads, ahead + 1), name)
            self._fill(self._pool)

    def _fill(self, pool: ThreadPoolExecutor) -> None:
        with self._lock:
            if self._closed.is_set():
                return
            while len(self._waiting) <= self._ahead and (self._stop is None or self._next < self._stop):
                self._waiting.append(pool.submit(self._unless_closed, self._next))
                self._next += 1

    def _unless_closed(self, index: int) -> T:
        if self._closed.is_set():
            raise CancelledError  # nobody waits for it any more
        return self._make(index)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        """The next item. Raises what making it raised, and StopIteration at the end or once it is closed."""
        if self._closed.is_set() or (self._stop is not None and self.index >= self._stop):
            raise StopIteration
        try:
            item = self._make(self.index) if self._pool is None else self._take(self._pool)
        except BaseException:
            self.close()
            raise
        self.index += 1
        return item

    def _take(self, pool: ThreadPoolExecutor) -> T:
        try:
            first = self._waiting.popleft()
        except IndexError:  # closed meanwhile, from elsewhere
            raise StopIteration from None
        while True:
            try:
                # A bounded wait, so that Ctrl-C gets through on every platform.
                item = first.result(timeout=0.2)
                break
            except NotYet:
                if first.done():  # the item's own error
                    raise
            except CancelledError:  # closed
                raise StopIteration from None
        self._fill(pool)
        return item

    def close(self) -> None:
        """Make nothing more; waits for what is in the making."""
        with self._lock:
            self._closed.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._waiting.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class ExampleStream(Ahead["ExampleBatch"]):
    """An endless series of batches of examples, made ahead.

    Batch i is `examples.batch(seed + i, batch)`, whatever was made before: to resume after n batches, pass
    `start=n`. The executor is called from the stream's threads.

    Args:
        examples: makes the batches. batch: examples in each.
        seed: of batch 0. start: number of the first batch. ahead, threads: see `Ahead`.
    """

    def __init__(
        self,
        examples: Examples,
        batch: int,
        seed: int,
        start: int = 0,
        ahead: int = 2,
        threads: int = THREADS,
    ) -> None:
        super().__init__(
            lambda index: examples.batch(seed + index, batch),
            start=start,
            ahead=ahead,
            threads=threads,
            name="dafxhost-examples",
        )
