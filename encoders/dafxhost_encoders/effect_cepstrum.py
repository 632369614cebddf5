"""The steady part of what a filter does to a recording: its mean power cepstrum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dafxhost_encoders.effect_bands import each_clip, power

RATE = 24_000
LAGS = (24, 4096)
"""Samples at 24 kHz: what is shorter holds what is played, what is longer is rarely there in every frame."""
SIZE = LAGS[1] - LAGS[0]
SCALE = 20.0
"""Makes deviations of about 1, which half precision holds to a thousandth."""

_FRAME = 2 * LAGS[1]


class SteadyCepstrum(nn.Module):
    """Clips `[B, T]`, T from 8192 up, at 24 kHz -> `[B, SIZE]`: the mean over time of the cepstra of frames
    of 0.34 s (Bogert, Healy and Tukey 1963).

    A filter that does not move adds the cepstrum of its own response to it, whatever is played.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(_FRAME), persistent=False)

    @torch.no_grad()
    def forward(self, audio: Tensor) -> Tensor:
        audio = audio - audio.mean(dim=1, keepdim=True)
        return SCALE * each_clip(self._cepstrum, audio)

    def _cepstrum(self, clip: Tensor) -> Tensor:
        spectrum = power(clip, self.get_buffer("window"), _FRAME // 2)
        floor = spectrum.amax(dim=(-2, -1), keepdim=True) * 1e-8 + 1e-12
        return torch.fft.irfft(spectrum.add_(floor).log_().mean(dim=-2))[..., LAGS[0] : LAGS[1]]
