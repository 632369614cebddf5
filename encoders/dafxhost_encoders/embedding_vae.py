"""The embedding beta-VAE: what an effect did, seen in a frozen encoder's embeddings before and after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from dafxhost.encoders import Encoder, check_option, load_encoder
from dafxhost.errors import ShapeError, UsageError
from dafxhost.registry import encoder as make_encoder
from dafxhost_encoders.autoencoder import VariationalAutoencoder, check_beta
from dafxhost_encoders.vae_network import dense

JOINS = ("concat", "difference")


class EmbeddingVAE(VariationalAutoencoder):
    """Beta-VAE of pairs of embeddings, clean and processed, by a frozen audio encoder.

    An encoder embeds single clips, and this one's embedding of a clip is the frozen encoder's. What the VAE
    describes is a pair, and that is what the controller asks it for: `pair` makes of the embeddings of input
    and reference the latents' mean, `[B, latent]`, in place of the embeddings themselves.

    Args:
        encoder, encoder_options: name and options of the frozen audio encoder.
        weights: its weights file, instead of those two (or with them, to be checked).
        join: "concat": the VAE rebuilds both embeddings; "difference": processed minus clean.
        latent: number of latents. hidden: widths of the layers before them; the decoder mirrors them.
        beta: weight of the divergence.

    Raises:
        UsageError: impossible options. RunError: the weights file is missing, damaged or another encoder's.
    """

    name = "embedding-vae"
    centre: Tensor
    spread: Tensor

    def __init__(
        self,
        encoder: str = "style-statistics",
        encoder_options: dict[str, Any] | None = None,
        weights: str | Path | None = None,
        join: str = "concat",
        latent: int = 64,
        hidden: Sequence[int] = (512,),
        beta: float = 0.01,
    ) -> None:
        if join not in JOINS:
            raise UsageError(f"encoder option join must be {' or '.join(JOINS)}, not {join!r}")
        check_option("latent", latent, 1, 65536)
        if weights is not None:
            inner = load_encoder(weights)
        elif encoder == self.name:
            raise UsageError(f"the frozen encoder of {self.name} must be another one, e.g. style-statistics")
        else:
            inner = make_encoder(encoder, **(encoder_options or {}))
        if isinstance(inner, EmbeddingVAE):
            raise UsageError(
                f"the frozen encoder of {self.name} must embed audio, not be another {self.name}"
            )
        super().__init__(inner.embedding_size, inner.sample_rate, normalise=inner.normalise)
        self.join, self.latent, self.beta = join, latent, check_beta(beta)
        self.hidden = tuple(hidden)
        self.inner: Encoder = inner
        self.inner.freeze()
        size = inner.embedding_size * (2 if join == "concat" else 1)
        self.encoder_network = dense(size, self.hidden, 2 * latent)
        self.decoder_network = dense(latent, self.hidden[::-1], size, last_gain=0.1)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("spread", torch.ones(size))

    def config(self) -> dict[str, Any]:
        """Without `weights`: a saved copy holds the frozen encoder's weights itself."""
        return {
            "encoder": self.inner.name,
            "encoder_options": self.inner.config(),
            "join": self.join,
            "latent": self.latent,
            "hidden": list(self.hidden),
            "beta": self.beta,
        }

    @property
    def pair_size(self) -> int:
        return self.latent

    def pair(self, dry: Tensor, reference: Tensor) -> Tensor:
        """Embeddings `[B, D]` of input and reference -> the latents' mean `[B, latent]`."""
        return self.latents(self.joined(dry, reference))

    def joined(self, dry: Tensor, processed: Tensor) -> Tensor:
        """Embeddings `[B, D]` of clean and processed clips -> `[B, 2 D]`, or `[B, D]` for a difference."""
        return torch.cat([dry, processed], dim=1) if self.join == "concat" else processed - dry

    def prepare(self, audio: Tensor, sample_rate: int) -> Tensor:
        return self.inner.prepare(audio, sample_rate)

    def embed(self, audio: Tensor) -> Tensor:
        return self.inner.embed(audio)

    def train(self, mode: bool = True) -> Self:
        """The frozen encoder stays in eval mode."""
        super().train(mode)
        self.inner.eval()
        return self

    def inputs(self, clean: Tensor, processed: Tensor, sample_rate: int) -> Tensor:
        with torch.no_grad():
            return self.joined(self(clean, sample_rate), self(processed, sample_rate))

    def fit_scale(self, inputs: Tensor) -> None:
        """Set `centre` and `spread`, element by element, from `[M, size]`."""
        self.centre.copy_(inputs.mean(dim=0))
        spread = inputs.std(dim=0, correction=0)
        # An element that hardly varies would only make its noise as important as the others.
        self.spread.copy_(spread.clamp(min=max(1e-6, 0.01 * float(spread.mean()))))

    def units(self, inputs: Tensor) -> Tensor:
        """Standard deviations from the mean: the elements of an embedding have no common unit."""
        return self.scaled(inputs)

    def scaled(self, inputs: Tensor) -> Tensor:
        if inputs.ndim != 2 or inputs.shape[1] != len(self.centre):
            raise ShapeError(f"joined embeddings are [B, {len(self.centre)}], not {list(inputs.shape)}")
        return (inputs - self.centre) / self.spread

    def unscaled(self, scaled: Tensor) -> Tensor:
        return scaled * self.spread + self.centre

    def encode_scaled(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.encoder_network(scaled).chunk(2, dim=1)
        return mean, log_variance.clamp(-20.0, 10.0)

    def decode_scaled(self, latents: Tensor, size: tuple[int, ...]) -> Tensor:
        return self.decoder_network(latents)
