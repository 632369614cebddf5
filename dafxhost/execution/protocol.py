"""What the executor and its workers say to each other. Imported by workers: standard library only.

Jobs go through one pipe that all workers read from, one *ticket* a job: whoever is free takes the next, so
that nobody waits for a dispatcher and a slow render holds up no other. A ticket names a batch's header in
the arena; audio, plugin values and the state of each job lie there too.

Messages go over a SOCK_SEQPACKET pair for each worker, one packet a message, first byte the kind.

To a single worker:    OPEN (begin a stream), FEED (its next samples), PROVE (find the cheapest exact reset).
To the executor:       HELLO, LEFT (done with a batch for now), FAILED (JSON: one job, or a chunk's
                       processor, failed), UNREPEATABLE (JSON: a second render differed), RETIRING (its memory
                       is past the limit; it ends), OPENED, FED, PROVED (JSON).
"""

from __future__ import annotations

import json
import struct
from dataclasses import astuple, dataclass
from typing import Any

OPEN, FEED, PROVE = b"O", b"F", b"P"
HELLO, LEFT, FAILED, UNREPEATABLE, RETIRING = b"h", b"l", b"e", b"u", b"r"
OPENED, FED, PROVED = b"o", b"d", b"p"

# States of a job, int32 in the batch's table.
PENDING, DONE, BROKEN, SKIPPED = range(4)

# A worker's claim: CLAIM_WORDS int64 in the arena. The first say what it does now, so that death and hanging
# are blamed on the right job; `SINCE` is CLOCK_MONOTONIC in ns and is written before `PHASE`. The others are
# what it has done so far; `PART` is which of its effect's plugins is at work (see `processor.enter_part`).
CLAIM_WORDS = 8
PHASE, SINCE, BATCH, JOB, RENDERS, PLUGIN_NS, AUDIO_US, PART = range(8)
IDLE, LOADING, PREPARING, RUNNING = range(4)

PAGE = 4096
LARGEST_MESSAGE = 1 << 16
LARGEST_TEXT = 8000

TICKET = struct.Struct("=IIQ")
"""Page of the batch's header, job, and the batch's number, which the header must bear as well."""


@dataclass(frozen=True)
class BatchLayout:
    """Where a batch lies in the arena; all in bytes or counts. Its header is this, followed by the word
    CANCELLED.

    Job `j` renders clip `j // columns` with the plugin values in row `j` of the table.
    """

    batch: int
    processor: int
    description: int  # JSON of the processor
    description_size: int
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
    holes: int  # how often the arena gave pages back; those that a worker has mapped may be gone

    @property
    def state(self) -> int:
        return self.table + self.jobs * self.parameters * 8

    @property
    def table_size(self) -> int:
        return self.jobs * (self.parameters * 8 + 4)


_LAYOUT = struct.Struct("=15q")
CANCELLED = 15  # word of the header: the batch's remaining jobs are not wanted
HEADER_SIZE = 8 * 16
_FOUR = struct.Struct("=4q")
_FIVE = struct.Struct("=5q")
_WORD = struct.Struct("=q")


def pack_layout(layout: BatchLayout) -> bytes:
    return _LAYOUT.pack(*astuple(layout))


def unpack_layout(header: Any) -> BatchLayout:
    return BatchLayout(*_LAYOUT.unpack_from(header))


def pack_open(
    kind: bytes, processor: int, description: int, size: int, values: int, parameters: int
) -> bytes:
    """An OPEN or PROVE message: the processor's number, where its description and plugin values lie."""
    return kind + _FIVE.pack(processor, description, size, values, parameters)


def unpack_open(message: bytes) -> tuple[int, int, int, int, int]:
    return _FIVE.unpack_from(message, 1)


def pack_feed(channels: int, samples: int, inputs: int, outputs: int) -> bytes:
    return FEED + _FOUR.pack(channels, samples, inputs, outputs)


def unpack_feed(message: bytes) -> tuple[int, int, int, int]:
    return _FOUR.unpack_from(message, 1)


def pack_opened(latency: int) -> bytes:
    return OPENED + _WORD.pack(latency)


def unpack_opened(message: bytes) -> int:
    return _WORD.unpack_from(message, 1)[0]


def pack_left(batch: int) -> bytes:
    return LEFT + _WORD.pack(batch)


def unpack_left(message: bytes) -> int:
    return _WORD.unpack_from(message, 1)[0]


def pack_report(kind: bytes, batch: int, job: int, **more: Any) -> bytes:
    """A FAILED or UNREPEATABLE message about one job."""
    if "text" in more:
        more["text"] = more["text"][:LARGEST_TEXT]
    return kind + json.dumps({"batch": batch, "job": job, **more}).encode()


def unpack_report(message: bytes) -> dict[str, Any]:
    return json.loads(message[1:])
