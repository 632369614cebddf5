"""Has the executor or a gradient become slower? Compares ratios with benchmarks/baseline.json.

    python benchmarks/check_regression.py            exit status 1 if a ratio stays below BOUND
    python benchmarks/check_regression.py --write    make the baseline, on a calm machine

Ratios are of processor time (of this process and the workers), not of wall time: a virtual machine's cores
become slower and faster by a third from second to second, as neighbours use the other half of them, and
wall-time ratios moved between 0.66 and 1.37 of each other. Little of that is left of plugin time over
processor time in the same batches. What processor time cannot tell, cores that wait for work, is a ratio of
its own.

The two ratios of gradients are a step's own parts (renders in a plain loop, the loss once) over the step, so
that both do the same arithmetic, on clips so short that a turn of both takes 0.1 s. They were autograd over
SPSA, other arithmetic in longer turns, which moved between 1.23 and 1.55 on one busy machine where they move
by a twentieth; of an older baseline they are left out.

A ratio is compared with the lowest of the baseline's own measurements (`lowest`), because noise that the
baseline has met already is no slowdown. One below 0.85 of that is measured again, it and those taken with it,
until most of five measurements say the same. A slowdown that lasts is in all of them. Where the baseline's
measurements differed by more than the bound (`spread`, least over largest), none is written. The check waits
for others to leave the cores alone, and after a minute says so and passes.

The baseline is of two workers; on a larger machine the check confines itself to two cores, on a machine with
one it says so and passes. So it does on another kind of processor than the baseline's: how much a cold cache
costs beside a plugin is a matter of the processor (`--anyway` overrides).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from bench_effects import lab
from measure import RATE, busy_cores, machine, noise, random_settings, save, say
from rendering import Renderer

import dafxhost
from dafxhost.effects import Effect
from dafxhost.execution.executor import Executor
from dafxhost.execution.instance import FloatingPoint

BASELINE = Path(__file__).resolve().parent / "baseline.json"
BOUND = 0.85
CORES = 2
TURNS, TURN_SECONDS = 7, 0.4
PAIRS = 40  # turns of two things, whose ratio is taken turn by turn
MEASURED = 5  # times at most, before a ratio is said to be worse; an odd number, so that most is clear
WRITTEN = 8  # measurements of a baseline
PAUSE = 3.0  # seconds between them: neighbours come and go
CALM, PATIENCE = 0.5, 60.0  # cores that others may use, and seconds to wait until they do not use more

# Passes, clips, columns, seconds: renders of some 2 ms, of some 0.3 ms (on a machine of 2021), tiny ones.
LONG, SHORT = (2.0, 16, 8, 5.0), (0.25, 16, 8, 5.0)
TINY = (0.0, 128, 8, 64 / RATE)
Case = tuple[float, int, int, float]
Ratios = dict[str, float]
STEP = 4, 16_384  # clips, samples of a gradient's step
RETIRED = "autograd over SPSA"  # ratios of older baselines


class Spent:
    """Seconds between two looks at an executor."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._before = self._look()

    def _look(self) -> np.ndarray:
        stats = self._executor.stats
        processor = stats.cpu_seconds + time.process_time()
        return np.array([time.perf_counter(), stats.plugin_seconds, processor])

    def take(self) -> tuple[float, float, float]:
        """Wall, plugin and processor seconds since the last time."""
        now = self._look()
        passed, self._before = now - self._before, now
        return tuple(passed.tolist())


def executor_case(case: Case) -> tuple[float, float]:
    """Plugins' share of the processor time, and cores kept busy (of all): medians."""
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
            wall, plugin, processor = spent.take()
            seen.append((plugin / processor, processor / (CORES * wall)))
    share, busy = (statistics.median(column) for column in zip(*seen, strict=True))
    return share, busy


def plain_loop(effect: Effect, rate: int) -> Callable[[Iterable[np.ndarray], np.ndarray], list[np.ndarray]]:
    """Renders clips in this process, each with its rows of settings; denormals are back afterwards."""
    provider = effect.provider
    spec = Executor(effect).spec(rate)
    renderer = Renderer(provider.processor, dict(provider.options), spec)
    FloatingPoint().restore(False)

    def renders(clips: Iterable[np.ndarray], values: np.ndarray) -> list[np.ndarray]:
        try:
            return [renderer.render(clip, rows) for clip, rows in zip(clips, values, strict=True)]
        finally:
            FloatingPoint().restore(False)

    return renders


