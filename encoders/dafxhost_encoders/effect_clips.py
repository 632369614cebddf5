"""Clips before and after an effect, out of many effects: what encoders are trained on."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from dafxhost.data.features import fade, normalise_peak
from dafxhost.data.sources import AudioSource
from dafxhost.errors import UsageError

CLEAN_SHARE = 0.1
"""Share of clips left without an effect, as in Grant 2023."""
_SILENT = 1e-4
"""Peak of a render below which there is nothing to hear in it."""


@dataclass(frozen=True)
class ClipBatch:
    """n clips.

    Attributes:
        clean: `[n, 1, T]` float32, peak -12 dBFS, faded in and out.
        processed: `[n, 1, T]` what the effect made of it, or the clean clip again.
        effects: `[n]` number of the effect, -1 for none.
        settings: n settings, `[P]` on 0..1 (P is the effect's), empty for none.
        unusable: renders that failed or were silent, for which the clean clip stands (their effect is -1).
    """

    clean: np.ndarray
    processed: np.ndarray
    effects: np.ndarray
    settings: list[np.ndarray]
    unusable: int = 0


class Clips(Protocol):
    """What makes clips for the trainers: `EffectClips`, or a test's own."""

    sample_rate: int
    effects: list[str]

    def start(self, n: int, seed: Sequence[int], effect: int | None = None) -> Callable[[], ClipBatch]:
        """Begin to make n clips decided by `seed`; the function returned waits for them.

        `effect` is the number of the only effect wanted; by default they are mixed.
        """
        ...


class EffectClips:
    """Random clips of a source, through effects at random settings, several executors side by side.

    Use as a context manager, or close it.

    Args:
        source: where clips come from. effects: names; none of them: all clips stay clean.
        sample_rate: Hz. seconds: length of a clip.
        workers: plugin processes in all, at least one an effect; by default as many as there are cores.
        clean_share: share of clips without an effect.

    Raises:
        UnknownNameError, EffectUnavailableError: an effect is not known, or cannot be hosted here.
        UsageError: an impossible length, or an effect named twice.
    """

    def __init__(
        self,
        source: AudioSource,
        effects: Sequence[str],
        *,
        sample_rate: int = 24_000,
        seconds: float = 5.0,
        workers: int | None = None,
        clean_share: float = CLEAN_SHARE,
    ) -> None:
        from dafxhost.execution.executor import Executor
        from dafxhost.registry import effect as find_effect

        if not 0.01 <= seconds <= 600:
            raise UsageError(f"clips must last from 0.01 to 600 s, not {seconds:g} s")
        twice = sorted({name for name in effects if list(effects).count(name) > 1})
        if twice:
            raise UsageError(f"effect {twice[0]!r} is named twice; name each once")
        self.source, self.sample_rate = source, sample_rate
        self.samples = round(seconds * sample_rate)
        self.effects = list(effects)
        self.clean_share = clean_share if self.effects else 1.0
        total = workers or len(os.sched_getaffinity(0))
        self._stack = ExitStack()
        try:
            found = [find_effect(name) for name in self.effects]
            each = max(1, total // max(1, len(found)))
            self._executors: list[Any] = [
                self._stack.enter_context(Executor(fx, workers=each)) for fx in found
            ]
        except BaseException:
            self._stack.close()
            raise

    def on(self, source: AudioSource) -> EffectClips:
        """The same on other recordings, by the same plugin processes (closed with these)."""
        other = copy.copy(self)
        other.source = source
        return other

    def start(self, n: int, seed: Sequence[int], effect: int | None = None) -> Callable[[], ClipBatch]:
        """See `Clips.start`. Mixed effects come equally often, up to one, in random order."""
        rng = np.random.default_rng(list(seed))
        drawn = [self.source.draw(rng, self.samples, self.sample_rate)[0] for _ in range(n)]
        clean = normalise_peak(fade(np.stack(drawn), self.sample_rate))
        which = self._which(n, effect, rng)
        settings = [self._setting(index, rng) for index in which]
        renders: list[tuple[np.ndarray, Future[np.ndarray]]] = []
        for index in sorted({int(i) for i in which if i >= 0}):
            rows = np.flatnonzero(which == index)
            wanted = np.stack([settings[row] for row in rows])
            renders.append(
                (
                    rows,
                    self._executors[index].submit(clean[rows], wanted, self.sample_rate, on_error="nan"),
                )
            )

        def finish() -> ClipBatch:
            processed, unusable = clean.copy(), 0
            for rows, future in renders:
                for row, wet in zip(rows, future.result(), strict=True):
                    if bool(np.isfinite(wet).all()) and float(np.abs(wet).max()) >= _SILENT:
                        processed[row] = wet
                    else:
                        which[row], settings[row], unusable = -1, np.zeros(0), unusable + 1
            return ClipBatch(clean, processed, which, settings, unusable)

        return finish

    def _which(self, n: int, effect: int | None, rng: np.random.Generator) -> np.ndarray:
        """Number of each clip's effect, -1 for none."""
        if not self.effects:
            return np.full(n, -1)
        if effect is None:
            # A random start, so that in small batches, too, every effect has its turn.
            which = rng.permutation((np.arange(n) + rng.integers(len(self.effects))) % len(self.effects))
        else:
            which = np.full(n, effect)
        return np.where(rng.random(n) < self.clean_share, -1, which)

    def _setting(self, index: int, rng: np.random.Generator) -> np.ndarray:
        if index < 0:
            return np.zeros(0)
        parameters = self._executors[index].effect.parameters
        return np.array([p.quantise(rng.random()) for p in parameters], dtype=float)

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
