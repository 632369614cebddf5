"""How good a controller is, by Grant's protocol (see dafxhost/data/examples.py), on any recordings.

Each example is rendered with the controller's setting, with a random setting and with one constant setting,
and compared with its target by multi-resolution STFT; the input left alone is compared as well. The constant
is the best of the effect's defaults and of random settings *on the run's own training data*; nothing is
chosen on the recordings measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dafxhost.data.examples import ExampleBatch, Examples
from dafxhost.data.sources import AudioSource
from dafxhost.effects import Effect
from dafxhost.errors import RunError, UsageError
from dafxhost.execution.backends import open_executor
from dafxhost.execution.front import BaseExecutor
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.refinement import refine_setting
from dafxhost.registry import effect as find_effect
from dafxhost.training import runs
from dafxhost.training.config import TrainConfig
from dafxhost.training.memory import keep_memory
from dafxhost.training.runs import Run, load_run
from dafxhost.training.scoring import Details, score_columns
from dafxhost.training.session import make_source

PIECE = 16
"""Examples worked on at a time."""
CANDIDATES = 24
"""Settings of which the constant one is the best, the defaults among them."""
CALIBRATION = 32
"""Training examples on which it is chosen."""
BOOTSTRAPS = 2000
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Row:
    """One way of choosing settings.

    Attributes:
        name: "controller", "supervised only", "controller and N renders", "N renders alone", "random
            setting", "constant setting", "input left alone".
        mean, median: of MR-STFT. low, high: bootstrap 95 % interval of the mean.
        ratio, ratio_low, ratio_high: of its mean to that of the input left alone, with the interval, in which
            both means are of the same resampled examples.
    """

    name: str
    mean: float
    median: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Attributes:
        rows: the ways compared. parameters: by name, mean absolute error on 0..1 of continuous ones ("mae",
            where a constant 0.5 gives about 0.25), share of right values of discrete ones ("accuracy"), over
            the examples that had the effect.
        constant: the constant setting in native units.
        examples, applied, failed: counted; a failed render leaves its example out of every row.
        counts: of `Examples`, summed: what was drawn and refused.
        details: example by example; not part of the JSON.
    """

    effect: str
    provider: str
    run: str
    data: str
    sample_rate: int
    samples: int
    seed: int
    examples: int
    applied: int
    failed: int
    rows: tuple[Row, ...]
    parameters: dict[str, dict[str, float]]
    constant: dict[str, Any]
    counts: dict[str, int]
    details: Details | None = field(default=None, repr=False, compare=False)

    def row(self, name: str) -> Row:
        """The row of that name. Raises UsageError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise UsageError(f"no row {name!r}; there are {', '.join(r.name for r in self.rows)}")

    def to_json(self) -> str:
        values = asdict(replace(self, details=None))
        del values["details"]
        return json.dumps(values, indent=2)

    def to_markdown(self) -> str:
        """A table, and a line for each parameter."""
        lines = [
            f"{self.effect} ({self.provider}), {self.examples} examples of {self.samples} samples at "
            f"{self.sample_rate} Hz, seed {self.seed}; {self.data}; run {self.run}",
            "",
            "| | MR-STFT mean (95 %) | median | ratio to input left alone (95 %) |",
            "|---|---|---|---|",
        ]
        for r in self.rows:
            interval = f"{r.mean:.3f} ({r.low:.3f} to {r.high:.3f})"
            ratio = f"{r.ratio:.3f} ({r.ratio_low:.3f} to {r.ratio_high:.3f})"
            lines.append(f"| {r.name} | {interval} | {r.median:.3f} | {ratio} |")
        lines += ["", "| parameter | measure | value |", "|---|---|---|"]
        for name, measures in self.parameters.items():
            lines += [f"| {name} | {measure} | {value:.3f} |" for measure, value in measures.items()]
        return "\n".join(lines) + "\n"


def evaluate(
    run: Run | str | Path,
    source: AudioSource,
    n: int = 1000,
    seed: int = 0,
    *,
    provider: str | None = None,
    workers: int | None = None,
    executor: str = "processes",
    apply_probability: float = 0.9,
    refine: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a run on recordings that it was not trained on.

    Args:
        run: a loaded run or its folder. If the folder has a "supervised" checkpoint, that is measured too.
        source: the recordings. n: examples. seed: of their draws.
        provider: renders with another provider than the best one here.
        workers: worker processes. executor: where they run, "processes" or "ray".
        apply_probability: how often an example has the effect at all. 0.9 is Grant's; where it has not, the
            target is the dry input, and the input left alone is perfect.
        refine: settings to try around the controller's answer, as `transfer` does: measured as a way of its
            own, and so is the same search begun at the effect's defaults, without the controller. Neither
            sees the target.
        progress: called with (examples done, n).

    Raises:
        RunError: the run is broken, or the effect's parameters changed. AudioFileError: nothing to draw from.
    """
    if n < 1:
        raise UsageError(f"{n} examples cannot be measured; at least 1 is needed")
    if refine < 0:
        raise UsageError(f"refine is {refine}; it is the number of settings to try, 0 for none")
    run = run if isinstance(run, Run) else load_run(run)
    effect = find_effect(run.where, provider)
    run.check_effect(effect)
    ways = {"controller": run}
    if run.checkpoint != "supervised" and (run.path / "supervised.json").is_file():
        ways["supervised only"] = load_run(run.path, "supervised", effect)
    keep_memory()
    threads_before = torch.get_num_threads()
    cores = len(os.sched_getaffinity(0))  # a cluster's workers may be more
    with (
        open_executor(effect, executor, workers=workers) as opened,
        ThreadPoolExecutor(min(opened.workers, cores), "dafxhost-evaluation") as threads,
    ):
        # Examples are judged side by side, so that torch's own threads would only be in the way.
        torch.set_num_threads(1 if min(opened.workers, cores) > 1 else threads_before)
        try:
            bench = _Bench(run, opened, threads, refine)
            constant = bench.best_constant(seed)
            examples = Examples(
                source, opened, sample_rate=run.sample_rate, samples=run.samples,
                apply_probability=apply_probability,
            )  # fmt: skip
            measured = [
                bench.measure(made, ways, constant, progress, n) for made in examples.pieces(seed, n, PIECE)
            ]
        finally:
            torch.set_num_threads(threads_before)
    names = [*ways, *bench.searches]
    found = _summary(run, effect, source, seed, names, constant, measured)
    return replace(found, details=_details(found, measured, apply_probability))


