"""`RayExecutor`: renders batches on the machines of a Ray cluster, as `Executor` does on one."""

from __future__ import annotations

import inspect
import os
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import ParameterError, UsageError
from dafxhost.execution.checks import finite
from dafxhost.execution.executor import Executor
from dafxhost.execution.front import BaseExecutor, Verify, failure_folder
from dafxhost.execution.ray_batch import RayBatch
from dafxhost.execution.ray_cluster import Cluster
from dafxhost.execution.ray_dispatch import RayPool
from dafxhost.execution.ray_stream import RayStream
from dafxhost.processor import RenderSpec

PATIENCE = 120.0


class RayExecutor(BaseExecutor):
    """An `Executor` whose workers are spread over a Ray cluster; same interface, same samples.

    Each node holds an ordinary executor with workers of its own, so that crashes, deadlines, retries and
    verification are as there. A batch is cut into shards, which nodes take as they come free. When a node
    dies its shards go to others; one that was lost with two nodes fails. Nodes that join are used.

    Args:
        effect, deadline, block_size, seed, reset, failure_dir, verify: as of `Executor`. Inputs of failed
            renders are saved on this machine.
        workers: processes in all, spread evenly over the nodes; by default one for each core of the cluster.
        address: the cluster's "host:port", or "auto"; by default the environment's RAY_ADDRESS, else a
            cluster of this machine alone, which is started and ends with the last executor. A connection that
            was made by `ray.init` is used as it is.
        patience: seconds without a single node after which renders fail.
        options: further keywords of `Executor` for the executors on the nodes, e.g. memory_limit.

    Attributes:
        effect, deadline: as given.

    Raises:
        UsageError: an argument out of range, or Ray is not installed. DafxhostError: there is no cluster.
    """

    def __init__(
        self,
        effect: Effect,
        *,
        workers: int | None = None,
        address: str | None = None,
        deadline: float = 30.0,
        block_size: int = 2048,
        seed: int = 1,
        reset: str = "auto",
        failure_dir: str | os.PathLike[str] | None = None,
        verify: Verify = "spot",
        patience: float = PATIENCE,
        **options: Any,
    ) -> None:
        there: dict[str, Any] = {
            "deadline": deadline,
            "block_size": block_size,
            "seed": seed,
            "reset": reset,
            "verify": verify,
        }
        super().__init__(effect, workers=workers, **there)
        if not patience > 0:
            raise UsageError(f"patience is {patience} s; it must be positive")
        if unknown := set(options) - set(inspect.signature(Executor.__init__).parameters):
            raise TypeError(f"RayExecutor() got an unexpected keyword argument {min(unknown)!r}")
        cluster = Cluster(address)
        try:
            pool = RayPool(
                effect,
                cluster,
                workers=workers,
                options={**there, **options},
                failure_dir=failure_folder(failure_dir),
                patience=patience,
            )
        except BaseException:
            cluster.release()
            raise
        self._run(pool)

    @property
    def workers(self) -> int:
        """Worker processes in all: as asked for, else as many as the cluster has cores."""
        return self._pool.workers

    @property
    def nodes(self) -> dict[str, int]:
        """Workers by node, of the nodes in use now. Empty before the first render."""
        found: dict[str, int] = {}
        for actor in list(self._pool.actors):
            if actor.ready:
                found[actor.node.name] = found.get(actor.node.name, 0) + actor.workers
        return found

    @property
    def lost_nodes(self) -> list[str]:
        """Nodes that were lost while they were in use, in that order."""
        return list(self._pool.lost)

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 array. Clips go over the network anyway, so that this saves no copy here."""
        return np.empty(shape, np.float32)

    def _submit(
        self, clips: np.ndarray, settings: np.ndarray, spec: RenderSpec, on_error: str, wait: bool
    ) -> RayBatch:
        with np.errstate(over="ignore"):  # float64 beyond float32: caught as infinite
            # They travel when their turn comes.
            clips = (
                np.ascontiguousarray(clips, np.float32) if wait else np.array(clips, np.float32, order="C")
            )
        for row, clip in enumerate(clips):
            if not finite(clip):
                raise ParameterError(f"audio of clip {row} holds NaN or infinite samples")
        batch = RayBatch(clips, settings, self.effect, spec, self._pool.failure_dir, on_error, self)
        self._pool.submit(batch)
        return batch

    def _stream(self, setting: np.ndarray, spec: RenderSpec) -> RayStream:
        return RayStream(self._pool, spec, setting, self.deadline, owner=self)

    def _where(self) -> str:
        return f"{self.workers} workers on {len(self.nodes)} nodes"
