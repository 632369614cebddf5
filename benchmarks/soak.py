"""Very many renders in one process, to see that memory stays flat.

    python benchmarks/soak.py [--renders 200000] [--json out.json] [--plots FOLDER]

Fast effects in turn, each with its own executor, all open from the first render to the last. After every
round the memory of this process and of every worker, the size of the arenas, open descriptors and threads are
read. *anonymous* memory is what a process allocated; *RSS* also counts the pages of shared memory and of
libraries that it has touched, and grows until every worker has seen all of its arena; the *arena* is counted
once, by the size of its file. (USS would do worse than either: which arena pages count as unshared changes
with who rendered what.) The slope after warm-up is fitted by least squares; its standard error counts the
samples as fewer than they are, by their autocorrelation. Exit status 1 if a slope lies above `BOUNDS` by more
than two standard errors, or if a worker was replaced. A soak of fewer than `LONG_ENOUGH` renders allows
`LOOSE` for memory: one step of the allocator is a slope there.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plots
import psutil
from bench_effects import lab
from measure import RATE, machine, noise, random_settings, save, say

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError

EFFECTS = {"mda-combo": "lv2", "mda-overdrive": "lv2", "pedalboard-gain": None, "zam-comp": "vst3"}
WARM_UP = 0.25  # of the renders, which fill pools and caches
# Largest slope that counts as flat, per 1,000 renders: KiB of memory, or a number. 20 KiB are 4 MB in the
# 200,000 renders; a leak of one clip of half a second would be 88,000 KiB.
LONG_ENOUGH, LOOSE = 50_000, 200.0  # renders; KiB in 1,000 of them that a shorter soak may take
BOUNDS = {"anonymous": 20.0, "rss": math.inf, "arena": 20.0, "descriptors": 0.01, "threads": 0.01}
# A slope of fewer samples would be a guess.
LEAST_SAMPLES = 8


@dataclass
class Slope:
    """By how much something grows in 1,000 renders, with the standard error of that."""

    slope: float
    error: float

    def exceeds(self, bound: float) -> bool:
        return self.slope - 2.0 * self.error > bound


def fit(renders: Sequence[float], values: Sequence[float]) -> Slope:
    """Least squares over what came after the warm-up.

    The residuals of memory come in steps and are alike from one sample to the next; with their lag-1
    correlation r, n samples count as n (1 - r) / (1 + r), but never as fewer than four.
    """
    x, y = np.asarray(renders, float) / 1000.0, np.asarray(values, float)
    kept = x >= WARM_UP * x[-1]
    x, y = x[kept], y[kept]
    if len(x) < LEAST_SAMPLES or np.ptp(x) == 0:
        return Slope(math.nan, math.nan)
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    residual = y - y.mean() - slope * centred
    power = float(residual @ residual)
    if power <= 1e-18:
        return Slope(slope, 0.0)
    r = max(0.0, float(residual[1:] @ residual[:-1]) / power)
    counted = max(4.0, len(x) * (1.0 - r) / (1.0 + r))
    return Slope(slope, math.sqrt(power / (counted - 2.0) / float(centred @ centred)))


def arenas() -> float:
    """KiB that the executors' shared memory takes in this process's machine."""
    total = 0
    for entry in os.scandir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if "memfd:dafxhost-arena" in os.readlink(entry.path):
                total += os.stat(entry.path).st_blocks * 512
    return total / 1024


def memory(pid: int) -> tuple[float, float]:
    """KiB of anonymous memory and of all resident memory of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    fields = {line.partition(":")[0]: float(line.split()[1]) for line in lines}
    return fields["Anonymous"], fields["Rss"]


class Sampler:
    """Reads this process and its workers; one series for each quantity of each process."""

    def __init__(self) -> None:
        self._own = psutil.Process()
        self._names: dict[int, str] = {}
        # Bare numbers, so that the benchmark's own memory hardly grows: (renders, values).
        self.series: dict[str, dict[str, tuple[array[float], array[float]]]] = {}

    def name_children(self, effect: str) -> None:
        """Those that are new belong to that effect."""
        for child in self._own.children():
            if child.pid not in self._names:
                count = sum(n.startswith(f"{effect}, ") for n in self._names.values())
                self._names[child.pid] = f"{effect}, worker {count + 1}"

    def read(self, renders: int) -> None:
        for process in (self._own, *self._own.children()):
            own = process.pid == self._own.pid
            name = "parent" if own else self._names.get(process.pid, "a worker that came later")
            anonymous, rss = memory(process.pid)
            seen = {
                "anonymous": anonymous,
                "rss": rss,
                "descriptors": process.num_fds(),
                "threads": process.num_threads(),
            }
            if own:
                seen["arena"] = arenas()
            series = self.series.setdefault(name, {kind: (array("d"), array("d")) for kind in seen})
            for kind, value in seen.items():
                series[kind][0].append(renders)
                series[kind][1].append(value)


def find(names: Sequence[str]) -> tuple[dict[str, Effect], dict[str, str]]:
    """The effects, and those left out with the reason."""
    found, missing = {}, {}
    for name in names:
        try:
            found[name] = lab(name.partition(":")[2]) if name.startswith("lab:") else _registered(name)
        except DafxhostError as error:
            missing[name] = str(error)
    return found, missing


def _registered(name: str) -> Effect:
    return dafxhost.effect(name, provider=EFFECTS.get(name))


