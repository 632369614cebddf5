"""Reading and writing audio files: whole, in excerpts, and in blocks of bounded memory.

Formats are those of libsndfile; wav, flac, ogg, mp3 and aiff are tested. Audio in memory is float32 `[C, T]`,
full scale at 1. Whatever is wrong with a file is an `AudioFileError`, and with an output an `OutputError`, in
one sentence.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile
import soxr

from dafxhost.errors import AudioFileError, OutputError, ShapeError

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif")
BLOCK = 65536
# Below this peak (-100 dBFS) there is nothing to hear and nothing to normalise; 16-bit dither lies above it.
SILENCE = 1e-5

# soundfile gives LibsndfileError (a RuntimeError) for what libsndfile refuses, TypeError for headerless
# formats, ValueError for a name whose suffix it does not know, OSError for what the system refuses.
_LIBRARY_ERRORS = (RuntimeError, TypeError, ValueError, OSError)
_WRITE_FORMATS = {
    ".wav": ("WAV", "PCM_24"),
    ".flac": ("FLAC", "PCM_24"),
    ".aiff": ("AIFF", "PCM_24"),
    ".aif": ("AIFF", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_LOSSY = ("OGG", "MP3")


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself.

    Attributes:
        path: the file. sample_rate: Hz. channels, frames: counts (frames is per channel).
        format, subtype: libsndfile's names, e.g. "WAV" and "PCM_16".
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


def _reason(error: BaseException) -> str:
    """The library's own words, without the path and "Error opening" that ours already say."""
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(str(text).replace("\n", " ").split()).rstrip(". ")


def _open(path: str | os.PathLike[str]) -> soundfile.SoundFile:
    path = Path(path)
    try:
        if path.is_dir():
            raise AudioFileError(f"{path} is a folder, not an audio file.")
        if not path.exists():
            raise AudioFileError(f"{path}: there is no such file.")
        if path.is_file() and path.stat().st_size == 0:
            raise AudioFileError(f"{path} is empty (0 bytes).")
        return soundfile.SoundFile(str(path))
    except PermissionError:
        raise AudioFileError(f"{path} may not be read by this user.") from None
    except _LIBRARY_ERRORS as error:
        raise AudioFileError(
            f"{path} cannot be read as audio: it is corrupt or of no known format ({_reason(error)})."
        ) from error


class AudioReader:
    """A file read from front to back in blocks; use it as a context manager.

    Attributes:
        info: rate, channels and length as the header says.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises AudioFileError: missing, a folder, empty, corrupt, or without samples."""
        self._file = _open(path)
        f = self._file
        self.info = AudioInfo(Path(path), f.samplerate, f.channels, f.frames, f.format, f.subtype)
        if f.frames < 1:
            f.close()
            raise AudioFileError(f"{path} holds no samples.")

    def seek(self, frame: int) -> None:
        """Go on reading from this frame (0-based)."""
        if not 0 <= frame < self.info.frames:
            raise AudioFileError(
                f"{self.info.path} has {self.info.frames} samples; "
                f"nothing can be read from sample {frame} on."
            )
        try:
            self._file.seek(frame)
        except _LIBRARY_ERRORS as error:
            raise self._broken(error) from error

    def read(self, frames: int) -> np.ndarray:
        """Up to so many frames as `[C, N]` float32; fewer at the end, none after it.

        Raises:
            AudioFileError: the data is corrupt, or holds NaN or infinite samples.
        """
        try:
            block = self._file.read(frames, dtype="float32", always_2d=True)
        except _LIBRARY_ERRORS as error:
            raise self._broken(error) from error
        if not np.isfinite(block).all():
            raise AudioFileError(
                f"{self.info.path} holds samples that are not finite numbers (NaN or infinity)."
            )
        return np.ascontiguousarray(block.T)

    def blocks(self, size: int = BLOCK) -> Iterator[np.ndarray]:
        """The rest of the file in blocks `[C, N]` of `size` frames, the last one shorter."""
        while (block := self.read(size)).shape[1]:
            yield block

    def close(self) -> None:
        self._file.close()

    def _broken(self, error: BaseException) -> AudioFileError:
        return AudioFileError(f"{self.info.path} is corrupt: reading stopped with '{_reason(error)}'.")

    def __enter__(self) -> AudioReader:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def open_reader(path: str | os.PathLike[str]) -> AudioReader:
    """Open a file for reading in blocks. Raises AudioFileError."""
    return AudioReader(path)


def probe(path: str | os.PathLike[str]) -> AudioInfo:
    """Read a file's header and its first samples. Raises AudioFileError as `AudioReader` does."""
    with AudioReader(path) as reader:
        if reader.read(4096).shape[1] == 0:
            raise AudioFileError(f"{path} holds no samples, although its header says so.")
        return reader.info


