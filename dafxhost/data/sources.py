"""Where clips come from: the interface, and recordings in folders, data sets and manifests."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from dafxhost.data import audio_io
from dafxhost.data.audio_io import AudioInfo, Channels
from dafxhost.data.checks import is_silent
from dafxhost.data.dataset import Dataset, open_dataset
from dafxhost.data.decoders import DecoderHungError
from dafxhost.data.excerpts import CROSSFADE_SECONDS, Excerpt, Level, Stretch, levelled, looped
from dafxhost.data.facts import Facts
from dafxhost.data.facts_cache import FactsCache
from dafxhost.data.layouts import Recording
from dafxhost.data.splits import (
    SPLITS,
    VALIDATION_FRACTION,
    Split,
    check_split,
    file_fraction,
    split_names,
    split_recordings,
)
from dafxhost.errors import AudioFileError, ShapeError, UsageError

__all__ = [
    "CROSSFADE_SECONDS",
    "SPLITS",
    "AudioSource",
    "FolderSource",
    "RecordingSource",
    "Split",
    "file_fraction",
    "is_silent",
    "looped",
    "open_source",
    "split_names",
]

TRIES = 200
MEMORY_LIMIT = 1 << 30
Clipping = Literal["keep", "refuse"]


class AudioSource(ABC):
    """Something that clips of audio can be drawn from.

    Attributes:
        names: what there is to draw from, sorted.
        total_seconds: length of all of it.
        description: one line for people, e.g. "25 files, 210 s, in /data/music".
    """

    names: list[str]
    total_seconds: float
    description: str

    @abstractmethod
    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        """A random clip, decided by `rng` alone.

        Returns:
            (mono clip `[1, samples]` float32 in which neither half is silent, the name of what it came from).

        Raises:
            AudioFileError: nothing but silence or unreadable files.
        """


class RecordingSource(AudioSource):
    """The recordings of a data set, on one side of its split, resampled.

    Every recording is equally likely, whatever its length, as in Grant 2023; the excerpt's place in it is
    uniform. One shorter than the clip is repeated, from a random place on, with a crossfade of 20 ms. With a
    single group (song, speaker, file), "train" and "validation" are both that group.

    Recordings are decoded at first use and kept, if all of the split's take less than `memory_limit` bytes;
    else only the excerpts drawn are read. Which of the two is fixed beforehand: a draw depends on the rng
    alone. Where a file cannot be read, another is drawn; one that vanishes or changes is left out for good.

    Attributes:
        dataset: where the recordings come from. split: the side.
        channels, level: what is made of their channels, and the level clips are brought to.
        unreadable: (path, reason) of the files left out, each once; of those found broken later on, too.
    """

    def __init__(
        self,
        dataset: Dataset,
        sample_rate: int,
        split: Split = "all",
        *,
        validation_fraction: float = VALIDATION_FRACTION,
        memory_limit: int = MEMORY_LIMIT,
        channels: Channels = "mono",
        level: str | Level = "none",
        clipping: Clipping = "keep",
    ) -> None:
        """`open_source` says what the arguments are.

        Raises:
            AudioFileError: nothing readable. UsageError: no such split, level or channels.
        """
        check_split(split, validation_fraction)
        if channels == "all":
            raise UsageError(
                'clips must have one number of channels: "mono", "stereo" or a channel\'s number'
            )
        audio_io.take_channels(np.zeros((1 << 10, 1), np.float32), channels)
        self.dataset, self.sample_rate, self.split = dataset, sample_rate, split
        self.channels: Channels = channels
        self.level, self.clipping = Level.parse(level), clipping
        self.unreadable: list[tuple[Path, str]] = list(dataset.refused)
        stretches = self._probe()
        readable = [r for r in dataset.recordings if r.name in stretches]
        self.recordings = split_recordings(readable, split, validation_fraction, dataset.path)
        self.names = [recording.name for recording in self.recordings]
        self._stretches = [stretches[name] for name in self.names]
        self._states = [_state(stretch.info.path) for stretch in self._stretches]
        self.total_seconds = sum(stretch.seconds for stretch in self._stretches)
        rows = 2 if channels == "stereo" else 1
        self.in_memory = 4 * rows * self.total_seconds * sample_rate <= memory_limit
        self._cache: dict[int, np.ndarray] = {}
        self._lost: set[int] = set()
        self._lock = threading.Lock()
        self.description = self._describe()

    def _describe(self) -> str:
        length = f"{self.total_seconds:.0f} s"
        if self.dataset.layout == "folder":
            said = f"{len(self.names)} files, {length}, in {self.dataset.path}"
        else:
            groups = len({recording.group for recording in self.recordings})
            said = f"{len(self.names)} recordings in {groups} groups, {length}, "
            said += f"of {self.dataset.path} ({self.dataset.layout}, {self.split})"
        if self.channels != "mono":
            said += f", {self.channels if isinstance(self.channels, str) else f'channel {self.channels}'}"
        return said if self.level.kind == "none" else f"{said}, at {self.level}"

    def _probe(self) -> dict[str, Stretch]:
        """The stretch of every recording that can be opened; the others are named in `unreadable`."""
        recordings = self.dataset.recordings
        with FactsCache() as cache:
            known = cache.get((r.path, r.stream) for r in recordings)
        found: dict[str, Stretch] = {}
        with ThreadPoolExecutor(8, thread_name_prefix="dafxhost-probe") as threads:
            looked = threads.map(lambda r: _look(r, known.get((str(r.path), r.stream))), recordings)
            for recording, result in zip(recordings, looked, strict=True):
                if isinstance(result, Stretch):
                    found[recording.name] = result
                else:
                    self._name(recording.path, result)
        if not found:
            raise AudioFileError(
                f"none of the {len(recordings)} audio files in {self.dataset.path} can be read; the first: "
                f"{self.unreadable[0][1]}"
            )
        return found

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        """As `AudioSource.draw`; `[2, samples]` if the source's channels are "stereo"."""
        excerpt = self.draw_excerpt(rng, samples, sample_rate)
        return excerpt.audio, excerpt.name

    def draw_excerpt(self, rng: np.random.Generator, samples: int, sample_rate: int) -> Excerpt:
        """A random clip with where it came from and what was done to it; decided by `rng` alone.

        Raises:
            AudioFileError: nothing but silence, unreadable files or (where refused) clipping.
            UsageError: a loudness is asked of clips shorter than 0.4 s.
        """
        if samples < 1:
            raise ShapeError(f"a clip of {samples} samples cannot be drawn")
        for _ in range(TRIES):
            index, place = int(rng.integers(len(self.names))), float(rng.random())
            if index in self._lost:
                continue
            try:
                clip, start, repeated = self._clip(index, place, samples, sample_rate)
            except AudioFileError as error:
                # A file broken at one place may be drawn at another: whoever resumes must draw the same.
                self._leave_out(index, error, for_good=isinstance(error, DecoderHungError))
                continue
            if is_silent(clip):
                continue
            recording = self.recordings[index]
            excerpt = levelled(
                clip, recording.name, recording.group, start, sample_rate, repeated, self.level
            )
            if not (excerpt.clipped and self.clipping == "refuse"):
                return excerpt
        clipped = ", clipped" if self.clipping == "refuse" else ""
        last = f" ({self.unreadable[-1][1]})" if self.unreadable else "."
        raise AudioFileError(
            f"nothing that sounds was found in {self.dataset.path} in {TRIES} draws: its {len(self.names)} "
            f"files are silent{clipped} or unreadable{last}"
        )

    def _leave_out(self, index: int, error: AudioFileError, for_good: bool) -> None:
        with self._lock:
            if for_good:
                self._lost.add(index)
            self._name(self._stretches[index].info.path, str(error))

    def _name(self, path: Path, reason: str) -> None:
        if path not in [known for known, _ in self.unreadable]:
            self.unreadable.append((path, reason))

    def _clip(
        self, index: int, place: float, samples: int, sample_rate: int
    ) -> tuple[np.ndarray, float, bool]:
        """`[C, samples]` from `place` (0..1) of where it can start, its start in seconds, and if repeated."""
        stretch = self._stretches[index]
        available = int(stretch.seconds * sample_rate)
        whole = self.in_memory and sample_rate == self.sample_rate
        if not whole and available > samples:
            self._check_unchanged(index)
            return (*stretch.excerpt(place, samples, sample_rate, self.channels), False)
        audio = self._decoded(index) if whole else self._read(index, sample_rate)
        spare = audio.shape[1] - samples
        start = int(place * (audio.shape[1] if spare < 0 else spare + 1))
        seconds = stretch.first / stretch.info.sample_rate + start / sample_rate
        if spare < 0:
            return looped(audio, start, samples, int(CROSSFADE_SECONDS * sample_rate)), seconds, True
        return audio[:, start : start + samples].copy(), seconds, False

    def _read(self, index: int, sample_rate: int) -> np.ndarray:
        self._check_unchanged(index)
        return self._stretches[index].whole(sample_rate, self.channels)

    def _check_unchanged(self, index: int) -> None:
        path = self._stretches[index].info.path
        if _state(path) != self._states[index]:
            gone = "has vanished" if not path.exists() else "has changed"
            error = AudioFileError(f"{path} {gone} since it was listed; it is left out from now on.")
            self._leave_out(index, error, for_good=True)
            raise error

    def _decoded(self, index: int) -> np.ndarray:
        with self._lock:
            audio = self._cache.get(index)
        if audio is None:
            try:
                audio = self._read(index, self.sample_rate)
            except AudioFileError as error:
                self._leave_out(index, error, for_good=True)
                raise
            with self._lock:
                self._cache[index] = audio
        return audio


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, or None if it is gone."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def _look(recording: Recording, known: Facts | None) -> Stretch | str:
    """The recording's stretch of its file, or why there is none.

    What `dafxhost data` learned spares opening the file; that a file can be opened but not read to its end is
    not looked up there, so that a source is the same with the cache and without. Files that crash are.
    """
    try:
        if known is not None and not known.problem:
            header = (known.sample_rate, known.channels, known.promised, known.format, known.subtype)
            info = AudioInfo(recording.path, *header, recording.stream)
        elif known is not None and "its decoder" in known.problem:
            return known.problem
        else:
            info = replace(audio_io.probe(recording.path, recording.stream), path=recording.path)
    except AudioFileError as error:
        return str(error)
    first = round(recording.start * info.sample_rate)
    last = info.frames if recording.end is None else min(round(recording.end * info.sample_rate), info.frames)
    if last <= first:
        return f"{recording.path} ends at {info.seconds:.3f} s, before {recording.name} begins."
    return Stretch(info, first, last - first)


