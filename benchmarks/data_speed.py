"""How fast examples are made, against the plugin's own time and a torch DataLoader that does the same.

    python benchmarks/data_speed.py [--data FOLDER] [--rounds 5] [--examples 64] [--json FILE]

An example is a clip of 5 s at 44.1 kHz in two halves, each rendered by mda-combo at one random setting, under
the redraw rules of `dafxhost.data.examples`. What is compared is measured in turns, round by round, so that
whatever else the machine does falls on all alike. The DataLoader's workers run the same code, but render in
their own process, clip by clip. Without --data, files of our synthetic corpus are made first.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from measure import cores, machine, summary

from dafxhost.data.audio_io import write_audio
from dafxhost.data.examples import Examples
from dafxhost.data.judging import DryFeatures, Judge
from dafxhost.data.sources import AudioSource, FolderSource
from dafxhost.data.stream import ExampleStream
from dafxhost.data.stretching import StretchedSource
from dafxhost.execution.executor import Executor
from dafxhost.execution.instance import load_processor
from dafxhost.processor import RenderSpec
from dafxhost.registry import effect
from dafxhost.training.augmentation import AugmentedSource
from dafxhost.training.memory import keep_memory

RATE, SECONDS, BATCH = 44100, 5.0, 8
SAMPLES = round(RATE * SECONDS)
EFFECT = "mda-combo"
FILES, FILE_SECONDS = 6, 40.0
EPOCH = 275


class InProcess:
    """Renders in this process, clip by clip: what a DataLoader's worker would do."""

    def __init__(self) -> None:
        self.effect = effect(EFFECT)
        provider = self.effect.provider
        spec = RenderSpec(RATE, reset="fresh")
        self._processor = load_processor(provider.processor, dict(provider.options), spec)

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: Any = "raise") -> np.ndarray:
        del sample_rate, on_error
        out = np.empty((*settings.shape[:2], 1, audio.shape[-1]), np.float32)
        values = self.effect.plugin_values(settings)
        for row in range(len(audio)):
            for column in range(settings.shape[1]):
                self._processor.prepare(values[row, column])
                self._processor.process(audio[row], out[row, column])
        return out


class Loaded(torch.utils.data.Dataset):
    """Example i by number, made in whatever process asks for it."""

    def __init__(self, folder: str, augmented: bool, count: int) -> None:
        self.folder, self.augmented, self.count = folder, augmented, count
        self._examples: Examples | None = None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        if self._examples is None:
            keep_memory()
            torch.set_num_threads(1)
            self._examples = make(open_folder(self.folder, self.augmented), InProcess())
        one = self._examples.batch(7, 1, first=index)
        return one.dry[0], one.reference[0], one.target[0], one.settings[0]


def open_folder(folder: str, augmented: bool, **options: Any) -> AudioSource:
    source = FolderSource(folder, RATE, **options)
    return AugmentedSource(source) if augmented else source


def make(source: AudioSource, executor: Any, **options: Any) -> Examples:
    return Examples(source, executor, sample_rate=RATE, samples=SAMPLES, apply_probability=1.0, **options)


@dataclass
class Way:
    """One way of making examples: `run(n)` makes n and says how many renders and parent's CPU seconds it
    took."""

    name: str
    run: Callable[[int], dict[str, float]]


def streamed(name: str, executor: Executor, examples: Examples) -> Way:
    state = {"next": 0}

    def run(n: int) -> dict[str, float]:
        batches, before, cpu, began = n // BATCH, executor.stats, time.process_time(), time.perf_counter()
        with ExampleStream(examples, BATCH, seed=1000, start=state["next"], ahead=2) as stream:
            for _ in range(batches):
                next(stream)
            seconds = time.perf_counter() - began
        state["next"] += batches
        done = executor.stats - before
        return {
            "seconds": seconds,
            "renders": done.renders,
            "parent_cpu": time.process_time() - cpu,
            "worker_cpu": done.cpu_seconds,
        }

    return Way(name, run)


