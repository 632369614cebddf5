"""The spectrogram beta-VAE: describes spectrograms without labels; its latent mean is the embedding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dafxhost.encoders import Encoder, check_option
from dafxhost.errors import ShapeError, UsageError
from dafxhost_encoders.spectra import Magnitude
from dafxhost_encoders.vae_network import Sizes, VAENetwork, divergence, sample

_AT_ONCE = 256
"""Patches embedded at a time, so that an hour of audio does not need all its feature maps at once."""


class SpectrogramVAE(Encoder):
    """Beta-VAE (Higgins 2017) of power-compressed spectrograms |STFT|^0.3, as in Grant 2023.

    Clips of any length are cut into patches of `patch_frames` frames, the last one moved back to end with the
    clip (a clip shorter than one patch is repeated to fill it). The embedding is the mean over the patches of
    the latents' means: nothing is sampled there, in either mode. Only the loss samples, in train mode.

    Args:
        embedding_size: number of latents. sample_rate: Hz; others are resampled to it.
        n_fft, hop: of the spectrogram, samples.
        power: exponent on the magnitudes, above 0 and at most 1.
        patch_frames: frames in a patch; 32 are 1.4 s.
        channels, kernels, strides: of the convolutions (see `VAENetwork`). By default the first layer has
            kernel (5, 3) and stride (4, 2), which saves 40 % of the time, and the others 3 and 2.
        beta: weight of the divergence.
        normalise: bring each clip to a peak of -12 dBFS first (see `Encoder`).
    """

    name = "spectrogram-vae"
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        embedding_size: int = 128,
        sample_rate: int = 24_000,
        n_fft: int = 2048,
        hop: int = 1024,
        power: float = 0.3,
        patch_frames: int = 32,
        channels: Sequence[int] = (8, 16, 32, 32),
        kernels: Sizes | None = None,
        strides: Sizes | None = None,
        beta: float = 1.0,
        normalise: bool = True,
    ) -> None:
        super().__init__(embedding_size, sample_rate, minimum_samples=n_fft, normalise=normalise)
        check_option("patch_frames", patch_frames, 1)
        if not 0 < power <= 1:
            raise UsageError(f"encoder option power must be above 0 and at most 1, not {power!r}")
        if not (beta >= 0 and math.isfinite(beta)):
            raise UsageError(f"encoder option beta must be 0 or more, not {beta!r}")
        self.power, self.patch_frames, self.beta = float(power), patch_frames, float(beta)
        self.magnitude = Magnitude(n_fft, hop)
        deeper = max(0, len(channels) - 1)
        kernels = [(5, 3), *[3] * deeper] if kernels is None else kernels
        strides = [(4, 2), *[2] * deeper] if strides is None else strides
        self.network = VAENetwork(
            (n_fft // 2 + 1, patch_frames), embedding_size, tuple(channels), kernels, strides
        )
        # The network sees (spectrogram - centre) / spread: the mean spectrum, which is the larger part of any
        # spectrogram and the same for all, need not pass through the latents. Pretraining measures both; the
        # starting values are those of music at -12 dBFS peak.
        self.register_buffer("centre", torch.full((n_fft // 2 + 1,), 0.04))
        self.register_buffer("spread", torch.tensor(0.04))

    def config(self) -> dict[str, Any]:
        return {
            "embedding_size": self.embedding_size,
            "sample_rate": self.sample_rate,
            "n_fft": self.magnitude.n_fft,
            "hop": self.magnitude.hop,
            "power": self.power,
            "patch_frames": self.patch_frames,
            "channels": list(self.network.channels[1:]),
            "kernels": [list(pair) for pair in self.network.kernels],
            "strides": [list(pair) for pair in self.network.strides],
            "beta": self.beta,
            "normalise": self.normalise,
        }

    def spectrogram(self, audio: Tensor) -> Tensor:
        """Mono audio `[B, T]` at the encoder's rate -> compressed spectrogram `[B, bins, frames]`."""
        # The root's slope at 0 is infinite; below -180 dBFS nothing is audible.
        return self.magnitude(audio).clamp(min=1e-9) ** self.power

    def patches(self, spectrogram: Tensor) -> Tensor:
        """`[B, bins, frames]` -> `[B, N, bins, patch_frames]`, covering all frames."""
        frames, width = spectrogram.shape[-1], self.patch_frames
        if frames < width:
            around = torch.arange(width, device=spectrogram.device) % frames
            return spectrogram[..., around].unsqueeze(1)
        starts = [*range(0, frames - width, width), frames - width]
        return torch.stack([spectrogram[..., s : s + width] for s in starts], dim=1)

    def embed(self, audio: Tensor) -> Tensor:
        patches = self._scaled(self.patches(self.spectrogram(audio)))
        means = [self.network.encode(part)[0] for part in patches.flatten(0, 1).split(_AT_ONCE)]
        return torch.cat(means).unflatten(0, patches.shape[:2]).mean(dim=1)

    def reconstruct(self, spectrogram: Tensor) -> Tensor:
        """Compressed spectrogram `[B, bins, frames]` of any size -> the same through the latents, same shape.

        The latents are sampled in train mode and their means in eval mode.
        """
        output = self._through(spectrogram)[0]
        return output * self.spread + self._centre(spectrogram.shape[-2])

    def loss(self, spectrogram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(total, reconstruction, divergence) of compressed spectrograms `[B, bins, frames]`, scalars.

        The reconstruction error is the mean square over all elements in units of `spread` squared, so that 1
        is what the mean spectrum reaches. The divergence is in nats, summed over the latents and averaged
        over the batch.
        total = reconstruction + beta * divergence / (bins * frames): up to a factor, the evidence lower bound
        with a normal likelihood of variance `spread`^2 / 2.
        """
        output, mean, log_variance = self._through(spectrogram)
        error = (output - self._scaled(spectrogram)).square().mean()
        nats = divergence(mean, log_variance).sum(dim=1).mean()
        return error + self.beta * nats / spectrogram[0].numel(), error, nats

    def elbo(self, audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor, Tensor]:
        """`loss` of the patches of audio `[B, C, T]` at `sample_rate`. Raises as `forward` does."""
        return self.loss(self.patches(self.spectrogram(self.prepare(audio, sample_rate))).flatten(0, 1))

    def fit_scale(self, spectrogram: Tensor) -> None:
        """Set `centre` (mean spectrum) and `spread` (deviation from it) from `[N, bins, frames]`."""
        self.centre.copy_(spectrogram.mean(dim=(0, 2)))
        self.spread.copy_((spectrogram - self.centre[:, None]).std().clamp(min=1e-6))

    def _centre(self, bins: int) -> Tensor:
        """The mean spectrum `[bins, 1]`, interpolated if that is not the encoder's own number."""
        centre = self.centre
        if bins != len(centre):
            centre = interpolate(centre[None, None], bins, mode="linear", align_corners=False)[0, 0]
        return centre[:, None]

    def _scaled(self, spectrogram: Tensor) -> Tensor:
        return (spectrogram - self._centre(spectrogram.shape[-2])) / self.spread

    def _checked(self, spectrogram: Tensor) -> Tensor:
        if spectrogram.ndim != 3 or spectrogram.numel() == 0:
            raise ShapeError(
                f"a spectrogram is [B, bins, frames] and not empty, not {list(spectrogram.shape)}"
            )
        return spectrogram

    def posterior(self, spectrogram: Tensor) -> tuple[Tensor, Tensor]:
        """Compressed spectrograms `[B, bins, frames]` -> mean and log variance of the latents, `[B, D]`."""
        return self.network.encode(self._scaled(self._checked(spectrogram)))

    def decode(self, latents: Tensor, size: tuple[int, int]) -> Tensor:
        """Latents `[B, D]` -> compressed spectrograms `[B, *size]`, size (bins, frames)."""
        return self.network.decode(latents, size) * self.spread + self._centre(size[0])

    def _through(self, spectrogram: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.posterior(spectrogram)
        latents = sample(mean, log_variance) if self.training else mean
        size = (spectrogram.shape[1], spectrogram.shape[2])
        return self.network.decode(latents, size), mean, log_variance
