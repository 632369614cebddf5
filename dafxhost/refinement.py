"""Refining a setting by search when there is no target to compare with: the reference plays something else.

What can be compared is how both recordings sound as a whole: log-mel statistics (the distance a transfer
reports) and, with a trained run, what its encoder hears.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.data.features import normalise_peak
from dafxhost.errors import AudioFileError
from dafxhost.search import Progress, SearchResult, search
from dafxhost.style_distance import LogMel, logmel_distance

if TYPE_CHECKING:
    from dafxhost.training.runs import Run

EXCERPTS = 3
"""Most excerpts of each recording on which settings are tried."""
Embed = Callable[[np.ndarray], np.ndarray]


class StyleScore:
    """How far excerpts of an input, rendered with a setting, sound from a reference. Lower is better.

    The mean of two distances, each over its value for the input left alone (so that 1 is as bad as doing
    nothing): `logmel_distance` of all excerpts together, and the mean absolute difference of embeddings,
    averaged over excerpts. Levels do not count: renders are brought to the peak of training.

    Args:
        executor: renders the effect.
        inputs: excerpts `[E, 1, T]` of the input, at the level the effect is to get.
        references: excerpts `[1, T]` of the reference.
        sample_rate: of both, Hz.
        embed: clips `[N, 1, T]` -> standardised embeddings `[N, D]`; None: log-mel statistics alone.
    """

    def __init__(
        self,
        executor: Any,
        inputs: np.ndarray,
        references: Sequence[np.ndarray],
        sample_rate: int,
        embed: Embed | None = None,
    ) -> None:
        self._executor, self._inputs, self._rate, self._embed = executor, inputs, sample_rate, embed
        heard = np.stack(list(references))
        self._mel = self._statistics(heard)
        self._wanted = None if embed is None else embed(heard).mean(axis=0)
        self._alone = np.maximum(self._distances(inputs), 1e-9)

    def __call__(self, settings: np.ndarray) -> np.ndarray:
        """Settings `[N, P]` -> scores `[N]`; infinite where a render failed or is silent."""
        many = np.repeat(settings[None], len(self._inputs), axis=0)
        wet = self._executor.render(self._inputs, many, self._rate, on_error="nan")
        return np.array([self._score(wet[:, i]) for i in range(len(settings))])

    def _score(self, clips: np.ndarray) -> float:
        if not np.isfinite(clips).all():
            return np.inf
        try:
            relative = self._distances(normalise_peak(clips)) / self._alone
        except AudioFileError:  # silence
            return np.inf
        return float(relative[0] if self._embed is None else relative.mean())

    def _distances(self, clips: np.ndarray) -> np.ndarray:
        mel = logmel_distance(self._statistics(clips), self._mel)
        if self._embed is None:
            return np.array([mel, 1.0])
        return np.array([mel, np.abs(self._embed(clips).mean(axis=0) - self._wanted).mean()])

    def _statistics(self, clips: np.ndarray) -> LogMel:
        mel = LogMel(self._rate)
        for clip in clips:
            mel.add(clip)
        return mel


def refine_setting(
    run: Run,
    executor: Any,
    inputs: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    start: np.ndarray,
    budget: int,
    progress: Progress | None = None,
    seed: int = 0,
) -> SearchResult:
    """Search around `start` `[P]` for a setting by which the input sounds nearer to the reference.

    Args:
        run: its encoder is one of the two judges.
        executor: of the run's effect.
        inputs, references: excerpts `[1, T]` at the run's rate and level; up to three of each are used,
            spread over those given.
        budget: settings to try. progress, seed: as of `dafxhost.search.search`.
    """
    score = StyleScore(executor, np.stack(_few(inputs)), _few(references), run.sample_rate, run.standardised)
    return search(run.parameters, score, start, budget=budget, seed=seed, progress=progress)


def _few(excerpts: Sequence[np.ndarray]) -> list[np.ndarray]:
    different = list({id(e): e for e in excerpts}.values())  # the shorter list was repeated
    chosen = np.unique(np.linspace(0, len(different) - 1, EXCERPTS).round().astype(int))
    return [different[i] for i in chosen]
