"""A thousand damaged, lying and unusual audio files, read as training and `dafxhost data` read them.

    python benchmarks/hostile_files.py [--count 1000] [--seed 0] [--json]

Each is decoded whole by `dafxhost.data.measuring`'s processes, which no file may crash or hang; then the
folder is drawn from at random places, as training does. Whatever cannot be read must be named, once. The
table that is printed stands in docs/data.md.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import struct
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from dafxhost.data.facts import Facts
from dafxhost.data.measuring import measure_all
from dafxhost.data.sources import open_source

RATES = (8000, 11025, 16000, 22050, 32000, 44100, 48000, 88200, 96000, 176400, 192000, 384000)
CHANNELS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64)
# format, subtype, suffix: 8-bit to 64-bit, and the lossy ones
SUBTYPES = (
    ("WAV", "PCM_U8", "wav"), ("WAV", "PCM_16", "wav"), ("WAV", "PCM_24", "wav"), ("WAV", "PCM_32", "wav"),
    ("WAV", "FLOAT", "wav"), ("WAV", "DOUBLE", "wav"), ("WAV", "ULAW", "wav"), ("WAV", "IMA_ADPCM", "wav"),
    ("WAVEX", "PCM_16", "wav"), ("RF64", "PCM_16", "wav"), ("W64", "PCM_16", "w64"),
    ("AIFF", "PCM_S8", "aiff"), ("AIFF", "PCM_16", "aiff"), ("AIFF", "DOUBLE", "aif"),
    ("CAF", "PCM_16", "caf"),
    ("CAF", "ALAC_16", "caf"), ("AU", "PCM_16", "au"), ("FLAC", "PCM_S8", "flac"), ("FLAC", "PCM_16", "flac"),
    ("FLAC", "PCM_24", "flac"), ("OGG", "VORBIS", "ogg"), ("OGG", "OPUS", "opus"),
    ("MP3", "MPEG_LAYER_III", "mp3"),
)  # fmt: skip
DAMAGED = ("truncated", "bits flipped", "header flipped", "stretch overwritten", "stretch removed", "joined")
UNUSUAL = ("rate", "channels", "sample type", "silence", "NaN or infinity", "one sample")
FOREIGN = ("wrong name", "empty", "noise", "text", "header alone", "huge header")
KINDS = (*DAMAGED, *UNUSUAL, *FOREIGN)


@dataclass(frozen=True)
class Hostile:
    """A file's kind, name and content."""

    kind: str
    name: str
    content: bytes


def encoded(audio: np.ndarray, rate: int, form: str, subtype: str) -> bytes:
    """`[T, C]` as a file in memory."""
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form, subtype=subtype)
    return file.getvalue()


def _sound(rng: np.random.Generator, frames: int, channels: int = 1) -> np.ndarray:
    tone = np.sin(np.arange(frames) * rng.uniform(0.02, 0.3))[:, None]
    return 0.3 * tone + rng.uniform(-0.1, 0.1, (frames, channels))


class Maker:
    """Makes hostile files, each decided by the seed and its number alone.

    MPEG-4 and ADTS files are among the originals where ffmpeg is installed.
    """

    def __init__(self, seed: int, mpeg4: bool = True) -> None:
        self.seed = seed
        rng = np.random.default_rng(seed)
        self.originals = [
            (encoded(_sound(rng, 9000, 2), 48000 if subtype == "OPUS" else 44100, form, subtype), suffix)
            for form, subtype, suffix in SUBTYPES
        ]
        if mpeg4 and shutil.which("ffmpeg"):
            self.originals += [(self._by_ffmpeg(suffix), suffix) for suffix in ("m4a", "aac")]

    def _by_ffmpeg(self, suffix: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "a.wav"), Path(folder, f"a.{suffix}")
            source.write_bytes(self.originals[1][0])
            subprocess.run(
                ["ffmpeg", "-nostdin", "-v", "error", "-i", source, "-c:a", "aac", target], check=True
            )
            return target.read_bytes()

    def make(self, number: int) -> Hostile:
        rng = np.random.default_rng([self.seed, number])
        kind = KINDS[number % len(KINDS)]
        if kind in UNUSUAL:
            content, suffix = self._unusual(kind, rng)
        else:
            content, suffix = self.originals[int(rng.integers(len(self.originals)))]
            content = DAMAGES[kind](bytearray(content), rng)
        if kind == "wrong name":
            suffix = str(rng.choice(["wav", "flac", "mp3", "ogg", "aiff", "m4a", "opus"]))
        return Hostile(kind, f"{number:05d}-{kind.replace(' ', '-')}.{suffix}", bytes(content))

    def _unusual(self, kind: str, rng: np.random.Generator) -> tuple[bytes, str]:
        form, subtype, suffix = ("WAV", "FLOAT", "wav")
        rate, channels, frames = 44100, 2, 4000
        if kind == "rate":
            rate = int(rng.choice(RATES))
        elif kind == "channels":
            channels = int(rng.choice(CHANNELS))
        elif kind == "sample type":
            form, subtype, suffix = SUBTYPES[int(rng.integers(len(SUBTYPES)))]
            rate = 48000
        audio = _sound(rng, frames, channels)
        if kind == "silence":
            audio *= 0
        elif kind == "NaN or infinity":
            audio[int(rng.integers(frames))] = rng.choice([np.nan, np.inf, -np.inf])
        elif kind == "one sample":
            audio = audio[:1]
        return encoded(audio, rate, form, subtype), suffix


def _truncated(data: bytearray, rng: np.random.Generator) -> bytes:
    return bytes(data[: int(rng.integers(1, len(data)))])


