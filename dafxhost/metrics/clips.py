"""Clips to be compared, and what several metrics need of them, made once."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from dafxhost.errors import ShapeError

SHORTEST = 1024
"""Samples; the metrics' windows do not fit into less."""


class Clips:
    """K clips of one length.

    Args:
        audio: `[K, C, T]`, finite, at least 1024 samples long. sample_rate: Hz.
    """

    def __init__(self, audio: np.ndarray, sample_rate: int) -> None:
        if audio.ndim != 3 or audio.shape[1] < 1 or audio.shape[2] < SHORTEST:
            raise ShapeError(
                f"clips to compare have shape [K, C, T] with T at least {SHORTEST}, not {list(audio.shape)}"
            )
        self.audio = np.ascontiguousarray(audio, dtype=np.float32)
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.audio)

    @property
    def channels(self) -> int:
        return self.audio.shape[1]

    @cached_property
    def rms(self) -> np.ndarray:
        """`[K]` over channels and time."""
        flat = self.audio.reshape(len(self), -1)
        # einsum, not dot: that goes to BLAS, whose threads spin while plugins keep the cores busy.
        power = np.array([np.einsum("i,i->", row, row, dtype=np.float64) for row in flat])
        return np.sqrt(power / flat.shape[1])

    @cached_property
    def peak(self) -> np.ndarray:
        """`[K]`, largest magnitude over channels and time."""
        flat = self.audio.reshape(len(self), -1)
        return np.maximum(flat.max(axis=1), -flat.min(axis=1)).astype(np.float64)


def decibels(amplitude: np.ndarray, floor: float) -> np.ndarray:
    """Amplitudes in dB re 1, 20 log10, and not below `floor` dB."""
    return 20.0 * np.log10(np.maximum(amplitude, 10.0 ** (floor / 20.0)))
