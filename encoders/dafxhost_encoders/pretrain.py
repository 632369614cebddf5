"""Training of the spectrogram VAE by itself, before any effect is known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.data.sources import AudioSource, FolderSource
from dafxhost.encoders import save_encoder
from dafxhost.errors import ShapeError, UsageError
from dafxhost_encoders.spectrogram_vae import SpectrogramVAE
from dafxhost_encoders.trainables import PretrainJob
from dafxhost_encoders.vae_network import divergence

Clips = Callable[[np.random.Generator, int], np.ndarray]
"""(random generator, n) -> n clips, `[n, T]` or `[n, C, T]`, floating point."""

SAMPLE_RATE, CLIP_SECONDS = 24000, 2.8


@dataclass(frozen=True)
class Quality:
    """How well a VAE reproduces compressed spectrograms, through the latents' means.

    Attributes:
        explained: fraction of variance explained, 1 - error / error of the best constant. 0 is no better than
            a constant (one number for all elements), 1 is perfect.
        explained_beyond_mean_spectrum: the same against one constant a frequency bin, the patches' own mean
            spectrum.
        rmse, constant_rmse: root mean square error, and that of the constant.
        mean_magnitude: mean of the compressed spectrograms.
        divergence: nats a patch.
        active_latents: latents that tell clips apart (variance of their mean above 0.01; Burda 2016).
        latents: how many there are.
        patches: how many were measured.
    """

    explained: float
    explained_beyond_mean_spectrum: float
    rmse: float
    constant_rmse: float
    mean_magnitude: float
    divergence: float
    active_latents: int
    latents: int
    patches: int


def measure(encoder: SpectrogramVAE, patches: Tensor, batch_size: int = 64) -> Quality:
    """Reconstruct compressed spectrograms `[N, bins, frames]` in eval mode and compare."""
    was_training = encoder.training
    encoder.eval()
    outputs, means, nats = [], [], []
    with torch.no_grad():
        for part in patches.split(batch_size):
            outputs.append(encoder.reconstruct(part))
            mean, log_variance = encoder.posterior(part)
            means.append(mean)
            nats.append(divergence(mean, log_variance).sum(dim=1))
    encoder.train(was_training)
    error = float((torch.cat(outputs) - patches).square().mean())
    constant = float(patches.var(unbiased=False))
    spectrum = float(patches.var(dim=(0, 2), unbiased=False).mean())
    active = torch.cat(means).var(dim=0, unbiased=False) > 0.01
    return Quality(
        explained=1 - error / max(constant, 1e-12),
        explained_beyond_mean_spectrum=1 - error / max(spectrum, 1e-12),
        rmse=error**0.5,
        constant_rmse=constant**0.5,
        mean_magnitude=float(patches.mean()),
        divergence=float(torch.cat(nats).mean()),
        active_latents=int(active.sum()),
        latents=encoder.embedding_size,
        patches=len(patches),
    )


def pretrain_spectrogram_vae(
    clips: Clips,
    *,
    max_minutes: float = 10.0,
    out: str | Path,
    seed: int = 1,
    on_step: Callable[[dict[str, Any]], None] | None = None,
    sample_rate: int = 24_000,
    options: dict[str, Any] | None = None,
    held_out: Clips | None = None,
    held_out_clips: int = 32,
    batch_size: int = 16,
    max_steps: int | None = None,
    evaluate_every: int = 50,
    learning_rate: float = 2e-3,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train a spectrogram VAE on clips and write the best weights by the held-out clips to `out`.

    The best weights so far are on disk after every evaluation, so that an interrupted training leaves them.

    Args:
        clips: makes training clips at `sample_rate`; with effects or without.
        max_minutes, max_steps: whichever ends first; the learning rate falls to 0 towards it.
        out: weights file (.safetensors; a .json is written beside it).
        seed: of the clips, the starting weights and the sampling.
        on_step: called after each step with step, total, reconstruction, divergence, seconds, progress (0..1)
            and explained (held out, the best so far).
        sample_rate: of the clips, Hz.
        options: of `SpectrogramVAE`.
        held_out: makes the clips that measure it; by default `clips` with another seed (then they are new
            clips, but not of new files).
        held_out_clips, batch_size: number of clips.

    Returns:
        The fields of `Quality` on the held-out clips for the written weights, and weights (the file's path),
        steps, best_step, seconds, clips_seen, sample_rate, config.

    Raises:
        UsageError, ShapeError: impossible options or clips. OutputError: the file cannot be written.
    """
    if max_minutes <= 0 or (max_steps is not None and max_steps < 1) or min(batch_size, evaluate_every) < 1:
        raise UsageError("pretraining needs max_minutes, max_steps, batch_size and evaluate_every above 0")
    started = time.monotonic()
    # The global generator is what sampling in the loss uses; the caller's is put back afterwards.
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(seed)
        encoder = SpectrogramVAE(**(options or {})).to(device)
        draw = _batches(clips, seed, encoder, sample_rate, batch_size)
        test_rng = np.random.default_rng([seed, 1])
        test = _patches(encoder, (held_out or clips)(test_rng, held_out_clips), sample_rate)
        first = next(draw)
        encoder.fit_scale(torch.cat([first, *(next(draw) for _ in range(3))]))
        return _train(
            encoder,
            first,
            draw,
            test,
            out=Path(out),
            started=started,
            seconds=60 * max_minutes,
            max_steps=max_steps,
            evaluate_every=evaluate_every,
            learning_rate=learning_rate,
            on_step=on_step,
            extra={"sample_rate": sample_rate, "batch_size": batch_size},
        )


