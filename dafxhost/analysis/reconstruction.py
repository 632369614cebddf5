"""What an encoder can be asked beyond its embedding, found by the methods that it has.

None of them is part of `dafxhost.encoders.Encoder`. An encoder that has them gets the pictures that need
them; of one that has not, the page says so in a sentence:

- `inputs(dry, wet, sample_rate) -> [M, ...]` for clips `[B, C, T]`, M a multiple of B in the clips' order:
  what is reproduced. Without it `patches(spectrogram(prepare(audio, sample_rate)))` of the processed clips
  is taken, or `spectrogram` alone where there is no `patches`.
- `posterior(inputs) -> mean, log variance`, each `[M, D]`: the latents of a variational encoder; or
  `latents(inputs) -> [M, D]` of a plain autoencoder.
- `decode(latents, size) -> [M, *size]`, or `decode(latents)`: the way back.
- `reconstruct(inputs)`: through the latents' means, in the inputs' shape; else `decode` of `posterior` is
  taken.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from dafxhost.encoders import Encoder

AT_ONCE = 64
"""Pictures worked on at a time."""


class Reconstructor:
    """An encoder's abilities.

    Attributes:
        has_pictures, has_posterior, has_latents, has_decoder, has_reconstruction: what it has.
    """

    def __init__(self, encoder: Encoder) -> None:
        inner: Any = getattr(encoder, "inner", encoder)  # of a frozen copy
        self.encoder = inner

        def able(name: str) -> bool:
            return callable(getattr(inner, name, None))

        self.has_pictures = able("inputs") or able("spectrogram")
        self.has_posterior = self.has_pictures and able("posterior")
        self.has_latents = self.has_posterior or (self.has_pictures and able("latents"))
        self.has_decoder = self.has_latents and able("decode")
        self.has_reconstruction = self.has_pictures and (able("reconstruct") or self.has_decoder)

    def lacks(self) -> list[str]:
        """What there will be no picture of, one sentence each."""
        name = self.encoder.name or type(self.encoder).__name__
        out = []
        if not self.has_reconstruction:
            out.append(f"no reconstructions: {name} reconstructs nothing")
        if not self.has_posterior:
            out.append(f"no divergence from the prior: {name} gives no posterior")
        if not self.has_latents:
            out.append(f"no latents and no active units: {name} has none")
        if not self.has_decoder:
            out.append(f"no traversals and no variance along each latent: {name} has no decoder of latents")
        return out

    def pictures(self, dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> tuple[Tensor, np.ndarray]:
        """Clips `[B, C, T]` -> (inputs `[M, ...]`, whose they are `[M]` of 0..B-1)."""
        import torch

        a, b = (torch.from_numpy(np.ascontiguousarray(x, np.float32)) for x in (dry, wet))
        with torch.no_grad():
            if callable(getattr(self.encoder, "inputs", None)):
                out = self.encoder.inputs(a, b, sample_rate)
            else:
                spectrogram = self.encoder.spectrogram(self.encoder.prepare(b, sample_rate))
                cut: Any = getattr(self.encoder, "patches", None)
                out = spectrogram if cut is None else cut(spectrogram).flatten(0, 1)
        return out.cpu(), np.repeat(np.arange(len(dry)), len(out) // len(dry))

    def means(self, pictures: Tensor) -> np.ndarray:
        """Inputs `[M, ...]` -> latents `[M, D]`, the means where they are distributions, float64."""
        import torch

        if self.has_posterior:
            return self.posterior(pictures)[0]
        with torch.no_grad():
            parts = [self.encoder.latents(part) for part in pictures.split(AT_ONCE)]
        return torch.cat(parts).double().cpu().numpy()

    def posterior(self, pictures: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Inputs `[M, ...]` -> mean and log variance `[M, D]`, float64."""
        import torch

        with torch.no_grad():
            parts = [self.encoder.posterior(part) for part in pictures.split(AT_ONCE)]
        mean, spread = (torch.cat([part[i] for part in parts]).double().cpu().numpy() for i in (0, 1))
        return mean, spread

    def decode(self, latents: np.ndarray, size: tuple[int, ...]) -> Tensor:
        """Latents `[M, D]` -> `[M, *size]`, on the CPU."""
        import torch

        sized = len(inspect.signature(self.encoder.decode).parameters) > 1
        with torch.no_grad():
            parts = torch.as_tensor(latents, dtype=torch.float32).split(AT_ONCE)
            out = [self.encoder.decode(part, size) if sized else self.encoder.decode(part) for part in parts]
        return torch.cat(out).reshape(-1, *size).cpu()

    def reconstruct(self, pictures: Tensor) -> Tensor:
        """Inputs `[M, ...]` -> the same through the latents' means, in the same shape."""
        import torch

        direct: Any = getattr(self.encoder, "reconstruct", None)
        if direct is None:
            return self.decode(self.means(pictures), tuple(pictures.shape[1:]))
        with torch.no_grad():
            return torch.cat([direct(part) for part in pictures.split(AT_ONCE)]).cpu()