@dataclass
class _Measured:
    scores: np.ndarray  # [B, ways + 3]
    settings: np.ndarray  # [B, P] of the controller
    made: ExampleBatch  # without its audio


class _Bench:
    def __init__(
        self, run: Run, executor: BaseExecutor, threads: ThreadPoolExecutor, refine: int = 0
    ) -> None:
        self.run, self.executor, self.threads, self.refine = run, executor, threads, refine
        self.searches = [f"controller and {refine} renders", f"{refine} renders alone"] if refine else []
        self.distance = MultiResolutionSTFT()
        self.done = 0

    def best_constant(self, seed: int) -> np.ndarray:
        """`[P]`: of the defaults and random settings, the one with the lowest mean on training examples."""
        run, effect = self.run, self.executor.effect
        rng = np.random.default_rng([seed, 11])
        drawn = rng.random((CANDIDATES - 1, len(effect.parameters)))
        candidates = np.concatenate([effect.default_setting()[None], drawn])
        examples = Examples(
            _training_source(run), self.executor, sample_rate=run.sample_rate, samples=run.samples
        )
        total = np.zeros(CANDIDATES)
        for made in examples.pieces(int(rng.integers(1 << 30)), CALIBRATION, PIECE):
            repeated = np.repeat(candidates[None], len(made), axis=0)
            total += self._scores(made, repeated).sum(axis=0)
        finite = np.where(np.isfinite(total), total, np.inf)
        if not np.isfinite(finite).any():
            raise RunError(f"no constant setting of {effect.name} could be rendered on the training data")
        return candidates[finite.argmin()]

    def measure(
        self,
        made: ExampleBatch,
        ways: dict[str, Run],
        constant: np.ndarray,
        progress: Progress | None,
        n: int,
    ) -> _Measured:
        """Scores of a piece: every way, a random and the constant setting, the input left alone."""
        rng = np.random.default_rng([made.seed, 12, made.first])
        columns = [self._predict(run, made) for run in ways.values()]
        if self.refine:
            default = np.repeat(self.executor.effect.default_setting()[None], len(made), axis=0)
            columns += [self._search(made, columns[0]), self._search(made, default)]
        columns += [rng.random((len(made), len(constant))), np.repeat(constant[None], len(made), axis=0)]
        scores = self._scores(made, np.stack(columns, axis=1), untouched=True)
        self.done += len(made)
        if progress is not None:
            progress(self.done, n)
        empty = np.zeros((len(made), 0), np.float32)
        light = ExampleBatch(empty, empty, empty, made.settings, made.applied, made.names, made.counts)
        return _Measured(scores, columns[0], light)

    def _predict(self, run: Run, made: ExampleBatch) -> np.ndarray:
        rows = self.threads.map(
            lambda i: run.predict_batch(made.dry[i : i + 1], made.reference[i : i + 1]), range(len(made))
        )
        return np.concatenate(list(rows))

    def _search(self, made: ExampleBatch, starts: np.ndarray) -> np.ndarray:
        """The settings that a search from `starts` `[B, P]` finds; it knows inputs and references only."""

        def one(i: int) -> np.ndarray:
            pair = [made.dry[i]], [made.reference[i]]
            return refine_setting(self.run, self.executor, *pair, starts[i], self.refine, seed=i).setting

        return np.stack(list(self.threads.map(one, range(len(made)))))

    def _scores(self, made: ExampleBatch, settings: np.ndarray, *, untouched: bool = False) -> np.ndarray:
        return score_columns(
            made,
            settings,
            self.executor,
            self.distance,
            self.run.sample_rate,
            self.threads,
            untouched=untouched,
        )


