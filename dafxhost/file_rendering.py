"""Rendering an audio file through an effect, of any length, in bounded memory.

The file's own rate and channel count are kept; audio passes in blocks of `BLOCK_SECONDS` through one stream
of the executor, so the plugin sees one uninterrupted signal.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

import numpy as np

from dafxhost.data.audio_io import AudioInfo, AudioReader, AudioWriter, probe
from dafxhost.errors import AudioFileError, OutputError, PluginError, UsageError

if TYPE_CHECKING:
    from dafxhost.execution.front import BaseExecutor, BaseStream

BLOCK_SECONDS = 2.0
Level = Literal["match-input", "match-reference", "plugin"]
LEVELS: dict[str, str] = {
    "match-input": "as loud as the input (RMS), lowered where its peak would pass -0.1 dBFS",
    "match-reference": "as loud as the reference (RMS), lowered where its peak would pass -0.1 dBFS",
    "plugin": "as the plugin gives it; what passes full scale is clipped unless the format is floating point",
}
CEILING = 10 ** (-0.1 / 20)
_KEPT_SUBTYPES = ("PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")
Watch = Callable[[np.ndarray], None]


@dataclass(frozen=True)
class Loudness:
    """Peak and RMS of a recording over all channels, linear, full scale at 1."""

    peak: float
    rms: float


@dataclass(frozen=True)
class RenderedFile:
    """What `render_file` wrote.

    Attributes:
        path: the file. sample_rate, channels, frames: as in the input.
        gain_db: gain after the plugin that brought the output to its level, dB (0 for level "plugin").
        clipped: samples beyond full scale.
        latency: of the plugin, in samples, already taken out.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    gain_db: float
    clipped: int
    latency: int


class LoudnessMeter:
    """Collects peak and RMS block by block."""

    def __init__(self) -> None:
        self._peak, self._power, self._count = 0.0, 0.0, 0

    def add(self, block: np.ndarray) -> None:
        self._peak = max(self._peak, float(np.abs(block).max(initial=0.0)))
        self._power += float(np.square(block, dtype=np.float64).sum())
        self._count += block.size

    def loudness(self) -> Loudness:
        return Loudness(self._peak, math.sqrt(self._power / max(1, self._count)))


def check_input(path: str | os.PathLike[str]) -> AudioInfo:
    """A file's header. Raises AudioFileError as `probe` does, UsageError for more than two channels."""
    info = probe(path)
    if info.channels > 2:
        raise UsageError(f"{path} has {info.channels} channels; mono and stereo files can be rendered.")
    return info


def check_output(info: AudioInfo, output: str | os.PathLike[str], *sources: str | os.PathLike[str]) -> None:
    """See, before any work, that a result as long as `info` can be begun at `output`.

    Raises:
        UsageError: it is one of the recordings it is made from. OutputError: it cannot be written there.
    """
    for source in (info.path, *sources):
        if Path(output).exists() and os.path.samefile(output, source):
            raise UsageError(f"{output} is one of the recordings to work on; give the result another name.")
    AudioWriter(output, info.sample_rate, info.channels, _subtype(info, output)).discard()


def measure(path: str | os.PathLike[str], *watchers: Watch) -> Loudness:
    """Read a whole file, handing each block to the watchers. Raises AudioFileError."""
    meter = LoudnessMeter()
    with AudioReader(path) as reader:
        for block in reader.blocks(_block_size(reader.info.sample_rate)):
            for watch in (meter.add, *watchers):
                watch(block)
    return meter.loudness()


