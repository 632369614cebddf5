"""Has the executor or a gradient become slower? Compares ratios with benchmarks/baseline.json.

    python benchmarks/check_regression.py            exit status 1 if a ratio is below BOUND of the baseline
    python benchmarks/check_regression.py --write    make the baseline, on a calm machine

Only ratios of times taken in turn in one process are compared: seconds differ between machines. Each side of
a ratio is the least of several turns, since a neighbour on a CI machine can only make a time longer. The
bound is 0.75 of the baseline: a lost third is found, a lost tenth is not; tenths are for the page of results,
taken on a calm machine. The baseline keeps by how much its own three measurements differed (`spread`, least
over largest), which is how near to the bound chance may come; where that is below the bound, none is written.
A ratio that fails is measured again before it counts.

While others use the machine's cores none of this holds (with both cores taken, ratios moved between 0.66 and
1.37 of each other), so the check waits for calm, and after a minute without it says so and passes.

The baseline is of two workers; on a larger machine the check confines itself to two cores, on a machine with
one it says so and passes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench_effects import lab
from measure import RATE, busy_cores, in_turn, machine, noise, random_settings, save, say, timed
from stage import Stage

import dafxhost

BASELINE = Path(__file__).resolve().parent / "baseline.json"
BOUND = 0.75
CORES = 2
TURNS = 6
CALM, PATIENCE = 0.5, 60.0  # cores that others may use, and seconds to wait until they do not use more

# Passes, clips, columns, seconds: renders of some 2 ms, of some 0.3 ms (on a machine of 2021), tiny ones.
LONG, SHORT = (18.0, 16, 1, 5.0), (2.0, 16, 4, 5.0)
TINY = (0.0, 128, 8, 64 / RATE)


def least_walls(case: tuple[float, int, int, float], layouts: tuple[str, ...]) -> dict[str, float]:
    """Least seconds of a batch by each layout; of "alone", the least plugin seconds."""
    passes, clips, columns, seconds = case
    effect = lab(passes=passes)
    audio, settings = noise(clips, seconds), random_settings(clips, columns, 1)
    stages: dict[str, Stage] = {}
    try:
        for name in layouts:
            stages[name] = Stage(name, effect, audio, settings, RATE, workers=CORES, items=min(clips, 32))
        seen = in_turn({name: lambda s=stage: s.turn(0.1) for name, stage in stages.items()}, TURNS)
    finally:
        for stage in stages.values():
            stage.close()
    return {name: min(t[int(name == "alone")] for t in times) for name, times in seen.items()}


def executor_ratios() -> dict[str, float]:
    """All are better when larger."""
    long = least_walls(LONG, ("alone", "executor", "loop", "pipes"))
    short = least_walls(SHORT, ("alone", "executor"))
    tiny = least_walls(TINY, ("executor", "loop"))
    return {
        "share of ideal, 2 ms": long["alone"] / CORES / long["executor"],
        "share of ideal, 0.3 ms": short["alone"] / CORES / short["executor"],
        "times a loop": long["loop"] / long["executor"],
        "times pipes": long["pipes"] / long["executor"],
        "times a loop, 64 samples": tiny["loop"] / tiny["executor"],
    }


def gradient_ratios() -> dict[str, float]:
    """An autograd step over an SPSA step of the same size: better when larger."""
    import torch
    from gradients import autograd_step, estimated_step

    torch.set_num_threads(1)
    size = (4, 65_536)
    result = {}
    with dafxhost.Executor(lab(passes=8.0), workers=CORES) as executor:
        for space in ("loss", "signal"):
            step = estimated_step(executor, dafxhost.estimator("spsa"), space, *size)  # type: ignore[arg-type]
            reference = autograd_step(*size)
            step()  # first calls make caches
            reference()
            seen = in_turn({"spsa": lambda s=step: timed(s), "autograd": lambda r=reference: timed(r)}, TURNS)
            result[f"autograd over SPSA, {space} space"] = min(seen["autograd"]) / min(seen["spsa"])
    return result


MEASUREMENTS: tuple[Callable[[], dict[str, float]], ...] = (executor_ratios, gradient_ratios)


def measure() -> dict[str, float]:
    return {name: value for take in MEASUREMENTS for name, value in take().items()}


def worse(now: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Names of ratios that are below `BOUND` of the baseline, or that are missing."""
    return [n for n, before in baseline.items() if not now.get(n, 0.0) >= BOUND * before]


def better_of(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    return {name: max(value, second.get(name, 0.0)) for name, value in first.items()}


def table(now: dict[str, float], baseline: dict[str, float]) -> str:
    lines = [f"{'':34}{'baseline':>9}{'now':>8}{'of it':>8}"]
    for name, before in baseline.items():
        value = now.get(name, float("nan"))
        mark = "" if value >= BOUND * before else f"   worse than {BOUND} of the baseline"
        lines.append(f"{name:34}{before:9.3f}{value:8.3f}{value / before:8.2f}{mark}")
    return "\n".join(lines)


def confine() -> bool:
    """Keep this process and its children to two cores; False where there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < CORES:
        return False
    os.sched_setaffinity(0, allowed[:CORES])
    return True


def calm() -> bool:
    """Wait until others leave the cores alone, but not for ever; whether they did."""
    until = time.monotonic() + PATIENCE
    while (busy := busy_cores(1.0)) > CALM:
        if time.monotonic() > until:
            return False
        say(f"others use {busy:.1f} cores; waiting")
        time.sleep(4.0)
    return True


def baseline_report(measured: list[dict[str, float]]) -> dict[str, Any]:
    """Medians, and how far apart the measurements were."""
    columns = {name: [m[name] for m in measured] for name in measured[0]}
    return {
        "machine": machine(),
        "ratios": {name: statistics.median(values) for name, values in columns.items()},
        "spread": {name: min(values) / max(values) for name, values in columns.items()},
    }


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare ratios with the baseline's.")
    parser.add_argument("--write", action="store_true", help="write the baseline instead")
    parser.add_argument("--anyway", action="store_true", help="even if others use the cores")
    parser.add_argument("--baseline", type=Path, default=BASELINE)
    options = parser.parse_args(given)
    if not options.write and not options.baseline.exists():
        print(f"check_regression.py: there is no {options.baseline}; make it with --write on a calm machine")
        return 1
    if not confine():
        print("check_regression.py: passed over: one core only, and the baseline is of two")
        return 0
    if not calm() and not options.anyway:
        print("check_regression.py: passed over: others use the machine's cores, so ratios mean nothing")
        return 0
    if options.write:
        report = baseline_report([measure() for _ in range(3)])
        apart = [name for name, spread in report["spread"].items() if spread < BOUND]
        if apart and not options.anyway:
            print(f"check_regression.py: nothing written: measurements too far apart: {', '.join(apart)}")
            return 1
        save(options.baseline, report)
        print(table(report["ratios"], report["ratios"]))
        return 0
    baseline = json.loads(options.baseline.read_text())["ratios"]
    now = measure()
    if worse(now, baseline):
        say("a ratio is worse; measured again")
        now = better_of(now, measure())
    print(table(now, baseline))
    return 1 if worse(now, baseline) else 0


if __name__ == "__main__":
    sys.exit(main())
