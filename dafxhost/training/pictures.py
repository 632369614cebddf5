"""Pictures of sound for trackers, without matplotlib: `[height, width, 3]` uint8."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

LOWEST, RANGE = 40.0, 80.0  # Hz; dB below the loudest place
ROWS, COLUMNS, GAP = 96, 320, 4
WINDOW = 1024
# From quiet to loud, evenly spaced; lightness rises all the way, so that it also reads without colour.
_COLOURS = np.array(
    [(0, 0, 4), (66, 10, 104), (147, 38, 103), (221, 81, 58), (252, 165, 10), (252, 255, 164)]
)


def spectrograms(clips: Sequence[np.ndarray], sample_rate: int) -> np.ndarray:
    """Spectrograms of clips `[C, T]`, one below the other with a line between them.

    Frequency rises on a logarithmic scale from 40 Hz to half the rate; all clips share one scale of levels,
    from 80 dB below the loudest place of any (black) to it (yellow).
    """
    levels = [_levels(clip, sample_rate) for clip in clips]
    loudest = max(float(level.max()) for level in levels)
    line = np.full((GAP, COLUMNS, 3), 255, np.uint8)
    parts: list[np.ndarray] = []
    for level in levels:
        parts += [line, _coloured((level - loudest) / RANGE + 1.0)]
    return np.concatenate(parts[1:])


def _levels(clip: np.ndarray, sample_rate: int) -> np.ndarray:
    """`[C, T]` -> dB `[ROWS, COLUMNS]`, the highest frequency first."""
    mono = torch.from_numpy(np.ascontiguousarray(clip, np.float32)).mean(dim=0)
    if len(mono) < WINDOW:
        mono = torch.nn.functional.pad(mono, (0, WINDOW - len(mono)))
    spectrum = torch.stft(
        mono, WINDOW, hop_length=WINDOW // 4, window=torch.hann_window(WINDOW), return_complex=True
    )
    level = 20.0 * np.log10(np.maximum(spectrum.abs().numpy(), 1e-6))
    bins = np.geomspace(max(LOWEST, sample_rate / WINDOW), sample_rate / 2, ROWS)[::-1] / sample_rate * WINDOW
    frames = np.linspace(0, level.shape[1] - 1, COLUMNS).round().astype(int)
    return level[np.minimum(bins.round().astype(int), level.shape[0] - 1)][:, frames]


def _coloured(shares: np.ndarray) -> np.ndarray:
    """Shares of the scale `[h, w]` -> colours `[h, w, 3]` uint8; beyond 0..1 as at its ends."""
    places = np.linspace(0.0, 1.0, len(_COLOURS))
    return np.stack(
        [np.interp(shares, places, _COLOURS[:, channel]) for channel in range(3)], axis=-1
    ).astype(np.uint8)
