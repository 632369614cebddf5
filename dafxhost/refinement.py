"""Refining a setting when there is no target to compare with: the reference plays something else.

What can be compared is how both recordings sound as a whole: log-mel statistics (the distance a transfer
reports) and, with a trained run, what its encoder hears. That tells which of the settings that the controller
believes in are right; the distance that is then to be expected tells which one to take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.data.features import normalise_peak
from dafxhost.errors import AudioFileError
from dafxhost.expected import ExpectedDistance
from dafxhost.search import Progress, SearchResult, reflected, search
from dafxhost.style_distance import LogMel, logmel_distance

if TYPE_CHECKING:
    from dafxhost.training.runs import Run

EXCERPTS = 3
"""Most excerpts of each recording on which settings are tried."""
TOGETHER = 16
"""Renders judged in one call of the encoder."""
FEWEST = 24
"""Renders below which beliefs are not worth weighing."""
GENERATION = 40
"""Settings tried between two looks at which are good."""
TEMPERATURE = 0.1
"""Difference of style scores by which a setting is believed e times less. Chosen on training recordings."""
HOLD = 0.8
"""Share of settings in which what landmarks located stays."""
STEP = 0.08
"""Deviation of steps around good settings, on 0..1."""
BELIEVED, CANDIDATES = 24, 40
"""Settings that stand for the target, and those of which one is the answer."""
EXCERPT = 65536
"""Samples on which expected distances are taken."""
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
        good = np.flatnonzero(np.isfinite(wet).all(axis=(0, 2, 3)) & (np.abs(wet).max(axis=(0, 2, 3)) > 0))
        scores = np.full(len(settings), np.inf)
        for first in range(0, len(good), TOGETHER):
            some = good[first : first + TOGETHER]
            scores[some] = self._score(normalise_peak(wet[:, some]))
        return scores

    def _score(self, clips: np.ndarray) -> np.ndarray:
        """Renders `[E, N, 1, T]` at one peak -> `[N]`."""
        apart = np.full((clips.shape[1], 2), np.inf)
        for i in range(len(apart)):
            with suppress(AudioFileError):  # silence
                apart[i, 0] = logmel_distance(self._statistics(clips[:, i]), self._mel)
        if self._embed is None:
            return apart[:, 0] / self._alone[0]
        heard = self._embed(clips.reshape(-1, *clips.shape[2:])).reshape(*clips.shape[:2], -1)
        apart[:, 1] = np.abs(heard.mean(axis=0) - self._wanted).mean(axis=1)
        return (apart / self._alone).mean(axis=1)

    def _distances(self, clips: np.ndarray) -> np.ndarray:
        """Of excerpts `[E, 1, T]`: log-mel statistics' distance, and that of embeddings."""
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
    believing: bool = True,
) -> SearchResult:
    """A setting by which the input is likely to sound nearer to the reference than by `start` `[P]`.

    What the controller believes is drawn from and put to the test: settings whose renders sound like the
    reference (`StyleScore`) weigh more, and new ones are drawn around those (population Monte Carlo: Cappe et
    al. 2004). The answer is the setting of least expected distance under these weights
    (`dafxhost.expected`), which may be `start`. With fewer than `FEWEST` renders it is the best of a search
    by CMA-ES on the style score alone.

    Args:
        run: its controller and its encoder are the judges.
        executor: of the run's effect.
        inputs, references: excerpts `[1, T]` at the run's rate and level; up to three of each are used,
            spread over those given.
        budget: settings to try, each once. progress, seed: as of `dafxhost.search.search`.
        believing: False leaves out what the controller believes, so that nothing but its encoder is used: a
            search by CMA-ES whatever the budget.

    Returns:
        `score` and `start_score` are expected MR-STFT distances. Ctrl-C ends it with the best so far.
    """
    a = np.stack(_few(inputs))
    style = StyleScore(executor, a, _few(references), run.sample_rate, run.standardised)
    if budget < FEWEST or not believing:
        return search(run.parameters, style, start, budget=budget, seed=seed, progress=progress)
    embedded = run.embed_pairs(inputs, references)
    heard = run.logits(*embedded)
    held = run.located_pairs(heard, embedded)[1]
    tried = Population(run, style, start, heard.log_softmax(dim=-1).logsumexp(dim=0), held, seed)
    interrupted = False
    try:
        while tried.count < budget:
            tried.extend(min(GENERATION, budget - tried.count))
            if progress is not None:
                progress(tried.count, float(tried.scores.min()))
    except KeyboardInterrupt:
        interrupted = True
    setting, score, before = tried.decide(executor, a, run.sample_rate)
    return SearchResult(setting, score, before, tried.count, tried.history, interrupted)


