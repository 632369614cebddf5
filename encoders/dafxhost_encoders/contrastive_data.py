"""What the effect encoder learns from: pairs of different recordings through one effect at one setting."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import dafxhost
from dafxhost.data.examples import Examples
from dafxhost.data.sources import AudioSource, FolderSource, Split
from dafxhost.errors import UsageError
from dafxhost.training.augmentation import AugmentedSource, MixedSource
from dafxhost_encoders.effect_features import RATE, EffectFeatures

PAPER_EFFECTS = (
    "mda-overdrive",
    "mda-delay",
    "mda-ambience",
    "mda-ringmod",
    "mda-combo",
    "mda-dynamics",
    "mda-multiband",
    "mda-thruzero",
    "mda-leslie",
)
"""The nine effects of Grant 2023."""
SAMPLES = 131_072
PAIRS = 8
"""Pairs of recordings in a chunk."""
CORPUS_BANK = 200


class TwoRecordings(AudioSource):
    """Clips whose halves are two draws from another source, each scaled to the same peak."""

    def __init__(self, source: AudioSource) -> None:
        self.source = source
        self.names, self.total_seconds = source.names, source.total_seconds
        self.description = source.description

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        halves = [self.source.draw(rng, samples // 2, sample_rate) for _ in range(2)]
        clip = np.concatenate([half / np.abs(half).max() for half, _ in halves], axis=1)
        return clip, " & ".join(name for _, name in halves)


@dataclass(frozen=True)
class Chunk:
    """N clips, as features.

    Attributes:
        features: `[N, F]`, in half precision.
        dry: `[N, F]`, features of the same clips before the effect.
        effects: `[N]`, number of the effect; the number after the last one is "none", the clip left dry.
        groups: `[N]`; clips with one effect at one setting, and no others, have the same number.
    """

    features: Tensor
    dry: Tensor
    effects: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.effects)

    def __getitem__(self, index: Tensor) -> Chunk:
        return Chunk(self.features[index], self.dry[index], self.effects[index], self.groups[index])


def joined(chunks: Sequence[Chunk]) -> Chunk:
    return Chunk(
        *(torch.cat([getattr(c, key) for c in chunks]) for key in ("features", "dry", "effects", "groups"))
    )


def make_source(data: Path | None, split: Split, seed: int, bank: int = CORPUS_BANK) -> AudioSource:
    """The synthetic corpus; with `data`, half of the clips from the recordings in that folder.

    To train, clips are changed besides (`AugmentedSource`). To validate, recordings alone are used, if any.
    """
    from dafxhost.data.corpus import SyntheticCorpus

    if data is None:
        source: AudioSource = SyntheticCorpus(RATE, seed, split, bank=bank)
    elif split == "train":
        source = MixedSource(
            FolderSource(data, RATE, split), SyntheticCorpus(RATE, seed, split, bank=bank), 0.5
        )
    else:
        source = FolderSource(data, RATE, split)
    return TwoRecordings(AugmentedSource(source) if split == "train" else source)


class Chunks:
    """Makes chunks without end; close it, or use it in a `with` statement.

    Chunk k depends on the seed and k alone. In it are `pairs` pairs of recordings, each through every effect
    at a setting of its own, drawn and redrawn as in `dafxhost.data.examples`, and the same clips left dry.

    Args:
        effects: names, at least two. workers: plugin processes of each effect. samples: of a clip.
    """

    def __init__(
        self,
        source: AudioSource,
        effects: Sequence[str],
        seed: int,
        *,
        pairs: int | None = None,
        samples: int = SAMPLES,
        workers: int = 1,
    ) -> None:
        if len(set(effects)) < 2:
            raise UsageError("the effect encoder needs two effects or more to tell apart (--effects a,b,...)")
        self.effects, self.seed, self.pairs = tuple(effects), seed, pairs or PAIRS
        self.features = EffectFeatures().eval()
        self._stack = ExitStack()
        with ExitStack() as opened:
            self._examples = [
                Examples(
                    source,
                    opened.enter_context(dafxhost.Executor(dafxhost.effect(name), workers=workers)),
                    sample_rate=RATE,
                    samples=samples,
                    apply_probability=1.0,
                )
                for name in self.effects
            ]
            self._stack = opened.pop_all()

    def chunk(self, index: int) -> Chunk:
        """Raises DafxhostError: an effect is not there, or no setting of it does anything sensible."""
        known: dict[bytes, Tensor] = {}
        features, dry, effects, groups = [], [], [], []
        none = len(self.effects)
        for number, examples in enumerate(self._examples):
            # One seed for all: effects differ, recordings do not, so that only effects tell clips apart.
            batch = examples.batch(self.seed, self.pairs, first=index * self.pairs)
            # An example that was given up is dry, and dry clips are in already.
            kept = torch.from_numpy(batch.applied)
            own = (index * none + number) * self.pairs + torch.arange(self.pairs) + 1
            for wet, before in ((batch.target, batch.dry), (batch.reference, batch.reference_dry)):
                features.append(self._of(wet)[kept])
                dry.append(self._remembered(before, known)[kept])
                effects.append(torch.full((self.pairs,), number)[kept])
                groups.append(own[kept])
        left = torch.stack(list(known.values()))
        effects.append(torch.full((len(left),), none))
        groups.append(torch.zeros(len(left), dtype=torch.long))
        parts = ([*features, left], [*dry, left], effects, groups)
        return Chunk(*(torch.cat(part) for part in parts))

    def _of(self, clips: np.ndarray) -> Tensor:
        return self.features(torch.from_numpy(clips[:, 0])).half()

    def _remembered(self, clips: np.ndarray | None, known: dict[bytes, Tensor]) -> Tensor:
        """Features of dry clips, most of which come once for each effect."""
        if clips is None:
            raise UsageError("these examples do not keep their second dry half")
        keys = [hashlib.sha256(clip.tobytes()).digest() for clip in clips]
        new = [k for k, key in enumerate(keys) if key not in known]
        if new:
            known.update(zip([keys[k] for k in new], self._of(clips[new]), strict=True))
        return torch.stack([known[key] for key in keys])

    def __iter__(self) -> Iterator[Chunk]:
        index = 0
        while True:
            yield self.chunk(index)
            index += 1

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Chunks:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
