"""Shared memory between the executor and its workers: one anonymous file, mapped once, cut into regions.

The file has no name (memfd), so nothing can be left behind in /dev/shm. A large range of addresses is
reserved and only pages that are touched take memory; the arena therefore never moves and results can be
handed out as views of it. A region returns to the arena when the last array made of it is
garbage-collected, and its pages are used again while they are warm: fresh pages would cost about 0.2 ms a
MB in page faults.
"""

from __future__ import annotations

import collections
import mmap
import os
import threading
from typing import Any

import numpy as np

from dafxhost.errors import DafxhostError, UsageError
from dafxhost.execution.protocol import PAGE

SMALLEST_RESERVE = 64 << 20


class Region:
    """Part of an arena, given back when this object is collected. `np.asarray(region)` keeps it alive."""

    def __init__(self, arena: Arena, offset: int, size: int, taken: int) -> None:
        self.arena, self.offset, self.size, self._taken = arena, offset, size, taken

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return {
            "data": (self.arena.address + self.offset, False),
            "shape": (self.size,),
            "typestr": "|u1",
            "version": 3,
        }

    def array(self, dtype: Any, shape: tuple[int, ...], start: int = 0) -> np.ndarray:
        """Writable C-contiguous view of the bytes from `start`; it keeps the region alive."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.asarray(self)[start : start + size].view(dtype).reshape(shape)

    def __del__(self) -> None:
        # May run in any thread at any moment, even inside `Arena.region`: it must not take a lock.
        self.arena.released.append((self.offset, self._taken))


class Arena:
    """An anonymous shared file of `reserve` bytes of address space, cut into page-aligned regions."""

    def __init__(self, reserve: int | None = None) -> None:
        if reserve is None:
            reserve = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.fd = os.memfd_create("dafxhost-arena", os.MFD_CLOEXEC)
        self.reserve, self._map = self._reserve(reserve)
        self._map.madvise(mmap.MADV_DONTDUMP)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self.address: int = self._bytes.ctypes.data
        self.released: collections.deque[tuple[int, int]] = collections.deque()
        self._free: list[tuple[int, int]] = [(0, self.reserve)]  # (offset, size), by offset, never adjacent
        self._touched = 0  # everything below has been handed out at least once
        self._keep = max(256 << 20, self.reserve // 8)  # free bytes that may stay warm
        self._in_use = 0
        self.holes = 0  # how often pages were given back to the system
        self._lock = threading.Lock()

    def _reserve(self, size: int) -> tuple[int, mmap.mmap]:
        """Less than asked for where a limit (ulimit -v, -f) forbids it."""
        size = max(size // PAGE * PAGE, PAGE)
        while True:
            try:
                os.ftruncate(self.fd, size)
                return size, mmap.mmap(self.fd, size)
            except OSError as error:
                if size < 2 * SMALLEST_RESERVE:
                    os.close(self.fd)
                    raise DafxhostError(f"no shared memory can be reserved: {error}") from error
                size = size // 2 // PAGE * PAGE

    def region(self, size: int) -> Region:
        """A region of at least `size` bytes, aligned to a page; its content is undefined.

        Raises:
            UsageError: the arena is full.
        """
        taken = max(1, -(-size // PAGE)) * PAGE
        with self._lock:
            self._collect()
            for i, (offset, free) in enumerate(self._free):
                if free >= taken:
                    self._free[i : i + 1] = [(offset + taken, free - taken)] if free > taken else []
                    self._in_use += taken
                    self._touched = max(self._touched, offset + taken)
                    return Region(self, offset, size, taken)
        raise UsageError(
            f"this needs {size / 1e9:.3g} GB of shared memory and {self._in_use / 1e9:.3g} of "
            f"{self.reserve / 1e9:.3g} GB are in use; render smaller batches, or let go of earlier results"
        )

    def _collect(self) -> None:
        """Take back what was released since the last call."""
        while self.released:
            offset, size = self.released.popleft()
            self._in_use -= size
            if self._touched - self._in_use > self._keep:
                self._map.madvise(mmap.MADV_REMOVE, offset, size)
                self.holes += 1
            self._insert(offset, size)

    def _insert(self, offset: int, size: int) -> None:
        self._free.append((offset, size))
        self._free.sort()
        merged: list[tuple[int, int]] = []
        for start, length in self._free:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self._free = merged

    def offset_of(self, array: np.ndarray) -> int | None:
        """Where a C-contiguous array lies in this arena, or None if it lies elsewhere."""
        start = array.__array_interface__["data"][0] - self.address
        return start if array.flags.c_contiguous and 0 <= start < self.reserve else None

    def view(self, offset: int, size: int) -> memoryview:
        """Bytes of the arena, without keeping any region alive."""
        return memoryview(self._map)[offset : offset + size]

    def keep_pages(self) -> None:
        """Give no pages back to the system from now on: a device may have locked them."""
        self._keep = self.reserve

    def close(self) -> None:
        """Close the file. Regions that are still referred to stay valid."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
