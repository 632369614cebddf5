"""Features of many files, on all cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

from dafxhost.errors import AudioFileError, DafxhostError, UsageError
from dafxhost.timbre.features import FEATURES, checked_names

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff")
EXCERPT = 30.0
"""Seconds of a file that are looked at if nothing else is asked for."""

_AHEAD = 4  # files a worker has in hand


@dataclass(frozen=True)
class FileFeatures:
    """Features of one file.

    Attributes:
        path: the file. values: feature -> value, those that are defined. reasons: feature -> why it has none.
        error: why the file could not be read, or "".
    """

    path: Path
    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    error: str = ""


def audio_files(places: Sequence[Path]) -> list[Path]:
    """The files named, and those of audio in folders and their subfolders, sorted, each once.

    Raises:
        AudioFileError: a place that is not there, or no audio file at all.
    """
    found: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = (p for p in place.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found += sorted(p for p in inside if not p.name.startswith("."))
        elif place.exists():
            found.append(place)
        else:
            raise AudioFileError(f"there is no file or folder {place}.")
    if not found:
        names = ", ".join(map(str, places))
        raise AudioFileError(f"no audio file ({', '.join(SUFFIXES)}) in {names}.")
    return list(dict.fromkeys(found))


def file_features(path: Path, features: Sequence[str] = FEATURES, excerpt: float = EXCERPT) -> FileFeatures:
    """Features of the middle `excerpt` seconds of a file (0: of all of it). A file that cannot be read has an
    `error`; nothing is raised for it.
    """
    import numpy as np

    from dafxhost.data.audio_io import probe, read_audio
    from dafxhost.timbre.features import RATES, timbral_features

    try:
        info = probe(path)
        wanted = int(excerpt * info.sample_rate) if excerpt else info.frames
        frames = min(info.frames, max(1, wanted))
        audio, rate = read_audio(path, start=(info.frames - frames) // 2, frames=frames)
        if not RATES[0] <= rate <= RATES[1]:
            raise AudioFileError(f"{path} has a sample rate of {rate} Hz, outside {RATES[0]}..{RATES[1]} Hz.")
        done = timbral_features(audio[None], rate, features)
    except DafxhostError as error:
        return FileFeatures(path, error=str(error))
    except MemoryError:
        return FileFeatures(path, error=f"{path} is too long to be looked at whole; give --excerpt.")
    values = {n: float(v) for n, v in zip(done.names, done.values[0], strict=True) if np.isfinite(v)}
    return FileFeatures(path, values, done.reasons[0])


def each_file(
    paths: Sequence[Path],
    features: Sequence[str] = FEATURES,
    *,
    excerpt: float = EXCERPT,
    workers: int | None = None,
) -> Iterator[tuple[int, FileFeatures]]:
    """(index in `paths`, its features), as they are done.

    Args:
        paths: files. features: names. excerpt: seconds from the middle of each, 0 for all of it.
        workers: processes; None is as many as there are cores. One works in this process.

    Raises:
        UnknownNameError, UsageError: a wrong feature, or a negative excerpt. DafxhostError: a worker was
        killed.
    """
    names = checked_names(features)
    if excerpt < 0:
        raise UsageError(
            f"an excerpt of {excerpt:g} s is none: give a length in seconds, or 0 for whole files"
        )
    count = min(len(paths), workers or len(os.sched_getaffinity(0)))
    if count <= 1:
        for i, path in enumerate(paths):
            yield i, file_features(path, names, excerpt)
        return
    # Forking is unsafe beside threads that a caller may have.
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(count, context)
    try:
        yield from _hand_out(pool, paths, names, excerpt, count)
    except BrokenProcessPool as error:
        raise DafxhostError(
            "a process that measured features was killed; is there enough memory? "
            "Give --workers 1 or a shorter --excerpt."
        ) from error
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _hand_out(
    pool: ProcessPoolExecutor, paths: Sequence[Path], names: tuple[str, ...], excerpt: float, count: int
) -> Iterator[tuple[int, FileFeatures]]:
    """A few files ahead only, so that an interruption ends at once and an hour's list needs no memory."""
    running: dict[Future[FileFeatures], int] = {}
    rest = iter(enumerate(paths))
    while True:
        for i, path in rest:
            running[pool.submit(file_features, path, names, excerpt)] = i
            if len(running) >= _AHEAD * count:
                break
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future.result()