def _train(
    encoder: SpectrogramVAE,
    patches: Tensor,
    draw: Iterator[Tensor],
    test: Tensor,
    *,
    out: Path,
    started: float,
    seconds: float,
    max_steps: int | None,
    evaluate_every: int,
    learning_rate: float,
    on_step: Callable[[dict[str, Any]], None] | None,
    extra: dict[str, Any],
) -> dict[str, Any]:
    optimiser = torch.optim.Adam(encoder.parameters(), lr=learning_rate)
    best = measure(encoder, test)
    best_step = step = 0
    weights = save_encoder(encoder, out)  # also shows at once whether it can be written
    progress = 0.0
    encoder.train()
    while progress < 1.0:
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (step + 1) / 20) * (1 - progress)
        total, reconstruction, nats = encoder.loss(patches)
        optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
        optimiser.step()
        step += 1
        elapsed = time.monotonic() - started
        progress = min(1.0, max(elapsed / seconds, step / max_steps if max_steps else 0.0))
        if step % evaluate_every == 0 or progress >= 1.0:
            quality = measure(encoder, test)
            if quality.explained > best.explained:
                best, best_step = quality, step
                weights = save_encoder(encoder, out)
        if on_step is not None:
            on_step(
                {
                    "step": step,
                    "total": total.item(),
                    "reconstruction": reconstruction.item(),
                    "divergence": nats.item(),
                    "seconds": elapsed,
                    "progress": progress,
                    "explained": best.explained,
                }
            )
        if progress < 1.0:
            patches = next(draw)
    return {
        **asdict(best),
        "weights": str(weights),
        "steps": step,
        "best_step": best_step,
        "seconds": time.monotonic() - started,
        "clips_seen": (step + 3) * extra["batch_size"],
        "sample_rate": extra["sample_rate"],
        "config": encoder.config(),
    }


def _batches(
    clips: Clips, seed: int, encoder: SpectrogramVAE, sample_rate: int, batch_size: int
) -> Iterator[Tensor]:
    rng = np.random.default_rng([seed, 0])
    while True:
        yield _patches(encoder, clips(rng, batch_size), sample_rate)


def _patches(encoder: SpectrogramVAE, audio: np.ndarray, sample_rate: int) -> Tensor:
    """Clips `[n, T]` or `[n, C, T]` -> compressed spectrograms `[N, bins, patch_frames]`, no gradient."""
    if audio.ndim not in (2, 3):
        raise ShapeError(f"clips to pretrain on have shape [n, T] or [n, C, T], not {list(audio.shape)}")
    tensor = torch.as_tensor(audio)
    tensor = tensor[:, None] if tensor.ndim == 2 else tensor
    with torch.no_grad():
        mono = encoder.prepare(tensor, sample_rate)
        return encoder.patches(encoder.spectrogram(mono)).flatten(0, 1)


def train_spectrogram_vae(job: PretrainJob) -> dict[str, Any]:
    """Carry out a job of `dafxhost pretrain spectrogram-vae`; see `pretrain_spectrogram_vae`."""
    train, held_out = _sources(job.data, job.seed)
    job.say(
        {
            "event": "start",
            "text": f"training spectrogram-vae on {train.description}, for {job.max_minutes:g} min at most",
        }
    )

    def on_step(step: dict[str, Any]) -> None:
        text = f"error {step['reconstruction']:.4g}, explained {step['explained']:.3f}"
        job.say({"event": "step", "text": text, **step})

    names = {"latent": "embedding_size"}
    return pretrain_spectrogram_vae(
        _clips(train),
        held_out=_clips(held_out),
        max_minutes=job.max_minutes,
        max_steps=job.max_steps,
        out=job.out,
        seed=job.seed,
        sample_rate=SAMPLE_RATE,
        device=job.device,
        options={names.get(name, name): value for name, value in job.options.items()},
        on_step=on_step,
    )


def _sources(data: Path | None, seed: int) -> tuple[AudioSource, AudioSource]:
    """Recordings to train on, and others to measure on."""
    if data is None:
        from dafxhost.data.corpus import SyntheticCorpus

        return (
            SyntheticCorpus(SAMPLE_RATE, seed, "train", bank=60),
            SyntheticCorpus(SAMPLE_RATE, seed, "validation", bank=12),
        )
    return FolderSource(data, SAMPLE_RATE, "train"), FolderSource(data, SAMPLE_RATE, "validation")


def _clips(source: AudioSource) -> Clips:
    """`(rng, n) -> [n, 1, T]`, as the training asks for its clips."""

    def draw(rng: np.random.Generator, n: int) -> np.ndarray:
        samples = round(CLIP_SECONDS * SAMPLE_RATE)
        return np.stack([source.draw(rng, samples, SAMPLE_RATE)[0] for _ in range(n)])

    return draw
