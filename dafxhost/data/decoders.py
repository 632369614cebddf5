"""What turns files into samples: libsndfile, and ffmpeg (a program, where installed) for MPEG-4 and the like.

Which of the two is decided by the file's first bytes, not by its name. Nothing here believes a header: memory
is taken for samples that have arrived, in pieces of 16 MB, and ffmpeg has a time limit for every answer.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import stat
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import soundfile

from dafxhost.data.ogg import last_page_start
from dafxhost.errors import AudioFileError

BLOCK = 65536
PIECE = 1 << 22
"""Samples (of all channels together) that are asked for at once."""
MOST_CHANNELS = 1024
MOST_RATE = 10_000_000
SNDFILE_SUFFIXES = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aiff", ".aif", ".caf", ".w64", ".au")
FFMPEG_SUFFIXES = (".m4a", ".m4b", ".aac", ".mp4", ".wma")
SUFFIXES = (*SNDFILE_SUFFIXES, *FFMPEG_SUFFIXES)
PATIENCE = 30.0
"""Seconds that ffmpeg may take for its next answer."""

# soundfile gives LibsndfileError (a RuntimeError) for what libsndfile refuses, TypeError for headerless
# formats, ValueError for a name whose suffix it does not know, OSError for what the system refuses.
LIBRARY_ERRORS = (RuntimeError, TypeError, ValueError, OSError)
# Vorbis blocks are up to 8192 samples long and lap half over; libsndfile 1.2 gives the first one after a seek
# wrongly now and then (its issue 885), so that so much is decoded before the place wanted and thrown away.
_VORBIS_PREROLL = 16384


@dataclass(frozen=True)
class AudioInfo:
    """What a file says of itself.

    Attributes:
        path: the file. sample_rate: Hz. channels, frames: counts (frames is per channel).
        format, subtype: libsndfile's names, e.g. "WAV" and "PCM_16"; of ffmpeg, its container and codec.
        stream: which of its audio streams (0 but in files with several).
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    format: str
    subtype: str
    stream: int = 0

    @property
    def seconds(self) -> float:
        return self.frames / self.sample_rate


class Decoder(Protocol):
    """An open file. `read` gives `[N, C]` float32 of up to so many frames from the current one on."""

    info: AudioInfo

    def seek(self, frame: int) -> None: ...

    def read(self, frames: int) -> np.ndarray: ...

    def close(self) -> None: ...


class DecoderHungError(AudioFileError):
    """A decoder gave no answer in time."""


def reason_of(error: BaseException) -> str:
    """A library's own words, without the path and "Error opening" that ours already say."""
    text = getattr(error, "error_string", None) or str(error)
    if "possibly a pipe?" in text:  # libsndfile's words where mpg123 finds no MP3
        text = "no MP3 in it"
    return " ".join(str(text).replace("\n", " ").split()).rstrip(". ")


# A FLAC file of digital silence has 5461 samples a byte; nothing that is no lie has more.
_MOST_SAMPLES_A_BYTE = 8192


def open_decoder(path: Path, stream: int = 0) -> Decoder:
    """Raises AudioFileError: missing, no regular file, empty, corrupt, of no known format."""
    try:
        facts = path.stat()
        if stat.S_ISDIR(facts.st_mode):
            raise AudioFileError(f"{path} is a folder, not an audio file.")
        if not stat.S_ISREG(facts.st_mode):  # opening a pipe would wait for somebody to write to it
            raise AudioFileError(f"{path} is no regular file (a pipe, a socket or a device).")
        if facts.st_size == 0:
            raise AudioFileError(f"{path} is empty (0 bytes).")
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise AudioFileError(f"{path}: there is no such file.") from None
    except PermissionError:
        raise AudioFileError(f"{path} may not be read by this user.") from None
    except OSError as error:
        raise AudioFileError(f"{path} cannot be read: {error.strerror}.") from error
    decoder = FfmpegDecoder(path, stream) if _for_ffmpeg(head) else SndfileDecoder(path, stream)
    if decoder.info.frames > _MOST_SAMPLES_A_BYTE * facts.st_size:
        decoder.close()
        raise AudioFileError(
            f"{path} is corrupt: its header promises {decoder.info.frames} samples, which its "
            f"{facts.st_size} bytes cannot hold."
        )
    return decoder


