"""What audio effects leave behind in a recording, as numbers that depend little on what is played.

Nothing here is trained. All of it takes mono clips `[B, T]` at 24 kHz, T from 34304 up, with a peak of 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dafxhost_encoders.effect_bands import log_bands, power
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
        self.long_bands = log_bands(4, _LONG // 2 - 1, 96)
        self.short_bands = log_bands(2, _SHORT // 2 - 1, 56)
        self.wide_bands = log_bands(24, _LONG // 2 - 1, 12)

    def forward(self, audio: Tensor) -> Tensor:
        long = _cepstra(audio, self.get_buffer("long_window"), _LONG // 2)
        # Chance falls with the root of the number of windows; times that root it is the same for any length.
        steady = long.mean(dim=1) * math.sqrt(long.shape[1])
        out = []
        for a, b in self.long_bands:
            part = steady[:, a:b]
            out += [part.amax(dim=1), part.amin(dim=1), part.square().mean(dim=1).sqrt()]
        for a, b in self.wide_bands:
            square = steady[:, a:b].square()
            # Kurtosis: few high peaks in a range, or many low ones. 0.05 undoes the scale below.
            out.append(
                0.05 * ((square.square().mean(dim=1) + 1e-12) / (square.mean(dim=1) + 1e-6) ** 2).log()
            )
        short = _cepstra(audio, self.get_buffer("short_window"), _SHORT // 2)
        mean, spread = short.mean(dim=1), short.std(dim=1, correction=0)
        unrest = short.diff(dim=1).abs().mean(dim=1) / (spread + 1e-4)
        for a, b in self.short_bands:
            peaks = short[:, :, a:b].amax(dim=2)
            out += [mean[:, a:b].amax(dim=1), mean[:, a:b].amin(dim=1), spread[:, a:b].amax(dim=1)]
            out += [peaks.mean(dim=1), peaks.std(dim=1, correction=0), 0.05 * unrest[:, a:b].mean(dim=1)]
        return torch.stack(out, dim=1) * 20


class Movements(nn.Module):
    """Movements of level: slow ones in bands (tremolo, compression), fast ones as lines (ring modulation)."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(4 * _HOP), persistent=False)
        self.register_buffer("long_window", torch.hann_window(_LONG), persistent=False)
        self.slow, self.fast = log_bands(2, 255, 24), log_bands(3, 8192, 48)

    def forward(self, audio: Tensor) -> Tensor:
        envelope = self.envelopes(audio)
        parts = [_rates(envelope, self.slow), _slopes(envelope), _levels(envelope), self._lines(audio)]
        return torch.cat(parts, dim=1)

    def envelopes(self, audio: Tensor) -> Tensor:
        """Logarithms of the power in 7 bands and of all of it, every 10 ms, `[B, 8, frames]`."""
        spectrum = power(audio, self.get_buffer("window"), _HOP)
        parts = [spectrum[:, a:b].mean(dim=1) for a, b in _CUTS]
        return (torch.stack([*parts, spectrum.mean(dim=1)], dim=1) / (4 * _HOP) + 1e-9).log()

    def _lines(self, audio: Tensor) -> Tensor:
        """Lines in the spectrum of the squared signal: they stand at twice the frequency of a carrier."""
        square = audio.square()
        square = square - square.mean(dim=1, keepdim=True)
        lines = power(square, self.get_buffer("long_window"), _LONG // 2).mean(dim=2)
        lines = (lines / (lines.mean(dim=1, keepdim=True) + 1e-12) + 1e-6).log()
        means = [lines[:, a:b].mean(dim=1) for a, b in self.fast]
        peaks = [lines[:, a:b].amax(dim=1) - mean for (a, b), mean in zip(self.fast, means, strict=True)]
        return torch.stack(means + peaks, dim=1)


def _cepstra(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """`[B, T]` -> `[B, frames, n / 2]`: the power cepstrum of each frame, up to half its length."""
    spectrum = power(audio, window, hop)
    floor = spectrum.amax(dim=(1, 2), keepdim=True) * 1e-8 + 1e-12
    return torch.fft.irfft((spectrum + floor).log().transpose(1, 2))[..., : window.shape[0] // 2]


def _rates(envelope: Tensor, ranges: list[tuple[int, int]]) -> Tensor:
    """Modulation spectra from 0.2 to 25 Hz: mean of each range of rates, and how far a line stands out."""
    centred = envelope - envelope.mean(dim=2, keepdim=True)
    frames = centred.shape[2]
    centred = centred * torch.hann_window(frames, device=envelope.device)
    spectrum = torch.fft.rfft(nn.functional.pad(centred, (0, max(0, 1024 - frames))), dim=2).abs().square()
    # The same 513 rates for clips of any length.
    spectrum = nn.functional.adaptive_avg_pool1d(spectrum / frames, 513) + 1e-4
    out = []
    for a, b in ranges:
        mean = spectrum[:, :, a:b].mean(dim=2)
        out += [mean.log(), (spectrum[:, :, a:b].amax(dim=2) / mean).log()]
    return torch.cat(out, dim=1)


def _slopes(envelope: Tensor) -> Tensor:
    """How fast levels rise and fall over 10 to 160 ms: the logarithm of the share of frames at each slope."""
    edges = torch.tensor(_SLOPES, device=envelope.device)
    out = []
    for lag in _LAGS:
        place = torch.bucketize((envelope[:, :, lag:] - envelope[:, :, :-lag]).contiguous(), edges)
        out += [(place == k).float().mean(dim=2) for k in range(len(_SLOPES) + 1)]
    return (torch.cat(out, dim=1) + 3e-3).log()


def _levels(envelope: Tensor) -> Tensor:
    """Quantiles of the levels, and correlations of the bands' levels with each other."""
    last = envelope.shape[2] - 1
    quantiles = envelope.sort(dim=2).values[:, :, [int(q * last) for q in _QUANTILES]]
    centred = envelope - envelope.mean(dim=2, keepdim=True)
    unit = centred / (centred.norm(dim=2, keepdim=True) + 1e-3)
    rows, columns = torch.triu_indices(envelope.shape[1], envelope.shape[1], 1)
    return torch.cat([quantiles.flatten(1), (unit @ unit.transpose(1, 2))[:, rows, columns]], dim=1)
