"""`RayExecutor`: renders batches on the machines of a Ray cluster, as `Executor` does on one."""

from __future__ import annotations

import inspect
import os
import warnings
import weakref
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import (
    JobFailure,
    ParameterError,
    RenderError,
    RepeatabilityWarning,
    ShapeError,
    UsageError,
)
from dafxhost.execution.checks import check_audio, check_rate, check_settings, finite, like
from dafxhost.execution.executor import Executor
from dafxhost.execution.failures import default_folder
from dafxhost.execution.ray_batch import RayBatch
from dafxhost.execution.ray_cluster import Cluster
from dafxhost.execution.ray_dispatch import RayPool
from dafxhost.execution.ray_stream import RayStream
from dafxhost.execution.stats import RenderStats, Unrepeatable
from dafxhost.processor import RenderSpec

OnError = Literal["raise", "nan"]
PATIENCE = 120.0


class RayExecutor:
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
        verify: Literal["spot", "all", "off"] = "spot",
        patience: float = PATIENCE,
        **options: Any,
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"workers is {workers}; at least one is needed")
        if not deadline > 0:
            raise UsageError(f"deadline is {deadline} s; it must be positive")
        if block_size < 1:
            raise UsageError(f"block_size is {block_size}; it must be at least 1")
        if verify not in ("spot", "all", "off"):
            raise UsageError(f"verify is {verify!r}; it is 'spot', 'all' or 'off'")
        if not patience > 0:
            raise UsageError(f"patience is {patience} s; it must be positive")
        if unknown := set(options) - set(inspect.signature(Executor.__init__).parameters):
            raise TypeError(f"RayExecutor() got an unexpected keyword argument {min(unknown)!r}")
        self.effect, self.deadline = effect, deadline
        self.block_size, self.seed, self.reset = block_size, seed, reset
        there = {
            "deadline": deadline,
            "block_size": block_size,
            "seed": seed,
            "reset": reset,
            "verify": verify,
        }
        cluster = Cluster(address)
        try:
            self._pool = RayPool(
                effect,
                cluster,
                workers=workers,
                options={**there, **options},
                failure_dir=default_folder() if failure_dir is None else Path(failure_dir),
                patience=patience,
            )
        except BaseException:
            cluster.release()
            raise
        self._warned = False
        # Also runs at the interpreter's exit.
        self._finalizer = weakref.finalize(self, RayPool.close, self._pool)

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

    def spec(self, sample_rate: int, channels: int = 1) -> RenderSpec:
        """The specification by which clips of that rate and channel count are rendered."""
        return RenderSpec(
            sample_rate=check_rate(sample_rate),
            channels=channels,
            block_size=self.block_size,
            reset=self.reset,
            seed=self.seed,
        )

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: OnError = "raise") -> Any:
        """As `Executor.render`.

        Raises:
            As `Executor.render`, and:
            EffectUnavailableError: no node has the plugin, or it is another one there.
            DafxhostError: no node was there for `patience` seconds.
        """
        batch, convert = self._start(audio, settings, sample_rate, on_error, copy=False)
        try:
            result, failures = batch.future.result()
        except KeyboardInterrupt as error:
            self._pool.abort(batch, error)
            raise
        if self.unrepeatable is not None and not self._warned:
            self._warned = True
            warnings.warn(str(self.unrepeatable), RepeatabilityWarning, stacklevel=2)
        return convert(result, failures)

    def submit(
        self, audio: Any, settings: Any, sample_rate: int, *, on_error: OnError = "raise"
    ) -> Future[Any]:
        """As `render`, but returns at once with a future of its result. The audio is copied before."""
        batch, convert = self._start(audio, settings, sample_rate, on_error, copy=True)
        outer: Future[Any] = Future()
        outer.set_running_or_notify_cancel()

        def finish(inner: Future[tuple[np.ndarray, list[JobFailure]]]) -> None:
            # Whatever goes wrong belongs to whoever waits for the future.
            try:
                outer.set_result(convert(*inner.result()))
            except BaseException as error:  # noqa: BLE001
                outer.set_exception(error)

        batch.future.add_done_callback(finish)
        return outer

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 array. Clips go over the network anyway, so that this saves no copy here."""
        return np.empty(shape, np.float32)

    def _start(
        self, audio: Any, settings: Any, sample_rate: int, on_error: str, *, copy: bool
    ) -> tuple[RayBatch, _Convert]:
        if on_error not in ("raise", "nan"):
            raise UsageError(f"on_error is {on_error!r}; it is 'raise' or 'nan'")
        given = check_audio(audio, "B, C, T")
        spec = self.spec(sample_rate, given.shape[1])
        flat = np.ndim(settings) == 2
        rows = check_settings(self.effect, settings, (len(given),) if flat else (len(given), -1))
        with np.errstate(over="ignore"):  # float64 beyond float32: caught as infinite
            clips = (
                np.array(given, np.float32, order="C") if copy else np.ascontiguousarray(given, np.float32)
            )
        for row, clip in enumerate(clips):
            if not finite(clip):
                raise ParameterError(f"audio of clip {row} holds NaN or infinite samples")
        batch = RayBatch(
            clips, rows[:, None] if flat else rows, self.effect, spec, self._pool.failure_dir, on_error, self
        )
        self._pool.submit(batch)
        return batch, _Convert(audio, flat, on_error)

    def stream(self, setting: Any, sample_rate: int, channels: int) -> AbstractContextManager[RayStream]:
        """A context manager that renders one long recording in pieces, state kept; see `Stream`.

        Args:
            setting: `[P]` on 0..1. sample_rate: Hz. channels: 1 or 2.
        """
        if channels not in (1, 2):
            raise ShapeError(f"channels is {channels}; 1 or 2 are possible")
        rate = self.spec(sample_rate, channels).sample_rate
        values = check_settings(self.effect, setting, ())
        return RayStream(self._pool, values, rate, channels, self.deadline, owner=self)

    @property
    def failures(self) -> list[JobFailure]:
        """Renders that failed twice in the batch that was finished last."""
        return list(self._pool.last_failures)

    @property
    def unrepeatable(self) -> Unrepeatable | None:
        """The first case in which a second render of the same job differed; None as long as none did."""
        return self._pool.unrepeatable

    @property
    def stats(self) -> RenderStats:
        """Totals since this executor was made, over all nodes. A lost node's workers count as replaced, and
        the renders it had in hand as retried.
        """
        return self._pool.stats()

    def close(self) -> None:
        """End the workers. Results stay valid; renders still waiting fail with UsageError."""
        self._finalizer()
        self._pool.close()  # if another thread is closing it: come back when that is done, too

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        name = f"{self.effect.name!r} by {self.effect.provider.name}"
        return f"RayExecutor({name}, {self.workers} workers on {len(self.nodes)} nodes{state})"


class _Convert:
    """From the batch's result to what the caller gets."""

    def __init__(self, audio: Any, flat: bool, on_error: str) -> None:
        self._like = audio[:0]  # remembers kind and device without the samples
        self._flat, self._on_error = flat, on_error

    def __call__(self, result: np.ndarray, failures: list[JobFailure]) -> Any:
        total = result.shape[0] * result.shape[1]
        converted = like(result[:, 0] if self._flat else result, self._like)
        if failures and self._on_error == "raise":
            raise RenderError(failures, total, partial=converted)
        return converted
