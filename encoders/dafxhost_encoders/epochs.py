"""What an autoencoder is trained on, epoch by epoch, made ahead in a thread of its own."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import torch
from torch import Tensor

from dafxhost_encoders.autoencoder import Autoencoder
from dafxhost_encoders.effect_clips import Clips

_PART = 16
"""Examples made at a time: what is rendered while the part before is turned into inputs."""


@dataclass(frozen=True)
class Epoch:
    """Inputs `[M, ...]` of the examples of one epoch, and how many renders were unusable."""

    inputs: Tensor
    examples: int
    unusable: int

    def batches(self, size: int, seed: tuple[int, ...]) -> Iterator[Tensor]:
        """All inputs once, in random order: drawn without replacement. The last batch may be smaller."""
        order = torch.from_numpy(np.random.default_rng(list(seed)).permutation(len(self.inputs)))
        for rows in order.split(size):
            yield self.inputs[rows]


class Closed(Exception):
    """An epoch was asked for, or in the making, when everything was closed."""


class Epochs:
    """Epochs of examples, each decided by the seed and its number alone.

    Args:
        clips, encoder: what makes examples, and whose `inputs` they become.
        examples: in an epoch. seed: of all draws.
        turns: one effect an epoch, in turn; else all effects mixed.
        renew: epochs (in turns: of the same effect) that the same examples serve; 0: all of them.
        deadline: of the monotonic clock; an epoch in the making then is cut short.
    """

    def __init__(
        self,
        clips: Clips,
        encoder: Autoencoder,
        examples: int,
        seed: int,
        turns: bool = False,
        renew: int = 1,
        deadline: float = math.inf,
    ) -> None:
        self.clips, self.encoder, self.examples, self.seed = clips, encoder, examples, seed
        self.renew, self.deadline = renew, deadline
        self._turns = turns and bool(clips.effects)
        self.round = len(clips.effects) if self._turns else 1
        self._sets: dict[tuple[int, int], Future[Epoch]] = {}
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1, "dafxhost-epochs")

    def effect(self, number: int) -> str:
        """Whose epoch `number` is: an effect's name, or "" where they are mixed."""
        return self.clips.effects[number % self.round] if self._turns else ""

    def take(self, number: int) -> Epoch:
        """Epoch `number` (0, 1, ...); what comes after it is begun. Raises what making it raised."""
        which, generation = self._set(number)
        future = self._begin(number)
        for old in [key for key in self._sets if key[0] == which and key[1] < generation]:
            del self._sets[old]
        epoch = future.result()
        # One set ahead is enough: it is ready when it is needed, and memory holds two of a kind at most.
        for later in range(number + 1, number + 1 + self.round * max(1, self.renew)):
            if self._set(later) not in self._sets:
                self._begin(later)
                break
        return epoch

    def fresh(self, number: int) -> bool:
        """Whether epoch `number` is the first on its examples."""
        return number < self.round or (self.renew > 0 and self._set(number) != self._set(number - self.round))

    def _set(self, number: int) -> tuple[int, int]:
        """(effect's place in a round, generation) of the examples of epoch `number`."""
        return number % self.round, number // self.round // self.renew if self.renew else 0

    def _begin(self, number: int) -> Future[Epoch]:
        key = self._set(number)
        if key not in self._sets:
            self._sets[key] = self._thread.submit(self._make, *key)
        return self._sets[key]

    def _make(self, which: int, generation: int) -> Epoch:
        effect = which if self._turns else None
        seed = (self.seed, 0, which, generation)
        return make_epoch(self.clips, self.encoder, self.examples, seed, effect, self._ended)

    def _ended(self) -> bool:
        if self._stop.is_set():
            raise Closed
        return time.monotonic() > self.deadline

    def close(self) -> None:
        """Stop making examples; waits for the part in the making."""
        self._stop.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def make_epoch(
    clips: Clips,
    encoder: Autoencoder,
    examples: int,
    seed: tuple[int, ...],
    effect: int | None = None,
    ended: Callable[[], bool] = lambda: False,
) -> Epoch:
    """`examples` examples as inputs of `encoder`; while a part is turned into inputs the next is rendered.

    After each part `ended()` is asked: with True the examples made so far are all.
    """
    sizes = [min(_PART, examples - first) for first in range(0, examples, _PART)]
    inputs: list[Tensor] = []
    unusable = 0
    waiting = clips.start(sizes[0], (*seed, 0), effect)
    for number in range(len(sizes)):
        batch = waiting()
        last = ended() or number + 1 == len(sizes)
        if not last:
            waiting = clips.start(sizes[number + 1], (*seed, number + 1), effect)
        clean, processed = torch.from_numpy(batch.clean), torch.from_numpy(batch.processed)
        with torch.no_grad():
            inputs.append(encoder.inputs(clean, processed, clips.sample_rate))
        unusable += batch.unusable
        if last:
            break
    return Epoch(torch.cat(inputs), examples, unusable)
