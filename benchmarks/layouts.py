"""Ways to lay a batch of renders out over a machine, behind one interface: our executor and its rivals.

Every layout runs in a process of its own (stage.py), has as many workers as there are cores (*pipes* and
*loop* apart), one thread for linear algebra, and the same allocator settings as dafxhost's workers unless
`allocator` is "default". All of them compute the same samples. What the rivals leave out: where a plugin
crashes or hangs, the whole batch ends or never ends, and nothing is checked.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from rendering import Renderer, set_allocator

from dafxhost.effects import Effect
from dafxhost.execution.executor import Executor
from dafxhost.processor import RenderSpec

# A host may forbid more than one thread in a process.
NO_THREADS = {
    "vst3": "pedalboard loads VST3 plugins on one thread of a process only, and every render loads one",
    "dawdreamer": "DawDreamer deadlocks when a second thread of the process loads a plugin",
}


class ForbiddenError(Exception):
    """This layout cannot be used with the effect's host; the text says why."""


class Layout(ABC):
    """One way to render batches.

    Args:
        effect: what to render. sample_rate: Hz. channels: of the clips.
        workers: processes or threads. items: clips of a batch, for the layout that has a process for each.
        allocator: "worker" for dafxhost's settings, "default" for glibc's.
        reset: how a plugin returns to its initial state, see `RenderSpec`.
    """

    name = ""

    def __init__(
        self,
        effect: Effect,
        *,
        sample_rate: int,
        channels: int,
        workers: int,
        items: int,
        allocator: str,
        reset: str,
    ) -> None:
        self.effect, self.sample_rate, self.workers, self.items = effect, sample_rate, workers, items
        self.spec = RenderSpec(sample_rate, channels, reset=reset)
        self.same_allocator = allocator == "worker"
        if self.same_allocator:
            set_allocator()  # of the process that hands out, too

    def start(self) -> None:  # noqa: B027  (optional to override)
        """Have all processes or threads ready, each with its processor loaded."""

    @abstractmethod
    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        """Clips `[B, C, T]` float32 and settings `[B, K, P]` on 0..1 -> `[B, K, C, T]`."""

    def policy(self) -> str:
        """The reset policy that is used from now on."""
        return self.spec.reset

    def plugin_seconds(self) -> float:
        """Seconds inside the plugin so far, summed over workers; NaN where nobody counts them."""
        return float("nan")

    def close(self) -> None:  # noqa: B027  (optional to override)
        """End what `start` began."""

    def key(self) -> str:
        """All that a child needs to make the processor, as a short string."""
        provider = self.effect.provider
        return json.dumps(
            [provider.processor, dict(provider.options), asdict(self.spec), self.same_allocator]
        )


def renderer(key: str) -> Renderer:
    """A processor for this process, from `Layout.key`."""
    processor, options, spec, same_allocator = json.loads(key)
    if same_allocator:
        set_allocator()
    return Renderer(processor, options, RenderSpec(**spec))


# ---- dafxhost


class Ours(Layout):
    """`dafxhost.Executor` as anybody calls it: the clips are copied into its memory."""

    name = "executor"

    def start(self) -> None:
        self._executor = Executor(self.effect, workers=self.workers, reset=self.spec.reset)
        if self._executor.spec(self.sample_rate, self.spec.channels) != self.spec:
            raise RuntimeError("the executor renders by another specification than the rivals")

    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        return self._executor.render(audio, settings, self.sample_rate)

    def policy(self) -> str:
        return self._executor.prove_reset(self.sample_rate, self.spec.channels).policy

    def plugin_seconds(self) -> float:
        return self._executor.stats.plugin_seconds

    def close(self) -> None:
        stats = self._executor.stats
        self._executor.close()
        if stats.retried or stats.replaced:
            raise RuntimeError(f"workers failed during the measurement: {stats}")


class OursNoCopy(Ours):
    """The same with the clips in memory from `executor.empty`, where a data loader may write them at once."""

    name = "executor, no copy"
    _clips: np.ndarray | None = None

    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        if self._clips is None or self._clips.shape != audio.shape:
            self._clips = self._executor.empty(audio.shape)
            self._clips[:] = audio
        return super().render(self._clips, settings)

    def close(self) -> None:
        self._clips = None
        super().close()


class Alone(Ours):
    """One worker that has the machine to itself: its plugin seconds are what *ideal* is made of."""

    name = "alone"

    def start(self) -> None:
        self.workers = 1
        super().start()


# ---- rivals


