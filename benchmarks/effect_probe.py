"""Which of nine effects was applied? A linear probe on embeddings of unseen recordings.

    python benchmarks/effect_probe.py --train ../shared/audio/train --test ../shared/audio/test --json FILE

Clips of 5.5 s at 24 kHz go through each of the nine mda effects of Grant 2023 at uniformly random settings,
redrawn where the change is inaudible or senseless (`dafxhost.data.examples`; always applied). A logistic
regression on standardised embeddings is fitted to clips of --train, its regularisation chosen on recordings
of --train that are held out for it, and measured on clips of --test. Two settings:

- alone: the embedding of the processed clip, and nothing else;
- pair: that, and its difference from the embedding of the same clip before the effect.

Besides: what guessing gets (chance), and the accuracy by how much the effect changed the clip (level of the
change against the clip itself), which tells what can hardly be heard from the rest.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import dafxhost
from dafxhost.data.examples import SAMPLE_RATE, Examples
from dafxhost.data.features import mfcc
from dafxhost.data.sources import FolderSource, Split
from dafxhost.encoders import Encoder
from dafxhost.registry import encoder as make_encoder
from dafxhost_encoders.contrastive_data import PAPER_EFFECTS
from dafxhost_encoders.effect_encoder import EffectEncoder

Embed = Callable[[np.ndarray], np.ndarray]
STRENGTHS = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""Inverse regularisation tried."""
CHANGES = (-20.0, -10.0, 0.0)
"""Decibels between the classes of how much was changed."""


class Clips:
    """Clips of one split: processed and dry `[N, T]`, the effect's number, the change in dB, names."""

    def __init__(self, folder: Path, split: Split, count: int, seed: int, workers: int) -> None:
        source = FolderSource(folder, SAMPLE_RATE, split)
        wet, dry, names, applied = [], [], [], []
        for number, effect in enumerate(PAPER_EFFECTS):
            with dafxhost.Executor(dafxhost.effect(effect), workers=workers) as executor:
                examples = Examples(source, executor, apply_probability=1.0)
                for batch in examples.pieces(seed * 100 + number, count, 16):
                    wet.append(batch.target[:, 0])
                    dry.append(batch.dry[:, 0])
                    names += batch.names
                    applied.append(batch.applied)
        keep = np.concatenate(applied)
        self.effect = np.repeat(np.arange(len(PAPER_EFFECTS)), count)[keep]
        self.wet, self.dry = np.concatenate(wet)[keep], np.concatenate(dry)[keep]
        self.names = [name for name, kept in zip(names, keep, strict=True) if kept]
        # Both have one peak; what a gain alone would explain is no change.
        gain = (self.wet * self.dry).sum(axis=1) / np.square(self.dry).sum(axis=1)
        rest = np.square(self.wet - gain[:, None] * self.dry).sum(axis=1)
        self.change = 10 * np.log10(rest / np.square(gain[:, None] * self.dry).sum(axis=1) + 1e-9)


