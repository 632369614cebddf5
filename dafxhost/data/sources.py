"""Where clips come from: the interface, and folders of audio files."""

from __future__ import annotations

import hashlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from dafxhost.data import audio_io
from dafxhost.errors import AudioFileError, ShapeError, UsageError

Split = Literal["train", "validation", "all"]
SPLITS: tuple[Split, ...] = ("train", "validation", "all")
TRIES = 200
MEMORY_LIMIT = 1 << 30
CROSSFADE_SECONDS = 0.02


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


def is_silent(audio: np.ndarray) -> bool:
    """Whether all of `audio` lies below -80 dBFS, or either half of it is 50 dB or more below its peak.

    The second is Grant's rule (2023: the mean square of a half below 1e-5), taken relative to the peak,
    because clips are peak-normalised afterwards: a quiet recording is as good as a loud one.
    """
    peak = float(np.abs(audio).max()) if audio.size else 0.0
    if peak < 1e-4:
        return True
    middle = audio.shape[-1] // 2
    return any(
        float(np.mean(np.square(half / peak))) < 1e-5
        for half in (audio[..., :middle], audio[..., middle:])
        if half.size
    )


def looped(audio: np.ndarray, start: int, samples: int, crossfade: int) -> np.ndarray:
    """Repeat `[1, T]` from sample `start` on to `[1, samples]`, its end faded linearly into its beginning."""
    n = min(crossfade, audio.shape[1] // 4)
    period = audio.shape[1] - n
    loop = audio[:, :period].copy()
    if n:
        rise = np.linspace(0.0, 1.0, n, dtype=np.float32)
        loop[:, :n] = loop[:, :n] * rise + audio[:, period:] * (1 - rise)
    return loop[:, (start + np.arange(samples)) % period]


def file_fraction(name: str) -> float:
    """A file's fixed place on 0..1, from the SHA-256 of its relative path: decides its side of the split."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2.0**64


def split_names(names: Sequence[str], split: Split, validation_fraction: float) -> list[str]:
    """The names on one side, sorted.

    A file's side follows from its own name, so it stays when files are added. Only if one side would be empty
    while there are two names or more, the name nearest to it moves over.
    """
    if split not in SPLITS:
        raise UsageError(f"split {split!r} is none of {', '.join(SPLITS)}")
    if not 0.0 <= validation_fraction < 1.0:
        raise UsageError(f"validation fraction {validation_fraction} lies outside 0..1")
    if split == "all" or len(names) < 2 or validation_fraction == 0.0:
        return sorted(names)
    order = sorted(names, key=lambda name: (file_fraction(name), name))
    count = sum(file_fraction(name) < validation_fraction for name in order)
    count = min(max(count, 1), len(order) - 1)
    return sorted(order[:count] if split == "validation" else order[count:])


class FolderSource(AudioSource):
    """All wav, flac, ogg, mp3 and aiff files in a folder and its subfolders, mixed to mono and resampled.

    Every file is equally likely, whatever its length, as in Grant 2023; the excerpt's place in it is uniform.
    A file shorter than the clip is repeated, from a random place on, with a crossfade of 20 ms. With a single
    file, "train" and "validation" are both that file.

    Files are decoded at first use and kept, if all of the split's take less than `memory_limit` bytes; else
    only the excerpts drawn are read. Which of the two is fixed beforehand: a draw depends on the rng alone.

    Attributes:
        unreadable: (path, reason) of the files left out; of files found broken later on, too.
    """

    def __init__(
        self,
        folder: str | Path,
        sample_rate: int,
        split: Split = "all",
        *,
        validation_fraction: float = 0.2,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        """Raises AudioFileError: no such folder, or nothing readable in it."""
        self.folder, self.sample_rate = Path(folder), sample_rate
        self.unreadable: list[tuple[Path, str]] = []
        infos = self._scan()
        self.names = split_names(list(infos), split, validation_fraction)
        self._infos = [infos[name] for name in self.names]
        self.total_seconds = sum(info.seconds for info in self._infos)
        self.in_memory = 4 * self.total_seconds * sample_rate <= memory_limit
        self._cache: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self.description = f"{len(self.names)} files, {self.total_seconds:.0f} s, in {self.folder}"

    def _scan(self) -> dict[str, audio_io.AudioInfo]:
        if not self.folder.exists():
            raise AudioFileError(f"{self.folder}: there is no such folder.")
        if not self.folder.is_dir():
            raise AudioFileError(f"{self.folder} is a file; a folder of audio files is needed.")
        paths = sorted(
            path
            for path in self.folder.rglob("*")
            if path.suffix.lower() in audio_io.SUFFIXES and not path.name.startswith(".")
        )
        infos: dict[str, audio_io.AudioInfo] = {}
        for path in paths:
            try:
                infos[path.relative_to(self.folder).as_posix()] = audio_io.probe(path)
            except AudioFileError as error:
                self.unreadable.append((path, str(error)))
        if not paths:
            raise AudioFileError(
                f"{self.folder} holds no audio file ({', '.join(s[1:] for s in audio_io.SUFFIXES)})."
            )
        if not infos:
            raise AudioFileError(
                f"none of the {len(paths)} audio files in {self.folder} can be read; the first: "
                f"{self.unreadable[0][1]}"
            )
        return infos

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        if samples < 1:
            raise ShapeError(f"a clip of {samples} samples cannot be drawn")
        for _ in range(TRIES):
            index, place = int(rng.integers(len(self.names))), float(rng.random())
            try:
                clip = self._clip(index, place, samples, sample_rate)
            except AudioFileError as error:
                self._leave_out(index, str(error))
                continue
            if not is_silent(clip):
                return clip, self.names[index]
        raise AudioFileError(
            f"nothing that sounds was found in {self.folder} in {TRIES} draws: its {len(self.names)} "
            f"files are silent or unreadable{f' ({self.unreadable[-1][1]})' if self.unreadable else '.'}"
        )

    def _leave_out(self, index: int, reason: str) -> None:
        path = self._infos[index].path
        with self._lock:
            if path not in [known for known, _ in self.unreadable]:
                self.unreadable.append((path, reason))

    def _clip(self, index: int, place: float, samples: int, sample_rate: int) -> np.ndarray:
        """`[1, samples]` of file `index`, from `place` (0..1) of where it can start."""
        info = self._infos[index]
        available = int(info.seconds * sample_rate)
        whole = self.in_memory and sample_rate == self.sample_rate
        if whole or available <= samples:
            audio = self._decoded(index) if whole else self._read(info, sample_rate)
            spare = audio.shape[1] - samples
            if spare < 0:
                start = int(place * audio.shape[1])
                return looped(audio, start, samples, int(CROSSFADE_SECONDS * sample_rate))
            start = int(place * (spare + 1))
            return audio[:, start : start + samples].copy()
        return _excerpt(info, place, samples, sample_rate)

    def _read(self, info: audio_io.AudioInfo, sample_rate: int) -> np.ndarray:
        return audio_io.read_audio(info.path, sample_rate=sample_rate, mono=True)[0]

    def _decoded(self, index: int) -> np.ndarray:
        with self._lock:
            audio = self._cache.get(index)
        if audio is None:
            audio = self._read(self._infos[index], self.sample_rate)
            with self._lock:
                self._cache[index] = audio
        return audio


def _excerpt(info: audio_io.AudioInfo, place: float, samples: int, sample_rate: int) -> np.ndarray:
    """`[1, samples]` read from the middle of a longer file.

    Some more is read on both sides and cut off again, so that the resampler's edges stay outside.
    """
    ratio = info.sample_rate / sample_rate
    margin = 0 if ratio == 1 else 256
    length = int(np.ceil((samples + 2 * margin) * ratio)) + 1
    start = int(place * max(info.frames - length, 0))
    audio, _ = audio_io.read_audio(info.path, start=start, frames=length, mono=True)
    clip = audio_io.resample(audio, info.sample_rate, sample_rate)[:, margin : margin + samples]
    if clip.shape[1] < samples:  # a file barely longer than the clip, or one that ends before its header says
        if clip.shape[1] == 0:
            raise AudioFileError(f"{info.path} ends before its header says.")
        clip = looped(clip, 0, samples, int(CROSSFADE_SECONDS * sample_rate))
    return np.ascontiguousarray(clip)
