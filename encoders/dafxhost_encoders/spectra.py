"""Spectrograms that the encoders share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dafxhost.encoders import check_option


class Magnitude(nn.Module):
    """Magnitude spectrogram: `[B, T]` -> `[B, n_fft / 2 + 1, 1 + T / hop]`; a full-scale sine reads 0.5.

    Args:
        n_fft: window and transform length, even. T must be more than half of it (the ends are mirrored).
        hop: samples between frames.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        check_option("n_fft", n_fft, 16, 65536)
        check_option("hop", hop, 1, n_fft)
        self.n_fft, self.hop = n_fft, hop
        window = torch.hann_window(n_fft)
        self.register_buffer("window", window / window.sum(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        spectrum = torch.stft(audio, self.n_fft, self.hop, window=self.window, return_complex=True)
        return spectrum.abs()
