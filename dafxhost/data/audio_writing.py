"""Writing audio files beside their place, so that a failed write leaves what was there."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from dafxhost.data.decoders import BLOCK, LIBRARY_ERRORS, reason_of
from dafxhost.errors import OutputError, ShapeError

_WRITE_FORMATS = {
    ".wav": ("WAV", "PCM_24"),
    ".flac": ("FLAC", "PCM_24"),
    ".aiff": ("AIFF", "PCM_24"),
    ".aif": ("AIFF", "PCM_24"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_LOSSY = ("OGG", "MP3")


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
        except LIBRARY_ERRORS as error:
            self._temporary.unlink(missing_ok=True)
            raise OutputError(
                f"{self.path} cannot be written with {channels} channels at {sample_rate} Hz as "
                f"{self.format} {subtype or default} ({reason_of(error)})."
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
        except (*LIBRARY_ERRORS, AssertionError) as error:
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
        except LIBRARY_ERRORS as error:
            self.discard()
            raise self._failed(error) from error

    def discard(self) -> None:
        """Throw away what was written."""
        with suppress(*LIBRARY_ERRORS):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _failed(self, error: BaseException) -> OutputError:
        reason = error.strerror if isinstance(error, OSError) else reason_of(error)
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
