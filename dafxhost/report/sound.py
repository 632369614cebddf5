"""Sound in a page: excerpts as FLAC inside the file, at one loudness, and a player that switches.

FLAC because every browser of the last years decodes it, and because what is judged must be the effect and not
a codec; it takes about half of what WAV does. Without scripts, or where decoding fails, the browser's own
players are shown instead.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from dafxhost.data.audio_io import AudioReader, read_audio, resample
from dafxhost.data.loudness import as_played
from dafxhost.report.page import Page, data_uri, packaged

EXCERPT = 15.0
"""Most seconds of a recording that go into a page."""
MOST_RATE = 48000
"""Hz; what has more is resampled."""
LOUDEST = -16.0
"""LUFS at most at which versions are played."""
CEILING = -1.0
"""dBFS that no sample passes at that loudness."""
EDGE = 0.01
"""Seconds of the fades where an excerpt was cut out, so that it goes round without a click."""
PEAKS = 400
"""Columns of a waveform."""
Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class Version:
    """One of the things to compare.

    Attributes:
        name: what it is, e.g. "Output". detail: more, e.g. its file's name.
        audio: `[C, T]` float32, one or two channels. sample_rate: Hz.
        series: its colour in the page, 1 to 6.
        start, whole: second of the recording where the excerpt begins, and how long all of it is; equal to 0
            and the excerpt's own length where nothing was left out.
    """

    name: str
    audio: np.ndarray
    sample_rate: int
    series: int = 1
    detail: str = ""
    start: float = 0.0
    whole: float = 0.0

    @property
    def seconds(self) -> float:
        return self.audio.shape[1] / self.sample_rate

    @property
    def cut(self) -> bool:
        """Whether it is an excerpt."""
        return self.whole > self.seconds + 0.05


def version(path: Path_, name: str, *, series: int = 1, start: float | None = None) -> Version:
    """A recording, or its loudest 15 s, for a page.

    Args:
        start: second where the excerpt begins, instead of the loudest place: two recordings that belong
            together are cut at the same one.

    Raises:
        AudioFileError: the file cannot be read.
    """
    with AudioReader(path) as reader:
        info = reader.info
        first, frames = 0, info.frames
        if info.seconds > EXCERPT:
            frames = round(EXCERPT * info.sample_rate)
            begin = _loudest(reader) if start is None else start
            first = min(round(begin * info.sample_rate), info.frames - frames)
    audio, rate = read_audio(path, start=first, frames=frames)
    if frames < info.frames:
        audio = _edges(audio, rate)
    if rate > MOST_RATE:
        audio, rate = resample(audio, rate, MOST_RATE), MOST_RATE
    return Version(name, audio[:2], rate, series, Path(path).name, first / info.sample_rate, info.seconds)


def same_loudness(versions: Sequence[Version]) -> tuple[list[Version], list[float], list[float]]:
    """All at one loudness as two loudspeakers play them, the highest at which none of them passes -1 dBFS.

    Returns:
        (the versions so, their loudness before in LUFS, the gains in dB); silence stays as it is.
    """
    before = [as_played(v.audio, v.sample_rate) for v in versions]
    room = [
        loud + CEILING - 20 * math.log10(max(float(np.abs(v.audio).max(initial=0.0)), 1e-9))
        for v, loud in zip(versions, before, strict=True)
        if math.isfinite(loud)
    ]
    wanted = min([LOUDEST, *room])
    gains = [wanted - loud if math.isfinite(loud) else 0.0 for loud in before]
    matched = [
        Version(
            v.name, v.audio * np.float32(10 ** (g / 20)), v.sample_rate, v.series, v.detail, v.start, v.whole
        )
        for v, g in zip(versions, gains, strict=True)
    ]
    return matched, before, gains


def flac(audio: np.ndarray, sample_rate: int) -> bytes:
    """A FLAC file of 16 bits of audio `[C, T]`; what passes full scale is clipped."""
    import soundfile

    file = io.BytesIO()
    samples = np.clip(audio.T, -1.0, 1.0)
    soundfile.write(file, samples, sample_rate, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def add_player(page: Page, versions: Sequence[Version], *, label: str, key: str = "listen") -> list[Version]:
    """Put a player into the page: all versions on one clock, at one loudness.

    Args:
        versions: two to six. label: what is compared. key: of this player in its page; areas of plots that
            have `data-player` set to it and `data-version` to a version's place get a play head.

    Returns:
        The versions as they are played, for pictures of them.
    """
    from dafxhost.report.plot import style

    matched, before, gains = same_loudness(versions)
    longest = max(v.seconds for v in matched)
    peak = max(float(np.abs(v.audio).max(initial=1e-6)) for v in matched)
    rows = [
        _row(v, i, loud, gain, longest, peak, key)
        for i, (v, loud, gain) in enumerate(zip(matched, before, gains, strict=True))
    ]
    page.style(style())
    page.style(packaged("player.css"))
    page.script(packaged("player.js"))
    page.raw(
        f'<section class="player" id="{escape(key)}" aria-label="{escape(label)}">{packaged("player.html")}'
        f'<div class="versions" role="group" aria-label="What is heard">{"".join(rows)}</div>'
        f'<p class="hint">{_hint(matched)}</p></section>'
    )
    return matched


def time_attributes(version: Version, place: int, longest: float, key: str) -> str:
    """What makes an area of a plot, `longest` seconds wide, follow version number `place` of player `key`."""
    return f' data-player="{escape(key)}" data-version="{place}" data-span="{longest:.6f}"'


def _row(v: Version, i: int, loud: float, gain: float, longest: float, peak: float, key: str) -> str:
    level = f"{loud:.1f} LUFS".replace("-", "−") if math.isfinite(loud) else "silent"
    # Back to the file's own level, but never beyond full scale.
    own = min(10 ** (-gain / 20), 1 / max(float(np.abs(v.audio).max(initial=0.0)), 1e-6))
    sound = data_uri(flac(v.audio, v.sample_rate), "audio/flac")
    width = 100 * v.seconds / longest
    return (
        f'<div class="version" data-own="{own:.6f}" data-seconds="{v.seconds:.6f}" '
        f'style="--tone: var(--series-{v.series})">'
        f'<button type="button" class="choose" aria-pressed="{"true" if i == 0 else "false"}">'
        f'<kbd aria-hidden="true">{i + 1}</kbd><span><b>{escape(v.name)}</b>'
        f"<small>{escape(v.detail)}</small></span><em>{level}</em></button>"
        f'<div class="wave"{time_attributes(v, i, longest, key)}>'
        f'<svg viewBox="0 0 {PEAKS} 200" preserveAspectRatio="none" aria-hidden="true" '
        f'style="width:{width:.3f}%"><path d="{_wave(v.audio, peak)}"/></svg></div>'
        f'<audio controls preload="none" src="{sound}" aria-label="{escape(v.name)}"></audio></div>'
    )


def _hint(versions: Sequence[Version]) -> str:
    cut = [v for v in versions if v.cut]
    text = ""
    if cut:
        which = ", ".join(
            f"{v.name.lower()} {_clock(v.start)} to {_clock(v.start + v.seconds)} of {_clock(v.whole)}"
            for v in cut
        )
        text = f"The recordings are long; this page holds excerpts: {escape(which)}. "
    keys = " ".join(f"<kbd>{i + 1}</kbd>" for i in range(len(versions)))
    return (
        f'{text}<span class="keys"><kbd>space</kbd> plays and stops, {keys} switch at the same moment, '
        "<kbd>←</kbd> <kbd>→</kbd> go 2 s back and on.</span>"
    )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _wave(audio: np.ndarray, peak: float) -> str:
    """The outline of a waveform as an SVG path on 400 x 200."""
    mono = audio[np.abs(audio).max(axis=1).argmax()]
    count = min(PEAKS, max(1, mono.size))
    starts = np.arange(count) * mono.size // count
    high = np.maximum(np.maximum.reduceat(mono, starts), 0) / peak
    low = np.minimum(np.minimum.reduceat(mono, starts), 0) / peak
    x = np.arange(count) * PEAKS / count
    upper = "".join(f"L{a:.0f} {100 - 98 * b:.0f}" for a, b in zip(x, high, strict=True))
    lower = "".join(f"L{a:.0f} {100.6 - 98 * b:.0f}" for a, b in zip(x[::-1], low[::-1], strict=True))
    return f"M0 100{upper}L{PEAKS} 100{lower}Z"


def _edges(audio: np.ndarray, rate: int) -> np.ndarray:
    count = min(audio.shape[1] // 2, round(EDGE * rate))
    ramp = np.linspace(0, 1, count, endpoint=False, dtype=np.float32)
    faded = audio.copy()
    faded[:, :count] *= ramp
    faded[:, audio.shape[1] - count :] *= ramp[::-1]
    return faded


def _loudest(reader: AudioReader) -> float:
    """Second at which the loudest stretch of `EXCERPT` seconds begins, to a quarter of a second."""
    slot = max(1, reader.info.sample_rate // 4)
    power: list[float] = []
    for block in reader.blocks(slot * 64):
        squares = np.square(block, dtype=np.float64).sum(axis=0)
        power += np.add.reduceat(squares, np.arange(0, squares.size, slot)).tolist()
    width = min(len(power), round(EXCERPT * 4))
    total = np.concatenate([[0.0], np.cumsum(power)])
    return float(np.argmax(total[width:] - total[:-width])) * slot / reader.info.sample_rate
