"""A learned proxy of the distance between two settings of an effect, on a given sound.

The distance by which training judges (multi-resolution STFT) is the L1 distance of two long vectors, the
spectra of two renders. The proxy learns short ones: a network maps a setting and a description of the input
to a point, and the L1 distance of two points stands for the distance of the renders. It is symmetric, and 0
for equal settings, by construction. Renders teach it once; afterwards the expected distance of any setting,
and its gradient, cost a few microseconds instead of a render and six spectra.

A neural proxy of the effect itself was used by Steinmetz et al., "Style Transfer of Audio Effects with
Differentiable Signal Processing" (JAES 2022); here the proxy is of the loss, which is far easier to learn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import Executor as Threads
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dafxhost.data.features import normalise_peak
from dafxhost.losses import MultiResolutionSTFT, spectral_difference
from dafxhost.search import reflected
from dafxhost.training.controller import Controller
from dafxhost.training.pool import Pool

RANDOM, NEAR = 8, 5
"""Renders of a clip: at settings of the pool, and near the first of them."""
WAVES = 4
"""Sine and cosine pairs that a continuous parameter is given as, besides its value."""
CONTENT = 32
"""Principal components by which the input is described."""
SMALL, EVERY = 512, 4
"""Of spectra up to that size only every fourth frame is compared: they have many, much alike."""


@dataclass
class Distances:
    """Distances between renders of C clips.

    Attributes:
        settings: `[C, M, P]`. content: `[C, D]`, embeddings of the inputs.
        values: `[C, M + 1, M + 1]`, symmetric; the last row is the input left alone. NaN: a failed render.
    """

    settings: Tensor
    content: Tensor
    values: Tensor

    @property
    def renders(self) -> int:
        return self.settings.shape[0] * self.settings.shape[1]


class DistanceMeter:
    """Measures `Distances` by rendering.

    Args:
        executor: renders the effect. controller: knows which parameters are continuous.
        sample_rate: Hz. excerpt: samples that are rendered. threads: clips side by side.
    """

    def __init__(
        self, executor: Any, controller: Controller, *, sample_rate: int, excerpt: int, threads: Threads
    ) -> None:
        self._executor, self._rate, self._excerpt = executor, sample_rate, excerpt
        self._threads = threads
        self._continuous = controller.continuous.cpu().numpy()
        self._stft = MultiResolutionSTFT()

    def measure(
        self, pool: Pool, clips: Sequence[int], rng: np.random.Generator, progress: Callable[[int], None]
    ) -> Distances:
        """Of these clips of a pool. `progress(clips done)` is called now and then."""
        jobs = []
        for clip in clips:
            audio = self._cut(pool.audio[clip].float().numpy(), rng)
            settings = self._settings(pool.settings[pool.clip == clip].double().numpy(), rng)
            jobs.append((audio, settings))
        values: list[Tensor] = []
        for first in range(0, len(jobs), 8):
            some = jobs[first : first + 8]
            futures = [self._executor.submit(a[None], s[None], self._rate, on_error="nan") for a, s in some]
            work = list(zip(some, futures, strict=True))
            values += self._threads.map(lambda pair: self._matrix(pair[0][0], pair[1].result()[0]), work)
            progress(len(values))
        settings = torch.from_numpy(np.stack([s for _, s in jobs])).float()
        return Distances(settings, pool.dry[list(clips)].float(), torch.stack(values))

    def _cut(self, audio: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        last = audio.shape[-1] - self._excerpt
        if not self._excerpt or last <= 0:
            return audio
        places = rng.integers(0, last + 1, 3)
        power = [float(np.square(audio[:, p : p + self._excerpt]).mean()) for p in places]
        start = places[int(np.argmax(power))]
        return np.ascontiguousarray(audio[:, start : start + self._excerpt])

    def _settings(self, known: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """`[RANDOM + NEAR, P]`: settings that suited the clip, or any, and steps away from the first."""
        free = rng.random((RANDOM, len(self._continuous)))
        free[: len(known)] = known[:RANDOM]
        near = np.repeat(free[:1], NEAR, axis=0)
        sizes = 10 ** rng.uniform(-1.7, -0.5, (NEAR, 1))
        which = rng.random(near.shape) < rng.choice([0.2, 0.5, 1.0], (NEAR, 1))
        moved = reflected(near + sizes * rng.standard_normal(near.shape))
        near = np.where(which & self._continuous, moved, near)
        return np.concatenate([free, near])

    @torch.no_grad()
    def _matrix(self, dry: np.ndarray, wet: Any) -> Tensor:
        audio = torch.from_numpy(np.concatenate([normalise_peak(wet), normalise_peak(dry[None])]))
        count = len(audio)
        total = torch.zeros(count, count)
        sizes = [n for n in self._stft.fft_sizes if n // 2 < audio.shape[-1]]
        for n in sizes:
            step = EVERY if n <= SMALL else 1
            spectra = [self._stft.magnitude_and_log(a[None, None], n) for a in audio]
            rows = [(m[..., ::step, :].clone(), log[..., ::step, :].clone()) for m, log in spectra]
            for i, k in itertools.combinations(range(count), 2):
                total[k, i] += spectral_difference(rows[i], rows[k])
        total = total / len(sizes)
        return total + total.T


class DistanceProxy(nn.Module):
    """Distance between what two settings make of an input.

    Args:
        controller: gives parameters' kinds and values. content_size: how many of the first values of the
            inputs' embeddings describe them.
        width: of the two hidden layers. points: dimensions in which distances are taken.
    """

    basis: Tensor
    centre: Tensor
    values: Tensor
    mask: Tensor
    continuous: Tensor

    def __init__(self, controller: Controller, content_size: int, width: int = 256, points: int = 96) -> None:
        super().__init__()
        self.register_buffer("values", controller.values.clone())
        self.register_buffer("mask", controller.mask.clone())
        self.register_buffer("continuous", controller.continuous.clone())
        self.register_buffer("centre", torch.zeros(content_size))
        self.register_buffer("basis", torch.zeros(content_size, CONTENT))
        continuous = int(self.continuous.sum())
        discrete = int(self.mask[~self.continuous].sum())
        size = continuous * (1 + 2 * WAVES) + discrete + 1 + CONTENT
        self.net = nn.Sequential(
            nn.Linear(size, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, points)
        )

    @torch.no_grad()
    def fit_content(self, content: Tensor) -> None:
        """Take the principal components of embeddings `[C, D]`, each scaled to a deviation of 1."""
        content = content[:, : len(self.centre)]
        self.centre.copy_(content.mean(dim=0))
        centred = content - self.centre
        scale = centred.std(dim=0, correction=0) + 1e-2
        kept = min(CONTENT, len(content))
        _, sizes, axes = torch.svd_lowrank(centred / scale, q=kept, niter=4)
        sizes = sizes.clamp(min=1e-3 * float(sizes.max()) + 1e-6)
        self.basis[:, :kept] = (axes / scale[:, None]) * (len(content) ** 0.5 / sizes)

    def describe(self, content: Tensor) -> Tensor:
        """Embeddings `[..., D]` -> `[..., CONTENT]`."""
        return ((content[..., : len(self.centre)] - self.centre) @ self.basis).clamp(-4, 4)

    def points(self, settings: Tensor, described: Tensor, untouched: Tensor | None = None) -> Tensor:
        """Settings `[..., P]` on 0..1 (differentiable in continuous ones) -> points `[..., points]`.

        `untouched` `[...]` is 1 where the input is left alone.
        """
        smooth = settings[..., self.continuous]
        angles = torch.pi * smooth[..., None] * torch.arange(1, WAVES + 1, device=smooth.device)
        parts = [2 * smooth - 1, angles.sin().flatten(-2), angles.cos().flatten(-2)]
        if not bool(self.continuous.all()):
            known = self.values[~self.continuous]
            nearest = (settings[..., ~self.continuous, None] - known).abs()
            nearest = nearest.masked_fill(~self.mask[~self.continuous], 9.0).argmin(dim=-1)
            hot = nn.functional.one_hot(nearest, known.shape[1]).to(smooth)
            parts.append(hot[..., self.mask[~self.continuous]])
        flag = smooth.new_zeros(smooth.shape[:-1]) if untouched is None else untouched.to(smooth)
        keep = 1 - flag[..., None]
        inputs = [part * keep for part in parts]
        inputs += [flag[..., None], described.expand(*smooth.shape[:-1], CONTENT)]
        return self.net(torch.cat(inputs, dim=-1))

    @staticmethod
    def distance(one: Tensor, other: Tensor) -> Tensor:
        """Points `[..., points]` twice -> distances `[...]`."""
        return (one - other).abs().mean(dim=-1)


def fit_proxy(
    proxy: DistanceProxy, data: Distances, *, steps: int, batch: int = 32, rate: float = 2e-3
) -> dict[str, float]:
    """Train a proxy; a tenth of the clips is kept to measure on.

    Returns:
        "error": mean absolute error on those, over their mean distance. "constant": that of the best
        constant.
    """
    proxy.fit_content(data.content)
    count, m = len(data.settings), data.settings.shape[1]
    held = max(1, count // 10)
    flags = torch.zeros(m + 1)
    flags[m] = 1
    settings = torch.cat([data.settings, data.settings[:, :1]], dim=1)
    described = proxy.describe(data.content)
    upper = torch.triu_indices(m + 1, m + 1, 1)
    optimiser = torch.optim.AdamW(proxy.net.parameters(), lr=rate, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)

    def errors(rows: Tensor) -> tuple[Tensor, Tensor]:
        points = proxy.points(settings[rows], described[rows][:, None], flags.expand(len(rows), -1))
        guess = proxy.distance(points[:, upper[0]], points[:, upper[1]])
        true = data.values[rows][:, upper[0], upper[1]]
        good = true.isfinite()
        return guess[good], true[good]

    for _ in range(steps):
        guess, true = errors(torch.randint(held, count, (batch,)))
        relative = ((guess + 0.05).log() - (true + 0.05).log()).abs().mean()
        loss = (guess - true).abs().mean() / true.mean() + 0.3 * relative
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        guess, true = errors(torch.arange(held))
    spread = float((true - true.median()).abs().mean() / true.mean())
    return {"error": float((guess - true).abs().mean() / true.mean()), "constant": spread}


def proxy_objective(
    controller: Controller,
    proxy: DistanceProxy,
    logits: Tensor,
    settings: Tensor,
    content: Tensor,
    applied: Tensor,
    reference: Tensor,
) -> tuple[Tensor, Tensor]:
    """The distance that a proxy expects of what logits `[B, P, L]` say.

    As `Objective`, but with every value of every parameter tried instead of a few: the decoded setting's
    distance, differentiable in continuous parameters, and for the values outside each parameter's mode
    sum_v p_h(v) (D_hv - D_0).

    Args:
        settings: `[B, P]`, that made the references. content, reference: `[B, D]`, embeddings of the
            inputs and the references. applied: `[B]`, False where target and reference are left alone.

    Returns:
        A scalar whose gradient counts, and the distances `[B]` of the decoded settings.
    """
    described = proxy.describe(content)
    target = proxy.points(settings, described, (~applied).to(described)).detach()
    decoded = controller.settle(logits, content, reference)[0]
    distance = proxy.distance(proxy.points(decoded, described), target)
    with torch.no_grad():
        p, length = logits.shape[1], logits.shape[2]
        tried = decoded.detach()[:, None, None].repeat(1, p, length, 1)
        rows = torch.arange(p)
        tried[:, rows, :, rows] = controller.values[:, None].expand(p, len(logits), length)
        others = proxy.distance(proxy.points(tried, described[:, None, None]), target[:, None, None])
        excess = others - distance.detach()[:, None, None]
        outside = controller.mask & ~controller.window(controller.likeliest(logits))
        excess = torch.where(outside, excess, 0.0)
    expected = distance + (logits.softmax(dim=-1) * excess).flatten(1).sum(dim=1)
    return expected.mean(), distance.detach()
