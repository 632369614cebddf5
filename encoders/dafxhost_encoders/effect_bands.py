"""Power spectra and ranges of bins, for the features of the effect encoder."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn


def log_bands(low: int, high: int, count: int) -> list[tuple[int, int]]:
    """At most `count` ranges of whole numbers from `low` to `high`, even on a logarithmic axis."""
    edges = np.unique(np.round(np.geomspace(low, high, count + 1)).astype(int))
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def each_clip(work: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """`work`, which counts axes from the last, on `[B, ...]`: what is large, one clip after the other."""
    if clips.device.type != "cpu":
        return work(clips)
    # So that it stays in the processor's cache, and needs no fresh memory from the system.
    return torch.stack([work(clip) for clip in clips])


def power(audio: Tensor, window: Tensor, hop: int, bins: int | None = None) -> Tensor:
    """`[..., T]` -> `[..., frames, bins]`, of the first bins or of all; no frame reaches beyond the ends."""
    parts = squares(audio, window, hop)[..., :bins, :]
    return parts[..., 0] + parts[..., 1]


def squares(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """`[..., T]` -> `[..., frames, bins, 2]`, squares of real and imaginary parts."""
    # Not torch.stft, whose frames and bins are copied once more.
    spectrum = torch.fft.rfft(audio.unfold(-1, window.shape[0], hop) * window)
    parts = torch.view_as_real(spectrum)
    return parts.mul_(parts)  # in place: fresh memory costs as much as the arithmetic


def modulation(levels: Tensor) -> Tensor:
    """`[..., frames]` -> `[..., 513]`: power spectra, tapered, on the same 513 rates for any length."""
    frames = levels.shape[-1]
    tapered = levels * torch.hann_window(frames, device=levels.device)
    spectrum = whole_power(tapered, max(frames, 1024)) / frames
    return nn.functional.adaptive_avg_pool1d(spectrum, 513) if spectrum.shape[-1] != 513 else spectrum


def whole_power(audio: Tensor, size: int) -> Tensor:
    """`[..., T]` -> `[..., size // 2 + 1]`: power of the whole of it, padded with zeros to `size`."""
    parts = torch.view_as_real(torch.fft.rfft(audio, size))
    parts.mul_(parts)
    return parts[..., 0] + parts[..., 1]


def averaging(ranges: Sequence[tuple[int, int]], bins: int) -> Tensor:
    """`[R, bins]`, whose product with `[bins, N]` is the mean of each range."""
    matrix = torch.zeros(len(ranges), bins)
    for row, (a, b) in enumerate(ranges):
        matrix[row, a:b] = 1 / (b - a)
    return matrix


def deviation(values: Tensor, mean: Tensor, dim: int) -> Tensor:
    """Standard deviation about a `mean` that has kept its axes (`Tensor.std` takes ten times as long)."""
    return (values - mean).square_().mean(dim=dim).sqrt_()


def ascending(values: Tensor) -> Tensor:
    """Sorted along the last axis, without gradients."""
    if values.device.type == "cpu":  # numpy sorts with vector instructions, ten times as fast
        return torch.from_numpy(np.sort(values.detach().numpy(), axis=-1))
    return values.sort(dim=-1).values


class Ranges(nn.Module):
    """R ranges of the last axis, worked on at once: an operation for each of them costs more than its work.

    Args:
        ranges: first of each, and the first behind it.
    """

    starts: Tensor
    ends: Tensor
    order: Tensor

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        super().__init__()
        self.pairs = list(ranges)
        starts, ends = torch.tensor(self.pairs).T
        self.register_buffer("starts", starts.contiguous(), persistent=False)
        self.register_buffer("ends", ends.contiguous(), persistent=False)
        self.register_buffer("widths", (ends - starts).double(), persistent=False)
        self.reach = int(starts.min()), int(ends.max())
        # Ranges by the largest power of 2 that is not wider than they are.
        levels = (ends - starts).double().log2().floor().long()
        self.steps: list[tuple[int, int]] = []  # of each level its lowest start, and how many ranges
        for level in range(int(levels.max()) + 1):
            mine = torch.nonzero(levels == level)[:, 0]
            lowest = int(starts[levels >= level].min())
            self.steps.append((lowest, len(mine)))
            first, last = starts[mine] - lowest, ends[mine] - (1 << level) - lowest
            self.register_buffer(f"first{level}", first, persistent=False)
            self.register_buffer(f"last{level}", last, persistent=False)
        self.register_buffer("order", levels.argsort(stable=True).argsort(), persistent=False)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[int, int]:
        return self.pairs[index]

    def means(self, values: Tensor) -> Tensor:
        """`[..., N]` -> `[..., R]`."""
        # In double precision, where a difference of sums is as good as a sum (without what lies before: the
        # first value of a cepstrum is a million times the others).
        first, last = self.reach
        sums = nn.functional.pad(values[..., first:last].double().cumsum(dim=-1), (1, 0))
        totals = sums[..., self.ends - first] - sums[..., self.starts - first]
        return (totals / self.get_buffer("widths")).to(values.dtype)

    def maxima(self, values: Tensor) -> Tensor:
        """`[..., N]` -> `[..., R]`."""
        # Of two windows of a power of 2 that overlap, each made of two of half its width.
        width, start, out = 1, 0, []
        for level, (lowest, count) in enumerate(self.steps):
            if level:
                half = width
                width = 2 * half
                values = values[..., lowest - start :]
                values = torch.maximum(values[..., :-half], values[..., half:])
            else:
                values = values[..., lowest:]
            start = lowest
            if count:
                first, last = self.get_buffer(f"first{level}"), self.get_buffer(f"last{level}")
                out.append(torch.maximum(values[..., first], values[..., last]))
        return torch.cat(out, dim=-1)[..., self.order]
