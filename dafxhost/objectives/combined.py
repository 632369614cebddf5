"""Sums of losses, as a config writes them: "mr-stft + 0.5 modulation + 0.2 embedding:pretrained"."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.errors import UsageError
from dafxhost.loss_terms import Term as Term
from dafxhost.loss_terms import parse_loss as parse_loss
from dafxhost.losses import GRANT_FFT_SIZES, MultiResolutionSTFT, TransferLoss, peak_normalise
from dafxhost.objectives.echo import EchoDistance
from dafxhost.objectives.embedding import EmbeddingDistance
from dafxhost.objectives.frames import check_renders
from dafxhost.objectives.magnitude import MagnitudeDistance
from dafxhost.objectives.modulation import ModulationDistance


def make_loss(
    text: str,
    *,
    sample_rate: int,
    fft_sizes: Sequence[int] = GRANT_FFT_SIZES,
    l1_weight: float = 0.0,
) -> TransferLoss | CombinedLoss:
    """The loss that `text` describes; of "mr-stft" alone a plain `TransferLoss`.

    Args:
        text: see `parse_loss`. sample_rate: of the audio, Hz.
        fft_sizes: of the multi-resolution STFT. l1_weight: of the waveforms' L1.

    Raises:
        UsageError: see `parse_loss`. UnknownNameError: no such encoder.
    """
    terms = parse_loss(text)
    if terms == (Term("mr-stft"),):
        return TransferLoss(fft_sizes, l1_weight=l1_weight)
    makers: dict[str, Callable[[Term], nn.Module]] = {
        "mr-stft": lambda term: MultiResolutionSTFT(fft_sizes),
        "magnitude": lambda term: MagnitudeDistance(),
        "modulation": lambda term: ModulationDistance(sample_rate),
        "echo": lambda term: EchoDistance(sample_rate),
        "embedding": lambda term: EmbeddingDistance(_encoder(term.encoder), sample_rate),
    }
    return CombinedLoss([(term.weight, makers[term.name](term)) for term in terms], l1_weight=l1_weight)


def _encoder(name: str) -> Any:
    from dafxhost.registry import encoder

    return encoder(name)


@dataclass(frozen=True)
class PreparedTerms:
    """What `CombinedLoss.prepare` keeps: the levelled audio `[B, C, T]`, and what each term keeps."""

    audio: Tensor
    kept: tuple[Any, ...]


class CombinedLoss(nn.Module):
    """A weighted sum of terms (and `l1_weight` times the waveforms' L1), all at one level.

    Prediction and target are brought to a peak of `dbfs` first, as `TransferLoss` does by default.

    Args:
        terms: (weight, module with `prepare` and `distance`), at least one.
    """

    def __init__(
        self, terms: Sequence[tuple[float, nn.Module]], l1_weight: float = 0.0, dbfs: float = -12.0
    ) -> None:
        super().__init__()
        if not terms:
            raise UsageError("a combined loss needs at least one term")
        self.weights = tuple(float(weight) for weight, _ in terms)
        self.terms = nn.ModuleList([term for _, term in terms])
        self.l1_weight, self.dbfs = float(l1_weight), float(dbfs)

    @torch.no_grad()
    def prepare(self, target: Tensor) -> PreparedTerms:
        """Levelled audio and what the terms keep of the targets `[B, C, T]`, for all their renders."""
        audio = peak_normalise(target.detach(), self.dbfs)
        return PreparedTerms(audio, tuple(term.prepare(audio) for term in self._each()))

    def distance(self, prediction: Tensor, target: PreparedTerms) -> Tensor:
        """Loss of every render `[B, K, C, T]` against its example's target -> `[B, K]`."""
        batch, channels, samples = target.audio.shape
        check_renders(prediction, (batch, channels, samples))
        prediction = peak_normalise(prediction, self.dbfs)
        total = prediction.new_zeros(prediction.shape[:2])
        for weight, term, kept in zip(self.weights, self._each(), target.kept, strict=True):
            total = total + weight * term.distance(prediction, kept)
        if self.l1_weight:
            l1 = (prediction - target.audio.unsqueeze(1)).abs().flatten(2).mean(dim=2)
            total = total + self.l1_weight * l1
        return total

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of predictions `[B, C, T]` against targets `[B, C, T]` -> `[B]`; no gradient to the target."""
        return self.distance(prediction.unsqueeze(1), self.prepare(target)).squeeze(1)

    def _each(self) -> list[Any]:
        return list(self.terms)