def _flipped(data: bytearray, rng: np.random.Generator, within: int | None = None) -> bytes:
    for place in rng.integers(0, min(within or len(data), len(data)), int(rng.integers(1, 40))):
        data[place] ^= 1 << int(rng.integers(8))
    return bytes(data)


def _overwritten(data: bytearray, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    length = min(int(rng.integers(1, 4000)), len(data) - start)
    data[start : start + length] = rng.bytes(length) if rng.random() < 0.5 else bytes(length)
    return bytes(data)


def _removed(data: bytearray, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    del data[start : start + int(rng.integers(1, 4000))]
    return bytes(data)


def _huge(data: bytearray, rng: np.random.Generator) -> bytes:
    """Fields of sizes and counts in the header say that there is as much as they can."""
    for place in rng.integers(4, 120, 3):
        value = int(rng.choice([0xFFFFFFFF, 0x7FFFFFFF, 0xFFFFFFF0, 0x80000000]))
        if place + 4 <= len(data):
            struct.pack_into(str(rng.choice(["<I", ">I"])), data, int(place) // 2 * 2, value)
    if data[:4] == b"RIFF" and (at := data.find(b"data")) > 0:
        struct.pack_into("<I", data, at + 4, 0xFFFFFFFE)
    if data[:4] == b"fLaC":  # 36 bits of total samples
        data[21] |= 0x0F
        data[22:26] = b"\xff" * 4
    return bytes(data)


DAMAGES: dict[str, Callable[[bytearray, np.random.Generator], bytes]] = {
    "truncated": _truncated,
    "bits flipped": _flipped,
    "header flipped": lambda data, rng: _flipped(data, rng, 64),
    "stretch overwritten": _overwritten,
    "stretch removed": _removed,
    "joined": lambda data, rng: bytes(data) + _truncated(data, rng),
    "wrong name": lambda data, rng: bytes(data),
    "empty": lambda data, rng: b"",
    "noise": lambda data, rng: rng.bytes(int(rng.integers(1, 20000))),
    "text": lambda data, rng: b"these are words, not sound\n" * int(rng.integers(1, 300)),
    "header alone": lambda data, rng: bytes(data[: int(rng.integers(1, 64))]),
    "huge header": _huge,
}


def write(folder: Path, count: int, seed: int) -> dict[str, str]:
    """Write so many files; the kind of each by its path."""
    maker, kinds = Maker(seed), {}
    for number in range(count):
        made = maker.make(number)
        (folder / made.name).write_bytes(made.content)
        kinds[str(folder / made.name)] = made.kind
    return kinds


def read_all(folder: Path, workers: int | None = None, deadline: float = 60.0) -> Iterator[Facts]:
    return measure_all([(path, 0) for path in sorted(folder.iterdir())], workers=workers, deadline=deadline)


def draw_all(folder: Path, draws: int, seed: int) -> list[tuple[Path, str]]:
    """Draw clips at random places, in this process; (path, reason) of what was found unreadable."""
    source = open_source(folder, 44100, memory_limit=0)
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        clip, name = source.draw(rng, 2048, 44100)
        if clip.shape != (1, 2048) or not np.isfinite(clip).all():
            raise ValueError(f"{name} gave a clip of shape {clip.shape}, or one that is not finite")
    return source.unreadable


def rows(kinds: dict[str, str], found: list[Facts]) -> list[tuple[str, int, int, int, int, str]]:
    """(kind, files, read, refused, crashed or hung, the commonest reason), a row a kind."""
    by_kind: dict[str, list[Facts]] = defaultdict(list)
    for facts in found:
        by_kind[kinds[facts.path]].append(facts)
    made = []
    for kind in KINDS:
        some = by_kind[kind]
        lost = sum("its decoder" in facts.problem for facts in some)
        refused = sum(bool(facts.problem) for facts in some) - lost
        reasons = Counter(_short(f.problem, f.path) for f in some if f.problem)
        common = reasons.most_common(1)[0][0] if reasons else ""
        made.append((kind, len(some), len(some) - refused - lost, refused, lost, common))
    return made


def _short(problem: str, path: str) -> str:
    return problem.replace(path, "").strip(" :.").split(" (")[0].split(" '")[0][:70]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000, help="files")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dafxhost-hostile-") as name:
        kinds = write(Path(name), wanted.count, wanted.seed)
        found = list(read_all(Path(name)))
        named = [path for path, _ in draw_all(Path(name), 2 * wanted.count, wanted.seed)]
    table = rows(kinds, found)
    lost = [facts.problem for facts in found if "its decoder" in facts.problem]
    if wanted.json:
        columns = ("kind", "files", "read", "refused", "lost", "reason")
        sys.stdout.write(json.dumps([dict(zip(columns, row, strict=True)) for row in table], indent=2) + "\n")
    else:
        print("| kind | files | read | refused | crashed or hung | the commonest reason |")
        print("|---|---|---|---|---|---|")
        for row in table:
            print("| " + " | ".join(map(str, row)) + " |")
    for problem in lost:
        print(problem, file=sys.stderr)
    twice = len(named) - len(set(named))
    # Those cut short can be read up to there, and are refused where a clip would lie behind it.
    readable = {f.path for f in found if not f.problem and f.frames >= f.promised}
    wrongly = sum(str(path) in readable for path in named)
    print(
        f"{2 * wanted.count} clips drawn; {len(named)} files named as unreadable, {twice} of them twice, "
        f"{wrongly} that can be read to their end",
        file=sys.stderr,
    )
    return 1 if lost or twice or wrongly or len(found) != len(kinds) else 0


if __name__ == "__main__":
    sys.exit(main())
