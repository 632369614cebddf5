"""Perturbation along directions that are orthogonal to one another.

Choromanski et al., "Structured evolution with compact architectures for scalable policy optimization", ICML
2018, section 3: directions of an evolution strategy that are orthogonal within an example see different parts
of the gradient, and the variance is smaller than with independent ones. Here they are rows of a uniformly
random orthogonal matrix (QR of a Gaussian one), times sqrt(P), so that an entry's mean square is 1 as SPSA's
is. More directions than parameters take several matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.estimators.spsa import SPSA


class OrthogonalDirections(SPSA):
    """Mirrored pairs along random orthogonal directions.

    Args:
        step: root mean square of a parameter's moves, on 0..1; a number or one a parameter.
        directions: an example; each costs two renders.
    """

    def __init__(self, step: float | Sequence[float] | Tensor = 0.05, directions: int = 2) -> None:
        super().__init__(step, directions)

    def _directions(self, batch: int, parameters: int, generator: torch.Generator | None) -> Tensor:
        if parameters == 0:
            return torch.zeros(batch, self.directions, 0, dtype=torch.float64)
        frames = -(-self.directions // parameters)
        shape = (batch, frames, parameters, parameters)
        q, r = torch.linalg.qr(torch.randn(shape, generator=generator, dtype=torch.float64))
        # With the signs of R's diagonal the matrix is uniformly distributed (Mezzadri 2007).
        signs = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0)
        rows = (q * signs.unsqueeze(-2)).mT.flatten(1, 2)
        return parameters**0.5 * rows[:, : self.directions]
