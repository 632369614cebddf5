"""What estimators are studied on: losses of settings, each example with its own clip and target."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

import dafxhost
from dafxhost.data.corpus import SyntheticCorpus
from dafxhost.data.examples import Examples
from dafxhost.data.sources import open_source
from dafxhost.losses import TransferLoss

RATE, SAMPLES = 24_000, 65_536
"""As training takes the end-to-end loss."""
NEAR = (0.1, 0.3)
"""Deviations of the starts from the true setting, in turns: where a controller may be, early and late."""


class Landscape(Protocol):
    """The losses of several examples as functions of their continuous parameters.

    Attributes:
        truth: settings that made the targets, `[B, P]`. renders: made so far.
    """

    truth: Tensor
    renders: int

    def losses(self, settings: Tensor) -> Tensor:
        """Settings `[B, K, P]` on 0..1 -> losses `[B, K]`, float64; NaN where a render failed."""
        ...

    def slopes(self, settings: Tensor) -> Tensor:
        """Gradient of the loss to the waveform at settings `[B, P]` -> `[B, C, T]`."""
        ...

    def both(self, settings: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Settings `[B, K, P]`, slopes `[B, C, T]` -> losses `[B, K]`, and signal space's values: the inner
        products of the same renders with the slopes.
        """
        ...


class PluginLandscape:
    """A plugin's losses: multi-resolution STFT at one level, as training takes it (`TransferLoss`).

    Discrete parameters stay at their true values, since training does not perturb them.
    """

    def __init__(self, executor: Any, dry: Tensor, target: Tensor, settings: Tensor) -> None:
        self.executor, self.dry, self.target, self.settings = executor, dry, target, settings.double()
        parameters = executor.effect.parameters
        self.moves = torch.tensor([not p.levels for p in parameters])
        self.names = [p.name for p in parameters if not p.levels]
        self.truth = self.settings[:, self.moves]
        self.loss = TransferLoss(l1_weight=0.0)
        self.prepared = self.loss.prepare(target)
        self.renders = 0

    def render(self, settings: Tensor) -> Tensor:
        """`[B, K, P]` -> `[B, K, C, T]`."""
        full = self.settings[:, None].repeat(1, settings.shape[1], 1)
        full[..., self.moves] = settings
        self.renders += full.shape[0] * full.shape[1]
        return self.executor.render(self.dry, full, RATE, on_error="nan")

    @torch.no_grad()
    def losses(self, settings: Tensor) -> Tensor:
        return self.loss.distance(self.render(settings), self.prepared).double()

    def slopes(self, settings: Tensor) -> Tensor:
        """Gradient of the loss to the waveform at settings `[B, P]` -> `[B, C, T]`."""
        wet = self.render(settings[:, None]).requires_grad_()
        with torch.enable_grad():
            return torch.autograd.grad(self.loss.distance(wet, self.prepared).sum(), wet)[0][:, 0]

    def both(self, settings: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """Settings `[B, K, P]`, slopes `[B, C, T]` -> losses `[B, K]`, and signal space's values: the inner
        products of the same renders with the slopes.
        """
        wet = self.render(settings)
        products = torch.einsum("bkct,bct->bk", wet.double(), slopes.double())
        with torch.no_grad():
            return self.loss.distance(wet, self.prepared).double(), products


@contextmanager
def plugin(
    name: str, folder: Path | None, count: int, seed: int, samples: int = SAMPLES
) -> Iterator[PluginLandscape]:
    """`count` examples of a plugin, half of them from the folder's recordings (if there is one), half from
    the synthetic corpus. One worker.
    """
    with dafxhost.Executor(dafxhost.effect(name), workers=1) as executor:
        sources: list[Any] = [SyntheticCorpus(RATE, split="train", bank=6)]
        if folder is not None:
            sources.insert(0, open_source(str(folder), RATE, "train"))
        shares = np.array_split(np.arange(count), len(sources))
        batches = [
            Examples(source, executor, sample_rate=RATE, samples=samples, apply_probability=1.0).batch(
                seed, len(share)
            )
            for source, share in zip(sources, shares, strict=True)
            if len(share)
        ]
        dry, target, settings = (
            torch.from_numpy(np.concatenate([np.array(getattr(b, key)) for b in batches]))
            for key in ("dry", "target", "settings")
        )
        yield PluginLandscape(executor, dry, target, settings)


def starts(landscape: Landscape, seed: int) -> Tensor:
    """Where examples start, `[B, P]`: their true settings, and noise of the deviations `NEAR` in turns."""
    generator = torch.Generator().manual_seed(seed)
    truth = landscape.truth
    noise = torch.randn(truth.shape, generator=generator, dtype=torch.float64)
    scale = torch.tensor([NEAR[i % len(NEAR)] for i in range(len(truth))], dtype=torch.float64)
    return (truth + scale.unsqueeze(1) * noise).clamp(0.0, 1.0)
