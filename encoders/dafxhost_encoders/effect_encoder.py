"""The effect encoder: a small network on fixed features, trained to recognise effect and setting."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.encoders import Encoder, check_option
from dafxhost_encoders.effect_features import MINIMUM, RATE, EffectFeatures

CLIP = 6.0
"""Deviations from the mean beyond which a feature counts no further; unusual audio lies far out."""


class EffectEncoder(Encoder):
    """Fixed features of what effects leave behind -> multi-layer perceptron -> `[B, D]`.

    A quarter of D is a linear map of the features instead: in the difference of a processed and a dry clip,
    what content adds to a feature then cancels.

    Features and what they see are in `effect_features`; `dafxhost pretrain effect-encoder` trains the rest.
    Level is no part of the embedding, since clips are scaled to one peak. Deterministic in eval mode.

    Args:
        embedding_size: D.
        hidden: width of the two hidden layers.
        dropout: share of features and of hidden values left out in training.
    """

    name = "effect-encoder"
    mean: Tensor
    scale: Tensor

    def __init__(self, embedding_size: int = 256, hidden: int = 256, dropout: float = 0.3) -> None:
        super().__init__(embedding_size, RATE, minimum_samples=MINIMUM)
        check_option("hidden", hidden, 1, 8192)
        self.hidden, self.dropout = hidden, dropout
        self.features = EffectFeatures()
        size = self.features.size
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.layers = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(size, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.LayerNorm(hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, embedding_size - embedding_size // 4),
        )
        self.linear = nn.Linear(size, embedding_size // 4)

    def config(self) -> dict[str, Any]:
        return {"embedding_size": self.embedding_size, "hidden": self.hidden, "dropout": self.dropout}

    @torch.no_grad()
    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation of `[N, F]` as those by which features are standardised from now on."""
        self.mean.copy_(features.mean(dim=0))
        self.scale.copy_(features.std(dim=0, correction=0) + 1e-2)

    def embed(self, audio: Tensor) -> Tensor:
        return self.from_features(self.features(audio))

    def from_features(self, features: Tensor) -> Tensor:
        """`[B, F]` of `EffectFeatures` -> embeddings `[B, D]`."""
        standard = self.standard(features)
        return torch.cat([self.layers(standard), self.linear(standard)], dim=1)

    def standard(self, features: Tensor) -> Tensor:
        """`[B, F]` standardised, and clipped where audio is unlike any that was trained on."""
        return ((features - self.mean) / self.scale).clamp(-CLIP, CLIP)
