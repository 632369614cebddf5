"""Reading audio files: whole, in excerpts, and in blocks of bounded memory; `audio_writing` writes them.

Formats are those of libsndfile (wav, flac, ogg, opus, mp3 and aiff are tested), and where ffmpeg is installed
those of MPEG-4 (m4a, aac, mp4) and wma. Audio in memory is float32 `[C, T]`, full scale at 1. Whatever is
wrong with a file is an `AudioFileError` in one sentence.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import soxr

from dafxhost.data.audio_writing import AudioWriter, open_writer, write_audio
from dafxhost.data.decoders import (
    BLOCK,
    LIBRARY_ERRORS,
    SUFFIXES,
    AudioInfo,
    FfmpegDecoder,
    open_decoder,
    reason_of,
)
from dafxhost.errors import AudioFileError, ShapeError, UsageError

__all__ = [
    "BLOCK",
    "SILENCE",
    "SUFFIXES",
    "AudioInfo",
    "AudioReader",
    "AudioWriter",
    "Channels",
    "open_reader",
    "open_writer",
    "probe",
    "read_audio",
    "require_sound",
    "resample",
    "take_channels",
    "write_audio",
]

# Below this peak (-100 dBFS) there is nothing to hear and nothing to normalise; 16-bit dither lies above it.
SILENCE = 1e-5
Channels = Literal["mono", "stereo", "all"] | int
"""What to make of a file's channels: their mean; two; all as they are; one, counted from 0."""


class AudioReader:
    """A file read from front to back in blocks; use it as a context manager.

    Attributes:
        info: rate, channels and length as the header says.
        decoder: what reads it.
    """

    def __init__(self, path: str | os.PathLike[str], stream: int = 0) -> None:
        """`stream`: which audio stream, in files with several (`.stem.mp4`).

        Raises:
            AudioFileError: missing, a folder, empty, corrupt, or without samples.
        """
        self.decoder = open_decoder(Path(path), stream)
        self.info = self.decoder.info
        if self.info.frames < 1:
            self.close()
            raise AudioFileError(f"{path} holds no samples.")

    def seek(self, frame: int) -> None:
        """Go on reading from this frame (0-based): exactly there, in every format."""
        if not 0 <= frame < self.info.frames:
            raise AudioFileError(
                f"{self.info.path} has {self.info.frames} samples; "
                f"nothing can be read from sample {frame} on."
            )
        try:
            self.decoder.seek(frame)
        except LIBRARY_ERRORS as error:
            raise self._broken(error) from error

    def read(self, frames: int) -> np.ndarray:
        """Up to so many frames as `[C, N]` float32; fewer at the end, none after it.

        Memory is taken for what is there, whatever `frames` and the header say.

        Raises:
            AudioFileError: the data is corrupt, or holds NaN or infinite samples.
        """
        parts: list[np.ndarray] = []
        left = frames
        while left > 0 or not parts:
            try:
                block = self.decoder.read(left)
            except LIBRARY_ERRORS as error:
                raise self._broken(error) from error
            if not np.isfinite(block).all():
                raise AudioFileError(
                    f"{self.info.path} holds samples that are not finite numbers (NaN or infinity)."
                )
            parts.append(block.T)
            left -= len(block)
            if not len(block):
                break
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """The rest of the file in blocks `[C, N]` of `size` frames, the last one shorter."""
        while (block := self.read(size)).shape[1]:
            yield block

    def close(self) -> None:
        self.decoder.close()

    def _broken(self, error: BaseException) -> AudioFileError:
        return AudioFileError(f"{self.info.path} is corrupt: reading stopped with '{reason_of(error)}'.")

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_reader(path: str | os.PathLike[str], stream: int = 0) -> AudioReader:
    """Open a file for reading in blocks. Raises AudioFileError."""
    return AudioReader(path, stream)


