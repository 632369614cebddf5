"""What it costs to open a folder of recordings, and to take excerpts of 5 s out of files of 3 minutes.

    python benchmarks/recordings.py [--files 10000] [--excerpts 40]

Processor time, which other work on the machine changes less than the clock. Of ffmpeg's formats the ffmpeg
process's own is in it. Nothing outside a temporary folder is needed or touched.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from dafxhost.data.audio_io import read_audio
from dafxhost.data.facts import measure
from dafxhost.data.listing import list_audio
from dafxhost.data.sources import FolderSource

RATE, SECONDS, CLIP = 44100, 180, 5
FORMATS = {"wav": None, "flac": None, "ogg": "VORBIS", "opus": "OPUS", "mp3": "MPEG_LAYER_III"}


def spent() -> float:
    """Processor seconds of this process and of the children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def cost(work: Callable[[], object]) -> float:
    before = spent()
    work()
    return spent() - before


def many_files(folder: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    audio = rng.normal(0, 0.1, RATE // 10)
    for number in range(count):
        if number % 100 == 0:
            (folder / f"{number // 100:04d}").mkdir()
        suffix = ("wav", "flac")[number % 2]
        soundfile.write(folder / f"{number // 100:04d}" / f"{number:06d}.{suffix}", audio, RATE)


def long_files(folder: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    audio = np.cumsum(rng.normal(0, 0.01, (RATE * SECONDS, 2)), axis=0)
    audio -= np.linspace(audio[0], audio[-1], len(audio))
    audio *= 0.5 / np.abs(audio).max()
    made = []
    for suffix, subtype in FORMATS.items():
        path = folder / f"a.{suffix}"
        rate = 48000 if suffix == "opus" else RATE
        form = {"opus": "OGG"}.get(suffix, suffix.upper())
        with soundfile.SoundFile(path, "w", rate, 2, subtype, format=form) as file:
            for start in range(0, len(audio), RATE):  # libsndfile's Vorbis takes no more at once
                file.write(audio[start : start + RATE])
        made.append(path)
    if shutil.which("ffmpeg"):
        made.append(folder / "a.m4a")
        command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(made[0]), "-c:a", "aac", str(made[-1])]
        subprocess.run(command, check=True)
    return made


def excerpts(path: Path, count: int) -> float:
    """Processor milliseconds an excerpt."""
    rng = np.random.default_rng(0)
    starts = rng.integers(0, RATE * (SECONDS - CLIP - 1), count)

    def work() -> None:
        for start in starts:
            read_audio(path, start=int(start), frames=RATE * CLIP)

    return 1e3 * cost(work) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--excerpts", type=int, default=40)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dafxhost-recordings-") as name:
        root = Path(name)
        os.environ["DAFXHOST_CACHE"] = str(root / "cache")
        (root / "many").mkdir()
        many_files(root / "many", wanted.files)
        listing = cost(lambda: list_audio(root / "many"))
        opening = cost(lambda: FolderSource(root / "many", RATE))
        print(f"{wanted.files} files: listed in {listing:.2f} s, opened as a source in {opening:.2f} s")
        print("\n| format | an excerpt of 5 s, ms | the whole 180 s, ms | measured by `dafxhost data`, ms |")
        print("|---|---|---|---|")
        long = long_files(root)
        measure(long[0])  # what is imported on the way is not the files' cost
        for path in long:
            piece = excerpts(path, wanted.excerpts)
            whole = 1e3 * cost(lambda path=path: read_audio(path))
            facts = 1e3 * cost(lambda path=path: measure(path))
            print(f"| {path.suffix[1:]} | {piece:.1f} | {whole:.0f} | {facts:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
