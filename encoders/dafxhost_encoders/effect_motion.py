"""How the shape of the spectrum moves: what sweeping combs and rotating speakers leave behind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dafxhost_encoders.effect_bands import (
    Ranges,
    averaging,
    each_clip,
    log_bands,
    modulation,
    power,
    whole_power,
)

_FRAME, _HOP = 1024, 512  # 43 and 21 ms at 24 kHz
_LAGS = (1, 2, 4, 8, 16, 32, 64)
_SHIFTS = (0, 1, 2, 4, 8)
_DISTANCES = (1, 2, 4, 8)
_LATER = (1, 2, 4, 8, 16)


class Motion(nn.Module):
    """Clips `[B, T]`, T from 34304 up, at 24 kHz -> `[B, features]`.

    Levels in 24 bands are taken against those of their neighbours, which leaves what happens to the shape of
    the spectrum and not to all of it: how fast and how regularly it moves (modulation spectra, correlations
    over time), and whether neighbours do the same a little later, as they do below a sweeping comb. Of the
    cepstrum of each frame: how much of it stays, and for how long. Of rises of level: whether they come again
    (delays).
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_FRAME), persistent=False)
        self.cuts = log_bands(2, _FRAME // 2, 24)
        self.register_buffer("bands", averaging(self.cuts, _FRAME // 2 + 1), persistent=False)
        self.rates = Ranges(log_bands(2, 255, 14))
        self.quefrencies = Ranges(log_bands(3, _FRAME // 2 - 1, 16))
        self.waits = Ranges(log_bands(1, 60, 16))

    def forward(self, audio: Tensor) -> Tensor:
        window = self.get_buffer("window")
        spectrum = each_clip(lambda clip: power(clip, window, _HOP), audio)
        spectrum += (spectrum.flatten(1).amax(dim=1) * 1e-7 + 1e-12)[:, None, None]
        levels = (self.get_buffer("bands") @ spectrum.mT).log_()
        shape = levels[:, 1:-1] - 0.5 * (levels[:, 2:] + levels[:, :-2])
        shape -= shape.mean(dim=2, keepdim=True)
        variance = shape.square().mean(dim=2, keepdim=True) + 1e-2
        alike = _correlations(shape / variance.sqrt())
        return torch.cat(
            [
                variance.squeeze(2).log(),
                self._modulation(shape),
                _persistence(alike),
                _sweeps(alike),
                self._combs(spectrum),
                self._repeats(levels),
            ],
            dim=1,
        )

    def _modulation(self, shape: Tensor) -> Tensor:
        """Modulation spectra from 0.1 to 12 Hz of three groups of bands: means, and how lines stand out."""
        spectrum = _thirds(modulation(shape) + 1e-3)
        mean, most = self.rates.means(spectrum), self.rates.maxima(spectrum)
        return torch.stack([mean.log(), (most / mean).log()], dim=3).flatten(1)

    def _combs(self, spectrum: Tensor) -> Tensor:
        """Cepstra of the frames: size, share that never changes, and share still there some frames later."""
        cepstra = each_clip(lambda clip: torch.fft.irfft(clip.log())[..., : _FRAME // 2], spectrum)
        steady = cepstra.mean(dim=1, keepdim=True)
        moving = cepstra - steady
        parts = [steady.square().squeeze(1), moving.square().mean(dim=1)]
        parts += [(moving[:, k:] * moving[:, :-k]).mean(dim=1) for k in _LATER]
        still, size, *later = self.quefrencies.means(torch.stack(parts)).unbind()
        still, size = still + 1e-7, size + 1e-6
        out = [0.5 * size.log(), 0.5 * still.log(), (still / size).log(), *(x / size for x in later)]
        return torch.stack(out, dim=2).flatten(1)

    def _repeats(self, levels: Tensor) -> Tensor:
        """Correlation of rises of level with rises 20 ms to 1.3 s earlier, of three groups of bands."""
        rises = levels.diff(dim=2).clamp_(min=0)
        rises -= rises.mean(dim=2, keepdim=True)
        frames = rises.shape[2]
        again = torch.fft.irfft(_thirds(whole_power(rises, 2 * frames)))[..., :frames]
        again = again / (again[..., :1] + 1e-3)
        return torch.stack([self.waits.maxima(again), self.waits.means(again)], dim=3).flatten(1)


def _thirds(values: Tensor) -> Tensor:
    """`[B, bands, ...]` -> `[B, 3, ...]`, means of three groups of bands."""
    return torch.stack([group.mean(dim=1) for group in values.chunk(3, dim=1)], dim=1)


def _correlations(unit: Tensor) -> dict[int, Tensor]:
    """`[B, bands, frames]` -> for each lag in frames `[B, bands, bands]`: each band with each other later."""
    out = {}
    for lag in {*_LAGS, *_SHIFTS}:
        last = unit.shape[2] - lag
        out[lag] = unit[:, :, :last] @ unit[:, :, lag:].transpose(1, 2) / last
    return out


def _persistence(alike: dict[int, Tensor]) -> Tensor:
    """Correlation of each band with itself later, averaged over three groups of bands."""
    diagonals = [alike[lag].diagonal(dim1=1, dim2=2) for lag in _LAGS]
    return _thirds(torch.stack(diagonals, dim=2)).transpose(1, 2).flatten(1)


def _sweeps(alike: dict[int, Tensor]) -> Tensor:
    """Correlation of each band with those 1, 2, 4 and 8 above it, now, later, earlier: mean, deviation."""
    # The lower band first, then the higher one; without a lag both are the same.
    pairs = torch.stack([x for lag in _SHIFTS for x in (alike[lag], alike[lag].transpose(1, 2))], dim=1)
    pairs = torch.cat([pairs[:, :1], pairs[:, 2:]], dim=1)
    out = []
    for distance in _DISTANCES:
        some = pairs.diagonal(distance, 2, 3)
        out.append(torch.stack([some.mean(dim=2), some.std(dim=2, correction=0)], dim=2).flatten(1))
    return torch.cat(out, dim=1)