class Population:
    """Settings tried so far, and how much each is believed.

    Args:
        run: draws settings. style: judges them. start: `[P]`, the first of them.
        logits: `[P, L]`, what the controller believes. held: `[P]` bool, what landmarks located, which is
            seldom changed. seed: of all draws.

    Attributes:
        settings: `[N, P]`. scores: `[N]`, of `style`. history: (settings tried, lowest score so far).
    """

    def __init__(
        self, run: Run, style: StyleScore, start: np.ndarray, logits: Any, held: np.ndarray, seed: int
    ) -> None:
        self._run, self._style, self._logits, self._held = run, style, logits, held
        self._rng = np.random.default_rng(seed)
        self.settings = np.asarray(start, dtype=np.float64)[None]
        self.scores = style(self.settings)
        self.history = [(1, float(self.scores[0]))]

    @property
    def count(self) -> int:
        return len(self.settings)

    def weights(self) -> np.ndarray:
        """`[N]`, sum 1: exp(-score / TEMPERATURE), nothing where a render failed."""
        best = self.scores.min()
        if not np.isfinite(best):
            return np.full(self.count, 1.0 / self.count)
        weights = np.exp(-(self.scores - best) / TEMPERATURE)
        return weights / weights.sum()

    def extend(self, count: int) -> None:
        """Try `count` more: half of them (at first all) drawn from the belief, half around what is good."""
        around = 0 if self.count < GENERATION else count // 2
        new = np.concatenate([self._drawn(count - around), self._moved(around)])
        new = np.where(self._held & (self._rng.random((len(new), 1)) < HOLD), self.settings[0], new)
        self.settings = np.concatenate([self.settings, new])
        self.scores = np.concatenate([self.scores, self._style(new)])
        self.history.append((self.count, float(self.scores.min())))

    def _drawn(self, count: int) -> np.ndarray:
        import torch

        generator = torch.Generator().manual_seed(int(self._rng.integers(2**31)))
        drawn = self._run.controller.draw(self._logits, count, generator)
        return drawn.double().numpy()

    def _moved(self, count: int) -> np.ndarray:
        """Parents by weight; of each about half of the continuous parameters move, others may be a mate's."""
        parents, mates = (
            self.settings[self._rng.choice(self.count, count, p=self.weights())] for _ in range(2)
        )
        continuous = self._run.controller.continuous.cpu().numpy()
        sizes = STEP * self._rng.standard_normal(parents.shape)
        moved = reflected(parents + sizes)
        change = self._rng.random(parents.shape)
        moved = np.where((change < 0.5) & continuous, moved, parents)
        return np.where(change > 0.8, mates, moved)

    def decide(self, executor: Any, inputs: np.ndarray, sample_rate: int) -> tuple[np.ndarray, float, float]:
        """The setting of least expected distance, that distance, and that of the start."""
        weights = self.weights()
        likely = np.argsort(-weights, kind="stable")
        believed = likely[:BELIEVED][weights[likely[:BELIEVED]] > 0]
        excerpts = inputs[:, :, :EXCERPT]
        expected = ExpectedDistance(
            executor, excerpts, self.settings[believed], sample_rate, weights[believed],
            threads=executor.workers,
        )  # fmt: skip
        candidates = self.settings[np.unique(np.concatenate([[0], likely[:CANDIDATES]]))]
        values = expected(candidates)
        best = int(values.argmin())
        return candidates[best], float(values[best]), float(values[0])


def _few(excerpts: Sequence[np.ndarray]) -> list[np.ndarray]:
    different = list({id(e): e for e in excerpts}.values())  # the shorter list was repeated
    chosen = np.unique(np.linspace(0, len(different) - 1, EXCERPTS).round().astype(int))
    return [different[i] for i in chosen]
