"""What runs on a node of a Ray cluster: an ordinary `Executor`, whose workers take the plugins' crashes.

Imported by Ray's worker processes, which never load a plugin; imports neither ray nor torch.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import pickle
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

import dafxhost
from dafxhost import chains, errors
from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError, EffectUnavailableError, JobFailure
from dafxhost.execution.executor import Executor
from dafxhost.execution.stats import RenderStats, Unrepeatable
from dafxhost.registry import registry

PARENT_CHECK = 0.5  # s between looks whether the node's raylet is still there
NOT_TOTALS = ("wall_seconds", "workers")


@dataclass(frozen=True)
class Answer:
    """What an actor says; errors go as text, since not every exception survives pickling.

    Attributes:
        value: rendered audio `[B, K, C, T]`, a stream's number and latency, or its samples `[C, N]`.
        failures: as of the shard, rows and columns counted from its own beginning.
        spent: additions to the totals of `RenderStats`, by name.
        unrepeatable: the node's first render that came out otherwise when it was made again.
        error: (class in dafxhost.errors, text) or None.
    """

    value: Any = None
    failures: tuple[JobFailure, ...] = ()
    spent: dict[str, float] | None = None
    unrepeatable: Unrepeatable | None = None
    error: tuple[str, str] | None = None

    def check(self) -> Any:
        """The value. Raises the error."""
        if self.error is not None:
            raise self.exception()
        return self.value

    def exception(self) -> DafxhostError:
        name, text = self.error or ("DafxhostError", "no error")
        try:
            return getattr(errors, name, DafxhostError)(text)
        except TypeError:  # one that is not made of its text alone
            return DafxhostError(text)


class RenderActor:
    """An executor on one node.

    Args:
        workers: worker processes here.
        version: of dafxhost at the caller, which must be the version here.
        effect: pickled `Effect`, read only once the version is known to be right.
        options: keyword options of `Executor`.
        path: the caller's module search path; folders that exist here too are searched last.
    """

    def __init__(
        self, workers: int, version: str, effect: bytes, options: dict[str, Any], path: list[str]
    ) -> None:
        self._workers, self._version, self._effect, self._options = workers, version, effect, options
        self._raylet = os.getppid()
        sys.path += [folder for folder in path if folder not in sys.path and os.path.isdir(folder)]
        self._folder = Path(tempfile.gettempdir()) / f"dafxhost-node-{os.getpid()}"
        self._executor: Executor | None = None
        self._streams: dict[int, Any] = {}
        self._lock = threading.Lock()
        self._told = RenderStats()

    def start(self) -> str:
        """Make the executor. Returns why this node cannot serve the effect, or ""."""
        if dafxhost.__version__ != self._version:
            return f"it has dafxhost {dafxhost.__version__}, not {self._version}"
        try:
            effect = served_here(pickle.loads(self._effect))
            self._executor = Executor(
                effect, workers=self._workers, failure_dir=self._folder, **self._options
            )
        except DafxhostError as error:
            return str(error)
        return ""

    def watch(self) -> None:
        """Never returns: its failing tells the caller that this process is gone.

        Ends the process when the raylet has gone. Ray itself waits for calls that run, this one among them,
        and meanwhile the workers would be orphans.
        """
        while os.getppid() == self._raylet:
            time.sleep(PARENT_CHECK)
        os._exit(1)

    def render(
        self, clips: np.ndarray, start: int, settings: np.ndarray, sample_rate: int, on_error: str
    ) -> Answer:
        """B clips from `start` of `[.., C, T]`, settings `[B, K, P]` -> `[B, K, C, T]`, failed rows NaN."""
        clips = clips[start : start + len(settings)]
        executor = self._running()
        try:
            # Not `render`: `executor.failures` may be those of the other shard, and the caller warns.
            batch, _ = executor._start(clips, settings, sample_rate, on_error, wait=True)
            wet, failures = batch.future.result()
        except DafxhostError as error:
            return _refusal(error)
        finally:
            self._forget_inputs()
        return Answer(wet, tuple(failures), self._spent(), executor.unrepeatable)

    def open_stream(self, setting: np.ndarray, sample_rate: int, channels: int) -> Answer:
        """Value: (number of the stream, its latency)."""
        try:
            stream = self._running().stream(setting, sample_rate, channels).__enter__()
        except DafxhostError as error:
            return _refusal(error)
        with self._lock:
            number = max(self._streams, default=0) + 1
            self._streams[number] = stream
        return Answer((number, stream.latency))

    def feed_stream(self, number: int, chunk: np.ndarray | None) -> Answer:
        """The stream's next samples `[C, N]`; None asks for its last."""
        stream = self._streams[number]
        try:
            return Answer(stream.finish() if chunk is None else stream.process(chunk))
        except DafxhostError as error:
            return _refusal(error)

    def close_stream(self, number: int) -> None:
        stream = self._streams.pop(number, None)
        if stream is not None:
            stream.close()

    def _running(self) -> Executor:
        if self._executor is None:
            raise RuntimeError("this actor was not started")
        return self._executor

    def _forget_inputs(self) -> None:
        """The caller keeps the inputs of failed renders, where the user is; here they would pile up."""
        with contextlib.suppress(OSError):  # there are none, or the other shard's has just come
            for path in self._folder.glob("*.npz"):
                path.unlink(missing_ok=True)
            self._folder.rmdir()

    def _spent(self) -> dict[str, float]:
        """Totals since the last call."""
        with self._lock:
            now, before = self._running().stats, self._told
            self._told = now
        names = [f.name for f in fields(RenderStats) if f.name not in NOT_TOTALS]
        return {name: getattr(now, name) - getattr(before, name) for name in names}