def of_encoder(encoder: Encoder) -> Embed:
    encoder.eval()

    def embed(clips: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            parts: list[Tensor] = [
                encoder(part[:, None], SAMPLE_RATE) for part in torch.from_numpy(clips).split(16)
            ]
        return torch.cat(parts).float().numpy()

    return embed


class Remembered:
    """The effect encoder's fixed features of clips, computed once for all who ask."""

    def __init__(self, encoder: EffectEncoder) -> None:
        self._encoder, self._known = encoder, dict[int, tuple[np.ndarray, np.ndarray]]()

    def __call__(self, clips: np.ndarray) -> np.ndarray:
        if id(clips) not in self._known:
            with torch.no_grad():
                prepared = self._encoder.prepare(torch.from_numpy(clips)[:, None], SAMPLE_RATE)
                self._known[id(clips)] = (clips, self._encoder.features(prepared).numpy())
        return self._known[id(clips)][1]

    def then(self, encoder: EffectEncoder) -> Embed:
        def embed(clips: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return encoder.from_features(torch.from_numpy(self(clips))).numpy()

        return embed


def mfcc_statistics(clips: np.ndarray) -> np.ndarray:
    """Mean, deviation and mean absolute change over time of 30 MFCCs: 90 numbers."""
    out = []
    for clip in clips:
        frames = mfcc(clip, SAMPLE_RATE)
        out.append(np.concatenate([frames.mean(0), frames.std(0), np.abs(np.diff(frames, axis=0)).mean(0)]))
    return np.stack(out)


def log_mel_statistics(clips: np.ndarray) -> np.ndarray:
    """Mean and deviation over time of 96 log-mel bands: 192 numbers."""
    encoder = make_encoder("log-mel").eval()

    def embed(part: Tensor) -> Tensor:
        with torch.no_grad():
            bands = encoder.spectrogram(encoder.prepare(part[:, None], SAMPLE_RATE))
        return torch.cat([bands.mean(dim=2), bands.std(dim=2)], dim=1)

    return torch.cat([embed(part) for part in torch.from_numpy(clips).split(16)]).numpy()


def candidates(weights: str | None) -> dict[str, Embed]:
    torch.manual_seed(1)
    shipped = make_encoder("pretrained", **({"weights": weights} if weights else {}))
    own = getattr(shipped, "inner", shipped)
    untrained = make_encoder(own.name, **own.config())
    named = "shipped" if weights is None else weights
    if isinstance(own, EffectEncoder) and isinstance(untrained, EffectEncoder):
        # Random layers on standardised features: training adds the rest.
        untrained.mean.copy_(own.mean)
        untrained.scale.copy_(own.scale)
        features = Remembered(own)
        networks = {
            named: features.then(own),
            "the same network, random weights": features.then(untrained.eval()),
            "its fixed features": features,
        }
    else:
        networks = {named: of_encoder(shipped), "the same network, random weights": of_encoder(untrained)}
    return {
        **networks,
        "log-mel network, random weights": of_encoder(make_encoder("log-mel")),
        "style statistics": of_encoder(make_encoder("style-statistics")),
        "log-mel statistics": log_mel_statistics,
        "MFCC statistics": mfcc_statistics,
    }


def probe(train: np.ndarray, labels: np.ndarray, strength: float) -> Callable[[np.ndarray], np.ndarray]:
    """A fitted probe: embeddings `[N, D]` -> effect numbers `[N]`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    mean, scale = train.mean(axis=0), train.std(axis=0) + 1e-6

    def standardised(x: np.ndarray) -> np.ndarray:
        return np.clip((x - mean) / scale, -6, 6)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = LogisticRegression(C=strength, max_iter=400).fit(standardised(train), labels)
    return lambda x: np.asarray(model.predict(standardised(x)))


def measure(embed: Embed, fit: Clips, choose: Clips, test: Clips) -> dict[str, object]:
    """Both settings of one encoder."""
    began = time.process_time()
    embedded = [(embed(clips.wet), embed(clips.dry)) for clips in (fit, choose, test)]
    count = 2 * sum(len(clips.effect) for clips in (fit, choose, test))
    figures: dict[str, object] = {
        "size": embedded[0][0].shape[1],
        "ms_a_clip": 1000 * (time.process_time() - began) / count,
    }
    for setting in ("alone", "pair"):
        x, held, y = (
            wet if setting == "alone" else np.concatenate([wet, wet - dry], axis=1) for wet, dry in embedded
        )
        scores = [float((probe(x, fit.effect, c)(held) == choose.effect).mean()) for c in STRENGTHS]
        strength = STRENGTHS[int(np.argmax(scores))]
        # The recordings it was chosen on are good to learn from afterwards.
        last = probe(np.concatenate([x, held]), np.concatenate([fit.effect, choose.effect]), strength)
        figures[setting] = _scores(last(y), test) | {"chosen_on": max(scores), "strength": strength}
    return figures


def _scores(said: np.ndarray, test: Clips) -> dict[str, object]:
    right = said == test.effect
    confusion = np.zeros((len(PAPER_EFFECTS),) * 2, int)
    np.add.at(confusion, (test.effect, said), 1)
    place = np.digitize(test.change, CHANGES)
    by_change = [
        {"clips": int((place == k).sum()), "accuracy": float(right[place == k].mean())}
        for k in range(len(CHANGES) + 1)
        if (place == k).any()
    ]
    # Clips of one recording are no independent draws: the error is that over recordings.
    means = np.array([right[np.array(test.names) == name].mean() for name in sorted(set(test.names))])
    return {
        "accuracy": float(right.mean()),
        "error_over_recordings": float(means.std(ddof=1) / len(means) ** 0.5) if len(means) > 1 else None,
        "per_effect": {name: float(right[test.effect == k].mean()) for k, name in enumerate(PAPER_EFFECTS)},
        "by_change": by_change,
        "confusion": confusion.tolist(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="folder of recordings to fit the probe to")
    parser.add_argument("--test", type=Path, required=True, help="folder of recordings to measure on")
    parser.add_argument("--per-effect", type=int, default=60, help="clips an effect from --train")
    parser.add_argument("--test-per-effect", type=int, default=40, help="clips an effect from --test")
    parser.add_argument("--weights", help="an encoder's weights in place of the shipped ones")
    parser.add_argument("--only", help="names of candidates, by semicolons")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path, help="file to write")
    options = parser.parse_args()
    torch.set_num_threads(1)
    held = max(8, options.per_effect // 4)
    fit = Clips(options.train, "train", options.per_effect, options.seed, options.workers)
    choose = Clips(options.train, "validation", held, options.seed + 1, options.workers)
    test = Clips(options.test, "all", options.test_per_effect, options.seed + 2, options.workers)
    counts = [len(clips.effect) for clips in (fit, choose, test)]
    print(f"{counts[0]} + {counts[1]} clips to learn from, {counts[2]} to measure on", file=sys.stderr)
    wanted = options.only.split(";") if options.only else None
    result: dict[str, object] = {"clips": counts, "chance": 1 / len(PAPER_EFFECTS), "effects": PAPER_EFFECTS}
    encoders: dict[str, dict[str, object]] = {}
    for name, embed in candidates(options.weights).items():
        if wanted is None or name in wanted:
            figures = encoders[name] = measure(embed, fit, choose, test)
            alone, pair = (figures[key]["accuracy"] for key in ("alone", "pair"))  # type: ignore[index]
            print(f"{name:34} alone {alone:.3f}  pair {pair:.3f}  ({figures['size']} numbers)", flush=True)
    result["encoders"] = encoders
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
