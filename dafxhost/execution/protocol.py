"""What the executor and a worker say to each other. Imported by workers: standard library only.

Messages are small and go over a SOCK_SEQPACKET pair, one packet a message, first byte the kind. Audio, plugin
values and the state of each job lie in the arena.

To the worker:    PROCESSOR (where in the arena a JSON describes a processor), RENDER (a chunk of a batch's
                  jobs), OPEN (begin a stream), FEED (a stream's next samples).
To the executor:  HELLO, FINISHED (the oldest chunk is done; its plugin seconds), FAILED (JSON: one job, or a
                  chunk's processor, failed), OPENED, FED.
"""

from __future__ import annotations

import json
import struct
from dataclasses import astuple, dataclass
from typing import Any

PROCESSOR, RENDER, OPEN, FEED = b"P", b"R", b"O", b"F"
HELLO, FINISHED, FAILED, OPENED, FED = b"h", b"f", b"e", b"o", b"d"

# States of a job, int32 in the batch's table.
PENDING, DONE, BROKEN = 0, 1, 2

# A worker's claim: CLAIM_WORDS int64 in the arena, saying what it does now, so that death and hanging are
# blamed on the right job. `SINCE` is CLOCK_MONOTONIC in ns; it is written before `PHASE`.
CLAIM_WORDS = 8
PHASE, SINCE, BATCH, JOB = range(4)
IDLE, LOADING, RUNNING = range(3)

LARGEST_MESSAGE = 1 << 16
LARGEST_TEXT = 8000


@dataclass(frozen=True)
class BatchLayout:
    """Where a batch lies in the arena; all in bytes or counts.

    Job `j` renders clip `j // columns` with the plugin values in row `j` of the table.
    """

    batch: int
    processor: int
    jobs: int
    columns: int
    channels: int
    samples: int
    parameters: int
    table: int  # float64 values [jobs, parameters], int32 state [jobs]
    inputs: int
    input_stride: int
    outputs: int
    output_stride: int

    @property
    def state_start(self) -> int:
        return self.jobs * self.parameters * 8

    @property
    def table_size(self) -> int:
        return self.state_start + self.jobs * 4


_LAYOUT = struct.Struct("=12q")
_PAIR = struct.Struct("=2q")
_FOUR = struct.Struct("=4q")
_LATENCY = struct.Struct("=q")
_SECONDS = struct.Struct("=d")


def pack_processor(offset: int, size: int) -> bytes:
    return PROCESSOR + _PAIR.pack(offset, size)


def unpack_processor(message: bytes) -> tuple[int, int]:
    return _PAIR.unpack_from(message, 1)


def pack_chunk(layout: bytes, jobs: list[int]) -> bytes:
    return RENDER + layout + struct.pack(f"={len(jobs)}i", *jobs)


def pack_layout(layout: BatchLayout) -> bytes:
    return _LAYOUT.pack(*astuple(layout))


def unpack_chunk(message: bytes) -> tuple[BatchLayout, tuple[int, ...]]:
    start = 1 + _LAYOUT.size
    layout = BatchLayout(*_LAYOUT.unpack_from(message, 1))
    return layout, struct.unpack_from(f"={(len(message) - start) // 4}i", message, start)


def pack_open(processor: int, values: int, parameters: int) -> bytes:
    return OPEN + _FOUR.pack(processor, values, parameters, 0)


def unpack_open(message: bytes) -> tuple[int, int, int]:
    return _FOUR.unpack_from(message, 1)[:3]


def pack_feed(channels: int, samples: int, inputs: int, outputs: int) -> bytes:
    return FEED + _FOUR.pack(channels, samples, inputs, outputs)


def unpack_feed(message: bytes) -> tuple[int, int, int, int]:
    return _FOUR.unpack_from(message, 1)


def pack_opened(latency: int) -> bytes:
    return OPENED + _LATENCY.pack(latency)


def unpack_opened(message: bytes) -> int:
    return _LATENCY.unpack_from(message, 1)[0]


def pack_finished(seconds: float) -> bytes:
    return FINISHED + _SECONDS.pack(seconds)


def unpack_finished(message: bytes) -> float:
    return _SECONDS.unpack_from(message, 1)[0]


def pack_failed(kind: str, job: int, text: str, **more: Any) -> bytes:
    """`kind`: "load" (no processor), "parameter" (a value was not taken) or "job"."""
    return FAILED + json.dumps({"kind": kind, "job": job, "text": text[:LARGEST_TEXT], **more}).encode()


def unpack_failed(message: bytes) -> dict[str, Any]:
    return json.loads(message[1:])
