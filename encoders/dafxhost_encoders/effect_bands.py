"""Power spectra and ranges of bins, for the features of the effect encoder."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor


def log_bands(low: int, high: int, count: int) -> list[tuple[int, int]]:
    """At most `count` ranges of whole numbers from `low` to `high`, even on a logarithmic axis."""
    edges = np.unique(np.round(np.geomspace(low, high, count + 1)).astype(int))
    return [(int(a), int(b)) for a, b in itertools.pairwise(edges)]


def power(audio: Tensor, window: Tensor, hop: int) -> Tensor:
    """`[B, T]` -> `[B, bins, frames]`; no frame reaches beyond the ends."""
    n = window.shape[0]
    spectrum = torch.stft(audio, n, hop, n, window, center=False, return_complex=True)
    return spectrum.real.square() + spectrum.imag.square()
