"""Has the executor or a gradient become slower? Compares ratios with benchmarks/baseline.json.

    python benchmarks/check_regression.py            exit status 1 if a ratio is below BOUND of the baseline
    python benchmarks/check_regression.py --write    make the baseline, on a calm machine

Ratios are of processor time (of this process and the workers), not of wall time: a virtual machine's cores
become slower and faster by a third from second to second, as neighbours use the other half of them, and
wall-time ratios moved between 0.66 and 1.37 of each other. Little of that is left of plugin time over
processor time in the same batches. What processor time cannot tell, cores that wait for work, is a ratio of
its own.

A ratio below 0.85 of the baseline fails, if it does so again in a second measurement. The baseline keeps by
how much its own three measurements differed (`spread`, least over largest); where that is below the bound,
none is written. The check waits for others to leave the cores alone, and after a minute says so and passes.

The baseline is of two workers; on a larger machine the check confines itself to two cores, on a machine with
one it says so and passes. So it does on another kind of processor than the baseline's: how much a cold cache
costs beside a plugin is a matter of the processor (`--anyway` overrides).
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

import numpy as np
from bench_effects import lab
from measure import RATE, busy_cores, machine, noise, random_settings, save, say
from rendering import Renderer

import dafxhost
from dafxhost.execution.executor import Executor
from dafxhost.execution.instance import FloatingPoint

BASELINE = Path(__file__).resolve().parent / "baseline.json"
BOUND = 0.85
CORES = 2
TURNS, TURN_SECONDS = 7, 0.4
CALM, PATIENCE = 0.5, 60.0  # cores that others may use, and seconds to wait until they do not use more

# Passes, clips, columns, seconds: renders of some 2 ms, of some 0.3 ms (on a machine of 2021), tiny ones.
LONG, SHORT = (2.0, 16, 8, 5.0), (0.25, 16, 8, 5.0)
TINY = (0.0, 128, 8, 64 / RATE)
Case = tuple[float, int, int, float]


class Spent:
    """Seconds between two looks at an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._before = self._look()

    def _look(self) -> np.ndarray:
        stats = self._executor.stats
        processor = stats.cpu_seconds + time.process_time()
        return np.array([time.perf_counter(), stats.plugin_seconds, processor, stats.renders])

    def take(self) -> tuple[float, float, float, float]:
        """Wall, plugin and processor seconds, and renders, since the last time."""
        now = self._look()
        passed, self._before = now - self._before, now
        return tuple(passed.tolist())


def executor_case(case: Case) -> tuple[float, float, float]:
    """Plugins' share of the processor time, cores kept busy (of all), processor seconds a render: medians."""
    passes, clips, columns, seconds = case
    effect = lab(passes=passes)
    settings = random_settings(clips, columns, 1)
    seen = []
    with Executor(effect, workers=CORES) as executor:
        audio = executor.empty((clips, 1, max(1, round(seconds * RATE))))
        audio[:] = noise(clips, seconds)
        executor.render(audio, settings, RATE)
        spent = Spent(executor)
        executor.render(audio, settings, RATE)
        batches = max(1, round(TURN_SECONDS / spent.take()[0]))
        for _ in range(TURNS):
            spent.take()
            for _ in range(batches):
                executor.render(audio, settings, RATE)
            wall, plugin, processor, renders = spent.take()
            seen.append((plugin / processor, processor / (CORES * wall), processor / renders))
    shares, busy, each = (statistics.median(column) for column in zip(*seen, strict=True))
    return shares, busy, each


def loop_seconds(case: Case) -> float:
    """Processor seconds a render in a plain loop: median."""
    passes, clips, columns, seconds = case
    effect = lab(passes=passes)
    provider = effect.provider
    renderer = Renderer(provider.processor, dict(provider.options), Executor(effect).spec(RATE))
    audio = noise(clips, seconds)
    values = effect.plugin_values(random_settings(clips, columns, 1))
    seen = []
    try:
        for _ in range(TURNS):
            began = time.process_time()
            for clip, rows in zip(audio, values, strict=True):
                renderer.render(clip, rows)
            seen.append((time.process_time() - began) / (clips * columns))
    finally:
        FloatingPoint().restore(False)  # what renders has no denormals, and this process shall have them
    return statistics.median(seen)


def executor_ratios() -> dict[str, float]:
    """All are better when larger."""
    long, short, tiny = (executor_case(case) for case in (LONG, SHORT, TINY))
    return {
        "plugins' share of processor time, 2 ms": long[0],
        "plugins' share of processor time, 0.3 ms": short[0],
        "cores kept busy, 2 ms": long[1],
        "cores kept busy, 0.3 ms": short[1],
        "a loop over the executor, 64 samples": loop_seconds(TINY) / tiny[2],
    }


def gradient_ratios() -> dict[str, float]:
    """An autograd step over an SPSA step of the same size: better when larger."""
    import torch
    from gradients import autograd_step, estimated_step

    torch.set_num_threads(1)
    size = (4, 65_536)
    result = {}
    with dafxhost.Executor(lab(passes=1.0), workers=CORES) as executor:
        for space in ("loss", "signal"):
            step = estimated_step(executor, dafxhost.estimator("spsa"), space, *size)  # type: ignore[arg-type]
            reference = autograd_step(*size)
            step()  # first calls make caches
            reference()
            spent, seen = Spent(executor), []
            for _ in range(TURNS):
                spent.take()
                reference()
                autograd = spent.take()[2]
                step()
                seen.append(autograd / spent.take()[2])
            result[f"autograd over SPSA, {space} space"] = statistics.median(seen)
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
    lines = [f"{'':42}{'baseline':>9}{'now':>8}{'of it':>8}"]
    for name, before in baseline.items():
        value = now.get(name, float("nan"))
        mark = "" if value >= BOUND * before else f"   worse than {BOUND} of the baseline"
        lines.append(f"{name:42}{before:9.3f}{value:8.3f}{value / before:8.2f}{mark}")
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
    report = json.loads(options.baseline.read_text())
    theirs, ours = (r.get("machine", {}).get("processor") for r in (report, {"machine": machine()}))
    if theirs != ours and not options.anyway:
        print(f"check_regression.py: passed over: the baseline is of {theirs}, this is {ours}")
        return 0
    baseline = report["ratios"]
    now = measure()
    if worse(now, baseline):
        say("a ratio is worse; measured again")
        now = better_of(now, measure())
    print(table(now, baseline))
    return 1 if worse(now, baseline) else 0


if __name__ == "__main__":
    sys.exit(main())