def soak(names: Sequence[str], renders: int, seconds: float, clips: int, columns: int) -> dict[str, Any]:
    """Render and sample; returns the report."""
    effects, missing = find(names)
    if not effects:
        raise SystemExit(f"soak.py: none of the effects is installed: {missing}")
    audio = noise(clips, seconds)
    report: dict[str, Any] = {"machine": machine(), "seconds": seconds, "missing": missing}
    sampler, done, told, began = Sampler(), 0, 0, time.perf_counter()
    with contextlib.ExitStack() as stack:
        executors = {name: stack.enter_context(dafxhost.Executor(e)) for name, e in effects.items()}
        batch = 0
        while done < renders:
            for name, executor in executors.items():
                rows = random_settings(clips, columns, len(executor.effect.parameters))
                executor.render(audio, np.roll(rows, batch, axis=0), RATE)
                done += clips * columns
                if not batch:
                    sampler.name_children(name)
            batch += 1
            sampler.read(done)
            if done - told >= 20000:
                told = done
                say(f"soak: {done} renders in {time.perf_counter() - began:.0f} s")
        stats = {name: executor.stats for name, executor in executors.items()}
    report |= {
        "renders": done,
        "minutes": (time.perf_counter() - began) / 60,
        "effects": {name: s.renders for name, s in stats.items()},
        "replaced": sum(s.replaced for s in stats.values()),
        "retried": sum(s.retried for s in stats.values()),
        "recycled": sum(s.recycled for s in stats.values()),
        "workers": max(s.workers for s in stats.values()),
        "samples": batch,
    }
    # A process that is young still takes memory now and then, a few hundred KiB at once.
    report["slopes"] = slopes(sampler, BOUNDS if renders >= LONG_ENOUGH else {**BOUNDS, "anonymous": LOOSE})
    report["series"] = {
        name: {kind: thinned(*kinds[kind]) for kind in ("anonymous", "arena") if kind in kinds}
        for name, kinds in sampler.series.items()
    }
    return report


def thinned(renders: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """At most a hundred or so points, for the plot."""
    step = max(1, len(renders) // 100)
    return list(zip(renders[::step], values[::step], strict=True))


def slopes(sampler: Sampler, bounds: dict[str, float]) -> dict[str, dict[str, Any]]:
    result: dict[str, dict[str, Any]] = {}
    for name, kinds in sampler.series.items():
        for kind, points in kinds.items():
            across, values = points
            s = fit(across, values)
            result.setdefault(name, {})[kind] = {
                "slope": s.slope,
                "error": s.error,
                "last": values[-1],
                "bound": bounds[kind],
                "flat": not s.exceeds(bounds[kind]),
            }
    return result


def faults(report: dict[str, Any]) -> list[str]:
    """What is wrong with the soak, in words; empty if all is well."""
    wrong = [
        f"{kind} of {name} grows by {s['slope']:.1f} (standard error {s['error']:.1f}) in 1,000 renders; "
        f"{s['bound']:g} is allowed"
        for name, kinds in report["slopes"].items()
        for kind, s in kinds.items()
        if not s["flat"]
    ]
    wrong += [
        f"too few samples for a slope of {name}: take more renders"
        for name, kinds in report["slopes"].items()
        if any(math.isnan(s["slope"]) for s in kinds.values())
    ]
    if report["replaced"] or report["retried"] or report["recycled"]:
        wrong.append(
            f"{report['replaced']} workers were replaced, {report['recycled']} ended for their memory, "
            f"{report['retried']} renders tried again"
        )
    return wrong


def plot(report: dict[str, Any], folder: Path) -> list[Path]:
    """Anonymous memory of the parent, of the worker that ends largest of each effect, and the arenas."""
    largest: dict[str, tuple[str, float]] = {}
    for name, kinds in report["series"].items():
        group = name.partition(",")[0]
        last = kinds["anonymous"][-1][1]
        if group not in largest or last > largest[group][1]:
            largest[group] = name, last
    lines = {name: report["series"][name]["anonymous"] for name, _ in largest.values()}
    lines["arenas"] = report["series"]["parent"]["arena"]

    def fill(axes: Any) -> None:
        colours = (*plots.COLOURS, plots.GREY, "#b8860b")
        for colour, (name, points) in zip(colours, lines.items(), strict=False):
            across = [renders / 1000 for renders, _ in points]
            axes.plot(across, [kib / 1024 for _, kib in points], color=colour, label=name)
        axes.set(xlabel="renders (thousands)", ylabel="memory (MiB)")
        axes.set_yscale("log", base=2)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

    plots.draw(folder / "soak.svg", fill, size=(7.2, 3.4))
    return [folder / "soak.svg"]


def table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['renders']} renders of {report['seconds']:g} s in {report['minutes']:.1f} min; "
        f"{report['replaced']} workers replaced, {report['retried']} renders retried. Per 1,000 renders:",
        f"{'':34}" + "".join(f"{kind:>22}" for kind in BOUNDS),
    ]
    for name, kinds in report["slopes"].items():
        row = (
            f"{kinds[k]['slope']:12.4f} ± {kinds[k]['error']:<7.4f}" if k in kinds else " " * 22
            for k in BOUNDS
        )
        lines.append(f"{name:34}" + "".join(row))
    return "\n".join(lines)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Very many renders; fails if memory grows.")
    parser.add_argument("--renders", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a clip")
    parser.add_argument("--clips", type=int, default=32, help="of a batch")
    parser.add_argument("--settings", type=int, default=16, help="of each clip")
    parser.add_argument(
        "--effect", action="append", help='by default the fast ones; "lab:Leak" is one of ours'
    )
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--plots", type=Path, help="draw into this folder")
    o = parser.parse_args(given)
    report = soak(o.effect or list(EFFECTS), o.renders, o.seconds, o.clips, o.settings)
    print(table(report))
    if o.json:
        save(o.json, report)
    if o.plots:
        plot(report, o.plots)
    wrong = faults(report)
    for text in wrong:
        print(f"soak.py: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
