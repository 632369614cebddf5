"""The effect encoder's fixed features as an encoder of their own, with nothing to train."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dafxhost.encoders import Encoder, check_option
from dafxhost.errors import UsageError
from dafxhost_encoders import effect_cepstrum
from dafxhost_encoders.effect_features import MINIMUM, RATE, EffectFeatures
from dafxhost_encoders.effect_peaks import PACKED, TOLERANCES, Peaks, pack, unpack

CLIP = 6.0
"""Deviations from the mean beyond which a feature counts no further."""
MOST_EXAMPLES = 6000
"""On which columns are chosen."""
ROUND = 16
"""Columns chosen between two regressions."""


class FeatureEncoder(Encoder):
    """`EffectFeatures` as an embedding `[B, D]`; controllers see references and differences to inputs.

    Both are standardised by what `fit_pairs` saw, the difference by a deviation of its own: what the content
    adds to a feature cancels there and leaves a much smaller one. Of the 2 D columns only those are kept that
    tell most about the settings (simultaneous orthogonal matching pursuit: Tropp, Gilbert and Strauss 2006),
    which makes a controller small enough to be shipped.

    Args:
        columns: how many; 0 keeps all.
        peaks: embeddings also hold where echoes, carriers and movements lie (`effect_peaks`), from which
            landmarks are learned (`dafxhost.training.landmarks`); controllers see nothing of them.
        cepstrum: embeddings also hold the mean cepstrum (`effect_cepstrum`), in which signatures of settings
            are looked for (`dafxhost.training.signatures`).
    """

    name = "effect-features"
    chosen: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, columns: int = 768, peaks: bool = False, cepstrum: bool = False) -> None:
        check_option("columns", columns, 0)
        features = EffectFeatures()
        more = (PACKED if peaks else 0) + (effect_cepstrum.SIZE if cepstrum else 0)
        super().__init__(features.size + more, RATE, minimum_samples=MINIMUM)
        if columns > 2 * features.size:
            raise UsageError(f"there are {2 * features.size} columns, not {columns}")
        self.features, self.columns = features, columns
        self.finder = Peaks() if peaks else None
        self.peak_tolerances = TOLERANCES if peaks else ()
        self.steady = effect_cepstrum.SteadyCepstrum() if cepstrum else None
        self.cepstrum_size = effect_cepstrum.SIZE if cepstrum else 0
        kept = columns or 2 * features.size
        self.register_buffer("chosen", torch.arange(kept))
        self.register_buffer("mean", torch.zeros(kept))
        self.register_buffer("scale", torch.ones(kept))

    def config(self) -> dict[str, Any]:
        more = {"peaks": self.finder is not None, "cepstrum": self.steady is not None}
        return {"columns": self.columns, **{name: True for name, has in more.items() if has}}

    @torch.no_grad()
    def embed(self, audio: Tensor) -> Tensor:
        parts = [self.features(audio)]
        if self.finder is not None:
            parts.append(pack(self.finder(audio)))
        if self.steady is not None:
            parts.append(self.steady(audio))
        return torch.cat(parts, dim=1)

    @property
    def described(self) -> int:
        return self.features.size

    def peaks(self, embedding: Tensor) -> Tensor:
        if self.finder is None:
            return super().peaks(embedding)
        return unpack(embedding[:, self.features.size :][:, :PACKED])

    def cepstrum(self, embedding: Tensor) -> Tensor:
        if self.steady is None:
            return super().cepstrum(embedding)
        return embedding[:, -self.cepstrum_size :]

    def cepstrum_of(self, audio: Tensor) -> Tensor:
        return super().cepstrum_of(audio) if self.steady is None else self.steady(audio)

    def _both(self, dry: Tensor, reference: Tensor) -> Tensor:
        dry, reference = dry[:, : self.features.size], reference[:, : self.features.size]
        return torch.cat([reference, reference - dry], dim=1)

    @property
    def pair_size(self) -> int:
        return len(self.chosen)

    def pair(self, dry: Tensor, reference: Tensor) -> Tensor:
        both = self._both(dry, reference)[:, self.chosen]
        return ((both - self.mean) / self.scale).clamp(-CLIP, CLIP)

    @torch.no_grad()
    def fit_pairs(self, dry: Tensor, reference: Tensor, targets: Tensor) -> None:
        both = self._both(dry, reference)
        mean, scale = both.mean(dim=0), both.std(dim=0, correction=0) + 1e-2
        if self.columns:
            some = slice(0, None, -(-len(both) // MOST_EXAMPLES))
            standard = ((both[some] - mean) / scale).clamp(-CLIP, CLIP)
            self.chosen.copy_(most_telling(standard, targets[some], self.columns))
        self.mean.copy_(mean[self.chosen])
        self.scale.copy_(scale[self.chosen])


def most_telling(columns: Tensor, targets: Tensor, count: int) -> Tensor:
    """Indices `[count]` of the columns `[N, D]` from which a linear map best gives the targets `[N, K]`.

    Greedy, `ROUND` at a time: those most correlated with what those before leave of the targets.
    """
    columns = columns - columns.mean(dim=0)
    columns = columns / columns.norm(dim=0).clamp(min=1e-6)
    left = targets - targets.mean(dim=0)
    left = left / left.norm(dim=0).clamp(min=1e-6)
    free = torch.ones(columns.shape[1], dtype=torch.bool)
    basis = columns.new_zeros(len(columns), 0)
    chosen: list[Tensor] = []
    while sum(map(len, chosen)) < count:
        gain = (columns.T @ left).square().sum(dim=1).masked_fill(~free, -1.0)
        new = gain.topk(min(ROUND, count - sum(map(len, chosen)))).indices
        free[new] = False
        chosen.append(new)
        added = columns[:, new]
        added = added - basis @ (basis.T @ added)
        added, size = torch.linalg.qr(added)
        added = added[:, size.diagonal().abs() > 1e-3]  # what those before did not hold already
        basis = torch.cat([basis, added], dim=1)
        left = left - added @ (added.T @ left)
    return torch.cat(chosen)