def _for_ffmpeg(head: bytes) -> bool:
    """Whether a file beginning so is MPEG-4, ADTS (bare AAC) or ASF (wma), none of which libsndfile reads."""
    adts = len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0
    return head[4:8] == b"ftyp" or adts or head[:4] == b"\x30\x26\xb2\x75"


class SndfileDecoder:
    """Whatever libsndfile reads."""

    def __init__(self, path: Path, stream: int = 0) -> None:
        if stream:
            raise AudioFileError(f"{path} has one audio stream; there is no number {stream}.")
        try:
            self._file = soundfile.SoundFile(str(path))
        except LIBRARY_ERRORS as error:
            raise AudioFileError(
                f"{path} cannot be read as audio: it is corrupt or of no known format ({reason_of(error)})."
            ) from error
        f = self._file
        if f.format == "RAW":  # libsndfile takes anything named .au or .vox for sound without a header
            f.close()
            raise AudioFileError(f"{path} cannot be read as audio: it has no known format's header.")
        self.info = AudioInfo(path, f.samplerate, f.channels, f.frames, f.format, f.subtype)
        self._last_page: int | None = None

    def seek(self, frame: int) -> None:
        vorbis = self.info.subtype == "VORBIS"
        start = self._before(frame) if vorbis else frame
        self._file.seek(start)
        while start < frame:
            got = self._file.read(min(frame - start, self._most()), dtype="float32", always_2d=True)
            if not len(got):
                return
            start += len(got)

    def _before(self, frame: int) -> int:
        """A frame from which decoding up to `frame` gives the file's own samples."""
        if self._last_page is None:
            self._last_page = last_page_start(self.info.path)
        # In the last page libsndfile counts back from its end, where the encoder's padding is cut off: seeks
        # into it are off by that padding. From the page before, all is well.
        return max(0, min(frame, self._last_page) - _VORBIS_PREROLL)

    def read(self, frames: int) -> np.ndarray:
        return self._file.read(min(frames, self._most()), dtype="float32", always_2d=True)

    def _most(self) -> int:
        return max(1, PIECE // self.info.channels)

    def close(self) -> None:
        self._file.close()


@lru_cache(maxsize=1)
def ffmpeg_programs() -> tuple[str, str] | None:
    """Where ffmpeg and ffprobe are, or None."""
    found = shutil.which("ffmpeg"), shutil.which("ffprobe")
    return (found[0], found[1]) if found[0] and found[1] else None


def _programs(path: Path) -> tuple[str, str]:
    programs = ffmpeg_programs()
    if programs is None:
        raise AudioFileError(
            f"{path} needs the program ffmpeg, which is not installed "
            "(Debian, Ubuntu: apt install ffmpeg), or convert it to FLAC elsewhere."
        )
    return programs


def _streams(path: Path) -> list[AudioInfo]:
    """What ffprobe says of a file's audio streams; asked once for each state of the file."""
    facts = path.stat()
    return _probe(path, facts.st_size, facts.st_mtime_ns)


# Playlists, which ffmpeg takes for media too, must not make it open addresses on the net.
_LOCAL = ("-protocol_whitelist", "file,pipe")


@lru_cache(maxsize=4096)
def _probe(path: Path, _size: int, _mtime: int) -> list[AudioInfo]:
    command = [_programs(path)[1], "-v", "error", *_LOCAL, "-of", "json", "-show_streams", "-show_format"]
    try:
        done = subprocess.run(
            [*command, "-select_streams", "a", f"file:{path}"],
            capture_output=True, timeout=PATIENCE, stdin=subprocess.DEVNULL, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise AudioFileError(f"{path} cannot be read: ffprobe gave no answer in {PATIENCE:g} s.") from None
    try:
        said = json.loads(done.stdout or b"{}")
    except ValueError:
        said = {}
    streams, form = said.get("streams", []), said.get("format", {})
    if done.returncode or not streams:
        words = _last_line(done.stderr) or "ffprobe finds no audio in it"
        raise AudioFileError(f"{path} cannot be read as audio: it is corrupt or holds none ({words}).")
    return [_info(path, stream, form, k) for k, stream in enumerate(streams)]


def _info(path: Path, stream: dict[str, Any], form: dict[str, Any], k: int) -> AudioInfo:
    rate, channels = int(stream.get("sample_rate") or 0), int(stream.get("channels") or 0)
    if not (0 < rate <= MOST_RATE and 0 < channels <= MOST_CHANNELS):
        raise AudioFileError(f"{path} cannot be read: it claims {channels} channels at {rate} Hz.")
    if stream.get("time_base") == f"1/{rate}" and "duration_ts" in stream:
        frames = int(stream["duration_ts"])
    else:
        frames = round(float(stream.get("duration") or form.get("duration") or 0) * rate)
    container = str(form.get("format_name", "")).split(",")[0].upper()
    return AudioInfo(path, rate, channels, frames, container, str(stream.get("codec_name", "")).upper(), k)


def _last_line(words: bytes) -> str:
    lines = [line.strip() for line in words.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1].rsplit("file:", 1)[-1][-120:].rstrip(". ") if lines else ""


class FfmpegDecoder:
    """Audio stream number `stream` of whatever ffmpeg reads; a process is started when reading begins."""

    def __init__(self, path: Path, stream: int = 0) -> None:
        self._program = _programs(path)[0]
        streams = _streams(path)
        if stream >= len(streams):
            raise AudioFileError(
                f"{path} has no audio stream number {stream}; there are {len(streams)}, counted from 0."
            )
        self.info = streams[stream]
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
        self._place, self._done = 0, False

    def seek(self, frame: int) -> None:
        self.close()
        self._place, self._done = frame, False

    def read(self, frames: int) -> np.ndarray:
        channels = self.info.channels
        # What lies behind the stream's own length is the encoder's padding.
        frames = min(frames, max(1, PIECE // channels), max(self.info.frames - self._place, 0))
        if self._done or frames < 1:
            return np.zeros((0, channels), np.float32)
        process = self._process or self._start()
        data = self._take(process, 4 * channels * frames)
        got = np.frombuffer(data[: len(data) // (4 * channels) * 4 * channels], "<f4").reshape(-1, channels)
        if len(got) < frames:
            self._end(process)
        self._place += len(got)
        return got.astype(np.float32, copy=True)

    def _start(self) -> subprocess.Popen[bytes]:
        # Whole seconds, which are exact at any rate; ffmpeg's own cut then is at a sample. One second more is
        # decoded, since the first packet after a seek lacks the one that it laps over.
        second = max(self._place // self.info.sample_rate - 1, 0)
        skip = self._place - second * self.info.sample_rate
        seek = ["-ss", str(second)] if second else []
        trim = ["-af", f"atrim=start_sample={skip}"] if skip else []
        command = [
            self._program, "-nostdin", "-v", "error", "-threads", "1", *_LOCAL, *seek,
            "-i", f"file:{self.info.path}", "-map", f"0:a:{self.info.stream}", *trim,
            "-ac", str(self.info.channels), "-ar", str(self.info.sample_rate), "-f", "f32le", "-",
        ]  # fmt: skip
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  (closed by close)
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
        )
        return self._process

    def _take(self, process: subprocess.Popen[bytes], size: int) -> bytearray:
        """Up to `size` bytes; fewer only at the end of the stream."""
        pipe = process.stdout
        if pipe is None:
            raise AudioFileError(f"{self.info.path} cannot be read: ffmpeg has no output.")
        data, descriptor = bytearray(), pipe.fileno()
        until = time.monotonic() + PATIENCE
        while len(data) < size:
            if not select.select([descriptor], [], [], max(until - time.monotonic(), 0))[0]:
                self.close()
                raise DecoderHungError(f"{self.info.path} cannot be read: ffmpeg hung for {PATIENCE:g} s.")
            piece = os.read(descriptor, min(size - len(data), 1 << 20))
            if not piece:
                break
            data += piece
            until = time.monotonic() + PATIENCE
        return data

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Close; raises AudioFileError if ffmpeg gave up before it had given anything."""
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            code = -1
        words = b""
        if self._said is not None:
            self._said.seek(0)
            words = self._said.read(65536)
        self.close()
        self._done = True
        if code and not self._place:
            raise AudioFileError(f"{self.info.path} is corrupt: ffmpeg says '{_last_line(words)}'.")

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
        if self._said is not None:
            self._said.close()
            self._said = None