class FolderSource(RecordingSource):
    """All audio files in a folder and its subfolders, mixed to mono and resampled: each file is a group.

    Attributes:
        folder: the folder.
    """

    def __init__(
        self,
        folder: str | Path,
        sample_rate: int,
        split: Split = "all",
        *,
        validation_fraction: float = VALIDATION_FRACTION,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Raises AudioFileError: no such folder, or nothing readable in it."""
        self.folder = Path(folder)
        super().__init__(
            open_dataset(folder, "folder"),
            sample_rate,
            split,
            validation_fraction=validation_fraction,
            memory_limit=memory_limit,
        )


def open_source(
    path: str | Path | Dataset,
    sample_rate: int,
    split: Split = "all",
    *,
    layout: str = "auto",
    stems: Sequence[str] | None = None,
    validation_fraction: float = VALIDATION_FRACTION,
    memory_limit: int = MEMORY_LIMIT,
    channels: Channels = "mono",
    level: str | Level = "none",
    clipping: Clipping = "keep",
) -> RecordingSource:
    """Clips from a folder, a data set or a manifest.

    Args:
        path: a folder, whose layout is recognised; a manifest (.csv, .tsv, .jsonl); or a `Dataset`.
        sample_rate: Hz that recordings are kept at.
        split: "train" or "validation", divided by song or speaker; "test", a data set's own; or "all".
        layout, stems: see `open_dataset`.
        validation_fraction: about this share of the groups is on the side "validation".
        memory_limit: bytes of decoded audio up to which it is kept.
        channels: "mono", "stereo" or a channel's number; see `audio_io.take_channels`.
        level: "none", "peak:-12" (dBFS) or "loudness:-23" (LUFS).
        clipping: "refuse" draws again where three samples in a row stand at full scale.

    Raises:
        AudioFileError: missing, or nothing in it can be read. UsageError: what is asked for is not there.
    """
    dataset = path if isinstance(path, Dataset) else open_dataset(path, layout, stems)
    return RecordingSource(
        dataset,
        sample_rate,
        split,
        validation_fraction=validation_fraction,
        memory_limit=memory_limit,
        channels=channels,
        level=level,
        clipping=clipping,
    )
