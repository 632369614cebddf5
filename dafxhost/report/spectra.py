"""Spectrograms and long-term spectra for pictures: bands even in log frequency, and a PNG writer."""

from __future__ import annotations

import struct
import zlib

import numpy as np

LOWEST, HIGHEST = 30.0, 20000.0
"""Hz at the ends of the frequency axis, if the recordings go so high."""
ROWS, COLUMNS = 144, 600
"""Most pixels of a spectrogram."""
RANGE = 80.0
"""dB from the loudest point to black."""
FRACTION = 6
"""Bands of a long-term spectrum to the octave."""
_SILENT = -200.0
# From quiet to loud: anchors of a ramp whose lightness rises evenly, so that it reads in grey as well.
_RAMP = np.array(
    [
        (10, 10, 24), (34, 22, 78), (80, 28, 110), (128, 38, 112), (176, 54, 96), (216, 84, 68),
        (242, 130, 44), (250, 184, 68), (252, 236, 168),
    ],
    dtype=np.float64,
)  # fmt: skip
_SHADES = 96


def top_frequency(rates: list[int]) -> float:
    """Hz at the upper end of an axis for recordings of these rates."""
    return min(HIGHEST, max(rates) / 2)


def spectrogram(audio: np.ndarray, sample_rate: int, top: float) -> np.ndarray:
    """Levels `[rows, columns]` in dB (full scale 0) of audio `[C, T]`; the first row is the highest band.

    Bands are even in log frequency from 30 Hz to `top` Hz; columns are even in time. Above half the sample
    rate there is nothing (-200 dB).
    """
    size = _power_of_two(0.046 * sample_rate)
    mono = audio.mean(axis=0, dtype=np.float64)
    # Fine enough for every column, and no finer than a quarter of one.
    hop = max(1, min(size // 4, mono.size // COLUMNS), mono.size // (4 * COLUMNS))
    power = _frames(mono, size, hop)
    edges = np.geomspace(LOWEST, top, ROWS + 1)
    bands = _bands(power, sample_rate / size, edges) / np.diff(edges) * (sample_rate / size)
    return _decibels(_fewer(bands, COLUMNS)).T[::-1]


def long_term(audio: np.ndarray, sample_rate: int, top: float) -> tuple[np.ndarray, np.ndarray]:
    """(centres in Hz, level of each sixth of an octave in dB, full scale 0) of all of audio `[C, T]`.

    Pink noise is flat. Bands end at `top` Hz or half the sample rate, whichever is lower.
    """
    size = _power_of_two(0.19 * sample_rate)
    power = _frames(audio.mean(axis=0, dtype=np.float64), size, size // 4).mean(axis=0, keepdims=True)
    highest = min(top, sample_rate / 2)
    count = max(1, int(np.log2(highest / LOWEST) * FRACTION))
    edges = LOWEST * 2 ** (np.arange(count + 1) / FRACTION)
    return np.sqrt(edges[:-1] * edges[1:]), _decibels(_bands(power, sample_rate / size, edges)[0])


def picture(levels: np.ndarray, loudest: float) -> bytes:
    """A PNG of levels `[rows, columns]` in dB, from `loudest` (brightest) down by 80 dB."""
    shades = np.clip((levels - loudest) / RANGE + 1, 0, 1) * (_SHADES - 1)
    places = np.linspace(0, len(_RAMP) - 1, _SHADES)
    palette = np.stack([np.interp(places, np.arange(len(_RAMP)), _RAMP[:, c]) for c in range(3)], axis=1)
    return png(shades.round().astype(np.uint8), palette.round().astype(np.uint8))


def png(pixels: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG file (W3C Recommendation, third edition) of pixels `[H, W]`, indices into colours `[N, 3]`."""
    height, width = pixels.shape
    lines = np.zeros((height, width + 1), np.uint8)  # every line begins with its filter, 0 for none
    lines[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = ((b"IHDR", header), (b"PLTE", palette.astype(np.uint8).tobytes()))
    parts += ((b"IDAT", zlib.compress(lines.tobytes(), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


def _power_of_two(samples: float) -> int:
    return 2 ** max(6, round(np.log2(max(samples, 1))))


def _frames(mono: np.ndarray, size: int, hop: int) -> np.ndarray:
    """Power `[frames, bins]` of Hann windows; a sine at full scale adds up to 1 over its bins."""
    window = np.hanning(size + 1)[:-1]
    padded = np.concatenate([np.zeros(size // 2), mono, np.zeros(size // 2)])
    starts = range(0, max(1, mono.size), hop)
    scale = 4 / (size * np.square(window).sum())
    rows = []
    for begin in range(0, len(starts), 256):  # bounded memory
        clips = np.stack([padded[s : s + size] for s in starts[begin : begin + 256]])
        rows.append(np.square(np.abs(np.fft.rfft(clips * window, axis=1))).astype(np.float32) * scale)
    return np.concatenate(rows)


def _bands(power: np.ndarray, spacing: float, edges: np.ndarray) -> np.ndarray:
    """Power `[frames, bands]` between edges in Hz, of bins `spacing` Hz apart, shared in proportion."""
    total = np.concatenate([np.zeros((len(power), 1)), np.cumsum(power, axis=1, dtype=np.float64)], axis=1)
    places = np.clip(edges / spacing + 0.5, 0, power.shape[1])  # a bin reaches half a bin to either side
    low = np.minimum(places.astype(int), power.shape[1] - 1)
    share = places - low
    at = total[:, low] * (1 - share) + total[:, low + 1] * share
    return np.diff(at, axis=1)


def _fewer(bands: np.ndarray, most: int) -> np.ndarray:
    """Means over neighbouring frames, so that at most so many are left."""
    count = min(most, len(bands))
    starts = np.arange(count) * len(bands) // count
    lengths = np.diff(np.append(starts, len(bands)))
    return np.add.reduceat(bands, starts, axis=0) / lengths[:, None]


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, 10 ** (_SILENT / 10)))
