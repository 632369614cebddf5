"""`Executor`: renders batches of clips and settings through one effect, in worker processes."""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from concurrent.futures import Future
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import JobFailure, RenderError, RepeatabilityWarning, ShapeError, UsageError
from dafxhost.execution.batch import ALIGNMENT, Batch
from dafxhost.execution.checks import check_audio, check_rate, check_settings, is_cuda, like, to_numpy
from dafxhost.execution.failures import default_folder
from dafxhost.execution.pool import Pool
from dafxhost.execution.reset_proof import ResetProof
from dafxhost.execution.stats import RenderStats, Unrepeatable
from dafxhost.execution.stream import Stream
from dafxhost.processor import RenderSpec

if TYPE_CHECKING:
    from dafxhost.execution.pinning import PinnedMemory

PROVE_FROM = 64  # renders; fewer are not worth the seconds that the trials take
OnError = Literal["raise", "nan"]


def default_memory_limit(workers: int) -> int:
    """Bytes."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(2 << 30, physical // 4 // workers)


class Executor:
    """Renders through one effect in worker processes; safe to use from several threads.

    Workers start at the first render, import no torch and live until `close`. A worker that dies or exceeds
    the deadline is replaced, its job is tried once more, and a job that fails twice costs only itself.

    Args:
        effect: what to render.
        workers: processes; by default one for each core this process may use.
        deadline: seconds a single render may take.
        block_size: samples handed to the plugin at a time, part of the result for some plugins.
        seed: of the C library's random numbers, set before every render.
        reset: how plugins return to their initial state, see `RenderSpec`; "auto" is exact.
        failure_dir: where inputs of failed renders are saved; by default a folder "dafxhost-failures" in the
            system's temporary folder, made only when it is needed.
        verify: "spot" reads parameter values back on each processor's first renders and then 1 in 100, and
            renders the first and then 1 in 500 twice to see whether the samples are the same; "all" does
            both every time; "off".
        memory_limit: bytes of memory of its own at which a worker is ended after a render and replaced; a
            plugin that asks for four times as much within one render is refused. By default a quarter of
            the machine's memory shared by the workers, at most 2 GiB; 0 for no limit.

    Raises:
        UsageError: an argument out of range.
    """

    def __init__(
        self,
        effect: Effect,
        *,
        workers: int | None = None,
        deadline: float = 30.0,
        block_size: int = 2048,
        seed: int = 1,
        reset: str = "auto",
        failure_dir: str | os.PathLike[str] | None = None,
        verify: Literal["spot", "all", "off"] = "spot",
        memory_limit: int | None = None,
    ) -> None:
        if workers is None:
            workers = len(os.sched_getaffinity(0))
        if workers < 1:
            raise UsageError(f"workers is {workers}; at least one is needed")
        if not deadline > 0:
            raise UsageError(f"deadline is {deadline} s; it must be positive")
        if block_size < 1:
            raise UsageError(f"block_size is {block_size}; it must be at least 1")
        if verify not in ("spot", "all", "off"):
            raise UsageError(f"verify is {verify!r}; it is 'spot', 'all' or 'off'")
        if memory_limit is None:
            memory_limit = default_memory_limit(workers)
        if memory_limit < 0:
            raise UsageError(f"memory_limit is {memory_limit} bytes; it must be positive, or 0 for none")
        self.effect, self.workers, self.deadline = effect, workers, deadline
        self.block_size, self.seed, self.reset = block_size, seed, reset
        folder = default_folder() if failure_dir is None else Path(failure_dir)
        self._pool = Pool(
            effect,
            workers=workers,
            deadline=deadline,
            verify=verify,
            failure_dir=folder,
            memory_limit=memory_limit,
        )
        self._has_cheaper_resets = reset == "auto" and bool(effect.provider.cheaper_resets)
        self._warned = False
        self._pinned: PinnedMemory | None = None
        self._proofs: dict[RenderSpec, ResetProof] = {}
        self._submitted: dict[RenderSpec, int] = {}
        self._proving = threading.Lock()
        # Also runs at the interpreter's exit.
        self._finalizer = weakref.finalize(self, Pool.close, self._pool)

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
        """Render every clip with its settings, each from a reset plugin.

        Args:
            audio: clips `[B, C, T]`, floating point, C 1 or 2, numpy or torch (any device).
            settings: `[B, K, P]` on 0..1, or `[B, P]`.
            sample_rate: Hz.
            on_error: "raise" a RenderError if a render failed twice, or give "nan" in its place and list it
                in `failures`.

        Returns:
            `[B, K, C, T]` float32, or `[B, C, T]` for settings `[B, P]`, latency compensated, numpy or torch
            (detached, on the audio's device) as `audio` was. It belongs to the caller; its memory is used for
            later renders when the caller lets go of it.

        Raises:
            ShapeError, ParameterError, UsageError: audio or settings are not as described.
            PluginError: the plugin does not load. ParameterNotAppliedError: it did not take a value (with
                "nan": in any render).
            RenderError: some renders failed twice; has `failures` and the `partial` result.

        Warns:
            RepeatabilityWarning: once, when a render that was made twice did not give the same samples.
        """
        batch, convert = self._start(audio, settings, sample_rate, on_error)
        try:
            result, failures = batch.future.result()
        except KeyboardInterrupt as error:
            self._pool.abort(batch, error)
            raise
        self._warn()
        return convert(result, failures)

    def _warn(self) -> None:
        if self.unrepeatable is not None and not self._warned:
            self._warned = True
            warnings.warn(str(self.unrepeatable), RepeatabilityWarning, stacklevel=3)

    def submit(
        self, audio: Any, settings: Any, sample_rate: int, *, on_error: OnError = "raise"
    ) -> Future[Any]:
        """As `render`, but returns at once with a future of its result.

        The audio is copied before this returns (unless it lies in memory from `empty` or from an earlier
        result, which must then stay as it is until the future is done).
        """
        batch, convert = self._start(audio, settings, sample_rate, on_error)
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
        """Uninitialised float32 array in the workers' memory: clips `[B, C, T]` written here are not
        copied.
        """
        return self._pool.arena.region(int(np.prod(shape)) * 4).array(np.float32, shape)

    def _start(self, audio: Any, settings: Any, sample_rate: int, on_error: str) -> tuple[Batch, _Convert]:
        if on_error not in ("raise", "nan"):
            raise UsageError(f"on_error is {on_error!r}; it is 'raise' or 'nan'")
        pinned = self._pinned_memory() if is_cuda(audio) else None
        clips = check_audio(audio, "B, C, T", pinned.fetch if pinned else to_numpy)
        spec = self.spec(sample_rate, clips.shape[1])
        flat = np.ndim(settings) == 2
        rows = check_settings(self.effect, settings, (len(clips),) if flat else (len(clips), -1))
        if self._has_cheaper_resets:
            with self._proving:
                self._submitted[spec] = self._submitted.get(spec, 0) + int(np.prod(rows.shape[:-1]))
            if self._submitted[spec] >= PROVE_FROM:
                self.prove_reset(sample_rate, clips.shape[1])
            spec = self._with_proven_reset(spec)
        pool = self._pool
        in_place = self._offset(clips)
        batch = Batch(
            pool.arena,
            number=pool.number(),
            processor=pool.describe(spec),
            effect=self.effect,
            spec=spec,
            settings=rows[:, None] if flat else rows,
            shape=clips.shape,  # type: ignore[arg-type]
            inputs=in_place,
            owner=(self, clips if in_place is not None else None),
            lenient=on_error == "nan",
        )
        pool.submit(batch)
        if in_place is not None:
            pool.release(batch, batch.jobs)
        else:
            self._copy(clips, batch)
        return batch, _Convert(audio, flat, on_error, pinned)

    def _pinned_memory(self) -> PinnedMemory:
        if self._pinned is None:
            from dafxhost.execution.pinning import PinnedMemory  # whoever has a CUDA tensor has torch

            self._pinned = PinnedMemory(self._pool.arena, sys.modules["torch"])
        return self._pinned

    def prove_reset(self, sample_rate: int, channels: int = 1) -> ResetProof:
        """Which way of resetting the plugin is used at that rate: with `reset="auto"`, the cheapest that was
        shown to give the samples of a new instance. Tried once (some seconds), by itself before the 64th
        render.
        """
        spec = self.spec(sample_rate, channels)
        with self._proving:
            if spec not in self._proofs:
                if self._has_cheaper_resets:
                    self._proofs[spec] = self._pool.prove_reset(spec)
                else:
                    self._proofs[spec] = ResetProof("fresh" if self.reset == "auto" else self.reset)
        return self._proofs[spec]

    def _with_proven_reset(self, spec: RenderSpec) -> RenderSpec:
        # What turned out not to be repeatable after all is not trusted again.
        proof = self._proofs.get(spec)
        if proof is None or proof.policy in ("fresh", spec.reset) or self.unrepeatable is not None:
            return spec
        return replace(spec, reset=proof.policy)

    def _offset(self, clips: np.ndarray) -> int | None:
        """Where the clips lie in the arena, if they do and are laid out as renders need them."""
        if clips.dtype != np.float32 or clips[:1].nbytes % ALIGNMENT:
            return None
        offset = self._pool.arena.offset_of(clips)
        return None if offset is None or offset % ALIGNMENT else offset

    def _copy(self, clips: np.ndarray, batch: Batch) -> None:
        """Copy the clips, while workers already render the first of them (and check that they are finite)."""
        targets = batch.clips()
        try:
            with np.errstate(over="ignore"):  # float64 beyond float32: the workers find it infinite
                for row in range(len(clips)):
                    targets[row] = clips[row]
                    self._pool.release(batch, (row + 1) * batch.columns)
        except BaseException as error:
            self._pool.abort(batch, error)
            raise

    def stream(self, setting: Any, sample_rate: int, channels: int) -> AbstractContextManager[Stream]:
        """A context manager that renders one long recording in pieces, state kept; see `Stream`.

        Args:
            setting: `[P]` on 0..1. sample_rate: Hz. channels: 1 or 2.
        """
        if channels not in (1, 2):
            raise ShapeError(f"channels is {channels}; 1 or 2 are possible")
        spec = self.spec(sample_rate, channels)
        return Stream(self._pool, spec, check_settings(self.effect, setting, ()), owner=self)

    @property
    def failures(self) -> list[JobFailure]:
        """Renders that failed twice in the batch that was finished last."""
        return list(self._pool.ledger.last_failures)

    @property
    def unrepeatable(self) -> Unrepeatable | None:
        """The first case in which a second render of the same job differed; None as long as none did."""
        return self._pool.ledger.unrepeatable

    @property
    def stats(self) -> RenderStats:
        """Totals since this executor was made."""
        return self._pool.stats()

    def close(self) -> None:
        """End the workers. Results stay valid; renders still waiting fail with UsageError."""
        self._finalizer()

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        return f"Executor({self.effect.name!r} by {self.effect.provider.name}, {self.workers} workers{state})"


class _Convert:
    """From the pool's result to what the caller gets."""

    def __init__(self, audio: Any, flat: bool, on_error: str, pinned: PinnedMemory | None) -> None:
        self._like = audio[:0]  # remembers kind and device without the samples
        self._flat, self._on_error, self._pinned = flat, on_error, pinned

    def __call__(self, result: np.ndarray, failures: list[JobFailure]) -> Any:
        total = result.shape[0] * result.shape[1]
        result = result[:, 0] if self._flat else result
        if self._pinned is not None:
            converted = self._pinned.send(result, self._like.device)
        else:
            converted = like(result, self._like)
        if failures and self._on_error == "raise":
            raise RenderError(failures, total, partial=converted)
        return converted
