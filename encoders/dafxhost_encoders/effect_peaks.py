"""Where echoes and carriers lie in a recording, to a fraction of a sample or of a hertz.

What a delay time or a carrier's frequency makes of a recording changes altogether when it is off by a few
thousandths. Features that a network can generalise from are too coarse for that; positions of peaks are not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dafxhost_encoders.effect_bands import each_clip, power

RATE = 24_000
FAMILIES = ("echo", "mirror")
TOLERANCES = (1.0, 1.0)
"""By how much positions of each family may be off."""
COUNT = 12
"""Peaks kept of each family."""
AT_ONCE = 4
GRAIN = 64
"""Positions are kept as two numbers, multiples of this and the rest, so that half precision holds them."""

PACKED = 3 * len(FAMILIES) * COUNT

_LAG_FRAMES, _LEAST_LAG = (65_536, 32_768), 24
_MIRROR_FRAME, _WHITEN, _EDGE = 8192, 24, 40


class Peaks(nn.Module):
    """Clips `[B, T]`, T from 34304 up, at 24 kHz -> `[B, families, COUNT, 2]`: positions and heights.

    Positions are lags in samples (echo) and frequencies in Hz (mirror).
    Heights are in deviations of their neighbourhood, 0 where there are fewer peaks.

    - echo: the mean power cepstrum of windows of 2.7 s, or 1.4 s of short clips (Bogert, Healy and
      Tukey 1963).
    - mirror: frequencies about which spectra are symmetric, as they are about the carrier of a ring modulator
      and its multiples and halves: the convolution of each frame's whitened log spectrum with itself.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mirror_window", torch.hann_window(_MIRROR_FRAME), persistent=False)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        audio = audio - audio.mean(dim=1, keepdim=True)
        audio = audio / audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
        return torch.cat([self._few(part) for part in audio.split(AT_ONCE)])

    def _few(self, audio: Tensor) -> Tensor:
        return torch.stack([self._echoes(audio), self._mirrors(audio)], dim=1)

    def _echoes(self, audio: Tensor) -> Tensor:
        size = next(n for n in _LAG_FRAMES if n <= audio.shape[1])
        window = torch.hann_window(size, device=audio.device)
        spectra = each_clip(lambda clip: _logarithm(power(clip, window, size // 2)).mean(dim=-2), audio)
        cepstrum = torch.fft.irfft(spectra)[:, _LEAST_LAG : size // 2]
        # Echoes are above zero; sums of lags, which echoes of echoes leave, mostly below.
        return _peaks(cepstrum, 128, 6, 1.0, float(_LEAST_LAG))

    def _mirrors(self, audio: Tensor) -> Tensor:
        score = each_clip(self._symmetry, audio)
        step = RATE / _MIRROR_FRAME / 2
        return _peaks(score, 512, 3, step, _EDGE * step)

    def _symmetry(self, clip: Tensor) -> Tensor:
        """How alike `[T]` is on both sides of each half bin: its levels convolved with themselves."""
        level = _logarithm(power(clip, self.get_buffer("mirror_window"), _MIRROR_FRAME // 2))[:, :-1]
        level = (level - _smooth(level, _WHITEN)).clamp_(-4, 4)
        bins = level.shape[-1]
        spectrum = torch.fft.rfft(level, 2 * bins)
        score = torch.fft.irfft(spectrum.square_().sum(dim=0), 2 * bins)[: 2 * bins - 1]
        score[::2] -= level.square_().sum(dim=0)  # a bin resembles itself
        place = torch.arange(2 * bins - 1, device=clip.device)
        score = score / (torch.minimum(place, 2 * bins - 2 - place) + 1).sqrt()
        return score[_EDGE:-_EDGE].clamp(min=0)


def pack(peaks: Tensor) -> Tensor:
    """Peaks `[B, families, COUNT, 2]` -> `[B, PACKED]`, numbers that half precision holds."""
    position, height = peaks.unbind(dim=-1)
    coarse = (position / GRAIN).floor()
    return torch.stack([coarse, position - GRAIN * coarse, height], dim=-1).flatten(1)


def unpack(packed: Tensor) -> Tensor:
    """The inverse of `pack`."""
    coarse, fine, height = packed.float().reshape(len(packed), len(FAMILIES), COUNT, 3).unbind(dim=-1)
    return torch.stack([GRAIN * coarse + fine, height], dim=-1)


def _logarithm(spectrum: Tensor) -> Tensor:
    return spectrum.add_(spectrum.amax(dim=(-2, -1), keepdim=True) * 1e-8 + 1e-12).log_()


def _smooth(values: Tensor, reach: int) -> Tensor:
    """Mean over `reach` neighbours on either side along the last axis of `[N, M]`, by running sums."""
    padded = nn.functional.pad(values, (reach + 1, reach), mode="reflect")
    sums = padded.double().cumsum(dim=-1)
    size = 2 * reach + 1
    return ((sums[..., size:] - sums[..., :-size]) / size).to(values)


def _peaks(curve: Tensor, around: int, apart: int, step: float, start: float) -> Tensor:
    """The `COUNT` highest peaks of `[B, M]` -> `[B, COUNT, 2]`, by height; index i lies at start + i step."""
    square = curve.square()
    local = _smooth(square, around)
    height = curve / (local + 1e-12).sqrt()
    highest = nn.functional.max_pool1d(height[:, None], 2 * apart + 1, 1, apart)[:, 0]
    tops = torch.where(height >= highest, height, 0.0)
    tops[:, 0] = tops[:, -1] = 0.0
    found, place = tops.clamp(min=0).topk(COUNT, dim=1)
    before, after = (height.gather(1, (place + k).clamp(0, curve.shape[1] - 1)) for k in (-1, 1))
    bend = before - 2 * found + after
    shift = torch.where(bend < -1e-6, 0.5 * (before - after) / bend, 0.0).clamp(-0.5, 0.5)
    return torch.stack([start + step * (place + shift), found], dim=2)
