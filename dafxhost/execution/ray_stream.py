"""A stream whose plugin runs on one node of a Ray cluster."""

from __future__ import annotations

import contextlib
from typing import Any, cast

import numpy as np

from dafxhost.errors import ParameterError, PluginError
from dafxhost.execution.checks import finite
from dafxhost.execution.front import BaseStream
from dafxhost.execution.ray_cluster import reason
from dafxhost.execution.ray_dispatch import Actor, RayPool
from dafxhost.processor import RenderSpec

OPEN_PATIENCE = 90.0  # s, besides the deadline, for a worker to start and load the plugin
FEED_PATIENCE = 30.0  # s, besides the deadline, for the way there and back


class RayStream(BaseStream):
    """A stream for which one of the nodes holds a `dafxhost.execution.stream.Stream`."""

    def __init__(
        self, pool: RayPool, spec: RenderSpec, setting: np.ndarray, deadline: float, owner: Any
    ) -> None:
        super().__init__(pool.effect, spec, setting, owner)
        self._pool, self._deadline = pool, deadline
        self._actor: Actor | None = None
        self._number = 0

    def _is_open(self) -> bool:
        return self._actor is not None

    def _open(self) -> None:
        self._actor = self._pool.actor_for_stream()
        arguments = (self._setting, self._spec.sample_rate, self._spec.channels)
        self._number, self.latency = self._call("open_stream", OPEN_PATIENCE + self._deadline, *arguments)

    def _feed(self, audio: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            samples = np.ascontiguousarray(audio, np.float32)
        if not finite(samples):
            raise ParameterError("the chunk holds NaN or infinite samples")
        return self._send(samples)

    def _drain(self) -> np.ndarray:
        return self._send(None)

    def _send(self, audio: np.ndarray | None) -> np.ndarray:
        try:
            wet = self._call("feed_stream", FEED_PATIENCE + self._deadline, self._number, audio)
        except PluginError:
            self.close()
            raise
        return wet.copy()  # what Ray gives may be read-only, and would hold its object store

    def _call(self, method: str, patience: float, *arguments: Any) -> Any:
        actor, cluster = cast("Actor", self._actor), self._pool.cluster  # `process` has seen to that
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
            raise PluginError(f"the stream through effect {self._effect.name!r} broke off: {why}") from error

    def close(self) -> None:
        actor, self._actor = self._actor, None
        if actor is None:
            return
        actor.streams -= 1
        if self._number:
            with contextlib.suppress(Exception):  # it may be gone already
                cluster = self._pool.cluster
                cluster.get(cluster.call(actor.handle.close_stream, "stream", self._number), FEED_PATIENCE)
