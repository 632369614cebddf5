"""SPSA in blocks: each direction moves its own share of the parameters.

The parameters are divided at random into as many blocks as there are directions, as equal as they go;
direction k moves block k by random signs and leaves the rest alone. Such directions are orthogonal to one
another (Choromanski et al. 2018 show what that saves), for any number of parameters, and no difference is
disturbed by the parameters of other blocks: the variance of an entry is that of SPSA with one direction times
(P / D - 1) / (P - 1) instead of 1 / D. One direction is SPSA, P directions are central differences.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.estimators.spsa import SPSA, random_signs


class BlockSPSA(SPSA):
    """Two-sided SPSA, the parameters divided among the directions anew every time.

    Args:
        step: c, on 0..1; a number or one a parameter.
        directions: blocks; each costs two renders. More than there are parameters divide them several times.
    """

    def __init__(self, step: float | Sequence[float] | Tensor = 0.05, directions: int = 2) -> None:
        super().__init__(step, directions)

    def _directions(self, batch: int, parameters: int, generator: torch.Generator | None) -> Tensor:
        signs = random_signs((batch, self.directions, parameters), generator)
        return signs * self._blocks(batch, parameters, generator)

    def _blocks(self, batch: int, parameters: int, generator: torch.Generator | None) -> Tensor:
        """`[B, D, P]`: 1 where a direction moves a parameter, else 0."""
        parts, left = [], self.directions
        while left:
            blocks = min(left, max(parameters, 1))
            order = torch.rand(batch, parameters, generator=generator, dtype=torch.float64).argsort(dim=1)
            block = order % blocks
            parts.append(block.unsqueeze(1) == torch.arange(blocks).unsqueeze(-1))
            left -= blocks
        return torch.cat(parts, dim=1).to(torch.float64)
