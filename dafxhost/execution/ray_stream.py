"""A stream whose plugin runs on one node of a Ray cluster."""

from __future__ import annotations

import contextlib
from types import TracebackType
from typing import Any

import numpy as np

from dafxhost.errors import ParameterError, PluginError, ShapeError, UsageError
from dafxhost.execution.checks import check_audio, finite, like
from dafxhost.execution.ray_cluster import reason
from dafxhost.execution.ray_dispatch import Actor, RayPool

OPEN_PATIENCE = 90.0  # s, besides the deadline, for a worker to start and load the plugin
FEED_PATIENCE = 30.0  # s, besides the deadline, for the way there and back


class RayStream:
    """As `dafxhost.execution.stream.Stream`; the node holds such a one."""

    def __init__(
        self, pool: RayPool, setting: np.ndarray, sample_rate: int, channels: int, deadline: float, owner: Any
    ) -> None:
        self._pool, self._setting, self._rate, self._channels = pool, setting, sample_rate, channels
        self._deadline, self._owner = deadline, owner
        self._actor: Actor | None = None
        self._number = 0
        self._finished = False
        self.latency = 0

    def __enter__(self) -> RayStream:
        if self._actor is not None:
            raise UsageError("this stream is open already")
        self._actor = self._pool.actor_for_stream()
        try:
            arguments = (self._setting, self._rate, self._channels)
            patience = OPEN_PATIENCE + self._deadline
            self._number, self.latency = self._call("open_stream", patience, *arguments)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def process(self, chunk: Any) -> Any:
        """Next samples `[C, N]` -> `[C, N]`, except for the plugin's latency (see `Stream`).

        Raises:
            ShapeError, UsageError: the chunk is not `[C, N]` of this stream's channels, or the stream is
                closed.
            PluginError: the plugin died, hung or returned NaN, or its node was lost; the stream cannot go on.
        """
        audio = check_audio(chunk, "C, N")
        if audio.shape[0] != self._channels:
            raise ShapeError(f"chunk has {audio.shape[0]} channels; this stream has {self._channels}")
        if self._finished:
            raise UsageError("this stream is finished")
        if self._actor is None:
            raise UsageError("this stream is not open; use it in a with statement")
        with np.errstate(over="ignore"):
            samples = np.ascontiguousarray(audio, np.float32)
        if not finite(samples):
            raise ParameterError("the chunk holds NaN or infinite samples")
        return like(self._feed(samples), chunk)

    def finish(self) -> np.ndarray:
        """The last samples `[C, latency]`, which the plugin still held back; the stream then takes no
        more.
        """
        self._finished = True
        if self._actor is None:
            raise UsageError("this stream is not open; use it in a with statement")
        if not self.latency:
            return np.zeros((self._channels, 0), np.float32)
        return self._feed(None)

    def _feed(self, audio: np.ndarray | None) -> np.ndarray:
        try:
            wet = self._call("feed_stream", FEED_PATIENCE + self._deadline, self._number, audio)
        except PluginError:
            self.close()
            raise
        return wet.copy()  # what Ray gives may be read-only, and would hold its object store

    def _call(self, method: str, patience: float, *arguments: Any) -> Any:
        actor, cluster = self._actor, self._pool.cluster
        if actor is None:
            raise UsageError("this stream is not open; use it in a with statement")
        try:
            reference = cluster.call(getattr(actor.handle, method), "stream", *arguments)
            return cluster.get(reference, patience).check()
        except Exception as error:
            if isinstance(error, TimeoutError):
                why = str(error)
            elif cluster.lost(error):
                why = f"node {actor.node.name} was lost ({reason(error)})"
            else:
                raise
            name = self._pool.effect.name
            raise PluginError(f"the stream through effect {name!r} broke off: {why}") from error

    def close(self) -> None:
        """End the worker. Called on leaving the with statement."""
        actor, self._actor = self._actor, None
        if actor is None:
            return
        actor.streams -= 1
        if self._number:
            with contextlib.suppress(Exception):  # it may be gone already
                cluster = self._pool.cluster
                cluster.get(cluster.call(actor.handle.close_stream, "stream", self._number), FEED_PATIENCE)
