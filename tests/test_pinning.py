"""Page-locked arena memory, with a stand-in for CUDA: what is locked, for how long copies hold their memory.

There is no GPU where these tests run; the stand-in records what would be asked of one.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dafxhost.execution.arena import Arena
from dafxhost.execution.pinning import PIECE, PinnedMemory


class FakeEvent:
    finished = False

    def record(self, stream: Any) -> None:
        self.recorded = True

    def query(self) -> bool:
        return FakeEvent.finished


class FakeTorch:
    """`torch`, with a "device" that is the processor."""

    def __init__(self, answer: int = 0) -> None:
        self.locked: list[tuple[int, int]] = []
        self.from_numpy = torch.from_numpy
        self.synchronised = 0

        def register(address: int, size: int, flags: int) -> int:
            self.locked.append((address, size))
            return answer

        def synchronize() -> None:
            self.synchronised += 1

        stream = SimpleNamespace(synchronize=synchronize)
        self.cuda = SimpleNamespace(
            cudart=lambda: SimpleNamespace(cudaHostRegister=register),
            current_stream=lambda device: stream,
            Event=FakeEvent,
        )


@pytest.fixture
def arena():
    arena = Arena(256 << 20)
    yield arena
    arena.close()


def test_memory_is_locked_once_piece_by_piece_and_kept(arena):
    fake = FakeTorch()
    memory = PinnedMemory(arena, fake)
    audio = torch.randn(2, 1, 3_000_000)  # 24 MB: two pieces
    array = memory.fetch(audio)
    assert np.array_equal(array, audio.numpy()) and fake.synchronised == 1
    assert fake.locked == [(arena.address, PIECE), (arena.address + PIECE, PIECE)]
    del array
    memory.fetch(audio)
    assert len(fake.locked) == 2
    before = arena.holes
    for _ in range(3):
        arena.region(200 << 20)
    arena.region(1)
    assert arena.holes == before  # nothing that is locked goes back to the system


def test_a_copy_under_way_holds_its_memory(arena):
    memory = PinnedMemory(arena, FakeTorch())
    FakeEvent.finished = False
    result = arena.region(4096).array(np.float32, (1024,))
    result[:] = 1.0
    sent = memory.send(result, torch.device("cpu"))
    offset = arena.offset_of(result)
    del result, sent
    assert arena.region(4096).offset != offset
    FakeEvent.finished = True
    memory.send(arena.region(4096).array(np.float32, (1024,)), torch.device("cpu"))
    assert arena.region(4096).offset == offset


def test_where_locking_is_refused_copies_are_ordinary(arena):
    fake = FakeTorch(answer=2)
    memory = PinnedMemory(arena, fake)
    audio = torch.randn(1, 1, 100)
    for _ in range(2):
        assert np.array_equal(memory.fetch(audio), audio.numpy())
    assert len(fake.locked) == 1 and fake.synchronised == 0
    result = arena.region(4096).array(np.float32, (1024,))
    assert torch.equal(memory.send(result, torch.device("cpu")), torch.from_numpy(result))