class Loop(Layout):
    """One process, one render after the other, straight into the result."""

    name = "loop"

    def start(self) -> None:
        self._renderer = renderer(self.key())

    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        values = self.effect.plugin_values(settings)
        out = np.empty((*values.shape[:2], *audio.shape[1:]), np.float32)
        for clip, rows, wet in zip(audio, values, out, strict=True):
            self._renderer.render(clip, rows, wet)
        return out


class Threads(Layout):
    """A thread pool; every thread has its own processor and writes straight into the result."""

    name = "threads"

    def start(self) -> None:
        if (reason := NO_THREADS.get(self.effect.provider.name)) is not None:
            raise ForbiddenError(reason)
        self._own = threading.local()
        self._pool = ThreadPoolExecutor(self.workers, initializer=self._begin)

    def _begin(self) -> None:
        self._own.renderer = renderer(self.key())

    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        values = self.effect.plugin_values(settings)
        out = np.empty((*values.shape[:2], *audio.shape[1:]), np.float32)
        list(self._pool.map(lambda *item: self._own.renderer.render(*item), audio, values, out))
        return out

    def close(self) -> None:
        self._pool.shutdown()


_kept: dict[str, Renderer] = {}  # of a child of `Pool` or `Joblib`: key -> what it made of it


def render_item(key: str, clip: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """One clip with all of its settings, in a child that keeps its processor."""
    if key not in _kept:
        _kept[key] = renderer(key)
    return _kept[key].render(clip, rows)


class Pool(Layout):
    """`multiprocessing.Pool`: a task is a clip with all of its settings, arrays pickled both ways."""

    name = "mp.Pool"

    def start(self) -> None:
        # fork, as is the default on Linux up to Python 3.13; it is the quickest to start too.
        self._pool = multiprocessing.get_context("fork").Pool(self.workers)

    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        values = self.effect.plugin_values(settings)
        tasks = [(self.key(), clip, rows) for clip, rows in zip(audio, values, strict=True)]
        return np.stack(self._pool.starmap(render_item, tasks, chunksize=1))

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class Joblib(Layout):
    """joblib's loky workers; tasks as for `Pool`. (Arrays above 1 MB go through files that it maps.)"""

    name = "joblib"

    def start(self) -> None:
        import joblib

        self._delayed = joblib.delayed(render_item)
        self._parallel = joblib.Parallel(n_jobs=self.workers, backend="loky")
        self._parallel.__enter__()

    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        values = self.effect.plugin_values(settings)
        key = self.key()
        tasks = (self._delayed(key, clip, rows) for clip, rows in zip(audio, values, strict=True))
        return np.stack(list(self._parallel(tasks)))

    def close(self) -> None:
        from joblib.externals.loky import get_reusable_executor

        self._parallel.__exit__(None, None, None)
        get_reusable_executor().shutdown(wait=True)


class Pipes(Layout):
    """One process for every item of the batch, pickled arrays through pipes both ways.

    The layout of DeepAFx-ST (Steinmetz et al. 2022, deepafx_st/processors/spsa), made more generous: a clip
    is sent once for all of its settings.
    """

    name = "pipes"
    method = "fork"

    def start(self) -> None:
        context: Any = multiprocessing.get_context(self.method)
        self._pipes: list[Connection] = []
        self._processes: list[Any] = []
        for _ in range(self.items):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve_pipe, args=(theirs, self.key()), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            pipe.recv()

    def render(self, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
        values = self.effect.plugin_values(settings)
        wet: list[np.ndarray] = []
        # More clips than processes: one round after the other.
        for first in range(0, len(audio), len(self._pipes)):
            part = slice(first, first + len(self._pipes))
            busy = list(zip(self._pipes, audio[part], values[part], strict=False))
            for pipe, clip, rows in busy:
                pipe.send((clip, rows))
            wet += [pipe.recv() for pipe, *_ in busy]
        return np.stack(wet)

    def close(self) -> None:
        for pipe, process in zip(self._pipes, self._processes, strict=True):
            pipe.send(None)  # closing would not do: later children hold copies of this end
            process.join()
            pipe.close()


class PipesSpawn(Pipes):
    """The same, started as macOS and Windows start processes, and as is safe beside threads."""

    name = "pipes, spawn"
    method = "spawn"


def _serve_pipe(pipe: Connection, key: str) -> None:
    own = renderer(key)
    pipe.send(os.getpid())
    while (item := pipe.recv()) is not None:
        pipe.send(own.render(*item))


LAYOUTS: dict[str, type[Layout]] = {
    kind.name: kind for kind in (Alone, Ours, OursNoCopy, Loop, Threads, Pool, Joblib, Pipes, PipesSpawn)
}
RIVALS = tuple(kind.name for kind in (Loop, Threads, Pool, Joblib, Pipes))
