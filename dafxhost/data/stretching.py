"""Pitch and tempo changed on their own, beforehand: a bank of pieces that clips are then drawn from.

Rubber Band needs some hundred times the processor time of a plugin, so it does not run clip by clip. Each
piece of the bank is a stretch of the source at a tempo and a pitch of its own, made in worker processes
through the executor (no plugin host is loaded here), and as many clips can be drawn from it as are wanted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from dafxhost.data.sources import CROSSFADE_SECONDS, AudioSource, is_silent, looped
from dafxhost.errors import UsageError
from dafxhost.execution.executor import Executor
from dafxhost.registry import effect

LOCATION = "pedalboard:time_stretch"
AT_ONCE = 8
TRIES = 8


class StretchedSource(AudioSource):
    """Draws from another source, or from a bank of pieces of it whose tempo and pitch were changed.

    Piece i depends on `seed`, the source and i alone, a draw on its rng and these. The bank is made at the
    first draw, or by `prepare`; it takes half as much memory as its samples in float32.

    Args:
        source: where pieces and clips come from.
        sample_rate: Hz; a draw must ask for the same.
        bank: how many pieces. seconds: their length; a longer clip repeats its piece.
        share: of clips drawn from the bank.
        tempo: largest factor, faster and slower. semitones: largest shift, up and down.
        seed: of the bank. workers: processes that make it. fine: with Rubber Band's better engine, which
            takes two and a half times as long.
    """

    def __init__(
        self,
        source: AudioSource,
        sample_rate: int,
        *,
        bank: int = 48,
        seconds: float = 20.0,
        share: float = 0.5,
        tempo: float = 1.25,
        semitones: float = 4.0,
        seed: int = 0,
        workers: int | None = None,
        fine: bool = False,
    ) -> None:
        if bank < 1 or seconds <= 0 or seed < 0 or not 0 <= share <= 1:
            raise UsageError("a bank needs 1 piece or more, seconds > 0, seed >= 0 and a share on 0..1")
        if not (1 <= tempo <= 2 and 0 <= semitones <= 12):
            raise UsageError("tempo can change by a factor of 1 to 2, and pitch by 0 to 12 semitones")
        self.source, self.sample_rate, self.bank, self.share = source, sample_rate, bank, share
        self.samples = max(1, int(seconds * sample_rate))
        self.tempo, self.semitones, self.seed, self.workers = tempo, semitones, seed, workers
        self.names, self.total_seconds = source.names, source.total_seconds
        self.description = f"{source.description}, {share:.0%} of clips at another pitch and tempo"
        # An effect that is not available here is known at once.
        self._effect = effect(LOCATION + "#fine" if fine else LOCATION)
        self._pieces: list[tuple[np.ndarray, str]] = []
        self._lock = threading.Lock()

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Make the bank now, if it is not there; `progress(done, total)` is called as it grows."""
        with self._lock:
            if self._pieces:
                return
            pieces: list[tuple[np.ndarray, str]] = []
            with Executor(self._effect, workers=self.workers, deadline=300.0) as executor:
                while len(pieces) < self.bank:
                    numbers = range(len(pieces), min(len(pieces) + AT_ONCE, self.bank))
                    pieces += self._made(executor, numbers)
                    if progress is not None:
                        progress(len(pieces), self.bank)
            self._pieces = pieces

    def _made(self, executor: Executor, numbers: range) -> list[tuple[np.ndarray, str]]:
        longest = int(np.ceil(self.samples * self.tempo))
        audio = executor.empty((len(numbers), 1, longest))
        settings, names = np.zeros((len(numbers), 2)), []
        for row, number in enumerate(numbers):
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
            audio[row], name = self.source.draw(rng, longest, self.sample_rate)
            tempo = self.tempo ** rng.uniform(-1, 1)
            semitones = float(rng.uniform(-self.semitones, self.semitones))
            settings[row] = self._effect.setting(tempo=tempo, semitones=semitones)
            names.append(f"{name} (tempo {tempo:.2f}, {semitones:+.1f} semitones)")
        made = executor.render(audio, settings, self.sample_rate)[..., : self.samples]
        return [(_packed(clip), name) for clip, name in zip(made, names, strict=True)]

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        if sample_rate != self.sample_rate:
            raise UsageError(f"this bank was made at {self.sample_rate} Hz, not at {sample_rate} Hz")
        if rng.random() >= self.share:
            return self.source.draw(rng, samples, sample_rate)
        self.prepare()
        for _ in range(TRIES):
            piece, name = self._pieces[int(rng.integers(len(self._pieces)))]
            clip = _excerpt(piece, float(rng.random()), samples, sample_rate)
            if not is_silent(clip):
                return clip, name
        return self.source.draw(rng, samples, sample_rate)


def _packed(clip: np.ndarray) -> np.ndarray:
    """`[1, T]` at peak 1 as int16."""
    peak = max(float(np.abs(clip).max()), 1e-9)
    return np.round(clip * (32767 / peak)).astype(np.int16)


def _excerpt(piece: np.ndarray, place: float, samples: int, sample_rate: int) -> np.ndarray:
    spare = piece.shape[1] - samples
    if spare < 0:
        whole = piece.astype(np.float32) / np.float32(32767)
        return looped(whole, int(place * piece.shape[1]), samples, int(CROSSFADE_SECONDS * sample_rate))
    start = int(place * (spare + 1))
    return piece[:, start : start + samples].astype(np.float32) / np.float32(32767)
