"""How the shape of the spectrum moves: what sweeping combs and rotating speakers leave behind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dafxhost_encoders.effect_bands import log_bands, power

_FRAME, _HOP = 1024, 512  # 43 and 21 ms at 24 kHz
_LAGS = (1, 2, 4, 8, 16, 32, 64)
_SHIFTS = (0, 1, 2, 4, 8)


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
        self.rates = log_bands(2, 255, 14)
        self.quefrencies = log_bands(3, _FRAME // 2 - 1, 16)
        self.waits = log_bands(1, 60, 16)

    def forward(self, audio: Tensor) -> Tensor:
        spectrum = power(audio, self.get_buffer("window"), _HOP)
        spectrum = spectrum + spectrum.amax(dim=(1, 2), keepdim=True) * 1e-7 + 1e-12
        levels = torch.stack([spectrum[:, a:b].mean(dim=1) for a, b in self.cuts], dim=1).log()
        shape = levels[:, 1:-1] - 0.5 * (levels[:, 2:] + levels[:, :-2])
        shape = shape - shape.mean(dim=2, keepdim=True)
        return torch.cat(
            [
                shape.square().mean(dim=2).add(1e-2).log(),
                self._modulation(shape),
                _persistence(shape),
                _sweeps(shape),
                self._combs(spectrum),
                self._repeats(levels),
            ],
            dim=1,
        )

    def _modulation(self, shape: Tensor) -> Tensor:
        """Modulation spectra from 0.1 to 12 Hz of three groups of bands: means, and how lines stand out."""
        frames = shape.shape[2]
        tapered = shape * torch.hann_window(frames, device=shape.device)
        spectrum = torch.fft.rfft(nn.functional.pad(tapered, (0, max(0, 1024 - frames))), dim=2)
        spectrum = nn.functional.adaptive_avg_pool1d(spectrum.abs().square() / frames, 513) + 1e-3
        out = []
        for group in spectrum.chunk(3, dim=1):
            mean = group.mean(dim=1)
            for a, b in self.rates:
                level = mean[:, a:b].mean(dim=1)
                out += [level.log(), (mean[:, a:b].amax(dim=1) / level).log()]
        return torch.stack(out, dim=1)

    def _combs(self, spectrum: Tensor) -> Tensor:
        """Cepstra of the frames: size, share that never changes, and share still there some frames later."""
        cepstra = torch.fft.irfft(spectrum.log(), dim=1)[:, : _FRAME // 2]
        steady = cepstra.mean(dim=2)
        moving = cepstra - steady.unsqueeze(2)
        variance = moving.square().mean(dim=2)
        later = [(moving[:, :, k:] * moving[:, :, :-k]).mean(dim=2) for k in (1, 2, 4, 8, 16)]
        out = []
        for a, b in self.quefrencies:
            size = variance[:, a:b].mean(dim=1) + 1e-6
            still = steady[:, a:b].square().mean(dim=1) + 1e-7
            out += [0.5 * size.log(), 0.5 * still.log(), (still / size).log()]
            out += [x[:, a:b].mean(dim=1) / size for x in later]
        return torch.stack(out, dim=1)

    def _repeats(self, levels: Tensor) -> Tensor:
        """Correlation of rises of level with rises 20 ms to 1.3 s earlier, of three groups of bands."""
        rises = levels.diff(dim=2).clamp(min=0)
        out = []
        for group in rises.chunk(3, dim=1):
            centred = group - group.mean(dim=2, keepdim=True)
            frames = centred.shape[2]
            spectrum = torch.fft.rfft(centred, 2 * frames, dim=2).abs().square().mean(dim=1)
            again = torch.fft.irfft(spectrum, dim=1)[:, :frames]
            again = again / (again[:, :1] + 1e-3)
            for a, b in self.waits:
                out += [again[:, a:b].amax(dim=1), again[:, a:b].mean(dim=1)]
        return torch.stack(out, dim=1)


def _persistence(shape: Tensor) -> Tensor:
    """Correlation of each band with itself later, averaged over three groups of bands."""
    variance = shape.square().mean(dim=2) + 1e-2
    out = []
    for lag in _LAGS:
        alike = (shape[:, :, lag:] * shape[:, :, :-lag]).mean(dim=2) / variance
        out += [part.mean(dim=1) for part in alike.chunk(3, dim=1)]
    return torch.stack(out, dim=1)


def _sweeps(shape: Tensor) -> Tensor:
    """Correlation of each band with those 1, 2, 4 and 8 above it, now, later, earlier: mean, deviation."""
    unit = shape / (shape.square().mean(dim=2, keepdim=True) + 1e-2).sqrt()
    out = []
    for distance in (1, 2, 4, 8):
        low, high = unit[:, :-distance], unit[:, distance:]
        for shift in _SHIFTS:
            last = unit.shape[2] - shift
            for first, second in ((low, high), (high, low))[: 1 if shift == 0 else 2]:
                alike = (first[:, :, :last] * second[:, :, shift:]).mean(dim=2)
                out += [alike.mean(dim=1), alike.std(dim=1, correction=0)]
    return torch.stack(out, dim=1)
