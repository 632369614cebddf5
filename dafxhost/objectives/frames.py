"""What the terms share: power spectra, ranges on a logarithmic axis, and a distance of descriptions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.errors import ShapeError

CHUNK = 1 << 18
"""Samples described at a time where no gradient is wanted: what is made of them stays in the cache."""


@dataclass(frozen=True)
class Described:
    """A target as a term sees it: the shape (B, C, T) of its audio, and its description, `[B, ...]` each."""

    shape: tuple[int, int, int]
    parts: tuple[Tensor, ...]


class Descriptive(nn.Module, ABC):
    """A term that describes a render and the target in the same way and compares the descriptions."""

    @abstractmethod
    def describe(self, audio: Tensor) -> tuple[Tensor, ...]:
        """Audio `[N, C, T]` -> what is compared, `[N, ...]` each."""

    @abstractmethod
    def compare(self, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> Tensor:
        """Descriptions of renders `[B, K, ...]` and of targets `[B, 1, ...]` -> distances `[B, K]`."""

    def prepare(self, target: Tensor) -> Described:
        """What is kept of the targets `[B, C, T]`, without gradient, for all their renders."""
        if target.ndim != 3:
            raise ShapeError(f"the target has shape [B, C, T], not {list(target.shape)}")
        with torch.no_grad():
            parts = tuple(part.unsqueeze(1) for part in self.describe(target))
        batch, channels, samples = target.shape
        return Described((batch, channels, samples), parts)

    def distance(self, prediction: Tensor, target: Described) -> Tensor:
        """Distance of every render `[B, K, C, T]` from its example's target -> `[B, K]`."""
        check_renders(prediction, target.shape)
        batch, renders = prediction.shape[:2]
        if not batch * renders:
            return prediction.new_zeros(batch, renders)
        flat = prediction.flatten(0, 1)
        if torch.is_grad_enabled() and prediction.requires_grad:
            parts = self.describe(flat)
        else:
            with torch.no_grad():
                size = max(1, CHUNK // flat[0].numel())
                pieces = [self.describe(flat[i : i + size]) for i in range(0, len(flat), size)]
                parts = tuple(torch.cat(column) for column in zip(*pieces, strict=True))
        ours = tuple(part.unflatten(0, (batch, renders)) for part in parts)
        return self.compare(ours, target.parts)

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distance of predictions `[B, C, T]` from targets `[B, C, T]` -> `[B]`, constant in the targets."""
        return self.distance(prediction.unsqueeze(1), self.prepare(target)).squeeze(1)


def check_renders(prediction: Tensor, shape: tuple[int, int, int]) -> None:
    """Raise ShapeError unless renders `[B, K, C, T]` fit a target of `shape` (B, C, T)."""
    batch, channels, samples = shape
    if prediction.ndim != 4 or (prediction.shape[0], *prediction.shape[2:]) != shape:
        raise ShapeError(
            f"the prediction has shape {list(prediction.shape)}, which does not fit a target of shape "
            f"[{batch}, {channels}, {samples}]: expected [{batch}, K, {channels}, {samples}]"
        )


def power_spectra(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """`[N, T]`, T at least the window's length -> `[N, bins, frames]`; no frame reaches beyond the ends."""
    frames = audio.unfold(-1, len(window), hop) * window
    spectrum = torch.view_as_real(torch.fft.rfft(frames)).square()
    return (spectrum[..., 0] + spectrum[..., 1]).transpose(1, 2)


def bump_bands(low: float, high: float, count: int, bins: int, spacing: float, width: float = 1.0) -> Tensor:
    """`[count, bins]`: raised cosines, centred evenly on the logarithmic axis from `low` to `high`, each over
    the centres on both sides (`width` = 1) or beyond; each row sums to 1. Bin i lies at i * `spacing`.

    Neighbours overlap by half, so that what wanders along the axis leaves one band as it enters the next.
    A band that holds no bin takes the nearest one.
    """
    places = torch.arange(bins, dtype=torch.float64) * spacing
    centres = torch.logspace(_log10(low), _log10(high), count, dtype=torch.float64)
    step = (_log10(high) - _log10(low)) / max(count - 1, 1) or 1.0
    away = (places.clamp(min=1e-12).log10() - centres.log10()[:, None]).abs() / (step * width)
    rows = torch.where(away < 1, 0.5 * (1 + torch.cos(torch.pi * away)), 0.0)
    nearest = (places - centres[:, None]).abs().argmin(dim=1)
    empty = rows.sum(dim=1) < 1e-9
    rows[empty, nearest[empty]] = 1.0
    return (rows / rows.sum(dim=1, keepdim=True)).float()


def _log10(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).log10())


def mean_over(*parts: Any) -> Tensor:
    """Mean over all but the first two axes of each, then over the parts -> `[B, K]`."""
    means = [part.flatten(2).mean(dim=2) for part in parts]
    return torch.stack(means).mean(dim=0)
