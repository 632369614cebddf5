"""How far renders lie from their targets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor as Threads
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dafxhost.data.examples import ExampleBatch
from dafxhost.data.features import normalise_peak
from dafxhost.losses import MultiResolutionSTFT


@dataclass(frozen=True)
class Details:
    """Example by example, for those who want more than means.

    Attributes:
        ways: names of the columns, as of the rows. scores: MR-STFT `[N, ways]`, NaN where a render failed.
        settings, true: `[N, P]` the controller's and those drawn. applied: `[N]` bool, see `ExampleBatch`.
        sources: `[N]` what each was drawn from. apply_probability: as given to `evaluate`.
    """

    ways: tuple[str, ...]
    scores: np.ndarray
    settings: np.ndarray
    true: np.ndarray
    applied: np.ndarray
    sources: tuple[str, ...]
    apply_probability: float


def score_columns(
    batch: ExampleBatch,
    settings: np.ndarray,
    executor: Any,
    distance: MultiResolutionSTFT,
    sample_rate: int,
    threads: Threads,
    *,
    untouched: bool = False,
) -> np.ndarray:
    """MR-STFT `[B, K]` between targets and the dry inputs rendered with settings `[B, K, P]`.

    Both are at a peak of -12 dBFS. NaN where a render failed. With `untouched` a last column for the input
    left alone is added.
    """
    renders = executor.render(batch.dry, settings, sample_rate, on_error="nan")
    device = next(distance.buffers()).device

    @torch.no_grad()
    def one(i: int) -> np.ndarray:
        wet = [normalise_peak(renders[i])]
        if untouched:
            wet.append(batch.dry[i : i + 1])
        audio = torch.from_numpy(np.concatenate(wet))[None].to(device)
        target = distance.prepare(torch.from_numpy(batch.target[i : i + 1]).to(device))
        return distance.distance(audio, target)[0].double().cpu().numpy()

    return np.stack(list(threads.map(one, range(len(batch)))))


def score_settings(
    batch: ExampleBatch,
    settings: np.ndarray | Sequence[float] | None,
    executor: Any,
    distance: MultiResolutionSTFT,
    sample_rate: int,
    threads: Threads,
) -> np.ndarray:
    """MR-STFT `[B]` of settings `[B, P]`, or of the input left alone for None."""
    if settings is None:
        nothing = np.zeros((len(batch), 0, len(batch.settings[0])))
        return score_columns(batch, nothing, executor, distance, sample_rate, threads, untouched=True)[:, 0]
    columns = np.asarray(settings, dtype=np.float64)[:, None]
    return score_columns(batch, columns, executor, distance, sample_rate, threads)[:, 0]
