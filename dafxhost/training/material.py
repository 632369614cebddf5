"""What a training learns from: batches of examples, embedded beforehand where the encoder is not trained."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Executor as Threads
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.data.examples import ExampleBatch, Examples
from dafxhost.data.sources import AudioSource
from dafxhost.training import runs
from dafxhost.training.config import TrainConfig
from dafxhost.training.controller import Controller
from dafxhost.training.pool import Pool, PoolMaker, load_pool

Batches = Callable[[int], tuple[Tensor, Tensor, Tensor]]
TOGETHER = 16
"""Clips embedded at once."""


def mix(*numbers: int) -> int:
    """A seed below 2^31 from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0] >> 1)


class Material(ABC):
    """The part of a `Session` that makes supervised batches, and keeps the pool that they come from."""

    config: TrainConfig
    path: Path
    about: dict[str, Any]
    controller: Controller
    executor: Any
    source: AudioSource
    draws: Any
    threads: Threads
    device: torch.device
    frozen: bool
    cores: int
    torch_threads: int
    began: float
    _pool: Pool | None
    _supervised_batches: Batches | None

    @abstractmethod
    def _examples(self, source: AudioSource) -> Examples: ...

    @abstractmethod
    def _embed(self, batch: ExampleBatch) -> tuple[Tensor, Tensor]: ...

    @abstractmethod
    def _save_state(self) -> None: ...

    @abstractmethod
    def _left(self) -> float: ...

    @abstractmethod
    def _event(self, event: str, **values: Any) -> None: ...

    def _batches(self) -> Batches:
        """Supervised batches: (embedded dry inputs, embedded references, settings) of a step."""
        if self._supervised_batches is None:
            self._supervised_batches = self._pool_batches() if self.frozen else self._stream_batches()
        return self._supervised_batches

    @property
    def pooled(self) -> bool:
        """Whether the end-to-end phase can use the pool's examples: they hold the inputs' audio."""
        return self.frozen and self.config.reuse_pool and self.pool().audio.shape[-1] > 0

    def pool(self) -> Pool:
        """The pool, which is made first, or read: from another run, or after an interruption."""
        if self._pool is None:
            config, about, saved = self.config, self.about, self.path / runs.POOL
            if about["pool_ready"] or config.pool_from:
                self._pool = load_pool(Path(config.pool_from or saved), self._pool_facts())
            else:
                self._pool = self._make_pool()
                runs.save_state(saved, self._pool.tensors(), self._pool_facts())
            if not about["pool_ready"]:
                about["pool"], about["pool_ready"] = len(self._pool), True
                pool = self._pool
                dry, reference = pool.dry[pool.clip].float(), pool.reference.float()
                self.controller.standardise(torch.cat([pool.dry.float(), reference]).to(self.device))
                self.controller.fit_pairs(dry, reference, pool.settings)
                self.controller.find_landmarks(dry, reference, pool.settings)
                seed = mix(config.seed, 14)
                self.controller.find_signatures(
                    reference, pool.plain.float(), pool.settings, self._signatures, seed
                )
                self._save_state()
        return self._pool

    def _signatures(self, settings: Tensor) -> Tensor:
        """What settings `[K, P]` add to the mean cepstrum of noise, `[K, L]`."""
        config, encoder = self.config, self.controller.encoder
        rng = np.random.default_rng([config.seed, 15])
        noise = rng.standard_normal((1, 1, config.samples)).astype(np.float32)
        noise *= 0.25 / np.abs(noise).max()

        def cepstra(audio: Tensor) -> Tensor:
            return encoder.cepstrum_of(encoder.prepare(audio, config.sample_rate)).cpu()

        rendered = self.executor.render(
            noise, settings.double().numpy()[None], config.sample_rate, on_error="nan"
        )
        wet = torch.from_numpy(np.nan_to_num(np.asarray(rendered[0])))
        rows = list(self.threads.map(cepstra, wet.split(TOGETHER)))
        return torch.cat(rows) - cepstra(torch.from_numpy(noise))

    def _pool_facts(self) -> dict[str, Any]:
        """What a pool must have been made with to be of use here."""
        config, encoder = self.config, self.controller.encoder
        return {
            "effect": config.effect, "encoder": encoder.name, "embedding_size": encoder.embedding_size,
            "sample_rate": config.sample_rate, "samples": config.samples, "pairs": config.pairs,
        }  # fmt: skip

    def _pool_batches(self) -> Batches:
        config, pool = self.config, self.pool()

        def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
            rng = np.random.default_rng([config.seed, 6, step])
            rows = torch.from_numpy(rng.integers(0, len(pool), config.supervised_batch))
            dry, reference = pool.dry[pool.clip[rows]].float(), pool.reference[rows].float()
            return dry.to(self.device), reference.to(self.device), pool.settings[rows].to(self.device)

        return batch

    def _make_pool(self) -> Pool:
        config = self.config
        torch.set_num_threads(1 if self.cores > 1 else self.torch_threads)
        maker = PoolMaker(
            self.source, self.executor, self.controller, samples=config.samples,
            sample_rate=config.sample_rate, seed=mix(config.seed, 7), threads=self.threads,
            pairs=config.pairs, draws=self.draws,
        )  # fmt: skip
        share = 60 * config.max_minutes * config.pool_share
        seconds = max(share - (time.monotonic() - self.began), 0.25 * share)
        return maker.make(
            self.about["pool"], seconds,
            lambda done, spent: self._event(
                "pool", examples=done, wanted=self.about["pool"], seconds=spent, of=seconds,
                time_left=self._left(),
            ),
        )  # fmt: skip

    def _stream_batches(self) -> Batches:
        """Fresh examples for an encoder that is trained itself."""
        examples = self._examples(self.source)
        examples.apply_probability = 1.0  # what was left dry says nothing about settings
        seed = mix(self.config.seed, 8)

        def batch(step: int) -> tuple[Tensor, Tensor, Tensor]:
            made = examples.batch(seed + step, self.config.batch)
            return *self._embed(made), torch.from_numpy(made.settings).float().to(self.device)

        return batch