def probe(path: str | os.PathLike[str], stream: int = 0) -> AudioInfo:
    """Read a file's header and its first samples. Raises AudioFileError as `AudioReader` does.

    Of files for ffmpeg the header alone: its start takes some 0.1 s.
    """
    with AudioReader(path, stream) as reader:
        if not isinstance(reader.decoder, FfmpegDecoder) and reader.read(4096).shape[1] == 0:
            raise AudioFileError(f"{path} holds no samples, although its header says so.")
        return reader.info


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int | None = None,
    start: int = 0,
    frames: int | None = None,
    mono: bool = False,
    channels: Channels = "all",
    minimum: int = 1,
    stream: int = 0,
) -> tuple[np.ndarray, int]:
    """Read a file, or an excerpt of it, into memory.

    Args:
        path: the file.
        sample_rate: resample to this rate, Hz; None keeps the file's.
        start, frames: the excerpt, in frames at the file's own rate; None reads to the end.
        mono: mix the channels down to their mean, as channels="mono" does.
        channels: "all", "mono", "stereo" or a channel's number; see `take_channels`.
        minimum: fewest frames, at the file's own rate, that are acceptable.
        stream: which audio stream, in files with several.

    Returns:
        (audio `[C, T]` float32, its rate in Hz).

    Raises:
        AudioFileError: missing, a folder, empty, corrupt, without samples, with NaN, shorter than `minimum`.
    """
    with AudioReader(path, stream) as reader:
        if start:
            reader.seek(start)
        rate, parts = reader.info.sample_rate, []
        left = reader.info.frames - start if frames is None else frames
        while left > 0 and (block := reader.read(min(left, 16 * BLOCK))).shape[1]:
            parts.append(take_channels(block, "mono" if mono else channels, path))
            left -= block.shape[1]
    length = sum(part.shape[1] for part in parts)
    if length == 0:
        where = f" from sample {start} on, although its header says so" if start else " that could be read"
        raise AudioFileError(f"{path} holds no samples{where}.")
    if length < minimum:
        raise AudioFileError(f"{path} is too short: {_count(length)}, where at least {minimum} are needed.")
    audio = np.concatenate(parts, axis=1) if len(parts) > 1 else parts[0]
    if sample_rate is not None and sample_rate != rate:
        audio, rate = resample(audio, rate, sample_rate), sample_rate
        if audio.shape[1] == 0:
            raise AudioFileError(
                f"{path} is too short: {_count(length)}, nothing is left at {sample_rate} Hz."
            )
    return audio, rate


def _count(samples: int) -> str:
    return f"{samples} sample{'' if samples == 1 else 's'}"


def take_channels(audio: np.ndarray, channels: Channels, what: object = "this") -> np.ndarray:
    """`[C, T]` as asked for.

    Args:
        channels: "all" leaves it; "mono" is the mean; "stereo" gives two: mono doubled, of more the first
            two; a number is one channel, counted from 0.
        what: names the audio in errors.

    Raises:
        AudioFileError: it has no channel of that number. UsageError: `channels` is none of these.
    """
    if channels == "all":
        return audio
    if channels == "mono":
        return audio.mean(axis=0, keepdims=True)
    if channels == "stereo":
        return np.repeat(audio, 2, axis=0) if len(audio) == 1 else audio[:2]
    if not isinstance(channels, int) or channels < 0:
        raise UsageError(f'channels {channels!r} is none of "mono", "stereo", "all" or a number from 0')
    if channels >= len(audio):
        raise AudioFileError(f"{what} has no channel {channels}; it has {len(audio)}, counted from 0.")
    return audio[channels : channels + 1]


def require_sound(audio: np.ndarray, what: str) -> None:
    """Raise AudioFileError unless `audio` (any shape) has a sample above -100 dBFS; `what` names it."""
    if audio.size == 0 or float(np.abs(audio).max()) < SILENCE:
        raise AudioFileError(f"{what} is silent: no sample of it rises above -100 dBFS.")


def resample(audio: np.ndarray, source_rate: float, target_rate: float) -> np.ndarray:
    """Resample `[C, T]` float32 with soxr's very high quality to `[C, about T target / source]`."""
    if audio.ndim != 2:
        raise ShapeError(f"audio to resample has shape [C, T], not {list(audio.shape)}")
    if source_rate == target_rate or audio.shape[1] == 0:
        return audio
    out = soxr.resample(np.ascontiguousarray(audio.T, dtype=np.float32), source_rate, target_rate, "VHQ")
    return np.ascontiguousarray(out.T)
