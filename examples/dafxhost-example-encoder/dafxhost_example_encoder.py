"""Octave band levels: everything that a package needs to add an audio encoder to dafxhost."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from dafxhost.registry import EncoderSpec, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@hookimpl
def dafxhost_encoders() -> list[EncoderSpec]:
    """What this package adds. torch is imported only when somebody asks for it."""
    return [EncoderSpec("example-band-levels", "dafxhost_example_encoder:make", "Levels of octave bands.")]


def make(bands: int = 8, sample_rate: int = 24_000) -> Any:
    """The encoder; its options are those of `dafxhost.encoder("example-band-levels", bands=...)`."""
    import torch

    from dafxhost.encoders import Encoder, check_option

    class BandLevels(Encoder):
        """Mean and deviation over time of the level (bel) in octave bands below half the sample rate."""

        name = "example-band-levels"

        def __init__(self) -> None:
            check_option("bands", bands, 2, 9)
            super().__init__(embedding_size=2 * bands, sample_rate=sample_rate, minimum_samples=1024)
            self.register_buffer("window", torch.hann_window(1024), persistent=False)

        def config(self) -> dict[str, Any]:
            return {"bands": bands, "sample_rate": self.sample_rate}

        def embed(self, audio: Tensor) -> Tensor:
            """Mono `[B, T]` at `self.sample_rate` -> `[B, 2 * bands]`. All else is done by `Encoder`."""
            window = self.get_buffer("window")
            spectrum = torch.stft(audio, 1024, 512, 1024, window, return_complex=True)  # [B, 513, frames]
            power = torch.view_as_real(spectrum).square().sum(-1) / 1024
            edges = [0, *(512 >> shift for shift in reversed(range(bands)))]
            levels = torch.stack([power[:, low + 1 : high + 1].mean(1) for low, high in pairwise(edges)], 1)
            levels = (levels + 1e-8).log10()  # [B, bands, frames]
            deviation = (levels.var(-1, unbiased=False) + 1e-6).sqrt()
            return torch.cat([levels.mean(-1), deviation], dim=1)

    return BandLevels()
