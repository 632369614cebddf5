"""What the latents of a variational encoder carry, and how many of them the data need.

In a variational autoencoder with a Gaussian likelihood of variance s^2 and a weight beta on the divergence, a
direction of the data whose variance is below beta s^2 costs more to transmit than it repays: the linear case
is solved exactly by probabilistic PCA (Lucas et al., "Don't Blame the ELBO!", NeurIPS 2019, section 4), and
is the reverse water-filling of rate-distortion theory (Cover and Thomas, section 10.3.3). Its latent then
falls back to the prior. So the number of latents in use is decided by the data and beta, not by the latent
size, as long as that is large enough; docs/analysis.md has the derivation and a measured test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from dafxhost.analysis.reconstruction import Reconstructor

ACTIVE = 0.01
"""Variance of a latent's mean over the data above which it is active (Burda et al. 2016, section 5.3)."""
ENOUGH = 0.99
"""Share of what all latents explain that the recommended number must explain."""
CARRYING = 0.1
"""Nats above which a latent is said to carry something: in measured trainings this told used latents from
unused ones, where the variance of the mean counted up to three times as many (docs/analysis.md)."""
PROBES = 16
"""Pictures on which the variance along each latent is measured."""
JUDGES = 64
"""Pictures on which reduced numbers of latents are measured."""


@dataclass(frozen=True)
class LatentStatistics:
    """D latents over M pictures.

    Attributes:
        divergence: `[D]` mean KL divergence of each from the prior, nats; None of a plain autoencoder.
        spread: `[D]` variance of its mean.
        active: how many have a `spread` above 0.01. size: D.
        output: `[D]` variance that each latent causes in the decoder's output, as a share of the pictures'
            variance; None without a decoder. order: `[D]` latents by `output` (else by divergence), largest
            first.
        kept, explained: how much of the pictures' variance is explained if only so many latents, in `order`,
            are kept and the others held at their mean; empty without a decoder.
        recommended: the smallest such number that explains 99 % of what all do; None without a decoder.
    """

    divergence: np.ndarray | None
    spread: np.ndarray
    active: int
    size: int
    order: np.ndarray
    output: np.ndarray | None = None
    kept: tuple[int, ...] = ()
    explained: tuple[float, ...] = ()
    recommended: int | None = None

    @property
    def carrying(self) -> int:
        """Latents whose divergence is above 0.1 nats; 0 of a plain autoencoder."""
        return 0 if self.divergence is None else int((self.divergence > CARRYING).sum())

    def advice(self) -> str:
        """What to do about the latent size, as a sentence or two."""
        if self.divergence is None:
            return self._without_prior()
        if not self.carrying:
            return (
                f"No latent carries {CARRYING:g} nats: the decoder ignores them. Lower beta, or warm it up, "
                "or train for longer; the size says nothing before that."
            )
        if self.carrying >= 0.95 * self.size:
            text = (
                f"{self.carrying} of {self.size} latents carry more than {CARRYING:g} nats: the size is the "
                f"limit; try {2 * self.size}, or a larger beta."
            )
        else:
            text = (
                f"{self.carrying} of {self.size} latents carry more than {CARRYING:g} nats "
                f"({self.active} are active by the variance of their mean): at this beta a size of "
                f"{self.carrying} carries nearly the same, and a larger one would add unused latents."
            )
        if self.recommended is not None:
            percent = round(100 * ENOUGH)
            text += f" {self.recommended} carry {percent} % of what they explain together."
        return text

    def _without_prior(self) -> str:
        text = "A plain autoencoder has no prior that would silence latents: its size is not read from them."
        if self.recommended is not None:
            percent = round(100 * ENOUGH)
            text += f" {self.recommended} of {self.size} carry {percent} % of what they explain together."
        return text


def divergences(mean: np.ndarray, log_variance: np.ndarray) -> np.ndarray:
    """KL divergence of N(mean, exp(log_variance)) from N(0, 1), nats, elementwise (Kingma 2014, app. B)."""
    return 0.5 * (np.square(mean) + np.exp(log_variance) - log_variance - 1.0)


