"""What a render costs against batch size, clip length, settings a clip and workers; what a worker costs.

    python benchmarks/scaling.py [--effect NAME] [--json out.json] [--plots FOLDER]

Every point is the median of several turns, the points of one curve being taken in turn. Costs are per render
and relative to the plugin's own time where a ratio is given. Workers' memory is what psutil reads from
/proc: USS is what nobody shares, PSS counts shared pages in parts.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plots
import psutil
from bench_effects import REAL, lab, real
from measure import RATE, cores, in_turn, machine, noise, random_settings, save, say, summary, timed

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError

BATCHES = (1, 2, 4, 8, 16, 32, 64)
COLUMNS = (1, 2, 4, 8, 16, 32)
SECONDS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
LONGEST_BATCH = (
    40.0  # seconds of audio in one batch of the curve over clip length, at least one clip a worker
)


class Case:
    """One point: an executor and its batch."""

    def __init__(self, executor: dafxhost.Executor, clips: int, columns: int, seconds: float) -> None:
        self.executor, self.renders = executor, clips * columns
        self._audio = noise(clips, seconds)
        self._settings = random_settings(clips, columns, len(executor.effect.parameters))

    def turn(self, least: float = 0.15) -> tuple[float, float]:
        """Wall and plugin milliseconds of one render, as means over some batches."""
        call = functools.partial(self.executor.render, self._audio, self._settings, RATE)
        repeats = max(1, round(least / max(timed(call), 1e-6)))
        before, began = self.executor.stats, time.perf_counter()
        for _ in range(repeats):
            call()
        wall = time.perf_counter() - began
        plugin = (self.executor.stats - before).plugin_seconds
        return tuple(1e3 * s / repeats / self.renders for s in (wall, plugin))  # type: ignore[return-value]


def curve(
    cases: dict[float, Callable[[], Case]], turns: int, workers: Callable[[float], int]
) -> dict[str, Any]:
    """Medians along one curve. `workers` tells how many share the point's work."""
    made = {x: make() for x, make in cases.items()}
    seen = in_turn({str(x): case.turn for x, case in made.items()}, turns)
    points = []
    for x in made:
        walls, plugin = zip(*seen[str(x)], strict=True)
        points.append(
            {
                "x": x,
                "wall_ms": summary(walls),
                "plugin_ms": summary(plugin),
                "share_seen_by_workers": summary([p / (w * workers(x)) for w, p in seen[str(x)]]),
            }
        )
    return {"points": points}


def curves(effect: Effect, turns: int, small: bool = False) -> dict[str, Any]:
    """All four curves of one effect; `small` takes fewer and shorter points."""
    long = 0.2 if small else 5.0
    batches, columns = (BATCHES[:3], COLUMNS[:3]) if small else (BATCHES, COLUMNS)
    lengths = SECONDS[:2] if small else SECONDS
    with dafxhost.Executor(effect) as shared:
        n = shared.workers

        def case(executor: dafxhost.Executor, *batch: float) -> Callable[[], Case]:
            return functools.partial(Case, executor, *batch)  # type: ignore[arg-type]

        result = {
            "batch": curve({b: case(shared, b, 1, long) for b in batches}, turns, lambda b: min(n, int(b))),
            "columns": curve({k: case(shared, 1, k, long) for k in columns}, turns, lambda k: min(n, int(k))),
            "length": curve(
                {s: case(shared, max(n, min(64, int(LONGEST_BATCH / s))), 1, s) for s in lengths},
                turns,
                lambda _: n,
            ),
        }
    executors = {w: dafxhost.Executor(effect, workers=w) for w in worker_counts()}
    try:
        clips = 4 if small else 32
        result["workers"] = curve(
            {w: case(executor, clips, 1, long) for w, executor in executors.items()}, turns, int
        )
    finally:
        for executor in executors.values():
            executor.close()
    return result


def worker_counts() -> list[int]:
    """1, 2, 3, 4, then twice as many each time, up to the machine's cores."""
    n = cores()
    return sorted({w for w in (1, 2, 3, 4, 8, 16, 32, 64, 128) if w < n} | {n})


def worker_cost(effect: Effect, repeats: int) -> dict[str, Any]:
    """Start-up (s) and memory (MiB) of one worker that has loaded the effect and rendered once.

    Start-up is the first render of 64 samples in a new executor, less the same render when it is warm: the
    interpreter, numpy, the host, the plugin.
    """
    audio = noise(1, 64 / RATE)
    settings = random_settings(1, 1, len(effect.parameters))
    starts, memory = [], {"uss": [], "pss": [], "rss": []}
    for _ in range(repeats):
        before = {child.pid for child in psutil.Process().children()}
        with dafxhost.Executor(effect, workers=1) as executor:
            first = timed(lambda: executor.render(audio, settings, RATE))
            starts.append(
                first - min(timed(lambda: executor.render(audio, settings, RATE)) for _ in range(5))
            )
            [worker] = [c for c in psutil.Process().children() if c.pid not in before]
            info = worker.memory_full_info()
            for kind, values in memory.items():
                values.append(getattr(info, kind) / 2**20)
    return {"start_seconds": summary(starts), **{f"{k}_mib": summary(v)["median"] for k, v in memory.items()}}


