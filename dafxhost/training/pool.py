"""Supervised examples, embedded beforehand.

An encoder that is not trained gives the same embeddings every time, so they are computed once, and the
supervised phase becomes cheap. A clip serves several settings, which shares the work on its dry half. Example
k depends on the seed and on k alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor as Threads
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.data.features import fade, normalise_peak
from dafxhost.data.judging import DryFeatures, Judge
from dafxhost.data.pairs import pair_kind
from dafxhost.data.setting_draws import SettingDraw, UniformDraw
from dafxhost.data.sources import AudioSource
from dafxhost.training.controller import Controller

CLIPS, SETTINGS = 8, 8
"""Clips rendered in one call, and settings on each."""


@dataclass
class Pool:
    """N examples: embeddings `[N, D]` (float16) of dry inputs and wet references, settings `[N, P]`."""

    dry: Tensor
    reference: Tensor
    settings: Tensor

    def __len__(self) -> int:
        return len(self.settings)

    def tensors(self) -> dict[str, Tensor]:
        return {"dry": self.dry, "reference": self.reference, "settings": self.settings}


@dataclass
class _Piece:
    halves: np.ndarray  # [CLIPS, R, 1, T], dry
    settings: np.ndarray  # [CLIPS, SETTINGS, P]
    future: Any  # of [CLIPS, SETTINGS, 1, T]


class PoolMaker:
    """Makes a pool.

    Args:
        source, executor: clips, and what renders them. controller: embeds them.
        samples, sample_rate: of a half. seed: of all draws. threads: embed clips side by side.
        pairs: kind of examples, see `dafxhost.data.pairs`. draws: where settings come from; uniform by
        default.
    """

    def __init__(
        self,
        source: AudioSource,
        executor: Any,
        controller: Controller,
        *,
        samples: int,
        sample_rate: int,
        seed: int,
        threads: Threads,
        pairs: str = "ab",
        draws: SettingDraw | None = None,
    ) -> None:
        self.source, self.executor, self.controller = source, executor, controller
        self.samples, self.sample_rate, self.seed = samples, sample_rate, seed
        self._threads = threads
        self._kind = pair_kind(pairs)
        self._draws = draws or UniformDraw(executor.effect)
        self._judge = Judge(sample_rate)

    def make(self, count: int, seconds: float, progress: Callable[[int, float], None]) -> Pool:
        """`count` examples; if that is 0, as many as are ready within `seconds`, at least one piece.

        `progress(examples, seconds)` is called after every piece.
        """
        parts: list[tuple[Tensor, Tensor, Tensor]] = []
        start, done = time.monotonic(), 0
        for part in self._parts():
            parts.append(part)
            done += len(part[2])
            spent = time.monotonic() - start
            progress(done, spent)
            if done >= count if count else (spent >= seconds and done):
                break
        dry, reference, settings = (torch.cat(column) for column in zip(*parts, strict=True))
        n = count or done
        return Pool(dry[:n], reference[:n], settings[:n])

    def _parts(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Pieces in order; while one is embedded, the next is rendered."""
        ahead = self._draw(0)
        number = 0
        while True:
            piece, number = ahead, number + 1
            ahead = self._draw(number)
            yield self._embed(piece)

    def _draw(self, number: int) -> _Piece:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
        halves = np.stack(list(self._threads.map(self._halves, rng.spawn(CLIPS))))
        settings = np.stack([self._draws.draw(rng) for _ in range(CLIPS * SETTINGS)])
        settings = settings.reshape(CLIPS, SETTINGS, len(self.executor.effect.parameters))
        heard = halves[:, self._kind.reference_row]
        future = self.executor.submit(heard, settings, self.sample_rate, on_error="nan")
        return _Piece(halves, settings, future)

    def _halves(self, rng: np.random.Generator) -> np.ndarray:
        """`[R, 1, T]`: a clip in as many parts as an example needs, dry, at -12 dBFS."""
        clip, _ = self.source.draw(rng, self._kind.rows * self.samples, self.sample_rate)
        return normalise_peak(fade(clip.reshape(-1, 1, self.samples), self.sample_rate))

    def _embed(self, piece: _Piece) -> tuple[Tensor, Tensor, Tensor]:
        wet = piece.future.result()
        done = list(self._threads.map(lambda i: self._one(piece, wet[i], i), range(CLIPS)))
        dry, reference, settings = (torch.cat(column) for column in zip(*done, strict=True))
        return dry, reference, settings

    @torch.no_grad()
    def _one(self, piece: _Piece, wet: np.ndarray, i: int) -> tuple[Tensor, Tensor, Tensor]:
        """One clip with its settings; what `Examples` would refuse is left out (judged by one half)."""
        kind = self._kind
        dry = piece.halves[i, kind.reference_row]
        features = DryFeatures(dry[None], self.sample_rate)
        dry_input = kind.input_column < 0
        faults = [self._judge.fault([one], features, audible=dry_input) for one in wet]
        good = np.array([fault is None for fault in faults])
        if not dry_input and good.sum() < 2:
            good[:] = False  # there is no other setting for the input
        audio = normalise_peak(wet[good])
        if dry_input:
            audio = np.concatenate([piece.halves[i, :1], audio])
        embedded = self._embedded(audio)
        settings = torch.from_numpy(piece.settings[i][good]).float()
        if dry_input:
            return embedded[:1].expand(len(settings), -1), embedded[1:], settings
        return embedded.roll(1, dims=0), embedded, settings  # each one's input is at the setting before it

    def _embedded(self, audio: np.ndarray) -> Tensor:
        if not len(audio):
            return torch.zeros(0, self.controller.encoder.embedding_size).half()
        return self.controller.embed(torch.from_numpy(audio), self.sample_rate).cpu().half()
