"""What audio effects leave behind in a recording, as numbers that depend little on what is played.

Nothing here is trained. All of it takes mono clips `[B, T]` at 24 kHz, T from 34304 up, with a peak of 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dafxhost_encoders.effect_bands import (
    Ranges,
    ascending,
    averaging,
    deviation,
    each_clip,
    log_bands,
    modulation,
    power,
    squares,
)
from dafxhost_encoders.effect_motion import Motion
from dafxhost_encoders.style_statistics import StyleStatistics

RATE = 24_000
MINIMUM = 34_304
PIECE = 24 * RATE
"""Longer clips are cut into equal pieces of at most so many samples, whose features are averaged."""
AT_ONCE = 16
"""Clips worked on together: more of them only take more memory."""

_LONG, _SHORT = 32_768, 2_048
_HOP = 240  # samples between the values of an envelope: 10 ms
_CUTS = ((1, 8), (8, 16), (16, 32), (32, 64), (64, 128), (128, 240), (240, 480))  # bins of 25 Hz
_SLOPES = (-6.0, -3.0, -1.5, -0.7, -0.35, -0.15, -0.05, 0.05, 0.15, 0.35, 0.7, 1.5, 3.0)
_LAGS = (1, 2, 4, 8, 16)
_QUANTILES = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)


class EffectFeatures(nn.Module):
    """Clips `[B, T]` -> `[B, size]`: style statistics, echoes, movements of level and of the spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.style, self.echoes = StyleStatistics(RATE), Echoes()
        self.movements, self.motion = Movements(), Motion()
        with torch.no_grad():
            self.size = self._piece(torch.zeros(1, MINIMUM)).shape[1]

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        return torch.cat([self._clips(part) for part in audio.split(AT_ONCE)])

    def _clips(self, audio: Tensor) -> Tensor:
        audio = audio / audio.abs().amax(dim=1, keepdim=True).clamp(min=1e-9)
        count = math.ceil(audio.shape[1] / PIECE)
        length = audio.shape[1] // count
        pieces = [self._piece(audio[:, i * length : (i + 1) * length]) for i in range(count)]
        return torch.stack(pieces).mean(dim=0)

    def _piece(self, audio: Tensor) -> Tensor:
        # An offset, which rectifiers leave, is for the style statistics only: it would hide all else.
        centred = audio - audio.mean(dim=1, keepdim=True)
        parts = [self.style.embed(audio), self.echoes(centred), self.movements(centred), self.motion(centred)]
        return torch.cat(parts, dim=1)