def study(reconstructor: Reconstructor, pictures: Tensor, *, seed: int = 0) -> LatentStatistics:
    """Measure the latents on pictures `[M, ...]`; it takes a posterior and a decoder for all of it."""
    mean, nats = reconstructor.means(pictures), None
    if reconstructor.has_posterior:
        nats = divergences(*reconstructor.posterior(pictures)).mean(axis=0)
    spread = mean.var(axis=0)
    active, size = int((spread > ACTIVE).sum()), mean.shape[1]
    if not reconstructor.has_decoder or len(pictures) < 2:
        ranked = spread if nats is None else nats
        return LatentStatistics(nats, spread, active, size, np.argsort(-ranked, kind="stable"))
    rng = np.random.default_rng([seed, 31])
    output = output_variance(reconstructor, mean, pictures, rng)
    order = np.argsort(-output, kind="stable")
    kept, explained = truncation(reconstructor, mean, pictures, order, rng)
    full = explained[-1]
    # Where nothing is explained there is nothing to share out.
    enough = next((k for k, e in zip(kept, explained, strict=True) if full > 0 and e >= ENOUGH * full), None)
    return LatentStatistics(nats, spread, active, size, order, output, kept, explained, enough)


def output_variance(
    reconstructor: Reconstructor, mean: np.ndarray, pictures: Tensor, rng: np.random.Generator
) -> np.ndarray:
    """`[D]`: variance that each latent causes in the output, as a share of the pictures' own.

    Half the mean square of the change that comes of giving a picture another picture's value of one latent:
    of a linear decoder w this is |w_d|^2 Var(z_d). It is not measured for latents that hardly vary, and is 0
    there.
    """
    chosen = rng.permutation(len(mean))[:PROBES]
    others = rng.integers(0, len(mean), (mean.shape[1], len(chosen)))
    size = tuple(pictures.shape[1:])
    before = reconstructor.decode(mean[chosen], size).double()
    total = max(float(pictures.double().var(dim=0, unbiased=False).sum()), 1e-12)
    out = np.zeros(mean.shape[1])
    for d in np.flatnonzero(mean.var(axis=0) > ACTIVE / 10):
        changed = mean[chosen].copy()
        changed[:, d] = mean[others[d], d]
        after = reconstructor.decode(changed, size).double()
        out[d] = float((after - before).square().sum()) / 2 / len(chosen) / total
    return out


def truncation(
    reconstructor: Reconstructor,
    mean: np.ndarray,
    pictures: Tensor,
    order: np.ndarray,
    rng: np.random.Generator,
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """(numbers of latents kept, variance explained): the first ones of `order`, others at their mean.

    Variance is that about the mean picture, so that no latent at all explains about 0.
    """
    chosen = rng.permutation(len(mean))[:JUDGES]
    truth = pictures[chosen].double()
    centre = pictures.double().mean(dim=0)
    variance = max(float((truth - centre).square().sum()), 1e-12)
    size = tuple(pictures.shape[1:])
    counts = sorted({0, len(order), *(round(2 ** (i / 2)) for i in range(40) if 2 ** (i / 2) < len(order))})
    explained = []
    for count in counts:
        reduced = np.repeat(mean.mean(axis=0)[None], len(chosen), axis=0)
        reduced[:, order[:count]] = mean[chosen][:, order[:count]]
        error = float((reconstructor.decode(reduced, size).double() - truth).square().sum())
        explained.append(1 - error / variance)
    return tuple(counts), tuple(explained)


def traverse(
    reconstructor: Reconstructor, mean: np.ndarray, latents: np.ndarray, size: tuple[int, ...], steps: int = 7
) -> tuple[np.ndarray, np.ndarray]:
    """(decoded `[len(latents), steps, *size]`, deviations `[steps]` from -2.5 to 2.5).

    Each of `latents` is moved through its own distribution over the data, the others at their means.
    """
    deviations = np.linspace(-2.5, 2.5, steps)
    centre, spread = mean.mean(axis=0), mean.std(axis=0)
    rows = np.repeat(centre[None], len(latents) * steps, axis=0)
    for i, d in enumerate(latents):
        rows[i * steps : (i + 1) * steps, d] += deviations * spread[d]
    decoded = reconstructor.decode(rows, size).numpy()
    return decoded.reshape(len(latents), steps, *size), deviations
