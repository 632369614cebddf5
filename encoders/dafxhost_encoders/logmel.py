"""The log-mel encoder: a small convolutional network trained together with the controller."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.encoders import Encoder, check_option
from dafxhost.errors import UsageError
from dafxhost_encoders.spectra import Magnitude, mel_filters

_FLOOR = 1e-10
"""Added to mel power (a full-scale sine has 0.25) before the logarithm: -100 dB."""


class LogMelEncoder(Encoder):
    """Log-mel spectrogram -> convolutions -> mean, deviation and maximum over time -> linear -> `[B, D]`.

    The frequency axis survives the convolutions (it is folded into the channels before pooling over time):
    where in the spectrum something happens is what tells most effects' parameters apart. GroupNorm instead of
    batch normalisation: a clip's embedding does not depend on its batch.

    Args:
        embedding_size: D.
        sample_rate: Hz; others are resampled to it.
        n_fft, hop: of the spectrogram, samples. mels: mel bands from 20 Hz to half the sample rate.
        channels: output channels of the convolutions, each of stride 2 along both axes; multiples of 8.
        normalise: bring each clip to a peak of -12 dBFS first (see `Encoder`).
    """

    name = "log-mel"
    filters: Tensor

    def __init__(
        self,
        embedding_size: int = 128,
        sample_rate: int = 24_000,
        n_fft: int = 2048,
        hop: int = 1024,
        mels: int = 96,
        channels: tuple[int, ...] | list[int] = (24, 48, 96, 128),
        normalise: bool = True,
    ) -> None:
        super().__init__(embedding_size, sample_rate, minimum_samples=n_fft, normalise=normalise)
        check_option("mels", mels, 1, n_fft)
        if not channels or any(not isinstance(c, int) or c < 8 or c % 8 for c in channels):
            raise UsageError(f"encoder option channels must be multiples of 8, not {list(channels)}")
        self.mels, self.channels = mels, tuple(channels)
        self.magnitude = Magnitude(n_fft, hop)
        self.register_buffer("filters", mel_filters(n_fft, mels, sample_rate), persistent=False)
        layers: list[nn.Module] = []
        bands = mels
        for inputs, outputs in zip((1, *self.channels[:-1]), self.channels, strict=True):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=2, padding=1),
                nn.GroupNorm(8, outputs),
                nn.LeakyReLU(0.1, inplace=True),
            ]
            bands = (bands + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(3 * self.channels[-1] * bands, embedding_size)

    def config(self) -> dict[str, Any]:
        return {
            "embedding_size": self.embedding_size,
            "sample_rate": self.sample_rate,
            "n_fft": self.magnitude.n_fft,
            "hop": self.magnitude.hop,
            "mels": self.mels,
            "channels": list(self.channels),
            "normalise": self.normalise,
        }

    def spectrogram(self, audio: Tensor) -> Tensor:
        """Mono audio `[B, T]` -> log-mel spectrogram `[B, mels, frames]`, scaled to about -2..2."""
        power = self.magnitude(audio).square()
        mel = torch.einsum("bft,fm->bmt", power, self.filters)
        return (torch.log10(mel + _FLOOR) + 6.0) / 2.0

    def embed(self, audio: Tensor) -> Tensor:
        features = self.convolutions(self.spectrogram(audio).unsqueeze(1)).flatten(1, 2)  # [B, C * bands, t]
        # The small constant keeps the root's gradient finite where nothing varies (one frame, silence).
        deviation = (features.var(dim=-1, unbiased=False) + 1e-5).sqrt()
        return self.head(torch.cat([features.mean(dim=-1), deviation, features.amax(dim=-1)], dim=1))
