"""Arena memory that a GPU copies from and to by itself, while the processor does something else.

Page-locked memory is what CUDA's asynchronous copies need. The arena is locked piece by piece, as its memory
is first used for a GPU, and stays so: its regions are used again and again. Where CUDA refuses (a limit on
locked memory, say), copies are ordinary ones.

Imports torch; only used when somebody hands in a CUDA tensor, who has imported it.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from dafxhost.execution.arena import Arena

PIECE = 16 << 20  # bytes locked at a time: locking has a fixed cost
_ALREADY_REGISTERED = 712  # cudaErrorHostMemoryAlreadyRegistered


class PinnedMemory:
    """What is page-locked of one arena, and the copies that are still under way.

    Args:
        torch: the module.
    """

    def __init__(self, arena: Arena, torch: Any) -> None:
        self._arena, self._torch = arena, torch
        self._pieces: set[int] = set()
        self._refused = False
        # The memory of a copy under way must not be used for something else: these hold it.
        self._under_way: deque[tuple[Any, Any]] = deque()

    def _lock(self, offset: int, size: int) -> bool:
        """Whether the bytes are page-locked now."""
        if self._refused:
            return False
        register = self._torch.cuda.cudart().cudaHostRegister
        for piece in range(offset // PIECE, -(-(offset + size) // PIECE)):
            if piece in self._pieces:
                continue
            start = piece * PIECE
            length = min(PIECE, self._arena.reserve - start)
            # Before the first page is locked: what is locked must not be given back to the system.
            self._arena.keep_pages()
            if int(register(self._arena.address + start, length, 0)) not in (0, _ALREADY_REGISTERED):
                self._refused = True
                return False
            self._pieces.add(piece)
        return True

    def fetch(self, audio: Any) -> np.ndarray:
        """A CUDA tensor -> float32 array in the arena, there when this returns."""
        torch = self._torch
        region = self._arena.region(audio.numel() * 4)
        array = region.array(np.float32, tuple(audio.shape))
        fast = self._lock(region.offset, region.size)
        torch.from_numpy(array).copy_(audio.detach(), non_blocking=fast)
        if fast:
            torch.cuda.current_stream(audio.device).synchronize()
        return array

    def send(self, result: np.ndarray, device: Any) -> Any:
        """An array -> tensor on the device; if it lies in the arena, the copy may still be under way, in the
        order of the device's current stream.
        """
        torch = self._torch
        while self._under_way and self._under_way[0][0].query():
            self._under_way.popleft()
        tensor = torch.from_numpy(result)
        offset = self._arena.offset_of(result)
        if offset is None or not result.nbytes or not self._lock(offset, result.nbytes):
            return tensor.to(device)
        copied = tensor.to(device, non_blocking=True)
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(device))
        self._under_way.append((event, tensor))
        return copied
