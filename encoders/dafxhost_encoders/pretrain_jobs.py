"""The jobs of `dafxhost pretrain`: which autoencoder, on which clips, by which plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch

from dafxhost.data.sources import AudioSource, open_source
from dafxhost.encoders import load_encoder
from dafxhost.errors import UsageError
from dafxhost_encoders.autoencoder import Autoencoder
from dafxhost_encoders.effect_clips import EffectClips
from dafxhost_encoders.embedding_vae import EmbeddingVAE
from dafxhost_encoders.mel_cae import MelCAE
from dafxhost_encoders.pretrain import Plan, pretrain
from dafxhost_encoders.spectrogram_vae import SpectrogramVAE
from dafxhost_encoders.trainables import EFFECTS, PretrainJob

CLIP_SECONDS = 5.0
CORPUS_ITEMS, CORPUS_VALIDATION_ITEMS = 60, 12
MEL: dict[str, Any] = {"n_fft": 2048, "hop": 1024, "patch_frames": 8, "channels": [16, 32]}
STFT: dict[str, Any] = {"n_fft": 512, "hop": 256, "patch_frames": 8, "channels": [16, 32]}
_ARCHITECTURE = {
    "latent": "embedding_size",
    "beta": "beta",
    "input": "input",
    "compression": "compression",
    "mels": "mels",
    "frames": "patch_frames",
    "n_fft": "n_fft",
    "hop": "hop",
    "strides": "strides",
}
"""Options -> arguments of the spectrogram autoencoders."""
_PLAN = {
    "kl_schedule": "schedule",
    "patience": "patience",
    "max_epochs": "max_epochs",
    "examples": "examples",
    "renew": "renew",
    "learning_rate": "learning_rate",
}


def train_spectrogram_vae(job: PretrainJob) -> dict[str, Any]:
    """Carry out a job of `dafxhost pretrain spectrogram-vae`."""

    def make(options: dict[str, Any]) -> Autoencoder:
        front = {"input": "mel", "beta": 0.02, **(STFT if options.get("input") == "stft" else MEL)}
        return SpectrogramVAE(**{**front, **options})

    return _train(job, SpectrogramVAE.name, make, _renamed(job.options, _ARCHITECTURE))


def train_mel_cae(job: PretrainJob) -> dict[str, Any]:
    """Carry out a job of `dafxhost pretrain mel-cae`."""
    return _train(job, MelCAE.name, lambda options: MelCAE(**options), _renamed(job.options, _ARCHITECTURE))


def train_embedding_vae(job: PretrainJob) -> dict[str, Any]:
    """Carry out a job of `dafxhost pretrain embedding-vae`."""
    names = {"latent": "latent", "beta": "beta", "join": "join", "encoder": "encoder"}
    options = _renamed(job.options, {**names, "encoder_weights": "weights"})
    return _train(job, EmbeddingVAE.name, _embedding_vae, options, examples=1000, renew=0, learning_rate=1e-3)


def _embedding_vae(options: dict[str, Any]) -> Autoencoder:
    wanted = options.pop("encoder", None)
    made = EmbeddingVAE(**options, **({} if wanted is None or "weights" in options else {"encoder": wanted}))
    if wanted is not None and made.inner.name != wanted:
        raise UsageError(f"{options['weights']} holds the encoder {made.inner.name!r}, not {wanted!r}")
    return made


def _train(
    job: PretrainJob,
    name: str,
    make: Callable[[dict[str, Any]], Autoencoder],
    options: dict[str, Any],
    **defaults: Any,
) -> dict[str, Any]:
    plan = _plan(job, defaults)
    plan.check()
    device = _device(job.device)
    # The caller's random numbers stay as they were.
    with torch.random.fork_rng(devices=[]), ExitStack() as stack:
        torch.manual_seed(job.seed)
        encoder = make(options) if job.start_from is None else _loaded(job, name, options)
        train, held_out = _sources(job, encoder.sample_rate)
        effects = EFFECTS if job.effects is None else job.effects
        clips = stack.enter_context(
            EffectClips(
                train,
                effects,
                sample_rate=encoder.sample_rate,
                seconds=CLIP_SECONDS,
                workers=job.workers,
            )
        )
        through = ", ".join(effects) or "no effect"
        text = (
            f"training {name} on {train.description}, through {through}, for {job.max_minutes:g} min at most"
        )
        job.say({"event": "start", "text": text})
        return pretrain(
            encoder,
            clips,
            clips.on(held_out),
            job.out,
            plan,
            device=device,
            fit=job.start_from is None,
            on_step=lambda step: job.say(_said(step)),
        )


def _said(step: dict[str, Any]) -> dict[str, Any]:
    text = f"epoch {step['epoch'] + 1}, error {step['reconstruction']:.3f}"
    if step["divergence"]:
        text += f", divergence {step['divergence']:.1f}"
    if step["explained"] is not None:
        text += f", best explained {step['explained']:.3f}"
    return {"event": "step", "text": text, **step}


def _plan(job: PretrainJob, defaults: Mapping[str, Any]) -> Plan:
    given = _renamed(job.options, _PLAN)
    draw = job.options.get("draw", "mixed")
    if draw not in ("mixed", "turns"):
        raise UsageError(f"--draw is mixed or turns, not {draw!r}")
    turns = draw == "turns"
    # In turns it ends, as in the reports, when no effect has brought anything new.
    given.setdefault("patience", 1 if turns else 0)
    limits = {"max_minutes": job.max_minutes, "max_steps": job.max_steps}
    return Plan(**{**defaults, **limits, **given, "turns": turns, "seed": job.seed})


def _renamed(options: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names[key]: value for key, value in options.items() if key in names}


def _loaded(job: PretrainJob, name: str, options: dict[str, Any]) -> Autoencoder:
    """The encoder of `start_from`; of its options only beta may be another."""
    encoder = load_encoder(str(job.start_from))
    if encoder.name != name or not isinstance(encoder, Autoencoder):
        raise UsageError(f"{job.start_from} holds the encoder {encoder.name!r}, not {name!r}")
    have = encoder.config()
    for key, value in options.items():
        if key == "beta":
            encoder.beta = float(value)
        elif have.get(key) != value:
            raise UsageError(f"{job.start_from} has {key} {have.get(key)!r}; leave that option out")
    return encoder


def _sources(job: PretrainJob, sample_rate: int) -> tuple[AudioSource, AudioSource]:
    """Recordings to train on, and others to measure on."""
    if job.data is None:
        from dafxhost.data.corpus import SyntheticCorpus

        return (
            SyntheticCorpus(sample_rate, job.seed, "train", bank=CORPUS_ITEMS),
            SyntheticCorpus(sample_rate, job.seed, "validation", bank=CORPUS_VALIDATION_ITEMS),
        )
    return open_source(job.data, sample_rate, "train"), open_source(job.data, sample_rate, "validation")


def _device(name: str) -> str:
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here; leave it out to train on the CPU")
    if name != "cpu" and not name.startswith("cuda"):
        raise UsageError(f"--device is cpu or cuda, not {name!r}")
    return name