class Echoes(nn.Module):
    """Reflections, by the power cepstrum (Bogert, Healy and Tukey 1963): an echo of gain g puts g at its lag.

    The mean cepstrum of windows of 1.4 s shows echoes that stay (delays, rooms), weak ones too, because what
    is played averages out. Windows of 85 ms show combs of a few milliseconds and how they move (flangers,
    rotating speakers).
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("long_window", torch.hann_window(_LONG), persistent=False)
        self.register_buffer("short_window", torch.hann_window(_SHORT), persistent=False)
        self.long_bands = Ranges(log_bands(4, _LONG // 2 - 1, 96))
        self.short_bands = Ranges(log_bands(2, _SHORT // 2 - 1, 56))
        self.wide_bands = Ranges(log_bands(24, _LONG // 2 - 1, 12))

    def forward(self, audio: Tensor) -> Tensor:
        return torch.cat([*self._steady(audio), *self._moving(audio)], dim=1) * 20

    def _steady(self, audio: Tensor) -> list[Tensor]:
        window = self.get_buffer("long_window")
        # The mean of the cepstra is the cepstrum of the mean.
        spectra = each_clip(lambda clip: _log_power(clip, window, _LONG // 2).mean(dim=-2), audio)
        # Chance falls with the root of the number of windows; times that root it is the same for any length.
        count = (audio.shape[1] - _LONG // 2) // (_LONG // 2)
        steady = torch.fft.irfft(spectra)[:, : _LONG // 2] * math.sqrt(count)
        square = steady.square()
        bands, wide = self.long_bands, self.wide_bands
        sizes = [bands.maxima(steady), -bands.maxima(-steady), bands.means(square).sqrt()]
        # Kurtosis: few high peaks in a range, or many low ones. 0.05 undoes the scale of all.
        fourth, second = wide.means(square.square()), wide.means(square)
        kurtosis = 0.05 * ((fourth + 1e-12) / (second + 1e-6) ** 2).log()
        return [torch.stack(sizes, dim=2).flatten(1), kurtosis]

    def _moving(self, audio: Tensor) -> list[Tensor]:
        window = self.get_buffer("short_window")

        def cepstra(clip: Tensor) -> Tensor:
            return torch.fft.irfft(_log_power(clip, window, _SHORT // 2))[..., : _SHORT // 2]

        short = each_clip(cepstra, audio)
        mean = short.mean(dim=1, keepdim=True)
        spread, mean = deviation(short, mean, 1), mean.squeeze(1)
        unrest = short.diff(dim=1).abs_().mean(dim=1) / (spread + 1e-4)
        bands = self.short_bands
        # One after the other: of so many frames, all at once takes more memory and twice as long.
        peaks = torch.stack([short[..., a:b].amax(dim=2) for a, b in bands], dim=2)
        peak = peaks.mean(dim=1, keepdim=True)
        out = [
            bands.maxima(mean), -bands.maxima(-mean), bands.maxima(spread),
            peak.squeeze(1), deviation(peaks, peak, 1), 0.05 * bands.means(unrest),
        ]  # fmt: skip
        return [torch.stack(out, dim=2).flatten(1)]


class Movements(nn.Module):
    """Movements of level: slow ones in bands (tremolo, compression), fast ones as lines (ring modulation)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(4 * _HOP), persistent=False)
        self.register_buffer("long_window", torch.hann_window(_LONG), persistent=False)
        bins = 2 * _HOP + 1
        # For real and imaginary parts side by side.
        bands = averaging([*_CUTS, (0, bins)], bins).repeat_interleave(2, dim=1)
        self.register_buffer("bands", bands / (4 * _HOP), persistent=False)
        self.register_buffer("edges", torch.tensor(_SLOPES), persistent=False)
        self.slow, self.fast = Ranges(log_bands(2, 255, 24)), Ranges(log_bands(3, 8192, 48))

    def forward(self, audio: Tensor) -> Tensor:
        envelope = self.envelopes(audio)
        parts = [self._rates(envelope), self._slopes(envelope), _levels(envelope), self._lines(audio)]
        return torch.cat(parts, dim=1)

    def envelopes(self, audio: Tensor) -> Tensor:
        """Logarithms of the power in 7 bands and of all of it, every 10 ms, `[B, 8, frames]`."""
        window, bands = self.get_buffer("window"), self.get_buffer("bands")
        levels = each_clip(lambda clip: bands @ squares(clip, window, _HOP).flatten(-2).mT, audio)
        return (levels + 1e-9).log()

    def _rates(self, envelope: Tensor) -> Tensor:
        """Modulation spectra from 0.2 to 25 Hz: mean of each range of rates, and how a line stands out."""
        centred = envelope - envelope.mean(dim=2, keepdim=True)
        spectrum = modulation(centred) + 1e-4
        mean, most = self.slow.means(spectrum), self.slow.maxima(spectrum)
        return torch.stack([mean.log(), (most / mean).log()], dim=1).permute(0, 3, 1, 2).flatten(1)

    def _slopes(self, envelope: Tensor) -> Tensor:
        """How fast levels rise and fall over 10 to 160 ms: the logarithm of the share of frames at each
        slope."""
        edges = self.get_buffer("edges").expand(*envelope.shape[:2], -1).contiguous()
        out = []
        for lag in _LAGS:
            slopes = ascending(envelope[:, :, lag:] - envelope[:, :, :-lag])
            count = slopes.shape[2]
            # How many are not above each edge: the differences are the numbers between two of them.
            below = nn.functional.pad(torch.searchsorted(slopes, edges, right=True), (1, 0))
            between = nn.functional.pad(below, (0, 1), value=count).diff(dim=2)
            out.append(between.transpose(1, 2).flatten(1) / count)
        return (torch.cat(out, dim=1) + 3e-3).log()

    def _lines(self, audio: Tensor) -> Tensor:
        """Lines in the spectrum of the squared signal: they stand at twice the frequency of a carrier."""
        square = audio.square()
        square -= square.mean(dim=1, keepdim=True)
        window = self.get_buffer("long_window")
        lines = each_clip(lambda clip: power(clip, window, _LONG // 2).mean(dim=-2), square)
        lines = (lines / (lines.mean(dim=1, keepdim=True) + 1e-12) + 1e-6).log()
        means = self.fast.means(lines)
        return torch.cat([means, self.fast.maxima(lines) - means], dim=1)


def _log_power(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """`[..., T]` -> `[..., frames, n / 2 + 1]`: logarithm of the power, with a floor."""
    spectrum = power(audio, window, hop)
    floor = spectrum.flatten(-2).amax(dim=-1) * 1e-8 + 1e-12
    return spectrum.add_(floor[..., None, None]).log_()


def _levels(envelope: Tensor) -> Tensor:
    """Quantiles of the levels, and correlations of the bands' levels with each other."""
    last = envelope.shape[2] - 1
    quantiles = ascending(envelope)[:, :, [int(q * last) for q in _QUANTILES]]
    centred = envelope - envelope.mean(dim=2, keepdim=True)
    unit = centred / (centred.norm(dim=2, keepdim=True) + 1e-3)
    rows, columns = torch.triu_indices(envelope.shape[1], envelope.shape[1], 1)
    return torch.cat([quantiles.flatten(1), (unit @ unit.transpose(1, 2))[:, rows, columns]], dim=1)