def worker_facts() -> dict[str, Any]:
    """What is loaded in a worker that renders an effect of plain numpy."""
    with dafxhost.Executor(lab("Facts"), workers=1) as executor:
        wet = executor.render(noise(1, 64 / RATE), np.full((1, 1, 1), 0.5), RATE)[0, 0, 0]
    return {"modules": int(wet[0]), "torch": bool(wet[1]), "descriptors": int(wet[2])}


def run(names: list[str], turns: int, small: bool = False) -> dict[str, Any]:
    report: dict[str, Any] = {"machine": machine(), "sample_rate": RATE, "curves": {}, "missing": {}}
    report["worker"] = {"facts": worker_facts(), "nothing loaded": worker_cost(lab(), 1 if small else 5)}
    for name in names:
        say(f"scaling: {name}")
        try:
            effect = real(name) if name in REAL else lab(passes=18.0)
        except DafxhostError as error:
            report["missing"][name] = str(error)
            continue
        report["curves"][name] = curves(effect, turns, small)
    for name in REAL:
        if small and name not in names:
            continue
        try:
            report["worker"][name] = worker_cost(real(name), 1 if small else 5)
        except DafxhostError as error:
            report["missing"][name] = str(error)
    return report


AXES = {
    "batch": ("clips in a batch (5 s each, one setting)", "batch_size.svg"),
    "columns": ("settings on one clip of 5 s (K)", "settings.svg"),
    "length": ("length of a clip (s)", "clip_length.svg"),
    "workers": ("workers", "workers.svg"),
}


def plot(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw all curves; returns the files."""
    made = []
    for kind, (x, file) in AXES.items():
        series = {}
        for name, own in report["curves"].items():
            points = own[kind]["points"]
            across = [p["x"] for p in points]
            walls = [p["wall_ms"]["median"] for p in points]
            if kind == "workers":
                series[name] = across, [walls[0] / w for w in walls]
            elif kind == "length":
                series[name] = across, [w / s for w, s in zip(walls, across, strict=True)]
            else:
                series[name] = across, walls
        y = {"workers": "times one worker's speed", "length": "ms a second of audio"}.get(kind, "ms a render")

        def fill(axes: Any, series: Any = series, kind: str = kind, x: str = x, y: str = y) -> None:
            if kind == "workers":
                most = max(across[-1] for across, _ in series.values())
                axes.plot([1, most], [1, most], color=plots.GREY, linestyle="--", linewidth=1, label="ideal")
            plots.curves(axes, series, x, y, logs="" if kind == "workers" else "x")
            if kind == "workers":
                axes.set_xticks(sorted({w for across, _ in series.values() for w in across}))
                axes.legend()

        if series:
            plots.draw(folder / file, fill)
            made.append(folder / file)
    return made


def table(report: dict[str, Any]) -> str:
    lines = []
    for name, own in report["curves"].items():
        for kind, one in own.items():
            points = (f"{p['x']:g}: {p['wall_ms']['median']:.3f}" for p in one["points"])
            lines.append(f"{name}, ms a render by {kind}: " + ", ".join(points))
    for name, cost in report["worker"].items():
        if name == "facts":
            lines.append(
                f"worker: {cost['modules']} modules, torch {'loaded' if cost['torch'] else 'not loaded'}"
            )
        else:
            lines.append(
                f"worker, {name}: starts in {cost['start_seconds']['median']:.2f} s, "
                f"USS {cost['uss_mib']:.0f} MiB, PSS {cost['pss_mib']:.0f}, RSS {cost['rss_mib']:.0f}"
            )
    return "\n".join(lines)


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Cost against batch, length, K and workers; cost of a worker."
    )
    choices = [*REAL, "lab"]
    parser.add_argument("--effect", action="append", choices=choices, help="by default the LV2 Combo and lab")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--small", action="store_true", help="few and short points, to see that it works")
    parser.add_argument("--json", type=Path, help="write the results there")
    parser.add_argument("--plots", type=Path, help="draw into this folder")
    options = parser.parse_args(given)
    report = run(options.effect or ["mda-combo (LV2)", "lab"], options.turns, options.small)
    print(table(report))
    if options.json:
        save(options.json, report)
    if options.plots:
        plot(report, options.plots)
    return 1 if report["worker"]["facts"]["torch"] else 0


if __name__ == "__main__":
    sys.exit(main())
