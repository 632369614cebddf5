"""How near the executor comes to the ideal, and what simpler layouts reach, measured in one run.

    python benchmarks/throughput.py [--json] [--repeats 7] [--batch 32] [--seconds 5] [--settings 1]

*ideal*: the plugin's own time for the batch (prepare and process, nothing else), taken in the one worker of
an executor that has the machine to itself, over the number of cores. The other columns: the executor with a
worker a core; a plain Python loop in one process; and one process for every item of the batch with audio
pickled through pipes, the layout of DeepAFx-ST (Steinmetz et al. 2022, deepafx_st/processors/spsa). All are
the best of several repeats; a loaded machine spoils them, so the load is reported.
"""

from __future__ import annotations

import argparse
import importlib
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import dafxhost
from dafxhost.errors import DafxhostError
from dafxhost.processor import RenderSpec
from lab_effects import lab_effect

RATE = 44100
LAB_MILLISECONDS = (0.3, 2.0, 5.0)


@dataclass
class Result:
    effect: str
    provider: str
    milliseconds: float  # of plugin time a render
    ideal: float  # renders a second, as are the next three
    executor: float
    loop: float
    pipes: float
    share_of_ideal: float


def make_processor(effect: dafxhost.Effect) -> Any:
    """The effect's processor, loaded in this process."""
    module, _, name = effect.provider.processor.partition(":")
    return getattr(importlib.import_module(module), name)(dict(effect.provider.options), RenderSpec(RATE))


def render_rows(processor: Any, audio: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.empty((len(values), *audio.shape), np.float32)
    for row in range(len(values)):
        processor.prepare(values[row])
        processor.process(audio, out[row])
    return out


def plain_loop(effect: dafxhost.Effect, audio: np.ndarray, values: np.ndarray, repeats: int) -> float:
    """Best seconds for the batch in a loop, in a process of its own (a plugin may spoil its process)."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_loop_child, args=(theirs, effect, repeats), daemon=True)
    process.start()
    theirs.close()
    ours.send((audio, values))
    seconds = ours.recv()
    process.join()
    return seconds


def _loop_child(pipe: Connection, effect: dafxhost.Effect, repeats: int) -> None:
    processor = make_processor(effect)
    audio, values = pipe.recv()

    def batch() -> None:
        for clip, rows in zip(audio, values, strict=True):
            render_rows(processor, clip, rows)

    pipe.send(best(batch, repeats))


class Pipes:
    """One process an item, pickled arrays through pipes both ways."""

    def __init__(self, effect: dafxhost.Effect, items: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes, self._processes = [], []
        for _ in range(items):
            ours, theirs = context.Pipe()
            process = context.Process(target=_pipe_child, args=(theirs, effect), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def render(self, audio: np.ndarray, values: np.ndarray) -> np.ndarray:
        for pipe, clip, rows in zip(self._pipes, audio, values, strict=True):
            pipe.send((clip, rows))
        return np.stack([pipe.recv() for pipe in self._pipes])

    def close(self) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join()


def _pipe_child(pipe: Connection, effect: dafxhost.Effect) -> None:
    processor = make_processor(effect)
    pipe.send("ready")
    while True:
        try:
            audio, values = pipe.recv()
        except EOFError:
            return
        pipe.send(render_rows(processor, audio, values))


def best(action: Callable[[], object], repeats: int) -> float:
    """Least wall time of several calls (s)."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def measure(effect: dafxhost.Effect, audio: np.ndarray, settings: np.ndarray, repeats: int) -> Result:
    cores = len(os.sched_getaffinity(0))
    count = settings.shape[0] * settings.shape[1]
    values = effect.plugin_values(settings)
    with dafxhost.Executor(effect, workers=1) as alone, dafxhost.Executor(effect, workers=cores) as executor:
        plugin_seconds, wall_seconds = [], []
        for repeat in range(repeats + 1):  # the first fills pages and caches
            before = alone.stats
            alone.render(audio, settings, RATE)
            plugin_seconds.append((alone.stats - before).plugin_seconds)
            wall = best(lambda: executor.render(audio, settings, RATE), 3)
            wall_seconds += [wall] if repeat else []
    loop = plain_loop(effect, audio, values, repeats)
    pipes = Pipes(effect, len(audio))
    piped = best(lambda: pipes.render(audio, values), repeats)
    pipes.close()
    plugin, wall = min(plugin_seconds), min(wall_seconds)
    ideal = count / (plugin / cores)
    return Result(
        effect.name,
        effect.provider.name,
        plugin / count * 1000,
        ideal,
        count / wall,
        count / loop,
        count / piped,
        count / wall / ideal,
    )


def lab_effects(audio: np.ndarray) -> list[dafxhost.Effect]:
    """Effects of our own that take 0.3, 2 and 5 ms of work a clip on this machine."""
    times = {}
    for passes in (1, 17):
        with dafxhost.Executor(lab_effect("Busy", passes=passes), workers=1) as executor:
            settings = np.full((1, 4, 2), 0.5)
            executor.render(audio[:1], settings, RATE)
            walls = []
            for _ in range(5):
                before = executor.stats
                executor.render(audio[:1], settings, RATE)
                walls.append((executor.stats - before).plugin_seconds / 4)
            times[passes] = min(walls) * 1000
    each = (times[17] - times[1]) / 16
    effects = []
    for milliseconds in LAB_MILLISECONDS:
        passes = max(0, round((milliseconds - times[1]) / each) + 1)
        effects.append(lab_effect("Busy", passes=passes))
    return effects


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Renders per second and share of the ideal.")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32, help="clips")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a clip")
    parser.add_argument("--settings", type=int, default=1, help="settings for each clip")
    parser.add_argument("--effect", default="mda-combo")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    rng = np.random.default_rng(0)
    samples = round(options.seconds * RATE)
    audio = (0.1 * rng.standard_normal((options.batch, 1, samples))).astype(np.float32)
    effects = lab_effects(audio)
    try:
        effects.insert(0, dafxhost.effect(options.effect))
    except DafxhostError as error:
        print(f"{options.effect} left out: {error}", file=sys.stderr)
    results = []
    for effect in effects:
        settings = rng.random((options.batch, options.settings, len(effect.parameters)))
        results.append(measure(effect, audio, settings, options.repeats))
    report = {
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "processor": processor_name(),
        "batch": options.batch,
        "settings": options.settings,
        "seconds": options.seconds,
        "sample_rate": RATE,
        "results": [asdict(result) for result in results],
    }
    print(json.dumps(report, indent=1) if options.json else table(report))
    return 0


def processor_name() -> str:
    done = subprocess.run(["lscpu"], capture_output=True, text=True, check=False)
    lines = [line.partition(":")[2].strip() for line in done.stdout.splitlines() if "Model name" in line]
    return lines[0] if lines else "unknown"


def table(report: dict[str, Any]) -> str:
    lines = [
        f"{report['batch']} clips of {report['seconds']:g} s, {report['settings']} settings each, on "
        f"{report['cores']} cores ({report['processor']}; load {report['load']:.1f}); renders per second:",
        f"{'effect':12}{'by':>10}{'ms':>8}{'ideal':>10}{'executor':>10}{'share':>8}{'loop':>10}{'pipes':>10}",
    ]
    for r in report["results"]:
        lines.append(
            f"{r['effect']:12}{r['provider']:>10}{r['milliseconds']:8.2f}{r['ideal']:10.0f}{r['executor']:10.0f}"
            f"{r['share_of_ideal']:8.3f}{r['loop']:10.0f}{r['pipes']:10.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
