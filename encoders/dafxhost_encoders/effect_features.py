"""What audio effects leave behind in a recording, as numbers that change little with what is played.

Each function takes mono clips `[B, T]` at 24 kHz (any T from 16384 up) and gives `[B, n]`; nothing is trained.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

_FLOOR = 1e-9
LONG, SHORT = 32768, 2048
"""Samples of the windows in which echoes (to 0.7 s) and combs (to 40 ms) are looked for."""
HOP = 240
"""Samples between values of an envelope: 10 ms."""


def bands(low: float, high: float, count: int) -> list[tuple[int, int]]:
    """`count` or fewer ranges of whole numbers from `low` to `high`, evenly spaced in the logarithm."""
    edges = np.unique(np.round(np.geomspace(low, high, count + 1)).astype(int))
    return [(int(a), int(b)) for a, b in zip(edges[:-1], edges[1:], strict=True)]


class EchoFeatures(nn.Module):
    """Reflections, by the power cepstrum (Bogert, Healy and Tukey 1963): an echo of gain g at lag n adds g to it.

    The mean cepstrum of long windows shows echoes that stay (delays, rooms), also weak ones, because what
    is played averages out. Short windows show combs of a few milliseconds, and how they move (flangers,
    rotating speakers).
    """

    long_window: Tensor
    short_window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("long_window", torch.hann_window(LONG), persistent=False)
        self.register_buffer("short_window", torch.hann_window(SHORT), persistent=False)
        self.long_bands = bands(4, LONG // 2 - 1, 96)
        self.short_bands = bands(2, SHORT // 2 - 1, 56)

    def _cepstra(self, audio: Tensor, window: Tensor, hop: int) -> Tensor:
        n = window.shape[0]
        if audio.shape[1] < n:
            audio = nn.functional.pad(audio, (0, n - audio.shape[1]))
        spectrum = torch.stft(audio, n, hop, n, window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        floor = power.amax(dim=(1, 2), keepdim=True) * 1e-8 + 1e-12
        return torch.fft.irfft((power + floor).log().transpose(1, 2), n=n)[..., : n // 2]

    def forward(self, audio: Tensor) -> Tensor:
        long = self._cepstra(audio, self.long_window, LONG // 2)
        steady = long.mean(dim=1)
        out = []
        for a, b in self.long_bands:
            part = steady[:, a:b] * math.sqrt(long.shape[1])
            out += [part.amax(dim=1), part.amin(dim=1), part.square().mean(dim=1).sqrt()]
        short = self._cepstra(audio, self.short_window, SHORT // 2)
        mean, spread = short.mean(dim=1), short.std(dim=1, correction=0)
        move = short.diff(dim=1).abs().mean(dim=1) if short.shape[1] > 1 else torch.zeros_like(mean)
        for a, b in self.short_bands:
            out += [mean[:, a:b].amax(dim=1), mean[:, a:b].amin(dim=1)]
            out += [spread[:, a:b].amax(dim=1), (move / (spread + 1e-4))[:, a:b].mean(dim=1)]
        return torch.stack(out, dim=1) * 20


class ModulationFeatures(nn.Module):
    """Movements of level: slow ones in bands (tremolo, rotors, ducking), fast ones as lines (ring modulation)."""

    edges: Tensor
    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(960), persistent=False)
        self.register_buffer("long_window", torch.hann_window(LONG), persistent=False)
        self.cuts = [(1, 8), (8, 16), (16, 32), (32, 64), (64, 128), (128, 240), (240, 480)]
        self.slow, self.fast = bands(2, 255, 24), bands(3, 8192, 48)

    def envelopes(self, audio: Tensor) -> Tensor:
        """Logarithms of the power in 7 bands and of the whole, every 10 ms, `[B, 8, frames]`."""
        spectrum = torch.stft(audio, 960, HOP, 960, self.window, center=False, return_complex=True)
        power = spectrum.real.square() + spectrum.imag.square()
        parts = [power[:, a:b].mean(dim=1) for a, b in self.cuts]
        envelope = torch.stack([*parts, power.mean(dim=1)], dim=1) / 960
        return (envelope + _FLOOR).log()

    def forward(self, audio: Tensor) -> Tensor:
        envelope = self.envelopes(audio)
        return torch.cat(
            [self._spectra(envelope), self._slopes(envelope), self._levels(envelope), self._lines(audio)], dim=1
        )

    def _spectra(self, envelope: Tensor) -> Tensor:
        """Modulation spectra 0.2 to 25 Hz: level and peakedness of each band of rates."""
        n = 1024
        centred = envelope - envelope.mean(dim=2, keepdim=True)
        centred = centred * torch.hann_window(centred.shape[2], device=envelope.device)
        if centred.shape[2] < n:
            centred = nn.functional.pad(centred, (0, n - centred.shape[2]))
        power = torch.fft.rfft(centred, dim=2).abs().square() / centred.shape[2]
        power = nn.functional.adaptive_avg_pool1d(power, 513) if power.shape[2] != 513 else power
        out = []
        for a, b in self.slow:
            part = power[:, :, a:b]
            mean = part.mean(dim=2)
            out += [(mean + 1e-4).log(), ((part.amax(dim=2) + 1e-4) / (mean + 1e-4)).log()]
        return torch.cat(out, dim=1)

    def _slopes(self, envelope: Tensor) -> Tensor:
        """How fast levels rise and fall, over 10 to 160 ms: shares of frames by slope."""
        out = []
        edges = torch.tensor([-6, -3, -1.5, -0.7, -0.35, -0.15, -0.05, 0.05, 0.15, 0.35, 0.7, 1.5, 3], device=envelope.device)
        for lag in (1, 2, 4, 8, 16):
            change = (envelope[:, :, lag:] - envelope[:, :, :-lag]).contiguous()
            index = torch.bucketize(change, edges)
            out += [(index == k).float().mean(dim=2) for k in range(len(edges) + 1)]
        return (torch.cat(out, dim=1) + 3e-3).log()

    def _levels(self, envelope: Tensor) -> Tensor:
        """Quantiles of the levels, of each band against the whole, and how bands go together."""
        ordered = envelope.sort(dim=2).values
        last = envelope.shape[2] - 1
        picks = [int(q * last) for q in (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)]
        quantiles = ordered[:, :, picks].flatten(1)
        centred = envelope - envelope.mean(dim=2, keepdim=True)
        unit = centred / (centred.norm(dim=2, keepdim=True) + 1e-3)
        together = unit @ unit.transpose(1, 2)
        rows, columns = torch.triu_indices(8, 8, 1)
        return torch.cat([quantiles, together[:, rows, columns]], dim=1)

    def _lines(self, audio: Tensor) -> Tensor:
        """Lines in the spectrum of the squared signal: twice a carrier's frequency, and mains-like periods."""
        square = audio.square()
        n = LONG
        if square.shape[1] < n:
            square = nn.functional.pad(square, (0, n - square.shape[1]))
        square = square - square.mean(dim=1, keepdim=True)
        power = torch.stft(square, n, n // 2, n, self.get_buffer("long_window"), center=False, return_complex=True).abs().square().mean(dim=2)
        power = power / (power.mean(dim=1, keepdim=True) + 1e-12)
        out = []
        for a, b in self.fast:
            part = (power[:, a:b] + 1e-6).log()
            out += [part.mean(dim=1), part.amax(dim=1) - part.mean(dim=1)]
        return torch.stack(out, dim=1)
