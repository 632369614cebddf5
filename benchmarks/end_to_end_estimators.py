"""What end-to-end training through a plugin adds to its supervised start, by gradient estimator.

    python benchmarks/end_to_end_estimators.py --data ../shared/audio/train --test ../shared/audio/test
        [--effects mda-dynamics ...] [--renders 60000] [--estimators spsa fd-central auto] [--pool FILE]

For each effect one pool of examples and, from the same seed, the same supervised start; then every estimator
trains end to end with as many renders as the others, so that one with more renders a step takes fewer steps.
A step renders the target, the decoded setting, the estimator's settings, and three alternatives (see
docs/theory.md). Measured on examples of recordings that nothing was trained or chosen on, the same for all:
mean MR-STFT over that of the input left alone, of the checkpoint that is best on the held-out recordings of
--data. --pool takes the examples from another run of the effect instead of making them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from measure import machine, save, say

import dafxhost
from dafxhost.data.sources import FolderSource
from dafxhost.estimators.choice import chosen
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.registry import estimator as make_estimator
from dafxhost.run_folders import POOL
from dafxhost.training.config import TrainConfig
from dafxhost.training.evaluation import evaluate
from dafxhost.training.trainer import train

EFFECTS = ("mda-overdrive", "mda-dynamics", "mda-delay")


def renders_a_step(config: TrainConfig) -> int:
    with dafxhost.Executor(dafxhost.effect(config.effect)) as executor:
        count = sum(1 for p in executor.effect.parameters if not 0 < p.levels <= 32)
        if config.estimator == "auto":
            choice = chosen(
                executor,
                MultiResolutionSTFT(config.fft_sizes),
                sample_rate=config.sample_rate,
                samples=config.loss_samples,
            )
            made = choice.make()
        elif config.estimator == "spsa":
            made = make_estimator("spsa", step=config.step, directions=config.directions)
        else:
            made = make_estimator(config.estimator, step=config.step)
    return config.batch * (2 + made.renders(count, base=False) + config.alternatives)


def study(effect: str, options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    shared = {
        "effect": effect, "data": options.data, "encoder": options.encoder, "hidden": 384, "validation": 160,
        "supervised_steps": options.supervised, "pool": options.examples, "max_minutes": 600.0,
        "keep_pool": True, "pool_from": options.pool,
    }  # fmt: skip
    rows = []
    for name in options.estimators:
        config = TrainConfig().replace(**{**shared, "estimator": name})
        each = renders_a_step(config)
        steps = max(1, options.renders // each)
        config = config.replace(end_to_end_steps=steps, epoch_steps=max(1, steps // 5))
        run = folder / f"{effect}-{name}"
        start = time.monotonic()
        train(config, run_dir=run)
        seconds = time.monotonic() - start
        if not shared["pool_from"]:
            shared["pool_from"] = str(run / POOL)
        found = evaluate(run, FolderSource(options.test, config.sample_rate, "all"), options.measured)
        ratios = {row.name: (row.ratio, row.ratio_low, row.ratio_high) for row in found.rows}
        row = {"effect": effect, "estimator": name, "renders_a_step": each, "steps": steps,
               "seconds": seconds, "supervised": ratios["supervised only"],
               "end_to_end": ratios["controller"]}  # fmt: skip
        rows.append(row)
        say(
            f"| {effect} | {name} | {steps} of {each} | {_interval(row['supervised'])} "
            f"| {_interval(row['end_to_end'])} |"
        )
    return rows


def _interval(values: tuple[float, float, float]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*values)


def main() -> None:
    parser = argparse.ArgumentParser(description="End-to-end training by estimator, at equal renders.")
    parser.add_argument("--effects", nargs="+", default=list(EFFECTS))
    parser.add_argument("--estimators", nargs="+", default=["spsa", "fd-central", "auto"])
    parser.add_argument("--data", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--encoder", default="style-statistics")
    parser.add_argument("--pool", default="")
    parser.add_argument("--examples", type=int, default=8192)
    parser.add_argument("--supervised", type=int, default=1000)
    parser.add_argument("--renders", type=int, default=30_000)
    parser.add_argument("--measured", type=int, default=200)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    say(f"{machine()}\n")
    say("| effect | estimator | steps of renders | supervised start | end to end |")
    say("|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="dafxhost-estimators-") as folder:
        for effect in options.effects:
            rows += study(effect, options, Path(folder))
    if options.json:
        save(options.json, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
