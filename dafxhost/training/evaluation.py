"""How good a controller is, by Grant's protocol (see dafxhost/data/examples.py), on any recordings.

Each example is rendered with the controller's setting, with a random setting, with one constant setting
and with the true one, and compared with its target; the input left alone is compared as well. The constant
is the best of the effect's defaults and of random settings *on the run's own training data*; nothing is
chosen on the recordings measured. `protocols` says at which level recordings are compared, `dafxhost.metrics`
by what, `results` what comes out, `summary` how it is made of single values, `identification` which
parameters could be found at all, `bench` does the work.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dafxhost.data.pairs import pair_kind
from dafxhost.data.sources import AudioSource
from dafxhost.errors import RunError, UsageError
from dafxhost.execution.backends import open_executor
from dafxhost.metrics import choose
from dafxhost.metrics.table import PRIMARY
from dafxhost.registry import effect as find_effect
from dafxhost.training import identification
from dafxhost.training.bench import PIECE, Bench, Measured
from dafxhost.training.memory import keep_memory
from dafxhost.training.protocols import GRANT, find_protocol
from dafxhost.training.results import Evaluation as Evaluation
from dafxhost.training.results import Row as Row
from dafxhost.training.runs import Run, load_run
from dafxhost.training.scoring import Details
from dafxhost.training.summary import parameter_errors, resamples, rows_of

CALIBRATION = 32
"""Training examples on which the constant setting is chosen."""
BOOTSTRAPS = 2000
Progress = Callable[[int, int], None]


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
    search: Sequence[int] = (),
    metrics: Sequence[str] | None = None,
    protocol: str = GRANT.name,
    pairs: str = "ab",
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
            own, and so is CMA-ES with as many settings, begun at the effect's defaults, which knows nothing
            of what the controller believes. Neither sees the target.
        search: further numbers of settings for a search begun at the defaults.
        metrics: names of `dafxhost.metrics.METRICS`, "default" or "all". MR-STFT is always measured.
        protocol: of `dafxhost.training.protocols`: "grant" or "level-matched".
        pairs: kind of the examples, of `dafxhost.data.pairs`: "ab", or "parallel" where input and reference
            are the same performance.
        progress: called with (examples done, n).

    Raises:
        RunError: the run is broken, or the effect's parameters changed. AudioFileError: nothing to draw from.
        UsageError: an argument out of range. UnknownNameError: no such metric, protocol or kind of pairs.
    """
    if n < 1:
        raise UsageError(f"{n} examples cannot be measured; at least 1 is needed")
    if refine < 0:
        raise UsageError(f"refine is {refine}; it is the number of settings to try, 0 for none")
    if any(budget < 1 for budget in search):
        raise UsageError(f"search is {min(search)}; it is the number of settings to try, at least 1")
    levels, choice = find_protocol(protocol), choose(metrics)
    if levels.level == "rms":
        choice = choice.without_levels()
    pair_kind(pairs)
    run = run if isinstance(run, Run) else load_run(run)
    effect = find_effect(run.where, provider)
    run.check_effect(effect)
    controllers = {"controller": run}
    if run.checkpoint != "supervised" and (run.path / "supervised.json").is_file():
        controllers["supervised only"] = load_run(run.path, "supervised", effect)
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
            bench = Bench(controllers, opened, threads, levels, choice, pairs, refine, tuple(search))
            constant = bench.best_constant(seed, CALIBRATION)
            bench.watch.seconds.clear()
            examples = bench.examples(source, apply_probability)
            measured: list[Measured] = []
            for first in range(0, n, PIECE):
                with bench.watch("examples"):
                    made = examples.batch(seed, min(PIECE, n - first), first=first)
                measured.append(bench.measure(made, constant))
                if progress is not None:
                    progress(first + len(made), n)
        finally:
            torch.set_num_threads(threads_before)
    about = {
        "effect": effect.name, "provider": effect.provider.name, "run": str(run.path),
        "data": source.description, "sample_rate": run.sample_rate, "samples": run.samples, "seed": seed,
        "constant": effect.describe(constant), "protocol": levels.name, "pairs": pairs,
        "metrics": tuple(metric.to_dict() for metric in choice.metrics), "skipped": choice.skipped,
        "seconds": {part: seconds / n for part, seconds in bench.watch.seconds.items()},
    }  # fmt: skip
    return _summary(about, bench, measured, seed, apply_probability)


def _summary(
    about: dict[str, Any], bench: Bench, measured: list[Measured], seed: int, apply_probability: float
) -> Evaluation:
    scores = np.concatenate([m.scores for m in measured])
    others = np.concatenate([m.metrics for m in measured])
    good = np.isfinite(scores).all(axis=1)
    if not good.any():
        raise RunError(f"every one of {len(scores)} examples had a render that failed")
    by_name = {PRIMARY: scores} | {m.name: others[:, :, i] for i, m in enumerate(bench.others)}
    kept = {name: values[good] for name, values in by_name.items()}
    weights = resamples(int(good.sum()), BOOTSTRAPS, seed)
    applied = np.concatenate([m.made.applied for m in measured])
    settings = np.concatenate([m.settings for m in measured])
    true = np.concatenate([m.made.settings for m in measured])
    counts: dict[str, int] = {}
    for m in measured:
        for key, value in m.made.counts.items():
            counts[key] = counts.get(key, 0) + value
    ways = bench.ways
    details = Details(
        tuple(ways), scores, settings, true, applied, tuple(name for m in measured for name in m.made.names),
        apply_probability, about["protocol"], about["pairs"], by_name,
    )  # fmt: skip
    parameters = bench.executor.effect.parameters
    errors = parameter_errors(parameters, settings[applied], true[applied])
    looked_at = np.concatenate([m.changes for m in measured])
    shares = identification.unheard(looked_at)
    for name, share in zip((p.name for p in parameters), shares.tolist(), strict=True):
        if name in errors:
            errors[name]["unheard"] = share if np.isfinite(share) else None
    return Evaluation(
        **about, examples=len(scores), applied=int(applied.sum()), failed=int((~good).sum()),
        rows=rows_of(ways, kept[PRIMARY], kept, bench.metrics, weights), parameters=errors, counts=counts,
        unidentifiable=identification.marked(parameters, shares),
        identification=identification.terms(len(looked_at)), details=details,
    )  # fmt: skip
