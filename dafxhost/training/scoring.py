"""How far renders lie from their targets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor as Threads
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from dafxhost.data.examples import ExampleBatch
from dafxhost.data.features import normalise_peak
from dafxhost.losses import SILENCE, MultiResolutionSTFT
from dafxhost.training.protocols import GRANT, Protocol


@dataclass(frozen=True)
class Details:
    """Example by example, for those who want more than means.

    Attributes:
        ways: names of the columns, as of the rows. scores: MR-STFT `[N, ways]`, NaN where a render failed.
        settings, true: `[N, P]` the controller's and those drawn. applied: `[N]` bool, see `ExampleBatch`.
        sources: `[N]` what each was drawn from. apply_probability, protocol, pairs: as given to `evaluate`.
        metrics: by name, `[N, ways]`; NaN where a render failed or a metric has no answer.
    """

    ways: tuple[str, ...]
    scores: np.ndarray
    settings: np.ndarray
    true: np.ndarray
    applied: np.ndarray
    sources: tuple[str, ...]
    apply_probability: float
    protocol: str = GRANT.name
    pairs: str = "ab"
    metrics: dict[str, np.ndarray] = field(default_factory=dict)


def level_renders(
    renders: np.ndarray, target: np.ndarray, protocol: Protocol = GRANT, untouched: np.ndarray | None = None
) -> np.ndarray:
    """Renders `[K, C, T]` at the level at which the protocol compares them with the target `[C, T]`.

    Then the input left alone `[C, T]`, if given, whose peak is at -12 dBFS already.
    """
    # By their peak first: what equals the target is then equal to the bit, and gets no second gain.
    levelled = normalise_peak(renders)
    if untouched is not None:
        levelled = np.concatenate([levelled, untouched[None]])
    return levelled if protocol.level == "peak" else match_rms(levelled, target)


def match_rms(clips: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Clips `[K, C, T]` float32 scaled to the RMS of the target `[C, T]`; where one is silent, as they are.

    NaN stays.
    """
    wanted = _rms(target)
    if wanted < SILENCE:
        return clips
    levels = np.array([_rms(clip) for clip in clips])
    silent = levels < SILENCE  # False for NaN
    gains = np.where(silent, 1.0, wanted / np.where(silent, 1.0, levels))
    return clips * gains.astype(np.float32)[:, None, None]


def _rms(clip: np.ndarray) -> float:
    flat = np.ascontiguousarray(clip).reshape(-1)
    return float(np.sqrt(np.einsum("i,i->", flat, flat, dtype=np.float64) / max(flat.size, 1)))


def score_columns(
    batch: ExampleBatch,
    settings: np.ndarray,
    executor: Any,
    distance: MultiResolutionSTFT,
    sample_rate: int,
    threads: Threads,
    *,
    untouched: bool = False,
    protocol: Protocol = GRANT,
) -> np.ndarray:
    """MR-STFT `[B, K]` between targets and the dry inputs rendered with settings `[B, K, P]`.

    Both are at the protocol's level. NaN where a render failed. With `untouched` a last column for the input
    left alone is added.
    """
    renders = executor.render(batch.dry, settings, sample_rate, on_error="nan")

    def one(i: int) -> np.ndarray:
        dry = batch.dry[i] if untouched else None
        levelled = level_renders(renders[i], batch.target[i], protocol, dry)
        return distances(levelled, batch.target[i], distance)

    return np.stack(list(threads.map(one, range(len(batch)))))


@torch.no_grad()
def distances(clips: np.ndarray, target: np.ndarray, distance: MultiResolutionSTFT) -> np.ndarray:
    """MR-STFT `[K]` of clips `[K, C, T]` from the target `[C, T]`; exactly 0 where they are equal."""
    device = next(distance.buffers()).device
    values = np.zeros(len(clips))
    # The render with the true setting, and an input to which nothing was done: nothing to compute.
    other = [k for k, clip in enumerate(clips) if not np.array_equal(clip, target)]
    if other:
        prepared = distance.prepare(torch.from_numpy(target[None]).to(device))
        audio = torch.from_numpy(clips[other])[None].to(device)
        values[other] = distance.distance(audio, prepared)[0].double().cpu().numpy()
    return values


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