def render_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    executor: BaseExecutor,
    setting: np.ndarray,
    *,
    input_gain: float = 1.0,
    loudness: Loudness | None = None,
    watchers: tuple[Watch, ...] = (),
) -> RenderedFile:
    """Render a file through the executor's effect, keeping its rate, channel count and PCM or float subtype.

    Args:
        source, output: audio files; the output's suffix decides its format. It is written beside its place
            and renamed, so it appears whole or not at all.
        executor: renders; its effect decides what `setting` means.
        setting: `[P]` on 0..1.
        input_gain: factor on the audio before the plugin.
        loudness: bring the output to this loudness's RMS, lowered so that no sample passes -0.1 dBFS; needs a
            temporary file as long as the recording, beside the output. None: as the plugin gives it.
        watchers: called with every block of the plugin's output, before its level is set.

    Raises:
        AudioFileError, UsageError: the input. OutputError: the output, before any work where possible.
        PluginError, RenderError: the effect.
    """
    info = check_input(source)
    check_output(info, output)
    with AudioWriter(output, info.sample_rate, info.channels, _subtype(info, output)) as writer:
        meter = LoudnessMeter()
        with (
            AudioReader(source) as reader,
            executor.stream(setting, info.sample_rate, info.channels) as stream,
        ):
            latency = int(stream.latency)
            blocks = _streamed(reader, stream, input_gain)
            if loudness is None:
                for block in blocks:
                    _watch(block, meter, watchers, writer)
                gain = 1.0
            else:
                with _scratch(Path(output)) as scratch:
                    for block in blocks:
                        _watch(block, meter, watchers, None)
                        _spill(scratch, block, output)
                    gain = level_gain(meter.loudness(), loudness)
                    for block in _spilled(scratch, info):
                        writer.write(block * np.float32(gain))
        if writer.frames == 0:
            raise AudioFileError(f"{source} holds no samples that could be read.")
    return RenderedFile(
        Path(output),
        info.sample_rate,
        info.channels,
        writer.frames,
        20 * math.log10(gain),
        writer.clipped,
        latency,
    )


def _block_size(sample_rate: int) -> int:
    # Whole multiples of any usual plugin block, so that blocks fall as they would in one render.
    return max(1, round(sample_rate * BLOCK_SECONDS / 8192)) * 8192


def _subtype(info: AudioInfo, output: str | os.PathLike[str]) -> str | None:
    """The input's subtype where the output's format has it, else None for the format's default."""
    import soundfile

    format_name = {".wav": "WAV", ".flac": "FLAC", ".aiff": "AIFF", ".aif": "AIFF"}.get(
        Path(output).suffix.lower()
    )
    if format_name and info.subtype in _KEPT_SUBTYPES and soundfile.check_format(format_name, info.subtype):
        return info.subtype
    return None


def level_gain(output: Loudness, wanted: Loudness) -> float:
    """The factor that gives `output` the RMS of `wanted`, lowered so that no sample passes -0.1 dBFS."""
    if output.rms <= 1e-9 or wanted.rms <= 1e-9:
        return 1.0
    return min(wanted.rms / output.rms, CEILING / output.peak)


def _watch(
    block: np.ndarray, meter: LoudnessMeter, watchers: tuple[Watch, ...], writer: AudioWriter | None
) -> None:
    if not np.isfinite(block).all():
        raise PluginError("the effect gave samples that are not finite numbers (NaN or infinity).")
    for watch in (meter.add, *watchers):
        watch(block)
    if writer is not None:
        writer.write(block)


def _scratch(output: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=output.parent)
    except OSError as error:
        raise OutputError(f"{output} cannot be written: {error.strerror}.") from error


def _spill(scratch: IO[bytes], block: np.ndarray, output: str | os.PathLike[str]) -> None:
    try:
        scratch.write(np.ascontiguousarray(block.T, dtype=np.float32).data)
    except OSError as error:
        raise OutputError(f"{output}: its temporary file could not be written ({error.strerror}).") from error


def _spilled(scratch: IO[bytes], info: AudioInfo) -> Iterator[np.ndarray]:
    scratch.seek(0)
    size = _block_size(info.sample_rate) * info.channels * 4
    while data := scratch.read(size):
        yield np.frombuffer(data, np.float32).reshape(-1, info.channels).T


def _streamed(reader: AudioReader, stream: BaseStream, gain: float) -> Iterator[np.ndarray]:
    """The plugin's output in blocks, as long as the input in all."""
    for block in reader.blocks(_block_size(reader.info.sample_rate)):
        yield stream.process(block * np.float32(gain))
    yield stream.finish()
