"""Clips out of recordings: read without the rest of the file, resampled, brought to a level, and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from dafxhost.data import audio_io
from dafxhost.data.audio_io import Channels
from dafxhost.data.checks import clipped_samples
from dafxhost.data.decoders import AudioInfo
from dafxhost.data.loudness import loudness
from dafxhost.errors import AudioFileError, UsageError

CROSSFADE_SECONDS = 0.02
_MARGIN = 256
"""Samples decoded besides on both sides of an excerpt that is resampled, so that no edge is in it."""


@dataclass(frozen=True)
class Level:
    """What level excerpts are brought to.

    Attributes:
        kind: "none" (as recorded), "peak" (dBFS) or "loudness" (LUFS, ITU-R BS.1770-4).
        target: the level.
    """

    kind: Literal["none", "peak", "loudness"] = "none"
    target: float = 0.0

    @classmethod
    def parse(cls, text: str | Level) -> Level:
        """From "none", "peak:-12" or "loudness:-23". Raises UsageError."""
        if isinstance(text, Level):
            return text
        kind, _, number = text.partition(":")
        try:
            target = float(number) if kind != "none" else 0.0
        except ValueError:
            target = math.nan
        if kind not in ("none", "peak", "loudness") or (kind == "none" and number) or not -100 < target <= 20:
            raise UsageError(f'level {text!r} is none of "none", "peak:-12" (dBFS), "loudness:-23" (LUFS)')
        return cls(kind, target)

    def __str__(self) -> str:
        units = {"none": "as recorded", "peak": "dBFS peak", "loudness": "LUFS"}
        return units[self.kind] if self.kind == "none" else f"{self.target:g} {units[self.kind]}"

    def gain(self, audio: np.ndarray, sample_rate: int) -> float:
        """The gain in dB that brings `[C, T]` there.

        Raises:
            UsageError: less than 0.4 s has no loudness. AudioFileError: silence has no level.
        """
        if self.kind == "none":
            return 0.0
        if self.kind == "peak":
            peak = float(np.abs(audio).max())
            now = 20 * math.log10(peak) if peak > 0 else -math.inf
        elif audio.shape[1] < 0.4 * sample_rate:
            raise UsageError(f"clips of {audio.shape[1]} samples are too short to have a loudness (0.4 s)")
        else:
            now = loudness(audio, sample_rate)
        if not math.isfinite(now):
            raise AudioFileError("a silent clip cannot be brought to a level")
        return self.target - now


@dataclass(frozen=True)
class Excerpt:
    """A clip and where it came from.

    Attributes:
        audio: `[C, T]` float32.
        name, group: of the recording. start: seconds into its file. sample_rate: Hz.
        repeated: whether the recording was shorter, and was repeated.
        gain: dB that `level` made of it. level: the level asked for.
        clipped: samples at full scale in runs of three or more, before the gain.
    """

    audio: np.ndarray
    name: str
    group: str
    start: float
    sample_rate: int
    repeated: bool
    gain: float
    level: Level
    clipped: int


def levelled(
    audio: np.ndarray, name: str, group: str, start: float, sample_rate: int, repeated: bool, level: Level
) -> Excerpt:
    """The excerpt of `[C, T]`, brought to its level and looked at. Raises as `Level.gain` does."""
    clipped, gain = clipped_samples(audio), level.gain(audio, sample_rate)
    if gain:
        audio = audio * np.float32(10 ** (gain / 20))
    return Excerpt(audio, name, group, start, sample_rate, repeated, gain, level, clipped)


def looped(audio: np.ndarray, start: int, samples: int, crossfade: int) -> np.ndarray:
    """Repeat `[C, T]` from sample `start` on to `[C, samples]`, its end faded linearly into its beginning."""
    n = min(crossfade, audio.shape[1] // 4)
    period = audio.shape[1] - n
    loop = audio[:, :period].copy()
    if n:
        rise = np.linspace(0.0, 1.0, n, dtype=np.float32)
        loop[:, :n] = loop[:, :n] * rise + audio[:, period:] * (1 - rise)
    return loop[:, (start + np.arange(samples)) % period]


@dataclass(frozen=True)
class Stretch:
    """The part of a file that a recording is.

    Attributes:
        info: of its file. first, frames: the stretch, in samples at the file's rate.
    """

    info: AudioInfo
    first: int
    frames: int

    @property
    def seconds(self) -> float:
        return self.frames / self.info.sample_rate

    def whole(self, sample_rate: int, channels: Channels) -> np.ndarray:
        """All of it, `[C, T]` at this rate."""
        return audio_io.read_audio(
            self.info.path,
            sample_rate=sample_rate,
            start=self.first,
            frames=self.frames,
            channels=channels,
            stream=self.info.stream,
        )[0]

    def excerpt(
        self, place: float, samples: int, sample_rate: int, channels: Channels
    ) -> tuple[np.ndarray, float]:
        """`[C, samples]` read from the middle of a longer stretch, and where it began in the file, seconds.

        Some more is read on both sides and cut off again, so that the resampler's edges stay outside.

        Args:
            place: 0..1 of where it can start.
        """
        info = self.info
        ratio = info.sample_rate / sample_rate
        margin = 0 if ratio == 1 else _MARGIN
        length = math.ceil((samples + 2 * margin) * ratio) + 1
        start = self.first + int(place * max(self.frames - length, 0))
        audio, _ = audio_io.read_audio(
            info.path, start=start, frames=min(length, self.frames), channels=channels, stream=info.stream
        )
        clip = audio_io.resample(audio, info.sample_rate, sample_rate)[:, margin : margin + samples]
        if clip.shape[1] < samples:  # barely longer than the clip, or ending before the header says
            if clip.shape[1] == 0:
                raise AudioFileError(f"{info.path} ends before its header says.")
            clip = looped(clip, 0, samples, int(CROSSFADE_SECONDS * sample_rate))
        return np.ascontiguousarray(clip), start / info.sample_rate + margin / sample_rate