def _training_source(run: Run) -> AudioSource:
    """What the run was trained on; the synthetic corpus if its recordings are not there any more."""
    path = run.path / runs.CONFIG
    config = TrainConfig.from_toml(path) if path.is_file() else TrainConfig()
    if config.data and not Path(config.data).exists():
        config = config.replace(data="")
    return make_source(config.replace(sample_rate=run.sample_rate), "train")


def _summary(
    run: Run, effect: Effect, source: AudioSource, seed: int, ways: list[str], constant: np.ndarray,
    measured: list[_Measured],
) -> Evaluation:  # fmt: skip
    scores = np.concatenate([m.scores for m in measured])
    good = np.isfinite(scores).all(axis=1)
    if not good.any():
        raise RunError(f"every one of {len(scores)} examples had a render that failed")
    names = [*ways, "random setting", "constant setting", "input left alone"]
    rng = np.random.default_rng([seed, 13])
    kept = scores[good]
    samples = rng.integers(0, len(kept), (BOOTSTRAPS, len(kept)))
    means = np.stack([kept[s].mean(axis=0) for s in samples])  # [BOOTSTRAPS, ways + 3]
    # Where nothing was applied to any example, the input left alone has a distance of 0.
    ratios = means / np.maximum(means[:, -1:], 1e-12)
    rows = []
    for i, name in enumerate(names):
        low, high = np.percentile(means[:, i], (2.5, 97.5))
        ratio_low, ratio_high = np.percentile(ratios[:, i], (2.5, 97.5))
        mean = kept[:, i].mean()
        ratio = mean / max(kept[:, -1].mean(), 1e-12)
        values = (mean, np.median(kept[:, i]), low, high, ratio, ratio_low, ratio_high)
        rows.append(Row(name, *(float(v) for v in values)))
    applied = np.concatenate([m.made.applied for m in measured])
    counts: dict[str, int] = {}
    for m in measured:
        for key, value in m.made.counts.items():
            counts[key] = counts.get(key, 0) + value
    return Evaluation(
        effect=effect.name, provider=effect.provider.name, run=str(run.path), data=source.description,
        sample_rate=run.sample_rate, samples=run.samples, seed=seed, examples=len(scores),
        applied=int(applied.sum()), failed=int((~good).sum()), rows=tuple(rows),
        parameters=_parameter_errors(effect, measured, applied), constant=effect.describe(constant),
        counts=counts,
    )  # fmt: skip


def _details(found: Evaluation, measured: list[_Measured], apply_probability: float) -> Details:
    scores, settings = (np.concatenate([getattr(m, n) for m in measured]) for n in ("scores", "settings"))
    true, applied = (np.concatenate([getattr(m.made, n) for m in measured]) for n in ("settings", "applied"))
    sources = tuple(name for m in measured for name in m.made.names)
    ways = tuple(row.name for row in found.rows)
    return Details(ways, scores, settings, true, applied, sources, apply_probability)


def _parameter_errors(
    effect: Effect, measured: list[_Measured], applied: np.ndarray
) -> dict[str, dict[str, float]]:
    guessed = np.concatenate([m.settings for m in measured])[applied]
    true = np.concatenate([m.made.settings for m in measured])[applied]
    errors: dict[str, dict[str, float]] = {}
    if not len(true):
        return errors
    for i, p in enumerate(effect.parameters):
        if p.levels:
            same = p.to_native(guessed[:, i]) == p.to_native(true[:, i])
            errors[p.name] = {"accuracy": float(np.mean(same))}
        else:
            errors[p.name] = {"mae": float(np.abs(guessed[:, i] - true[:, i]).mean())}
    return errors
