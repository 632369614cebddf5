"""Audio back from what a spectrogram autoencoder rebuilt: reconstructions, traversals, new sounds."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from dafxhost.encoders import PEAK, load_encoder
from dafxhost.errors import AudioFileError, UsageError
from dafxhost_encoders.spectrogram_vae import SpectrogramAutoencoder

PHASES = ("input", "griffin-lim")
_AT_ONCE = 256
"""Patches rebuilt at a time."""


def load_autoencoder(path: str | Path) -> SpectrogramAutoencoder:
    """The spectrogram autoencoder saved at `path`. Raises RunError, and UsageError for another encoder."""
    encoder = load_encoder(path)
    if not isinstance(encoder, SpectrogramAutoencoder):
        raise UsageError(
            f"{path} holds the encoder {encoder.name!r}, which rebuilds no spectrogram; make one with "
            "`dafxhost pretrain spectrogram-vae` or `dafxhost pretrain mel-cae`"
        )
    return encoder


@torch.no_grad()
def reconstruct_audio(
    encoder: SpectrogramAutoencoder, audio: Tensor, sample_rate: int, *, phase: str = "input"
) -> tuple[Tensor, float]:
    """A clip `[C, T]` at `sample_rate` Hz through the latents' means.

    Args:
        phase: "input": the input's own, so that one hears what the magnitudes lost and nothing else;
            "griffin-lim": found from the magnitudes alone.

    Returns:
        (`[1, T']` at the encoder's rate and at the input's peak, fraction of the variance of the compressed
        spectrogram that is explained).

    Raises:
        UsageError, ShapeError: as `Encoder.forward`. AudioFileError: silence.
    """
    mono, peak = _prepared(encoder, audio, sample_rate)
    wanted = encoder.spectrogram(mono)
    got = rebuilt(encoder, wanted, None)
    explained = 1.0 - float((got - wanted).square().mean() / wanted.var(unbiased=False).clamp(min=1e-12))
    return _sound(encoder, got, mono, phase) * (peak / PEAK), explained


@torch.no_grad()
def traverse_audio(
    encoder: SpectrogramAutoencoder,
    audio: Tensor,
    sample_rate: int,
    latent: int,
    *,
    span: float = 3.0,
    steps: int = 5,
    phase: str = "input",
) -> Tensor:
    """A clip `[C, T]` with one latent moved, by -span .. span of its own deviation over the clip's patches.

    A latent that hardly moves within the clip is moved by parts of 1, the prior's deviation.

    Returns:
        `[steps, T']` at the encoder's rate and the input's peak.

    Raises:
        UsageError: no such latent. As `reconstruct_audio` besides.
    """
    if not 0 <= latent < encoder.embedding_size:
        raise UsageError(f"latent {latent} is none of 0..{encoder.embedding_size - 1}")
    if not 1 <= steps <= 100 or not 0 < span <= 100:
        raise UsageError("a traversal takes 1..100 steps and a span above 0, at most 100")
    mono, peak = _prepared(encoder, audio, sample_rate)
    spectrogram = encoder.spectrogram(mono)
    means = encoder.latents(encoder.patches(spectrogram).flatten(0, 1))[:, latent]
    unit = max(1.0, float(means.std(correction=0))) if encoder.variational else float(means.abs().max())
    out = []
    for move in torch.linspace(-span, span, steps) if steps > 1 else torch.zeros(1):
        shift = torch.zeros(encoder.embedding_size)
        shift[latent] = float(move) * unit
        out.append(_sound(encoder, rebuilt(encoder, spectrogram, shift), mono, phase))
    return torch.cat(out) * (peak / PEAK)


@torch.no_grad()
def generate_audio(encoder: SpectrogramAutoencoder, count: int = 1, seed: int = 1) -> Tensor:
    """Sounds from latents drawn from the prior, one patch long, by Griffin-Lim -> `[count, T']`, peak 1/4.

    Raises:
        UsageError: a plain autoencoder, which has no prior, or an impossible count.
    """
    if not encoder.variational:
        raise UsageError(f"{encoder.name} has no prior to draw latents from; a VAE has (spectrogram-vae)")
    if not 1 <= count <= 1000:
        raise UsageError(f"1 to 1000 sounds can be generated, not {count}")
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, encoder.embedding_size, generator=generator)
    size = (encoder.compressed.bands, encoder.patch_frames)
    spectrogram = encoder.decode(latents, size)
    return _level(encoder.compressed.magnitude.audio(encoder.compressed.magnitudes(spectrogram)))


def rebuilt(encoder: SpectrogramAutoencoder, spectrogram: Tensor, shift: Tensor | None) -> Tensor:
    """`[1, bands, frames]` through the latents' means, moved by `shift` `[D]`, patch by patch."""
    patches = encoder.patches(spectrogram)
    out = []
    for part in patches.flatten(0, 1).split(_AT_ONCE):
        latents = encoder.latents(part)
        out.append(encoder.decode(latents if shift is None else latents + shift, tuple(part.shape[1:])))
    return encoder.joined(torch.cat(out).unflatten(0, (len(spectrogram), -1)), spectrogram.shape[-1])


def _prepared(encoder: SpectrogramAutoencoder, audio: Tensor, sample_rate: int) -> tuple[Tensor, float]:
    """Mono audio `[1, T']` at the encoder's rate and level, and the level that it had."""
    mono = encoder.prepare(audio[None], sample_rate)
    peak = float(audio.mean(dim=0).abs().max())
    if peak < 1e-6:
        raise AudioFileError("the input is silent: there is nothing to rebuild.")
    return mono, peak if encoder.normalise else PEAK


def _sound(encoder: SpectrogramAutoencoder, spectrogram: Tensor, mono: Tensor, phase: str) -> Tensor:
    """Compressed spectrogram `[1, bands, frames]` -> audio `[1, T']` as loud as what it was made of."""
    if phase not in PHASES:
        raise UsageError(f"the phase is {' or '.join(PHASES)}, not {phase!r}")
    front = encoder.compressed
    like = front.magnitude.spectrum(mono) if phase == "input" else None
    return front.magnitude.audio(front.magnitudes(spectrogram), like, mono.shape[-1])


def _level(audio: Tensor) -> Tensor:
    return audio * (PEAK / cast(Tensor, audio.abs().amax(dim=-1, keepdim=True)).clamp(min=1e-9))
