"""Autoencoders of spectrograms; the latent mean of the beta-VAE is its embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dafxhost.encoders import check_option
from dafxhost.errors import ShapeError
from dafxhost_encoders.autoencoder import Autoencoder, VariationalAutoencoder, check_beta
from dafxhost_encoders.spectra import CompressedSpectrogram
from dafxhost_encoders.vae_network import Sizes, VAENetwork

_AT_ONCE = 256
"""Patches embedded at a time, so that an hour of audio does not need all its feature maps at once."""


class SpectrogramAutoencoder(Autoencoder):
    """Autoencoder of compressed spectrograms; see its two kinds, `SpectrogramVAE` and `MelCAE`.

    Clips of any length are cut into patches of `patch_frames` frames, the last one moved back to end with the
    clip (a clip shorter than one patch is repeated to fill it). The embedding is the mean over the patches of
    their latents (of the latents' means in a VAE): nothing is sampled there, in either mode.

    What is rebuilt is the spectrogram of the *processed* clips of a pair.

    Args:
        embedding_size: number of latents. sample_rate: Hz; others are resampled to it.
        n_fft, hop: of the spectrogram, samples.
        input, mels, compression, power: see `CompressedSpectrogram`; input is its `bands`.
        patch_frames: frames in a patch.
        channels, kernels, strides: of the convolutions (see `VAENetwork`).
        beta: weight of the divergence.
        normalise: bring each clip to a peak of -12 dBFS first (see `Encoder`).
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        embedding_size: int,
        sample_rate: int,
        n_fft: int,
        hop: int,
        input: str,
        mels: int,
        compression: str,
        power: float,
        patch_frames: int,
        channels: Sequence[int],
        kernels: Sizes,
        strides: Sizes,
        beta: float,
        normalise: bool,
    ) -> None:
        super().__init__(embedding_size, sample_rate, minimum_samples=n_fft, normalise=normalise)
        check_option("patch_frames", patch_frames, 1, 65536)
        self.patch_frames, self.beta = patch_frames, check_beta(beta)
        self.compressed = CompressedSpectrogram(sample_rate, n_fft, hop, input, mels, compression, power)
        nominal = (self.compressed.bands, patch_frames)
        self.network = VAENetwork(
            nominal, embedding_size, tuple(channels), kernels, strides, self.variational
        )
        # The network sees (spectrogram - centre) / spread: the mean spectrum, which is the larger part of any
        # spectrogram and the same for all, need not pass through the latents. Pretraining measures both; the
        # starting values are those of music at -12 dBFS peak.
        self.register_buffer("centre", torch.full((self.compressed.bands,), 0.04))
        self.register_buffer("spread", torch.tensor(0.04))

    def config(self) -> dict[str, Any]:
        front = self.compressed
        return {
            "embedding_size": self.embedding_size,
            "sample_rate": self.sample_rate,
            "n_fft": front.magnitude.n_fft,
            "hop": front.magnitude.hop,
            "input": front.kind,
            "mels": front.mels,
            "compression": front.compression,
            "power": front.power,
            "patch_frames": self.patch_frames,
            "channels": list(self.network.channels[1:]),
            "kernels": [list(pair) for pair in self.network.kernels],
            "strides": [list(pair) for pair in self.network.strides],
            "beta": self.beta,
            "normalise": self.normalise,
        }

    def spectrogram(self, audio: Tensor) -> Tensor:
        """Mono audio `[B, T]` at the encoder's rate -> compressed spectrogram `[B, bands, frames]`."""
        return self.compressed(audio)

    def patches(self, spectrogram: Tensor) -> Tensor:
        """`[B, bands, frames]` -> `[B, N, bands, patch_frames]`, covering all frames."""
        frames, width = spectrogram.shape[-1], self.patch_frames
        if frames < width:
            around = torch.arange(width, device=spectrogram.device) % frames
            return spectrogram[..., around].unsqueeze(1)
        starts = [*range(0, frames - width, width), frames - width]
        return torch.stack([spectrogram[..., s : s + width] for s in starts], dim=1)

    def joined(self, patches: Tensor, frames: int) -> Tensor:
        """The inverse of `patches`: `[B, N, bands, patch_frames]` -> `[B, bands, frames]`."""
        width = self.patch_frames
        if frames < width:
            return patches[:, 0, :, :frames]
        last = frames - width * (patches.shape[1] - 1)
        return torch.cat([*patches[:, :-1].unbind(1), patches[:, -1, :, width - last :]], dim=-1)

    def embed(self, audio: Tensor) -> Tensor:
        patches = self.scaled(self.patches(self.spectrogram(audio)).flatten(0, 1))
        means = torch.cat([self.encode_scaled(part)[0] for part in patches.split(_AT_ONCE)])
        return means.unflatten(0, (len(audio), -1)).mean(dim=1)

    def inputs(self, clean: Tensor, processed: Tensor, sample_rate: int) -> Tensor:
        with torch.no_grad():
            audio = self.prepare(processed, sample_rate)
            return self.patches(self.spectrogram(audio)).flatten(0, 1)

    def elbo(self, audio: Tensor, sample_rate: int) -> tuple[Tensor, Tensor, Tensor]:
        """`loss` of the patches of audio `[B, C, T]` at `sample_rate`. Raises as `forward` does."""
        return self.loss(self.patches(self.spectrogram(self.prepare(audio, sample_rate))).flatten(0, 1))

    def fit_scale(self, inputs: Tensor) -> None:
        """Set `centre` (mean spectrum) and `spread` (deviation from it) from `[M, bands, frames]`."""
        self.centre.copy_(inputs.mean(dim=(0, 2)))
        self.spread.copy_((inputs - self.centre[:, None]).std().clamp(min=1e-6))

    def scaled(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 3 or inputs.numel() == 0:
            raise ShapeError(f"a spectrogram is [B, bins, frames] and not empty, not {list(inputs.shape)}")
        return (inputs - self._centre(inputs.shape[1])) / self.spread

    def unscaled(self, scaled: Tensor) -> Tensor:
        return scaled * self.spread + self._centre(scaled.shape[1])

    def encode_scaled(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        return self.network.encode(scaled)

    def decode_scaled(self, latents: Tensor, size: tuple[int, ...]) -> Tensor:
        return self.network.decode(latents, (size[0], size[1]))

    def _centre(self, bands: int) -> Tensor:
        """The mean spectrum `[bands, 1]`, interpolated if that is not the encoder's own number."""
        centre = self.centre
        if bands != len(centre):
            centre = interpolate(centre[None, None], bands, mode="linear", align_corners=False)[0, 0]
        return centre[:, None]


class SpectrogramVAE(SpectrogramAutoencoder, VariationalAutoencoder):
    """Beta-VAE (Higgins 2017) of compressed spectrograms, by default |STFT|^0.3 as in Grant 2023.

    Arguments as of `SpectrogramAutoencoder`. By default the first layer has kernel (5, 3) and stride (4, 2)
    for STFT bins, which saves 40 % of the time, and all others 3 and 2.
    """

    name = "spectrogram-vae"

    def __init__(
        self,
        embedding_size: int = 128,
        sample_rate: int = 24_000,
        n_fft: int = 2048,
        hop: int = 1024,
        input: str = "stft",
        mels: int = 64,
        compression: str = "power",
        power: float = 0.3,
        patch_frames: int = 32,
        channels: Sequence[int] = (8, 16, 32, 32),
        kernels: Sizes | None = None,
        strides: Sizes | None = None,
        beta: float = 1.0,
        normalise: bool = True,
    ) -> None:
        deeper = max(0, len(channels) - 1)
        wide = input == "stft"
        if kernels is None:
            kernels = [(5, 3), *[3] * deeper] if wide else 3
        if strides is None:
            strides = [(4, 2), *[2] * deeper] if wide else 2
        super().__init__(
            embedding_size,
            sample_rate,
            n_fft,
            hop,
            input,
            mels,
            compression,
            power,
            patch_frames,
            channels,
            kernels,
            strides,
            beta,
            normalise,
        )
