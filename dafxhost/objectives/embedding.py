"""What an encoder hears: the distance of embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dafxhost.encoders import Encoder
from dafxhost.errors import UsageError
from dafxhost.objectives.frames import Descriptive


class EmbeddingDistance(Descriptive):
    """``mean |a - b| / mean |b|`` of a frozen encoder's embeddings a of a render and b of its target.

    Channels are heard as the encoder hears them. A render that is not finite is not shown to the encoder; its
    distance is NaN. A gradient to the audio (signal space) is there where the encoder gives one; of one that
    does not, asking for it is a UsageError.

    Args:
        encoder: is frozen, and stays in eval mode whatever mode this module is in.
        sample_rate: of the audio, Hz.
        scale: `[D]`, what each entry is divided by first (a deviation over other audio, say); without it
            entries count as they are.
    """

    scale: Tensor

    def __init__(self, encoder: Encoder, sample_rate: int, scale: Tensor | None = None) -> None:
        super().__init__()
        encoder.freeze()
        self.encoder, self.sample_rate = encoder, sample_rate
        size = encoder.embedding_size
        self.register_buffer("scale", torch.ones(size) if scale is None else scale.detach().clone())

    def train(self, mode: bool = True) -> EmbeddingDistance:
        nn.Module.train(self, mode)
        self.encoder.eval()
        return self

    def describe(self, audio: Tensor) -> tuple[Tensor, ...]:
        good = audio.isfinite().flatten(1).all(dim=1)
        heard = torch.where(good[:, None, None], audio, 0.0)
        embedded = self.encoder(heard, self.sample_rate) / self.scale
        if torch.is_grad_enabled() and audio.requires_grad and not embedded.requires_grad:
            raise UsageError(
                f"encoder {self.encoder.name!r} gives no gradient to audio; train in loss space "
                '(space = "loss"), or take another encoder, e.g. embedding:log-mel'
            )
        return (torch.where(good[:, None], embedded, torch.nan),)

    def compare(self, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> Tensor:
        away = (ours[0] - theirs[0]).abs().mean(dim=-1)
        return away / theirs[0].abs().mean(dim=-1).clamp(min=1e-6)
