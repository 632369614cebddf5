"""Examples of `eq-compressor` for autodiff_gap.py, with what a controller sees of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import dafxhost
from dafxhost.data.corpus import SyntheticCorpus
from dafxhost.data.examples import Examples
from dafxhost.data.sources import AudioSource, open_source
from dafxhost.training.augmentation import MixedSource

RATE = 24000
NAMES = ("dry", "target", "features", "settings")
CHOICES = ("train", "test", "samples", "examples", "validation", "held_out", "corpus_share", "bank")
"""Options that decide what the examples are."""


@dataclass
class Set:
    """N examples: audio `[N, 1, T]` at a peak of -12 dBFS, features `[N, D]`, settings `[N, 24]`."""

    dry: Tensor
    target: Tensor
    features: Tensor
    settings: Tensor

    def __len__(self) -> int:
        return len(self.dry)


def make_set(source: AudioSource, seed: int, count: int, samples: int) -> Set:
    """`count` A/B examples, and the style statistics of input, reference, and their difference."""
    encoder = dafxhost.encoder("style-statistics")
    pieces = []
    with dafxhost.Executor(dafxhost.effect("eq-compressor"), workers=1) as executor:
        examples = Examples(source, executor, sample_rate=RATE, samples=samples, apply_probability=1.0)
        for batch in examples.pieces(seed, count, 32):
            seen = [encoder(torch.from_numpy(np.array(x)), RATE) for x in (batch.dry, batch.reference)]
            audio = [torch.from_numpy(np.array(x)) for x in (batch.dry, batch.target)]
            settings = torch.from_numpy(batch.settings).float()
            pieces.append((*audio, torch.cat([*seen, seen[1] - seen[0]], dim=1), settings))
    return Set(*(torch.cat(column) for column in zip(*pieces, strict=True)))


def make_sets(o: argparse.Namespace) -> dict[str, Set]:
    """Training, validation and test examples; features standardised by the training ones'."""
    recordings = open_source(o.train, RATE, "train")
    corpus = SyntheticCorpus(RATE, split="train", bank=o.bank)
    sets = {
        "train": make_set(MixedSource(recordings, corpus, o.corpus_share), 1, o.examples, o.samples),
        "validation": make_set(open_source(o.train, RATE, "validation"), 2, o.validation, o.samples),
        "test": make_set(open_source(o.test, RATE, "all"), 3, o.held_out, o.samples),
    }
    mean, deviation = sets["train"].features.mean(0), sets["train"].features.std(0) + 1e-2
    for some in sets.values():
        some.features = ((some.features - mean) / deviation).clamp(-6.0, 6.0)
    return sets


def cached_sets(
    path: Path | None, make: Callable[[], dict[str, Set]], o: argparse.Namespace
) -> dict[str, Set]:
    """The sets of these options, from the file if it holds them, else made and kept there."""
    wanted = json.dumps({name: str(getattr(o, name)) for name in CHOICES})
    if path is not None and path.exists():
        with safe_open(path, "pt") as kept:
            if (kept.metadata() or {}).get("made") == wanted:
                found = {key: kept.get_tensor(key) for key in kept.keys()}  # noqa: SIM118  (no mapping)
                return {
                    name: Set(*(found[f"{name}.{part}"] for part in NAMES))
                    for name in ("train", "validation", "test")
                }
    sets = make()
    if path is not None:
        tensors = {f"{n}.{part}": getattr(s, part).contiguous() for n, s in sets.items() for part in NAMES}
        save_file(tensors, path, {"made": wanted})
    return sets
