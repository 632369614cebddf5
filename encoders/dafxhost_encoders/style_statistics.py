"""The style-statistics encoder: how spectrum and waveform are distributed, with nothing to train."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dafxhost.encoders import Encoder, check_option
from dafxhost_encoders.effect_bands import Ranges, ascending, deviation, each_clip, power

_FLOOR = 1e-7
"""Added to power before the logarithm; spectra are scaled so that noise of RMS 1 has power 1 or less."""
_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
_AMPLITUDES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 0.997, 0.999)
_FRAME = 512
_THIN = 16


class StyleStatistics(Encoder):
    """Fixed statistics of a clip -> `[B, D]`: what equalisers, speakers and distortion leave behind.

    - of the log-mel spectrogram, band by band over time: quantiles, mean, deviation, mean absolute change;
    - of the mean power spectrum: linear bands (the combs of reflections) and fine bands below 300 Hz
      (high-pass filters, and the constant offset that a biased distortion leaves);
    - of the waveform: quantiles, a histogram over logarithmic levels of either sign, moments;
    - of frames of 21 ms: quantiles of RMS, of peak, and of their ratio.

    Clips are scaled to a peak of 1 first. Having no weights, it is the same everywhere and its embeddings can
    be computed once and kept; `dafxhost.training` does.

    Args:
        sample_rate: Hz; others are resampled to it.
        mels: mel bands. linear: bands of equal width.
    """

    name = "style-statistics"
    mel_filters: Tensor
    levels: Tensor

    def __init__(self, sample_rate: int = 24_000, mels: int = 64, linear: int = 256) -> None:
        check_option("mels", mels, 4, 256)
        check_option("linear", linear, 4, 1024)
        self.mels, self.linear = mels, linear
        low_bins = [0, *np.unique(np.round(np.geomspace(1, 200, 32)).astype(int)).tolist(), 220]
        low = len(low_bins) - 1
        frames = 3 * (len(_AMPLITUDES) - 2)
        size = mels * (len(_LEVELS) + 3) + linear + low + 2 * len(_AMPLITUDES) + 7 + 48 + frames
        super().__init__(size, sample_rate, minimum_samples=16384)
        self.low_bands = Ranges(list(itertools.pairwise(low_bins)))
        self.register_buffer("mel_filters", _triangles(2048, mels, sample_rate), persistent=False)
        self.register_buffer("window", torch.hann_window(2048), persistent=False)
        self.register_buffer("long_window", torch.hann_window(16384), persistent=False)
        rise = np.geomspace(1e-3, 1, 24)
        edges = torch.tensor(np.concatenate([-rise[::-1], [0.0], rise]), dtype=torch.float32)
        self.register_buffer("levels", edges, persistent=False)

    def config(self) -> dict[str, Any]:
        return {"sample_rate": self.sample_rate, "mels": self.mels, "linear": self.linear}

    @torch.no_grad()
    def embed(self, audio: Tensor) -> Tensor:
        audio = audio / audio.abs().amax(dim=-1, keepdim=True).clamp(min=1e-9)
        return torch.cat([*self._spectral(audio), *self._low(audio), *self._waveform(audio)], dim=1)

    def _power(self, audio: Tensor, window: Tensor, bins: int) -> Tensor:
        """`[B, T]` -> power of the first bins of frames with reflected edges, `[B, frames, bins]`."""
        n = window.shape[0]
        edges = audio[:, 1 : n // 2 + 1].flip(1), audio[:, -n // 2 - 1 : -1].flip(1)
        longer = torch.cat([edges[0], audio, edges[1]], dim=1)
        return each_clip(lambda clip: power(clip, window, n // 2, bins), longer)

    def _spectral(self, audio: Tensor) -> list[Tensor]:
        spectrum = self._power(audio, self.get_buffer("window"), 1025)
        mel = (spectrum @ self.mel_filters / 2048 + _FLOOR).log()  # [B, frames, mels]
        ordered = ascending(mel.transpose(1, 2))
        last = mel.shape[1] - 1
        quantiles = ordered[..., [int(q * last) for q in _LEVELS]].transpose(1, 2).flatten(1)
        change = mel.diff(dim=1).abs_().mean(dim=1)
        mean = mel.mean(dim=1, keepdim=True)
        mean_spectrum = (spectrum[..., :1024].mean(dim=1) / 2048 + _FLOOR).log()
        linear = nn.functional.adaptive_avg_pool1d(mean_spectrum.unsqueeze(1), self.linear).squeeze(1)
        return [quantiles, mean.squeeze(1), deviation(mel, mean, 1), change, linear]

    def _low(self, audio: Tensor) -> list[Tensor]:
        spectrum = self._power(audio, self.get_buffer("long_window"), 220).mean(dim=1)
        return [(self.low_bands.means(spectrum) / 16384 + _FLOOR).log()]

    def _waveform(self, audio: Tensor) -> list[Tensor]:
        thin = ascending(audio[:, ::_THIN])
        last = thin.shape[1] - 1
        quantiles = thin[:, [int(q * last) for q in _AMPLITUDES]]
        below = torch.searchsorted(thin, self.levels.expand(len(thin), -1).contiguous())
        histogram = (below.diff(dim=1) / thin.shape[1] + 1e-4).log()
        moments = each_clip(_moments, audio)
        return [_signed_log(quantiles), quantiles, moments, histogram, *self._frames(audio)]

    def _frames(self, audio: Tensor) -> list[Tensor]:
        frames = audio[:, : audio.shape[1] // _FRAME * _FRAME].reshape(len(audio), -1, _FRAME)
        rms = 0.5 * (each_clip(lambda clip: clip.square().mean(dim=-1), frames) + 1e-10).log()
        peak = (torch.maximum(frames.amax(dim=2), -frames.amin(dim=2)) + 1e-5).log()
        pick = [int(q * (rms.shape[1] - 1)) for q in _AMPLITUDES[1:-1]]
        return [ascending(x)[:, pick] for x in (rms, peak, peak - rms)]


def _moments(audio: Tensor) -> Tensor:
    """`[..., T]` -> `[..., 7]`: offset, RMS, deviation, skew, kurtosis, lowest and highest sample."""
    offset = audio.mean(dim=-1)
    rms = audio.square().mean(dim=-1).sqrt()
    centred = audio - offset[..., None]
    deviation = centred.square().mean(dim=-1).sqrt().clamp(min=1e-5)
    centred /= deviation[..., None]
    square = centred.square()
    skew, kurtosis = centred.mul_(square).mean(dim=-1), square.square_().mean(dim=-1)
    moments = [
        _signed_log(offset), (rms + 1e-5).log(), deviation.log(), skew.sign() * skew.abs().log1p(),
        kurtosis.log1p(), audio.amin(dim=-1), audio.amax(dim=-1),
    ]  # fmt: skip
    return torch.stack(moments, dim=-1)


def _signed_log(x: Tensor) -> Tensor:
    """Logarithm of either sign, linear below 1/1000 of full scale, about -1..1."""
    return x.sign() * (1 + 1000 * x.abs()).log() / 7


def _triangles(n_fft: int, bands: int, sample_rate: int) -> Tensor:
    """`[n_fft / 2 + 1, bands]`, even in mel = 2595 log10(1 + f / 700) from 30 Hz up, each summing to 1.

    A band narrower than a bin takes its nearest bin.
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (30.0, sample_rate / 2))
    edges = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    bins = np.linspace(0, sample_rate / 2, n_fft // 2 + 1)[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    filters = np.maximum(0, np.minimum(rising, falling))
    empty = np.flatnonzero(filters.sum(axis=0) <= 0)
    filters[np.abs(bins - edges[1:-1]).argmin(axis=0)[empty], empty] = 1
    return torch.from_numpy((filters / filters.sum(axis=0)).astype(np.float32))
