"""Examples embedded beforehand.

An encoder that is not trained gives the same embeddings every time, so they are computed once, and the
supervised phase becomes cheap. A clip serves several settings, which shares the work on its dry half. Example
k depends on the seed and on k alone.

The inputs' audio is kept beside them, because the end-to-end phase can then use the same examples: what it
renders is cheap, what it would have to embed is not (six parts in seven of a step with `effect-features`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor as Threads
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.data.examples import ExampleBatch
from dafxhost.data.features import fade, normalise_peak
from dafxhost.data.judging import DryFeatures, Judge
from dafxhost.data.pairs import pair_kind
from dafxhost.data.setting_draws import SettingDraw, UniformDraw
from dafxhost.data.sources import AudioSource
from dafxhost.errors import RunError
from dafxhost.training.controller import Controller
from dafxhost.training.runs import load_state

CLIPS, SETTINGS = 8, 8
"""Clips rendered in one call, and settings on each."""


@dataclass
class Pool:
    """N examples made of C clips; embeddings and audio are kept as float16.

    Attributes:
        dry: `[C, D]`, embeddings of the inputs. plain: `[C, D]`, of the references before the effect.
        audio: `[C, 1, T]`, the inputs, peak -12 dBFS; `[C, 1, 0]` where inputs are not dry.
        reference: `[N, D]`, embeddings of the wet references. settings: `[N, P]`, that made them.
        clip: `[N]`, the clip that each example belongs to.
    """

    dry: Tensor
    plain: Tensor
    audio: Tensor
    reference: Tensor
    settings: Tensor
    clip: Tensor

    def __len__(self) -> int:
        return len(self.settings)

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @staticmethod
    def join(parts: Sequence[Pool]) -> Pool:
        """One pool of several, in order."""
        offset, clips = 0, []
        for part in parts:
            clips.append(part.clip + offset)
            offset += len(part.dry)
        joined = {name: torch.cat([p.tensors()[name] for p in parts]) for name in parts[0].tensors()}
        return Pool(**{**joined, "clip": torch.cat(clips)})

    def first(self, count: int) -> Pool:
        """The first `count` examples."""
        cut = {name: getattr(self, name)[:count] for name in ("reference", "settings", "clip")}
        return replace(self, **cut)

    def batch(
        self, rng: np.random.Generator, size: int, applied: float
    ) -> tuple[ExampleBatch, Tensor, Tensor]:
        """Examples to be rendered anew, with the embeddings `[size, D]` of inputs and references.

        `applied` is how often the effect is applied at all; elsewhere the reference is dry. Targets are left
        to whoever renders them: the batch's are the inputs.
        """
        rows, wet, dry, reference = self.rows(rng, size, applied)
        audio = self.audio[self.clip[rows]].float().numpy()
        made = ExampleBatch(
            dry=audio, reference=audio, target=audio, settings=self.settings[rows].double().numpy(),
            applied=wet.numpy(), names=[""] * size, counts={}, complete=False,
        )  # fmt: skip
        return made, dry, reference

    def rows(
        self, rng: np.random.Generator, size: int, applied: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Numbers of examples drawn, where the effect is applied, embeddings of inputs and of references."""
        rows = torch.from_numpy(rng.integers(0, len(self), size))
        clips, wet = self.clip[rows], torch.from_numpy(rng.random(size) < applied)
        reference = torch.where(wet[:, None], self.reference[rows], self.plain[clips])
        return rows, wet, self.dry[clips].float(), reference.float()


@dataclass
class _Piece:
    halves: np.ndarray  # [CLIPS, R, 1, T], dry
    settings: np.ndarray  # [CLIPS, SETTINGS, P]
    future: Any  # of [CLIPS, SETTINGS, 1, T]