def read_audio(
    path: str | os.PathLike[str],
    *,
    sample_rate: int | None = None,
    start: int = 0,
    frames: int | None = None,
    mono: bool = False,
    minimum: int = 1,
) -> tuple[np.ndarray, int]:
    """Read a file, or an excerpt of it, into memory.

    Args:
        path: the file.
        sample_rate: resample to this rate, Hz; None keeps the file's.
        start, frames: the excerpt, in frames at the file's own rate; None reads to the end.
        mono: mix the channels down to their mean.
        minimum: fewest frames, at the file's own rate, that are acceptable.

    Returns:
        (audio `[C, T]` float32, its rate in Hz).

    Raises:
        AudioFileError: missing, a folder, empty, corrupt, without samples, with NaN, shorter than `minimum`.
    """
    with AudioReader(path) as reader:
        if start:
            reader.seek(start)
        rate, parts = reader.info.sample_rate, []
        left = reader.info.frames - start if frames is None else frames
        while left > 0 and (block := reader.read(min(left, 16 * BLOCK))).shape[1]:
            parts.append(block.mean(axis=0, keepdims=True) if mono else block)
            left -= block.shape[1]
    length = sum(part.shape[1] for part in parts)
    if length == 0:
        raise AudioFileError(f"{path} holds no samples that could be read.")
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


class AudioWriter:
    """Writes blocks beside the final path and renames on success; use it as a context manager.

    Leaving the `with` block by an exception (Ctrl-C too) leaves nothing behind, and the path as it was.

    Attributes:
        frames: written so far.
        clipped: samples so far beyond full scale, which every format but floating point cuts off.
    """

    def __init__(
        self, path: str | os.PathLike[str], sample_rate: int, channels: int, subtype: str | None = None
    ) -> None:
        """The suffix decides the format.

        Args:
            path: .wav, .flac, .aiff, .ogg or .mp3, in a folder that exists.
            sample_rate: Hz. channels: count.
            subtype: libsndfile's name, e.g. "PCM_16" or "FLOAT"; None is 24 bits, or the lossy format's own.

        Raises:
            OutputError: unknown suffix or combination, no such folder, or not writable.
        """
        self.path = Path(path)
        self.channels, self.frames, self.clipped = channels, 0, 0
        suffix = self.path.suffix.lower()
        if suffix not in _WRITE_FORMATS:
            raise OutputError(
                f"{self.path} cannot be written: choose a name ending in {', '.join(sorted(_WRITE_FORMATS))}."
            )
        self.format, default = _WRITE_FORMATS[suffix]
        self._temporary = _temporary_beside(self.path, suffix)
        try:
            self._file = soundfile.SoundFile(
                str(self._temporary), "w", int(sample_rate), channels, subtype or default, format=self.format
            )
        except _LIBRARY_ERRORS as error:
            self._temporary.unlink(missing_ok=True)
            raise OutputError(
                f"{self.path} cannot be written with {channels} channels at {sample_rate} Hz as "
                f"{self.format} {subtype or default} ({_reason(error)})."
            ) from error

    def write(self, block: np.ndarray) -> None:
        """Append `[C, N]` float32.

        Raises:
            ShapeError: another channel count. OutputError: the disk is full or the file cannot be written.
        """
        if block.ndim != 2 or block.shape[0] != self.channels:
            raise ShapeError(
                f"a block for {self.path} has shape [{self.channels}, N], not {list(block.shape)}"
            )
        if block.size == 0:
            return
        self.clipped += int((np.abs(block) > 1.0).sum())
        try:
            self._file.write(np.ascontiguousarray(block.T, dtype=np.float32))
        # soundfile asserts that everything was written, so a full disk may come as an AssertionError.
        except (*_LIBRARY_ERRORS, AssertionError) as error:
            raise self._failed(error) from error
        self.frames += block.shape[1]

    def close(self) -> None:
        """Finish the file and move it to its path. Raises OutputError, leaving nothing behind."""
        try:
            self._file.close()
            if self.format not in _LOSSY and soundfile.info(str(self._temporary)).frames != self.frames:
                raise OutputError(f"{self.path} could not be written whole: is the disk full?")
            with self._temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            self._temporary.replace(self.path)
        except OutputError:
            self.discard()
            raise
        except _LIBRARY_ERRORS as error:
            self.discard()
            raise self._failed(error) from error

    def discard(self) -> None:
        """Throw away what was written."""
        with suppress(*_LIBRARY_ERRORS):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _failed(self, error: BaseException) -> OutputError:
        reason = error.strerror if isinstance(error, OSError) else _reason(error)
        return OutputError(f"{self.path} could not be written ({reason or 'short write'}): is the disk full?")

    def __enter__(self) -> AudioWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()


def _temporary_beside(path: Path, suffix: str) -> Path:
    """A new empty file in `path`'s folder. Raises OutputError if that folder takes none."""
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: it is a folder.")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.")
    try:
        handle, name = tempfile.mkstemp(suffix=suffix, prefix=f".{path.stem[:40]}-", dir=path.parent)
        # mkstemp makes files for the user only; the result gets the permissions of any new file.
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(handle, 0o666 & ~mask)
        os.close(handle)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full" if full else f"its folder does not take it ({error.strerror})"
        raise OutputError(f"{path} cannot be written: {reason}.") from error
    return Path(name)


def open_writer(
    path: str | os.PathLike[str], sample_rate: int, channels: int, subtype: str | None = None
) -> AudioWriter:
    """Open a file for writing in blocks. Raises OutputError."""
    return AudioWriter(path, sample_rate, channels, subtype)


def write_audio(
    path: str | os.PathLike[str], audio: np.ndarray, sample_rate: int, subtype: str | None = None
) -> int:
    """Write `[C, T]` float32 at once. Returns how many samples were clipped. Raises OutputError."""
    with AudioWriter(path, sample_rate, audio.shape[0], subtype) as writer:
        for start in range(0, audio.shape[1], BLOCK):
            writer.write(audio[:, start : start + BLOCK])
    return writer.clipped