def packed(effect: Effect) -> bytes:
    """The effect pickled by value, with nothing in it but what survives JSON, as workers get it anyway."""
    provider = effect.provider
    options = json.loads(json.dumps(dict(provider.options)))
    return pickle.dumps(replace(effect, provider=replace(provider, options=options)))


def _refusal(error: DafxhostError) -> Answer:
    return Answer(error=(type(error).__name__, str(error)))


def served_here(effect: Effect) -> Effect:
    """The effect as this machine serves it: the same plugin, wherever its files lie here.

    Raises:
        EffectUnavailableError: the plugin is missing here or is not the same.
    """
    provider = effect.provider
    if provider.processor == chains.PROCESSOR:
        return chains.relocated(effect, served_here)
    module = provider.processor.partition(":")[0]
    if module != "__main__" and not _installed(module):
        raise EffectUnavailableError(f"it has no module {module}, which serves effect {effect.name!r}")
    here = _find(effect) if provider.identity else None
    if here is None:
        return effect
    if here.provider.identity != provider.identity:
        raise EffectUnavailableError(
            f"its effect {effect.name!r} by {provider.name} is another one "
            f"({here.provider.identity}, not {provider.identity})"
        )
    options = dict(provider.options)
    for key, value in options.items():
        if isinstance(value, str) and os.path.isabs(value) and not os.path.exists(value):
            options[key] = here.provider.options.get(key, value)
    return replace(effect, provider=replace(provider, options=options))


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its package is missing, or was not imported from a file
        return module in sys.modules


def _find(effect: Effect) -> Effect | None:
    """The effect of that name, or at that place, here; None if it is made by hand and can be found nowhere.

    Raises:
        EffectUnavailableError: there is none, or it cannot be looked at.
    """
    provider = effect.provider
    missing: DafxhostError | None = None
    if effect.name in registry().names("effect"):
        try:
            return dafxhost.effect(effect.name, provider.name)
        except DafxhostError as error:
            missing = error
    else:
        for value in provider.options.values():
            if not isinstance(value, str):
                continue
            try:
                if (found := registry().effect_at(value, provider.name)) is not None:
                    return found
            except DafxhostError as error:
                if not os.path.exists(value):  # or it is a file of another kind, which the effect needs
                    missing = error
    if missing is not None:
        what = f"effect {effect.name!r} by {provider.name}"
        raise EffectUnavailableError(f"it cannot serve {what}: {missing}") from missing
    return None