class PoolMaker:
    """Makes a pool.

    Args:
        source, executor: clips, and what renders them. controller: embeds them.
        samples, sample_rate: of a half. seed: of all draws. threads: embed clips side by side.
        pairs: kind of examples, see `dafxhost.data.pairs`. draws: where settings come from; uniform by
        default.
    """

    def __init__(
        self,
        source: AudioSource,
        executor: Any,
        controller: Controller,
        *,
        samples: int,
        sample_rate: int,
        seed: int,
        threads: Threads,
        pairs: str = "ab",
        draws: SettingDraw | None = None,
    ) -> None:
        self.source, self.executor, self.controller = source, executor, controller
        self.samples, self.sample_rate, self.seed = samples, sample_rate, seed
        self._threads = threads
        self._kind = pair_kind(pairs)
        self._draws = draws or UniformDraw(executor.effect)
        self._judge = Judge(sample_rate)

    def make(self, count: int, seconds: float, progress: Callable[[int, float], None]) -> Pool:
        """`count` examples; if that is 0, as many as are ready within `seconds`, at least one piece.

        `progress(examples, seconds)` is called after every piece.
        """
        parts: list[Pool] = []
        start, done = time.monotonic(), 0
        for part in self._parts():
            parts.append(part)
            done += len(part)
            spent = time.monotonic() - start
            progress(done, spent)
            if done >= count if count else (spent >= seconds and done):
                break
        return Pool.join(parts).first(count or done)

    def _parts(self) -> Iterator[Pool]:
        """Pieces in order; while one is embedded, the next is rendered."""
        ahead = self._draw(0)
        number = 0
        while True:
            piece, number = ahead, number + 1
            ahead = self._draw(number)
            yield self._embed(piece)

    def _draw(self, number: int) -> _Piece:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
        halves = np.stack(list(self._threads.map(self._halves, rng.spawn(CLIPS))))
        settings = np.stack([self._draws.draw(rng) for _ in range(CLIPS * SETTINGS)])
        settings = settings.reshape(CLIPS, SETTINGS, len(self.executor.effect.parameters))
        heard = halves[:, self._kind.reference_row]
        future = self.executor.submit(heard, settings, self.sample_rate, on_error="nan")
        return _Piece(halves, settings, future)

    def _halves(self, rng: np.random.Generator) -> np.ndarray:
        """`[R, 1, T]`: a clip in as many parts as an example needs, dry, at -12 dBFS."""
        clip, _ = self.source.draw(rng, self._kind.rows * self.samples, self.sample_rate)
        return normalise_peak(fade(clip.reshape(-1, 1, self.samples), self.sample_rate))

    def _embed(self, piece: _Piece) -> Pool:
        wet = piece.future.result()
        return Pool.join(list(self._threads.map(lambda i: self._one(piece, wet[i], i), range(CLIPS))))

    @torch.no_grad()
    def _one(self, piece: _Piece, wet: np.ndarray, i: int) -> Pool:
        """One clip with its settings; what `Examples` would refuse is left out (judged by one half)."""
        kind = self._kind
        dry = piece.halves[i, kind.reference_row]
        features = DryFeatures(dry[None], self.sample_rate)
        dry_input = kind.input_column < 0
        faults = [self._judge.fault([one], features, audible=dry_input) for one in wet]
        good = np.array([fault is None for fault in faults])
        if not dry_input and good.sum() < 2:
            good[:] = False  # there is no other setting for the input
        settings = torch.from_numpy(piece.settings[i][good]).float()
        audio = normalise_peak(wet[good])
        if dry_input:
            embedded = self._embedded(np.concatenate([piece.halves[i, :1], dry[None], audio]))
            kept = torch.from_numpy(piece.halves[i, :1]).half()
            clip = torch.zeros(len(settings), dtype=torch.long)
            return Pool(embedded[:1], embedded[1:2], kept, embedded[2:], settings, clip)
        embedded = self._embedded(audio)
        inputs = embedded.roll(1, dims=0)  # each one's input is at the setting before it
        none = torch.zeros(len(settings), 1, 0).half()
        return Pool(inputs, inputs, none, embedded, settings, torch.arange(len(settings)))

    def _embedded(self, audio: np.ndarray) -> Tensor:
        if not len(audio):
            return torch.zeros(0, self.controller.encoder.embedding_size).half()
        return self.controller.embed(torch.from_numpy(audio), self.sample_rate).cpu().half()


def load_pool(path: Path, facts: dict[str, Any]) -> Pool:
    """Read a pool that `train` saved. Raises RunError: missing, damaged, or made with other `facts`."""
    tensors, made = load_state(path)
    wrong = [
        f"{name} {made.get(name)!r}, not {value!r}"
        for name, value in facts.items()
        if made.get(name) != value
    ]
    if wrong:
        raise RunError(f"{path} does not fit this training: its examples have {'; '.join(wrong)}")
    return Pool(**tensors)
