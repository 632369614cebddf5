"""The work of an evaluation, some examples at a time: settings by every way, renders, distances."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dafxhost.data.examples import APPLY_PROBABILITY, ExampleBatch, Examples
from dafxhost.data.sources import AudioSource
from dafxhost.errors import RunError
from dafxhost.execution.front import BaseExecutor
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.metrics import Choice, Measurer
from dafxhost.metrics.table import PRIMARY
from dafxhost.refinement import refine_setting
from dafxhost.training import identification, runs
from dafxhost.training.config import TrainConfig
from dafxhost.training.protocols import Protocol
from dafxhost.training.runs import Run
from dafxhost.training.scoring import distances, level_renders, score_columns
from dafxhost.training.session import make_source
from dafxhost.training.stopwatch import Stopwatch

PIECE = 16
"""Examples worked on at a time."""
CANDIDATES = 24
"""Settings of which the constant one is the best, the defaults among them."""
ORACLE = "true setting"
ALONE = "input left alone"


@dataclass
class Measured:
    """Some examples.

    Attributes:
        scores: `[B, ways]` MR-STFT, NaN where a render failed. metrics: `[B, ways, M]`, the other ones.
        settings: `[B, P]` of the controller.
        changes: `[B', P]`, see `identification.changes`, of those that were looked at.
        made: the examples without their audio.
    """

    scores: np.ndarray
    metrics: np.ndarray
    settings: np.ndarray
    changes: np.ndarray
    made: ExampleBatch


class Bench:
    """Measures examples of one run.

    Args:
        controllers: runs by the name of their row, the run itself first.
        executor: of the run's effect. threads: examples are judged on.
        protocol: levels. choice: metrics. pairs: kind of the examples.
        refine: settings to try around the controller's answer, 0 for none. search: numbers of settings to try
            without it; `refine` is added to them.
    """

    def __init__(
        self, controllers: dict[str, Run], executor: BaseExecutor, threads: ThreadPoolExecutor,
        protocol: Protocol, choice: Choice, pairs: str, refine: int, search: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.controllers, self.executor, self.threads = controllers, executor, threads
        self.run = next(iter(controllers.values()))
        self.protocol, self.pairs, self.refine = protocol, pairs, refine
        self.alone: list[int] = sorted({*search, refine} - {0})
        self.distance = MultiResolutionSTFT()
        self.metrics = choice.metrics
        self.others = [metric for metric in choice.metrics if metric.name != PRIMARY]
        self.measurer = Measurer(self.others, self.run.sample_rate)
        self.watch = Stopwatch()
        self.looked_at = 0

    @property
    def ways(self) -> list[str]:
        """Names of the columns, in order."""
        searches = [f"controller and {self.refine} renders"] if self.refine else []
        searches += [_alone(budget) for budget in self.alone]
        return [*self.controllers, *searches, "random setting", "constant setting", ORACLE, ALONE]

    def examples(self, source: AudioSource, apply_probability: float = APPLY_PROBABILITY) -> Examples:
        """Makes the examples that are measured."""
        run = self.run
        return Examples(
            source, self.executor, sample_rate=run.sample_rate, samples=run.samples, pairs=self.pairs,
            apply_probability=apply_probability,
        )  # fmt: skip

    def best_constant(self, seed: int, calibration: int) -> np.ndarray:
        """`[P]`: of the defaults and random settings, the one with the lowest mean on training examples.

        Args:
            calibration: how many.

        Raises:
            RunError: none could be rendered.
        """
        effect = self.executor.effect
        rng = np.random.default_rng([seed, 11])
        drawn = rng.random((CANDIDATES - 1, len(effect.parameters)))
        candidates = np.concatenate([effect.default_setting()[None], drawn])
        examples = self.examples(_training_source(self.run))
        total = np.zeros(CANDIDATES)
        for made in examples.pieces(int(rng.integers(1 << 30)), calibration, PIECE):
            total += self._scores(made, np.repeat(candidates[None], len(made), axis=0)).sum(axis=0)
        finite = np.where(np.isfinite(total), total, np.inf)
        if not np.isfinite(finite).any():
            raise RunError(f"no constant setting of {effect.name} could be rendered on the training data")
        return candidates[finite.argmin()]

    def measure(self, made: ExampleBatch, constant: np.ndarray) -> Measured:
        """Every way on some examples, and the first ones with each parameter moved."""
        rng = np.random.default_rng([made.seed, 12, made.first])
        columns = [self._predict(name, run, made) for name, run in self.controllers.items()]
        if self.refine:
            columns.append(
                self._search(f"controller and {self.refine} renders", made, columns[0], self.refine)
            )
        default = np.repeat(self.executor.effect.default_setting()[None], len(made), axis=0)
        columns += [
            self._search(_alone(budget), made, default, budget, believing=False) for budget in self.alone
        ]
        columns += [rng.random((len(made), len(constant))), np.repeat(constant[None], len(made), axis=0)]
        columns.append(made.settings)  # the oracle's
        scores, metrics = self._everything(made, np.stack(columns, axis=1))
        empty = np.zeros((len(made), 0), np.float32)
        light = ExampleBatch(empty, empty, empty, made.settings, made.applied, made.names, made.counts)
        return Measured(scores, metrics, columns[0], self._changes(made), light)

    def _predict(self, name: str, run: Run, made: ExampleBatch) -> np.ndarray:
        def one(i: int) -> np.ndarray:
            with self.watch(name):
                return run.predict_batch(made.dry[i : i + 1], made.reference[i : i + 1])

        return np.concatenate(list(self.threads.map(one, range(len(made)))))

    def _search(
        self, name: str, made: ExampleBatch, starts: np.ndarray, budget: int, believing: bool = True
    ) -> np.ndarray:
        """The settings that a search from `starts` `[B, P]` finds; it knows inputs and references only."""

        def one(i: int) -> np.ndarray:
            pair = [made.dry[i]], [made.reference[i]]
            with self.watch(name):
                found = refine_setting(
                    self.run, self.executor, *pair, starts[i], budget, seed=i, believing=believing
                )
                return found.setting

        return np.stack(list(self.threads.map(one, range(len(made)))))

    def _scores(self, made: ExampleBatch, settings: np.ndarray) -> np.ndarray:
        """MR-STFT `[B, K]` of settings `[B, K, P]`."""
        return score_columns(
            made, settings, self.executor, self.distance, self.run.sample_rate, self.threads,
            protocol=self.protocol,
        )  # fmt: skip

    def _everything(self, made: ExampleBatch, settings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(MR-STFT `[B, K + 1]`, other metrics `[B, K + 1, M]`) of settings `[B, K, P]`, of which the last is
        the true one, and of the input left alone.
        """
        with self.watch("renders"):
            renders = self.executor.render(made.dry, settings, self.run.sample_rate, on_error="nan")

        def one(i: int) -> tuple[np.ndarray, np.ndarray]:
            levelled = level_renders(renders[i], made.target[i], self.protocol, made.dry[i])
            if not made.applied[i]:
                levelled[-2] = levelled[-1]  # nothing was done to this one, and the oracle knows
            with self.watch("MR-STFT"):
                scores = distances(levelled, made.target[i], self.distance)
            with self.watch("other metrics"):
                return scores, self.measurer.measure(levelled, made.target[i])

        scores, metrics = zip(*self.threads.map(one, range(len(made))), strict=True)
        return np.stack(scores), np.stack(metrics)

    def _changes(self, made: ExampleBatch) -> np.ndarray:
        """Of as many examples with the effect as are still wanted."""
        places = np.flatnonzero(made.applied)[: identification.EXAMPLES - self.looked_at]
        if not len(places):
            return np.zeros((0, made.settings.shape[1]))
        self.looked_at += len(places)
        with self.watch("moving parameters"):
            some = replace(
                made, dry=made.dry[places], target=made.target[places], settings=made.settings[places],
                names=[made.names[i] for i in places],
            )  # fmt: skip
            return identification.changes(
                some, self.executor, self.distance, self.run.sample_rate, self.threads
            )


def _alone(budget: int) -> str:
    return f"{budget} renders alone"


def _training_source(run: Run) -> AudioSource:
    """What the run was trained on; the synthetic corpus if its recordings are not there any more."""
    path = run.path / runs.CONFIG
    config = TrainConfig.from_toml(path) if path.is_file() else TrainConfig()
    if config.data and not Path(config.data).exists():
        config = config.replace(data="")
    return make_source(config.replace(sample_rate=run.sample_rate), "train")