def in_turns(executor: Executor, above: Callable[[], object], below: Callable[[], object]) -> float:
    """Processor time of one over the other's: the median of `PAIRS` turns of both, which follow each other
    closely because the machine's speed is not the same from one second to the next.
    """
    above()  # first calls make caches
    below()
    spent, seen = Spent(executor), []
    for _ in range(PAIRS):
        spent.take()
        above()
        first = spent.take()[2]
        below()
        seen.append(first / spent.take()[2])
    return statistics.median(seen)


def loop_ratio(case: Case) -> float:
    """Processor time of a plain loop over the executor's for the same renders."""
    passes, clips, columns, seconds = case
    effect = lab(passes=passes)
    settings = random_settings(clips, columns, 1)
    values = effect.plugin_values(settings)
    loop = plain_loop(effect, RATE)
    with Executor(effect, workers=CORES) as executor:
        audio = executor.empty((clips, 1, max(1, round(seconds * RATE))))
        audio[:] = noise(clips, seconds)
        return in_turns(executor, lambda: loop(audio, values), lambda: executor.render(audio, settings, RATE))


def long_ratios() -> Ratios:
    return plugin_ratios("2 ms", LONG)


def short_ratios() -> Ratios:
    return plugin_ratios("0.3 ms", SHORT)


def plugin_ratios(length: str, case: Case) -> Ratios:
    """All are better when larger."""
    share, busy = executor_case(case)
    return {f"plugins' share of processor time, {length}": share, f"cores kept busy, {length}": busy}


def tiny_ratios() -> Ratios:
    return {"a loop over the executor, 64 samples": loop_ratio(TINY)}


def gradient_parts(effect: Effect, space: str, renders: int, batch: int, samples: int) -> Callable[[], None]:
    """What a step cannot do without, done plainly: its renders in a loop, and its loss once; in signal space
    with the gradient to the wet audio."""
    import gradients
    import torch

    from dafxhost.losses import TransferLoss

    loss, loop = TransferLoss(), plain_loop(effect, gradients.RATE)
    dry, target = (gradients.noise(batch, 1, samples, seed=seed) for seed in (0, 1))
    values = effect.plugin_values(np.full((batch, renders, len(effect.parameters)), 0.5))

    def step() -> None:
        wet = torch.from_numpy(np.stack(loop(dry.numpy(), values)))
        if space == "loss":
            with torch.no_grad():
                loss.distance(wet, loss.prepare(target))
        else:
            base = wet[:, 0].clone().requires_grad_(True)
            torch.autograd.grad(loss(base, target).sum(), base)

    return step


