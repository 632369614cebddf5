"""Multi-resolution magnitudes without their logarithm.

The logarithm gives a bin 60 dB below the others the same say as the loudest: the gaps between echoes and the
notches of a comb then decide. Without it the distance goes by what carries the energy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dafxhost.errors import ShapeError, UsageError
from dafxhost.objectives.frames import Descriptive, power_spectra

SIZES = (128, 512, 2048, 8192)
"""FFT sizes left of Grant's six: in magnitudes, the shortest and the longest add cost and little else."""
_LEAST = 1e-10


class MagnitudeDistance(Descriptive):
    """``mean |A - B| / mean B`` of the magnitudes A of a render and B of its target, the mean over FFT sizes.

    Hann windows, hop a half, no frame beyond the ends. Relative to the target's mean magnitude at each size,
    so that sizes count alike and 1 is about as far as silence is. Sizes longer than the clip are left out.

    Args:
        fft_sizes: even numbers of at least 4.
    """

    def __init__(self, fft_sizes: Sequence[int] = SIZES) -> None:
        super().__init__()
        if not fft_sizes or any(n < 4 or n % 2 for n in fft_sizes):
            raise UsageError(f"FFT sizes must be even numbers of at least 4, not {list(fft_sizes)}")
        self.fft_sizes = tuple(fft_sizes)
        for n in self.fft_sizes:
            self.register_buffer(f"window_{n}", torch.hann_window(n), persistent=False)

    def describe(self, audio: Tensor) -> tuple[Tensor, ...]:
        clips, channels, samples = audio.shape
        sizes = [n for n in self.fft_sizes if n <= samples]
        if not sizes:
            raise ShapeError(
                f"a clip of {samples} samples is too short for an FFT size of {min(self.fft_sizes)}"
            )
        flat = audio.flatten(0, 1)
        return tuple(
            (power_spectra(flat, self.get_buffer(f"window_{n}"), n // 2) + _LEAST)
            .sqrt()
            .unflatten(0, (clips, channels))
            for n in sizes
        )

    def compare(self, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> Tensor:
        values = [
            (a - b).abs().flatten(2).mean(dim=2) / b.flatten(2).mean(dim=2)
            for a, b in zip(ours, theirs, strict=True)
        ]
        return torch.stack(values).mean(dim=0)
