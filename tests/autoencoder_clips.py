"""Clips for training autoencoders in tests: notes, and two "effects" of our own that need no plugin."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dafxhost_encoders.effect_clips import ClipBatch

RATE = 24_000
SAMPLES = 12_288


def notes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Clips of half a second: filtered noise bursts over decaying notes, `[n, 1, T]` float32."""
    time = np.arange(SAMPLES) / RATE
    out = np.zeros((n, SAMPLES))
    for clip in out:
        pitch, decay = 2 ** rng.uniform(6, 9), rng.uniform(2, 20)
        clip += sum(np.sin(2 * np.pi * pitch * h * time) / h for h in range(1, 12)) * np.exp(-decay * time)
        burst = rng.standard_normal(SAMPLES)
        burst = np.cumsum(burst) if rng.random() < 0.5 else burst
        clip += 0.3 * burst / np.abs(burst).max() * np.exp(-20 * (time % rng.uniform(0.1, 0.4)))
    return (0.3 * out).astype(np.float32)[:, None]


class NoteClips:
    """`Clips` of notes: clean, hard-clipped ("clip"), or smoothed ("dull").

    Attributes:
        started: (n, seed, effect) of every call.
    """

    sample_rate = RATE

    def __init__(self, effects: Sequence[str] = ("clip", "dull"), silent: bool = False) -> None:
        self.effects = list(effects)
        self.silent = silent
        self.started: list[tuple[int, tuple[int, ...], int | None]] = []

    def start(self, n: int, seed: Sequence[int], effect: int | None = None) -> Callable[[], ClipBatch]:
        self.started.append((n, tuple(seed), effect))
        rng = np.random.default_rng(list(seed))
        clean = notes(rng, n) * (0.0 if self.silent else 1.0)
        which = rng.integers(-1, len(self.effects), n) if effect is None else np.full(n, effect)
        processed = clean.copy()
        for row, index in enumerate(which):
            if index == 0:
                processed[row] = np.clip(clean[row], -0.05, 0.05)
            elif index == 1:
                processed[row, 0] = np.convolve(clean[row, 0], np.ones(16, np.float32) / 16, "same")
        return lambda: ClipBatch(clean, processed, which, [np.zeros(0)] * n)
