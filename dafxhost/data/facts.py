"""What there is to know of one recording, measured in one pass over it; and the worker that measures many.

`python -m dafxhost.data.facts` reads requests from standard input and answers on standard output, a line of
JSON each. A decoder that crashes or hangs takes only that process with it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.data.audio_io import BLOCK, AudioReader
from dafxhost.data.checks import clipped_samples
from dafxhost.data.loudness import LoudnessMeter
from dafxhost.errors import AudioFileError

QUIET = 1e-3
"""Windows of 50 ms below this (RMS, -60 dBFS) count as silence."""
SILENT_FILE = 1e-4
"""A recording whose peak lies below this (-80 dBFS) is silent: no clip can be drawn from it."""


@dataclass(frozen=True)
class Facts:
    """One recording, or why it cannot be read.

    Attributes:
        path: the file. stream: which audio stream of it. bytes: the file's size.
        problem: why it cannot be read, in one sentence; "" if it can, and only then the rest is meant.
        sample_rate: Hz. channels: count. frames: samples that were decoded. promised: what the header says.
        format, subtype: e.g. "WAV", "PCM_16".
        peak, rms: dBFS, at least -200.
        loudness: LUFS; None where nothing passes its gates.
        silence: share of 50 ms windows below -60 dBFS, 0..1. silent: no sample above -80 dBFS.
        clipped: samples in runs of three or more at full scale, all channels together.
        digest: of the decoded samples, rate and channels: equal for a WAV file and its FLAC copy.
    """

    path: str
    stream: int = 0
    bytes: int = 0
    problem: str = ""
    sample_rate: int = 0
    channels: int = 0
    frames: int = 0
    promised: int = 0
    format: str = ""
    subtype: str = ""
    peak: float = -200.0
    rms: float = -200.0
    loudness: float | None = None
    silence: float = 0.0
    silent: bool = False
    clipped: int = 0
    digest: str = ""

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate if self.sample_rate else 0.0


class _Measure:
    """Sums over the blocks of one recording."""

    def __init__(self, rate: int, channels: int) -> None:
        self.window = max(1, rate // 20)
        self.frames = self.clipped = self.windows = self.quiet = 0
        self.peak = self.energy = 0.0
        self.hash = hashlib.sha256(f"{rate} {channels}".encode())
        self.meter = LoudnessMeter(rate, channels)

    def add(self, block: np.ndarray) -> None:
        self.frames += block.shape[1]
        self.hash.update(np.ascontiguousarray(block.T).tobytes())
        power = np.square(block, dtype=np.float64)
        self.peak = max(self.peak, float(np.abs(block).max()))
        self.energy += float(power.sum())
        self.clipped += clipped_samples(block)
        starts = np.arange(0, block.shape[1], self.window)
        lengths = np.minimum(self.window, block.shape[1] - starts) * len(block)
        levels = np.add.reduceat(power.sum(axis=0), starts) / lengths
        self.windows += len(levels)
        self.quiet += int((levels < QUIET**2).sum())
        self.meter.add(block)


def decibels(amplitude: float) -> float:
    """20 log10, at least -200."""
    return 20 * math.log10(max(amplitude, 1e-10))


def measure(path: str | os.PathLike[str], stream: int = 0) -> Facts:
    """Decode a recording from beginning to end; what is wrong with it is in the answer, not raised."""
    path = Path(path)
    size = path.stat().st_size if path.is_file() else 0
    try:
        return _measured(path, stream, size)
    except AudioFileError as error:
        return Facts(str(path), stream, size, str(error))
    except MemoryError:
        return Facts(str(path), stream, size, f"{path} needs more memory to decode than there is.")


def _measured(path: Path, stream: int, size: int) -> Facts:
    with AudioReader(path, stream) as reader:
        info = reader.info
        done = _Measure(info.sample_rate, info.channels)
        most = max(1, (1 << 22) // info.channels, BLOCK // 64)
        for block in reader.blocks(max(1, min(BLOCK * 4, most) // done.window) * done.window):
            done.add(block)
    if not done.frames:
        raise AudioFileError(f"{path} holds no samples, although its header says so.")
    loudness = done.meter.integrated()
    rms = math.sqrt(done.energy / (done.frames * info.channels))
    return Facts(
        path=str(path), stream=stream, bytes=size, sample_rate=info.sample_rate, channels=info.channels,
        frames=done.frames, promised=info.frames, format=info.format, subtype=info.subtype,
        peak=round(decibels(done.peak), 2), rms=round(decibels(rms), 2),
        loudness=round(loudness, 2) if math.isfinite(loudness) else None,
        silence=round(done.quiet / done.windows, 4), silent=done.peak < SILENT_FILE, clipped=done.clipped,
        digest=done.hash.hexdigest()[:32],
    )  # fmt: skip


def main() -> None:
    """Answer requests `{"path": ..., "stream": ...}` until standard input ends."""
    for line in sys.stdin.buffer:
        asked: dict[str, Any] = json.loads(line)
        answer = asdict(measure(os.fsdecode(bytes.fromhex(asked["path"])), asked["stream"]))
        answer["path"] = asked["path"]
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
