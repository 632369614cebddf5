"""What the effect encoder learns from: pairs of different recordings through one effect at one setting."""

from __future__ import annotations

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
"""Pairs of each effect in a chunk."""
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
        features: `[N, F]`.
        effects: `[N]`, number of the effect; the number after the last one is "none", the clip left dry.
        groups: `[N]`; clips with one effect at one setting, and no others, have the same number.
    """

    features: Tensor
    effects: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.effects)


def joined(chunks: Sequence[Chunk]) -> Chunk:
    return Chunk(*(torch.cat([getattr(c, key) for c in chunks]) for key in ("features", "effects", "groups")))


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

    Chunk k depends on the seed and k alone. In it are, of each effect, `pairs` settings on two recordings
    each, drawn and redrawn as in `dafxhost.data.examples`, and `pairs` / 8 clips left dry.

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
        clips, effects, groups = [], [], []
        none = len(self.effects)
        dry = max(1, self.pairs // 8)
        for number, examples in enumerate(self._examples):
            batch = examples.batch(self.seed * 1000 + number, self.pairs, first=index * self.pairs)
            own = (index * none + number) * self.pairs + np.arange(self.pairs) + 1
            clips += [batch.target, batch.reference, batch.dry[:dry]]
            # An example that was given up is dry.
            label = np.where(batch.applied, number, none)
            own = np.where(batch.applied, own, 0)
            effects += [label, label, np.full(dry, none)]
            groups += [own, own, np.zeros(dry, int)]
        audio = torch.from_numpy(np.concatenate(clips)[:, 0])
        return Chunk(
            self.features(audio),
            torch.from_numpy(np.concatenate(effects)).long(),
            torch.from_numpy(np.concatenate(groups)).long(),
        )

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