def gradient_ratios(space: Literal["loss", "signal"]) -> Ratios:
    """An SPSA step's parts over the step: better when larger."""
    import torch
    from gradients import estimated_step

    torch.set_num_threads(1)
    effect = lab(passes=1.0)
    with Executor(effect, workers=CORES) as executor:
        step = estimated_step(executor, dafxhost.estimator("spsa"), space, *STEP)
        step()
        parts = gradient_parts(effect, space, executor.stats.renders // STEP[0], *STEP)
        return {f"parts over SPSA step, {space} space": in_turns(executor, parts, step)}


def loss_ratios() -> Ratios:
    return gradient_ratios("loss")


def signal_ratios() -> Ratios:
    return gradient_ratios("signal")


# What is measured together, and again together.
GROUPS: list[Callable[[], Ratios]] = [long_ratios, short_ratios, tiny_ratios, loss_ratios, signal_ratios]


def measure() -> Ratios:
    return {name: value for take in GROUPS for name, value in take().items()}


def lowest_of(report: dict[str, Any]) -> Ratios:
    """What a baseline's ratios are compared with: the lowest of its measurements.

    An older one kept only their median and spread. Their product is no larger than the lowest of them.
    """
    if "lowest" in report:
        return report["lowest"]
    lowest = {
        name: value * report.get("spread", {}).get(name, 1.0) for name, value in report["ratios"].items()
    }
    return {name: value for name, value in lowest.items() if not name.startswith(RETIRED)}


def worse(now: Ratios, lowest: Ratios) -> list[str]:
    """Names of ratios that are below `BOUND` of the baseline's lowest, or that are missing."""
    return [n for n, least in lowest.items() if not now.get(n, 0.0) >= BOUND * least]


def medians(measured: Sequence[Ratios]) -> Ratios:
    """Of every ratio, over those measurements that hold it; one that was not a number counts as nothing."""
    names = {name: None for each in measured for name in each}
    found = {name: [each[name] for each in measured if name in each] for name in names}
    return {
        name: statistics.median(0.0 if math.isnan(v) else v for v in each) for name, each in found.items()
    }


def settled(lowest: Ratios) -> Ratios:
    """Every group's ratios; a group with one that is worse is measured until most measurements agree on it.

    A ratio is worse where the median of `MEASURED` measurements is, which is to say: in most of them.
    """
    now: Ratios = {}
    for take in GROUPS:
        measured = [take()]
        mine = {name: least for name, least in lowest.items() if name in measured[0]}
        while worse(measured[0], mine) and len(measured) < MEASURED and undecided(measured, mine):
            found = ", ".join(worse(measured[-1], mine)) or "none"
            say(f"worse in measurement {len(measured)}: {found}; measured again")
            time.sleep(PAUSE)
            measured.append(take())
        now |= medians(measured)
    return now


def undecided(measured: Sequence[Ratios], lowest: Ratios) -> bool:
    """Whether further measurements, `MEASURED` in all, can still change what most of them say."""
    most = MEASURED // 2 + 1
    failed = [sum(name in worse(each, lowest) for each in measured) for name in lowest]
    if any(count >= most for count in failed):
        return False
    return any(len(measured) - count < most for count in failed)


def table(now: Ratios, lowest: Ratios) -> str:
    lines = [f"{'':42}{'lowest':>9}{'now':>8}{'of it':>8}"]
    for name, least in lowest.items():
        value = now.get(name, float("nan"))
        mark = "" if value >= BOUND * least else f"   worse than {BOUND} of the baseline's lowest"
        lines.append(f"{name:42}{least:9.3f}{value:8.3f}{value / least:8.2f}{mark}")
    lines += [f"{name:42}{'':9}{now[name]:8.3f}   not in the baseline" for name in now.keys() - lowest.keys()]
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


def baseline_report(measured: list[Ratios]) -> dict[str, Any]:
    """Medians, the lowest, and how far apart the measurements were."""
    columns = {name: [m[name] for m in measured] for name in measured[0]}
    return {
        "machine": machine(),
        "ratios": {name: statistics.median(values) for name, values in columns.items()},
        "lowest": {name: min(values) for name, values in columns.items()},
        "spread": {name: min(values) / max(values) for name, values in columns.items()},
    }


def measured_often(times: int) -> list[Ratios]:
    measured = []
    for i in range(times):
        say(f"measurement {i + 1} of {times}")
        measured.append(measure())
        time.sleep(PAUSE)
    return measured


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
        report = baseline_report(measured_often(WRITTEN))
        apart = [name for name, spread in report["spread"].items() if spread < BOUND]
        if apart and not options.anyway:
            print(f"check_regression.py: nothing written: measurements too far apart: {', '.join(apart)}")
            return 1
        save(options.baseline, report)
        print(table(report["ratios"], report["lowest"]))
        return 0
    report = json.loads(options.baseline.read_text())
    theirs, ours = (r.get("machine", {}).get("processor") for r in (report, {"machine": machine()}))
    if theirs != ours and not options.anyway:
        print(f"check_regression.py: passed over: the baseline is of {theirs}, this is {ours}")
        return 0
    lowest = lowest_of(report)
    now = settled(lowest)
    print(table(now, lowest))
    return 1 if worse(now, lowest) else 0


if __name__ == "__main__":
    sys.exit(main())
