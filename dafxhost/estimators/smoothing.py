"""Gaussian smoothing: antithetic evolution strategies.

The gradient of a loss averaged over a Gaussian cloud of settings around u, of deviation c, is

    d/du E y(u + c z) = E [(y(u + c z) - y(u - c z)) z / (2 c)],    z ~ N(0, I),

estimated from mirrored pairs: Wierstra et al., "Natural evolution strategies", Journal of Machine Learning
Research 15, 2014; Salimans et al., "Evolution strategies as a scalable alternative to reinforcement
learning", 2017, sections 2 and 2.1 (of the search distribution's parameters only the mean is moved). SPSA
smooths over the corners of a box instead, always at one distance.

Moves are clipped to 0..1; see `plan_directions` for why the estimate stays unbiased for linear functions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.estimators.spsa import SPSA


class GaussianSmoothing(SPSA):
    """Mirrored Gaussian perturbations, `directions` of them averaged.

    Args:
        step: c, the standard deviation, on 0..1; a number or one a parameter.
        directions: pairs an example; each costs two renders.
    """

    def __init__(self, step: float | Sequence[float] | Tensor = 0.05, directions: int = 1) -> None:
        super().__init__(step, directions)

    def _directions(self, batch: int, parameters: int, generator: torch.Generator | None) -> Tensor:
        shape = (batch, self.directions, parameters)
        return torch.randn(shape, generator=generator, dtype=torch.float64)
