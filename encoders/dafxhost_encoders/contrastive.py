"""Training of the effect encoder: what went through one effect at one setting belongs together."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.encoders import save_encoder
from dafxhost.errors import UsageError
from dafxhost_encoders.contrastive_data import PAPER_EFFECTS, RATE, Chunk, Chunks, joined, make_source
from dafxhost_encoders.effect_encoder import EffectEncoder
from dafxhost_encoders.trainables import PretrainJob

COLLECTING = 0.7
"""Share of the minutes in which clips are made; the rest is for the network."""
HELD_OUT = 8
"""Chunks it is judged by."""
TEMPERATURE = 0.1
CONTRAST = 0.2
"""Weight of the contrastive loss beside the two of recognition."""
BATCH = 512
EPOCHS = 12
NOISE = 0.3
"""Deviation of the noise added to standardised features."""
REMEMBERS = 0.98
"""Share of the averaged weights that a step leaves as it was."""

OnStep = Callable[[dict[str, Any]], None]


def supervised_contrastive(embeddings: Tensor, groups: Tensor, temperature: float = TEMPERATURE) -> Tensor:
    """Supervised contrastive loss (Khosla 2020, equation 2) of embeddings `[N, D]`, N >= 2 -> scalar.

    Each clip should be more like those of its own group than like all others. Clips that are alone in their
    group are compared with, but have no term of their own.
    """
    unit = nn.functional.normalize(embeddings, dim=1)
    alike = unit @ unit.T / temperature
    itself = torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    logs = alike.masked_fill(itself, -torch.inf).log_softmax(dim=1).masked_fill(itself, 0.0)
    positives = (groups[:, None] == groups[None, :]) & ~itself
    count = positives.sum(dim=1)
    terms = -(logs * positives).sum(dim=1) / count.clamp(min=1)
    return terms[count > 0].mean() if bool((count > 0).any()) else terms.sum() * 0.0


class Heads(nn.Module):
    """What only training needs: a projection that is contrasted, and two linear classifiers of the effect:
    from a processed clip, and from that and its difference from the dry clip."""

    def __init__(self, size: int, effects: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Linear(size, size), nn.GELU(), nn.Linear(size, 64))
        self.effect = nn.Linear(size, effects)
        self.change = nn.Linear(2 * size, effects)


@torch.no_grad()
def measure(encoder: EffectEncoder, heads: Heads, chunk: Chunk) -> dict[str, float]:
    """On held-out clips: how often the effect is recognised from the clip alone and beside the dry clip, and
    how often the nearest of all has the same effect and the same setting, out of clips with a partner."""
    encoder.eval()
    heads.eval()
    embeddings, dry = (encoder.from_features(x.float()) for x in (chunk.features, chunk.dry))
    right = heads.effect(embeddings).argmax(dim=1) == chunk.effects
    paired = chunk.groups > 0
    beside = heads.change(torch.cat([embeddings, embeddings - dry], dim=1)).argmax(dim=1) == chunk.effects
    unit = nn.functional.normalize(heads.projection(embeddings), dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-2.0).argmax(dim=1)
    same = chunk.groups[nearest] == chunk.groups
    alike = chunk.effects[nearest] == chunk.effects
    return {
        "effect_recognised": float(right[paired].float().mean()),
        "recognised_beside_dry": float(beside[paired].float().mean()),
        "partner_nearest": float(same[paired].float().mean()),
        "neighbour_same_effect": float(alike[paired].float().mean()),
    }


class Averaged:
    """A copy of an encoder and its heads whose weights are a moving average of theirs over the steps."""

    def __init__(self, encoder: EffectEncoder, heads: Heads) -> None:
        self.encoder, self.heads = copy.deepcopy(encoder), copy.deepcopy(heads)
        self._steps = 0

    @torch.no_grad()
    def follow(self, encoder: EffectEncoder, heads: Heads) -> None:
        self._steps += 1
        share = 1 - min(REMEMBERS, self._steps / (self._steps + 10))
        for mine, other in ((self.encoder, encoder), (self.heads, heads)):
            for old, new in zip(mine.parameters(), other.parameters(), strict=True):
                old.lerp_(new, share)


def fit(
    data: Chunk,
    held_out: Chunk,
    effects: int,
    *,
    seed: int = 1,
    epochs: int | None = None,
    seconds: float = float("inf"),
    options: dict[str, Any] | None = None,
    learning_rate: float = 2e-3,
    on_epoch: OnStep | None = None,
) -> tuple[EffectEncoder, dict[str, Any]]:
    """Train an encoder on features; of its averaged weights, keep the epoch best on the held-out ones.

    Args:
        effects: how many, with "none".
        seconds: it ends then, or after `epochs` (by default `EPOCHS`).
        on_epoch: called with epoch, loss, progress (0..1) and the figures.

    Returns:
        The encoder in eval mode, and its figures on `held_out` (see `measure`) with `epochs`, `best_epoch`.
    """
    started = time.monotonic()
    torch.manual_seed(seed)
    encoder = EffectEncoder(**(options or {}))
    encoder.standardise(data.features.float())
    heads = Heads(encoder.embedding_size, effects)
    averaged = Averaged(encoder, heads)
    weights = [*encoder.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.05)
    best, best_score, state = dict[str, float](), -1.0, copy.deepcopy(encoder.state_dict())
    done = best_epoch = 0
    progress = 0.0
    while progress < 1.0:
        encoder.train()
        heads.train()
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * min(1.0, (done + 1) / 3) * max(1 - progress, 0.02)
        losses = []
        for batch in _batches(data):
            losses.append(_step(encoder, heads, optimiser, batch))
            averaged.follow(encoder, heads)
        done += 1
        progress = min(1.0, max(done / (epochs or EPOCHS), (time.monotonic() - started) / seconds))
        figures = measure(averaged.encoder, averaged.heads, held_out)
        score = figures["effect_recognised"] + figures["recognised_beside_dry"]
        if score > best_score:
            best, best_score, best_epoch = figures, score, done
            state = copy.deepcopy(averaged.encoder.state_dict())
        if on_epoch is not None:
            loss = sum(losses) / max(1, len(losses))
            on_epoch({"epoch": done, "loss": loss, "progress": progress, **figures})
    encoder.load_state_dict(state)
    return encoder.eval(), {**best, "epochs": done, "best_epoch": best_epoch}


def _batches(data: Chunk) -> Iterable[Chunk]:
    """All clips once, in random order, but partners together."""
    order = torch.argsort(
        torch.rand(int(data.groups.max()) + 1)[data.groups] + (data.groups == 0) * torch.rand(len(data))
    )
    for index in order.split(BATCH):
        if len(index) > 1:
            yield data[index]


def _step(encoder: EffectEncoder, heads: Heads, optimiser: torch.optim.Optimizer, batch: Chunk) -> float:
    through = batch.groups > 0
    features = torch.cat([batch.features, batch.dry[through]]).float()
    embeddings = encoder.from_features(features + NOISE * encoder.scale * torch.randn_like(features))
    own, dry = embeddings[: len(batch)], embeddings[len(batch) :]
    change = heads.change(torch.cat([own[through], own[through] - dry], dim=1))
    loss = nn.functional.cross_entropy(heads.effect(own), batch.effects, label_smoothing=0.05)
    if bool(through.any()):
        loss = loss + nn.functional.cross_entropy(change, batch.effects[through], label_smoothing=0.05)
    loss = loss + CONTRAST * supervised_contrastive(heads.projection(own), batch.groups)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(encoder.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def pretrain_effect_encoder(
    train: Chunks, validation: Chunks, *, job: PretrainJob, started: float | None = None
) -> dict[str, Any]:
    """Make clips, train on them, and write the weights, in half precision, to `job.out`.

    Returns:
        The figures of `fit`, and weights, clips, chunks, seconds, effects, sample_rate, config.
    """
    began = time.monotonic() if started is None else started
    seconds = 60 * job.max_minutes
    held_out = joined([validation.chunk(k) for k in range(HELD_OUT)])
    chunks: list[Chunk] = []
    progress = 0.0
    while not chunks or progress < COLLECTING:
        chunks.append(train.chunk(len(chunks)))
        elapsed = time.monotonic() - began
        share = max(elapsed / seconds, COLLECTING * len(chunks) / job.max_steps if job.max_steps else 0.0)
        progress = min(COLLECTING, share)
        text = f"{sum(map(len, chunks))} clips"
        job.say(
            {"event": "step", "step": len(chunks), "progress": progress, "seconds": elapsed, "text": text}
        )

    def on_epoch(event: dict[str, Any]) -> None:
        text = f"epoch {event['epoch']}, effect recognised {event['effect_recognised']:.3f}"
        text += f", beside the dry clip {event['recognised_beside_dry']:.3f}"
        done = COLLECTING + (1 - COLLECTING) * event["progress"]
        elapsed = time.monotonic() - began
        job.say({"event": "step", "step": len(chunks), "progress": done, "seconds": elapsed, "text": text})

    names = {"latent": "embedding_size"}
    data = joined(chunks)
    with torch.random.fork_rng(devices=[]):
        encoder, figures = fit(
            data,
            held_out,
            len(train.effects) + 1,
            seed=job.seed,
            seconds=max(5.0, seconds - (time.monotonic() - began)),
            options={names.get(name, name): value for name, value in job.options.items()},
            on_epoch=on_epoch,
        )
    weights = save_encoder(encoder.half(), job.out)
    return {
        **figures,
        "weights": str(weights),
        "clips": len(data),
        "chunks": len(chunks),
        "seconds": time.monotonic() - began,
        "effects": list(train.effects),
        "sample_rate": RATE,
        "config": encoder.config(),
    }


def train_effect_encoder(job: PretrainJob) -> dict[str, Any]:
    """Carry out a job of `dafxhost pretrain effect-encoder`; see the module's text."""
    if job.start_from is not None:
        raise UsageError("effect-encoder takes no --start-from: it trains in minutes from the start")
    started = time.monotonic()
    effects = PAPER_EFFECTS if job.effects is None else job.effects
    train = make_source(job.data, "train", job.seed)
    validation = make_source(job.data, "validation", job.seed)
    job.say(
        {
            "event": "start",
            "text": f"training effect-encoder on {len(effects)} effects and {train.description}, "
            f"for {job.max_minutes:g} min at most",
        }
    )
    workers = max(1, (job.workers or 1) // max(1, len(effects)))
    with (
        Chunks(train, effects, job.seed, workers=workers) as chunks,
        Chunks(validation, effects, job.seed + 1, workers=workers) as held_out,
    ):
        return pretrain_effect_encoder(chunks, held_out, job=job, started=started)
