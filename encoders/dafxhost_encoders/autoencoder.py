"""What all autoencoders share: encoders that can also rebuild what they see, and how well they do it."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dafxhost.encoders import Encoder
from dafxhost.errors import UsageError
from dafxhost_encoders.vae_network import divergence, sample


class Autoencoder(Encoder):
    """An encoder with a decoder: inputs `[M, ...]` -> latents `[M, D]` -> the same inputs.

    A subclass writes, besides what an encoder has, `inputs`, `fit_scale`, `scaled`, `unscaled`, and the two
    networks `encode_scaled` and `decode_scaled`. Networks see scaled inputs, and the loss is taken on those.

    Attributes:
        variational: whether the latents are distributions, sampled in train mode and drawn towards the
            standard normal; else they are points, and there is no divergence.
        beta: weight of the divergence (Higgins 2017).
    """

    variational: bool = True
    beta: float = 1.0

    @abstractmethod
    def inputs(self, clean: Tensor, processed: Tensor, sample_rate: int) -> Tensor:
        """Clips `[B, C, T]` before and after an effect -> what is rebuilt, `[M, ...]`, no gradient.

        M is a multiple of B, in the clips' order. Raises as `forward` does.
        """

    @abstractmethod
    def fit_scale(self, inputs: Tensor) -> None:
        """Take centre and spread of inputs `[M, ...]` as those by which they are scaled from now on."""

    @abstractmethod
    def scaled(self, inputs: Tensor) -> Tensor:
        """Inputs -> what the network sees: about zero mean and unit variance. Raises ShapeError."""

    @abstractmethod
    def unscaled(self, scaled: Tensor) -> Tensor:
        """The inverse of `scaled`."""

    @abstractmethod
    def encode_scaled(self, scaled: Tensor) -> tuple[Tensor, Tensor]:
        """-> mean and log variance of the latents, `[M, D]`; the second is ignored if not variational."""

    @abstractmethod
    def decode_scaled(self, latents: Tensor, size: tuple[int, ...]) -> Tensor:
        """Latents `[M, D]` -> scaled inputs `[M, *size]`."""

    def units(self, inputs: Tensor) -> Tensor:
        """Inputs in the units in which their errors are compared; as they are, unless overridden."""
        return inputs

    def latents(self, inputs: Tensor) -> Tensor:
        """Inputs `[M, ...]` -> latents `[M, D]`, the means where they are distributions."""
        return self.encode_scaled(self.scaled(inputs))[0]

    def decode(self, latents: Tensor, size: tuple[int, ...]) -> Tensor:
        """Latents `[M, D]` -> inputs `[M, *size]`."""
        return self.unscaled(self.decode_scaled(latents, size))

    def reconstruct(self, inputs: Tensor) -> Tensor:
        """Inputs -> the same through the latents, same shape; sampled in train mode if variational."""
        return self.unscaled(self._through(self.scaled(inputs))[0])

    def loss(self, inputs: Tensor, weight: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """(total, reconstruction, divergence) of inputs `[M, ...]`, scalars.

        The reconstruction error is the mean square over all elements of the scaled inputs, so that 1 is what
        their mean reaches. The divergence is in nats, summed over the latents and averaged over the inputs.
        total = reconstruction + weight * beta * divergence / elements of an input: up to a factor, the
        evidence lower bound with a normal likelihood of half the scaled variance. `weight` is for schedules.
        """
        scaled = self.scaled(inputs)
        output, mean, log_variance = self._through(scaled)
        error = (output - scaled).square().mean()
        if not self.variational:
            return error, error, torch.zeros_like(error)
        nats = divergence(mean, log_variance).sum(dim=1).mean()
        return error + weight * self.beta * nats / inputs[0].numel(), error, nats

    def _through(self, scaled: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.encode_scaled(scaled)
        latents = sample(mean, log_variance) if self.training and self.variational else mean
        return self.decode_scaled(latents, tuple(scaled.shape[1:])), mean, log_variance


class VariationalAutoencoder(Autoencoder):
    """An `Autoencoder` whose latents are distributions."""

    def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs `[M, ...]` -> mean and log variance of the latents, each `[M, D]`."""
        return self.encode_scaled(self.scaled(inputs))


def check_beta(beta: Any) -> float:
    """`beta` as a float. Raises UsageError unless it is 0 or more."""
    if isinstance(beta, bool) or not isinstance(beta, int | float) or not (beta >= 0 and math.isfinite(beta)):
        raise UsageError(f"encoder option beta must be 0 or more, not {beta!r}")
    return float(beta)


@dataclass(frozen=True)
class Quality:
    """How well an autoencoder reproduces its inputs, through the latents' means.

    Attributes:
        explained: fraction of variance explained, 1 - error / error of the best constant. 0 is no better than
            a constant (one number for all elements), 1 is perfect.
        explained_beyond_mean: the same against the inputs' own mean, which is one number a frequency band
            (the mean spectrum), or one number an element of an embedding.
        rmse, constant_rmse: root mean square error, and that of the constant.
        mean_magnitude: mean of the inputs' absolute values.
        divergence: nats an input (0 for a plain autoencoder).
        active_latents: latents that tell inputs apart (variance of their mean above 0.01; Burda 2016).
        latents: how many there are.
        inputs: how many were measured.
    """

    explained: float
    explained_beyond_mean: float
    rmse: float
    constant_rmse: float
    mean_magnitude: float
    divergence: float
    active_latents: int
    latents: int
    inputs: int


def measure(encoder: Autoencoder, inputs: Tensor, batch_size: int = 64) -> Quality:
    """Reconstruct inputs `[M, bands, frames]` or `[M, elements]` in eval mode and compare."""
    was_training = encoder.training
    encoder.eval()
    outputs, means, nats = [], [], []
    with torch.no_grad():
        for part in inputs.split(batch_size):
            output, mean, log_variance = encoder._through(encoder.scaled(part))
            outputs.append(encoder.units(encoder.unscaled(output)))
            means.append(mean)
            if encoder.variational:
                nats.append(divergence(mean, log_variance).sum(dim=1))
        inputs = encoder.units(inputs)
    encoder.train(was_training)
    error = float((torch.cat(outputs) - inputs).square().mean())
    constant = float(inputs.var(unbiased=False))
    over = (0, 2) if inputs.ndim == 3 else (0,)
    own_mean = float(inputs.var(dim=over, unbiased=False).mean())
    active = torch.cat(means).var(dim=0, unbiased=False) > 0.01
    return Quality(
        explained=1 - error / max(constant, 1e-12),
        explained_beyond_mean=1 - error / max(own_mean, 1e-12),
        rmse=error**0.5,
        constant_rmse=constant**0.5,
        mean_magnitude=float(inputs.abs().mean()),
        divergence=float(torch.cat(nats).mean()) if nats else 0.0,
        active_latents=int(active.sum()),
        latents=len(active),
        inputs=len(inputs),
    )