def plugin_alone(executor: Executor, source: AudioSource) -> Way:
    """Clips that lie in the workers' memory, rendered and forgotten: nothing is drawn or looked at."""
    rng = np.random.default_rng(0)
    clips = executor.empty((2 * BATCH, 1, SAMPLES))
    for row in clips:
        row[...] = source.draw(rng, SAMPLES, RATE)[0]

    def run(n: int) -> dict[str, float]:
        before, cpu, began = executor.stats, time.process_time(), time.perf_counter()
        waiting = []
        for _ in range(n // BATCH):
            settings = rng.random((2 * BATCH, 1, len(executor.effect.parameters)))
            waiting.append(executor.submit(clips, settings, RATE))
            if len(waiting) > 2:
                waiting.pop(0).result()
        for future in waiting:
            future.result()
        done = executor.stats - before
        return {
            "seconds": time.perf_counter() - began,
            "renders": done.renders,
            "parent_cpu": time.process_time() - cpu,
            "worker_cpu": done.cpu_seconds,
        }

    return Way("the plugin alone", run)


def loader(name: str, folder: str, augmented: bool, n: int, workers: int) -> Way:
    dataset = Loaded(folder, augmented, n)
    batches = torch.utils.data.DataLoader(
        dataset, BATCH, num_workers=workers, persistent_workers=True, multiprocessing_context="spawn"
    )

    def run(n: int) -> dict[str, float]:
        del n
        cpu, began = time.process_time(), time.perf_counter()
        for _ in batches:
            pass
        return {"seconds": time.perf_counter() - began, "parent_cpu": time.process_time() - cpu}

    return Way(name, run)


def synthetic_folder(folder: Path) -> Path:
    """Files of the built-in corpus, as flac."""
    from dafxhost.data.corpus import SyntheticCorpus

    corpus = SyntheticCorpus(RATE, bank=FILES, seconds=FILE_SECONDS)
    for i in range(FILES):
        audio = corpus.draw(np.random.default_rng(i), int(FILE_SECONDS * RATE), RATE)[0]
        write_audio(folder / f"{i}.flac", audio, RATE, "PCM_16")
    return folder


def measured(ways: list[Way], rounds: int, n: int, say: Callable[[str], None]) -> dict[str, Any]:
    taken: dict[str, list[dict[str, float]]] = {way.name: [] for way in ways}
    for way in ways:
        say(f"warming up: {way.name}")
        way.run(n)
    for number in range(rounds):
        for way in ways:
            taken[way.name].append(way.run(n))
        say(f"round {number + 1} of {rounds}")
    reference = [one["seconds"] for one in taken[ways[0].name]]
    out = {}
    for name, runs in taken.items():
        out[name] = {
            "examples_per_second": summary([n / one["seconds"] for one in runs]),
            "of_the_plugin": summary([r / one["seconds"] for r, one in zip(reference, runs, strict=True)]),
            "renders_per_example": _mean(one.get("renders", np.nan) / n for one in runs),
            "parent_ms": _mean(1e3 * one["parent_cpu"] / n for one in runs),
            "worker_ms": _mean(1e3 * one.get("worker_cpu", np.nan) / n for one in runs),
        }
    return out


def _mean(values: Iterator[float] | Any) -> float:
    return float(np.mean(list(values)))


def epoch(name: str, examples: Examples) -> dict[str, float]:
    """Seconds for the reports' epoch."""
    began = time.perf_counter()
    with ExampleStream(examples, BATCH, seed=5000, ahead=2) as stream:
        made = 0
        while made < EPOCH:
            made += len(next(stream))
        seconds = time.perf_counter() - began
    return {"seconds": seconds, "examples": made}


STAGES = {
    "drawing clips": ("draw",),
    "fades and level": ("prepare_into",),
    "redraw rules": ("fault",),
    "gathering clips to render again": ("_render_open",),
    "collecting": ("_collect",),
}


def profile(examples: Examples, batches: int) -> dict[str, float]:
    """Processor time of the parent's stages, ms an example, on one thread."""
    examples.batch(1, BATCH)
    profiler = cProfile.Profile(time.thread_time)
    profiler.enable()
    for i in range(batches):
        examples.batch(2 + i, BATCH)
    profiler.disable()
    stats: Any = pstats.Stats(profiler)
    spent = {"all": 0.0}
    for (file, _, function), (_, _, own, cumulative, callers) in stats.stats.items():
        spent["all"] += own
        # A draw counts where it was asked for by the examples, not by another source.
        outer = function != "draw" or any(Path(caller[0]).name == "examples.py" for caller in callers)
        for stage, names in STAGES.items():
            if function in names and outer and "dafxhost" in file:
                spent[stage] = spent.get(stage, 0.0) + cumulative
    return {name: 1e3 * seconds / (batches * BATCH) for name, seconds in spent.items()}


class Checked(Judge):
    """Judges by some frames, and by all of them as well."""

    seen: ClassVar[Counter[str]] = Counter()

    def sensible(self, wet: Any, features: DryFeatures) -> bool:
        got = super().sensible(wet, features)
        self.seen["settings"] += 1
        self.seen["needed all frames"] += (0, 1) in features.kept
        self.seen["decided otherwise"] += got != bool(self.cosines(wet, features, 1).mean() >= self.senseless)
        for key in [key for key in features.kept if key[1] == 1]:
            del features.kept[key]
        return got


def rules(source: AudioSource, workers: int, batches: int = 8) -> dict[str, dict[str, int]]:
    """How often some frames decide the MFCC rule otherwise than all of them."""
    found = {}
    for name in ("mda-combo", "mda-ringmod", "mda-delay"):
        Checked.seen.clear()
        with Executor(effect(name), workers=workers) as executor:
            examples = make(source, executor)
            examples.judge = Checked(RATE)
            for i in range(batches):
                examples.batch(20 + i, BATCH)
        found[name] = dict(Checked.seen)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--examples", type=int, default=64)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--bank", type=int, default=16)
    parser.add_argument("--epoch", action="store_true", help="also the reports' epoch of 275 examples")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rules", action="store_true", help="only whether some frames decide as all do")
    given = parser.parse_args()
    n = max(1, given.examples // BATCH) * BATCH
    about = machine()
    keep_memory()
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = given.data
        if folder is None:
            folder = synthetic_folder(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if given.rules:
            for name, seen in rules(open_folder(str(folder), False), given.workers).items():
                print(name, seen, flush=True)
            return
        executor = stack.enter_context(Executor(effect(EFFECT), workers=given.workers))
        plain, changed = open_folder(str(folder), False), open_folder(str(folder), True)
        stretched = StretchedSource(plain, RATE, bank=given.bank, workers=given.workers)
        began = time.perf_counter()
        stretched.prepare()
        bank = {"pieces": given.bank, "seconds": time.perf_counter() - began, "piece_seconds": 20.0}
        decoded = open_folder(str(folder), False, memory_limit=0)
        ways = [
            plugin_alone(executor, plain),
            streamed("examples", executor, make(plain, executor)),
            streamed("examples, each clip decoded from its file", executor, make(decoded, executor)),
            streamed("examples, augmented", executor, make(changed, executor)),
            streamed(
                "examples, augmented, pitch and tempo", executor, make(AugmentedSource(stretched), executor)
            ),
            loader("DataLoader", str(folder), False, n, given.workers),
            loader("DataLoader, augmented", str(folder), True, n, given.workers),
        ]
        result: dict[str, Any] = {"machine": about, "examples": n, "rounds": given.rounds, "bank": bank}
        result["ways"] = measured(ways, given.rounds, n, lambda text: print(text, flush=True))
        result["profile"] = {
            "examples": profile(make(plain, executor), 6),
            "examples, augmented": profile(make(changed, executor), 6),
        }
        if given.epoch:
            result["epoch"] = {
                pairs: epoch(pairs, make(AugmentedSource(stretched), executor, pairs=pairs))
                for pairs in ("two-settings", "ab")
            }
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    show(result)


def show(result: dict[str, Any]) -> None:
    print(f"\n{'':46} examples/s  of the plugin's pace  renders  own ms  workers' ms")
    for name, facts in result["ways"].items():
        print(
            f"{name:46} {facts['examples_per_second']['median']:10.1f}"
            f"  {facts['of_the_plugin']['median']:19.2f}"
            f"  {facts['renders_per_example']:7.2f}  {facts['parent_ms']:6.1f}  {facts['worker_ms']:6.1f}"
        )
    bank = result["bank"]
    print(f"\nbank of {bank['pieces']} pieces of {bank['piece_seconds']:g} s: {bank['seconds']:.1f} s")
    for name, stages in result["profile"].items():
        print(f"\n{name}: the parent's processor time, ms an example")
        for stage, ms in stages.items():
            print(f"  {stage:34} {ms:6.2f}")
    for name, facts in result.get("epoch", {}).items():
        print(f"\n{facts['examples']:.0f} examples, {name}, pitch and tempo: {facts['seconds']:.1f} s")


if __name__ == "__main__":
    main()
