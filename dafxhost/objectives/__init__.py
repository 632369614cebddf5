"""Losses besides the multi-resolution STFT, and their sums: for effects that act through time.

Every term has `prepare(target [B, C, T])` and `distance(renders [B, K, C, T], prepared) -> [B, K]`, as
`dafxhost.losses.TransferLoss` has, is differentiable in the renders, has no gradient to the target, and gives
NaN for a render that failed and for no other. `make_loss("mr-stft + 0.5 modulation", ...)` makes a sum.
"""

from __future__ import annotations

from dafxhost.objectives.combined import CombinedLoss, make_loss, parse_loss
from dafxhost.objectives.echo import EchoDistance
from dafxhost.objectives.embedding import EmbeddingDistance
from dafxhost.objectives.magnitude import MagnitudeDistance
from dafxhost.objectives.modulation import ModulationDistance

__all__ = [
    "CombinedLoss",
    "EchoDistance",
    "EmbeddingDistance",
    "MagnitudeDistance",
    "ModulationDistance",
    "make_loss",
    "parse_loss",
]
