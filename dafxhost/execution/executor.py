"""`Executor`: renders batches of clips and settings through one effect, in worker processes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import UsageError
from dafxhost.execution.batch import ALIGNMENT, Batch
from dafxhost.execution.checks import is_cuda, to_numpy
from dafxhost.execution.front import BaseExecutor, Verify, failure_folder
from dafxhost.execution.pool import Pool
from dafxhost.execution.reset_proof import ResetProof
from dafxhost.execution.stream import Stream
from dafxhost.processor import RenderSpec

if TYPE_CHECKING:
    from dafxhost.execution.pinning import PinnedMemory

PROVE_FROM = 64  # renders; fewer are not worth the seconds that the trials take


def default_memory_limit(workers: int) -> int:
    """Bytes."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(2 << 30, physical // 4 // workers)


class Executor(BaseExecutor):
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
        verify: Verify = "spot",
        memory_limit: int | None = None,
    ) -> None:
        how = {"deadline": deadline, "verify": verify}
        super().__init__(effect, workers=workers, block_size=block_size, seed=seed, reset=reset, **how)
        self._workers = len(os.sched_getaffinity(0)) if workers is None else workers
        if memory_limit is None:
            memory_limit = default_memory_limit(self._workers)
        if memory_limit < 0:
            raise UsageError(f"memory_limit is {memory_limit} bytes; it must be positive, or 0 for none")
        self._has_cheaper_resets = reset == "auto" and bool(effect.provider.cheaper_resets)
        self._pinned: PinnedMemory | None = None
        self._proofs: dict[RenderSpec, ResetProof] = {}
        self._submitted: dict[RenderSpec, int] = {}
        self._proving = threading.Lock()
        folder = failure_folder(failure_dir)
        self._run(Pool(effect, workers=self._workers, failure_dir=folder, memory_limit=memory_limit, **how))

    @property
    def workers(self) -> int:
        """Worker processes, once there is work for all of them."""
        return self._workers

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 array in the workers' memory: clips `[B, C, T]` written here are not
        copied.
        """
        return self._pool.arena.region(int(np.prod(shape)) * 4).array(np.float32, shape)

    def _fetcher(self, audio: Any) -> Callable[[Any], np.ndarray]:
        return self._pinned_memory().fetch if is_cuda(audio) else to_numpy

    def _converted(self, result: np.ndarray, kind: Any) -> Any:
        if is_cuda(kind):
            return self._pinned_memory().send(result, kind.device)
        return super()._converted(result, kind)

    def _submit(
        self, clips: np.ndarray, settings: np.ndarray, spec: RenderSpec, on_error: str, wait: bool
    ) -> Batch:
        pool, in_place = self._pool, self._offset(clips)
        spec = self._with_proven_reset(spec, settings.shape[0] * settings.shape[1])
        batch = Batch(
            pool.arena,
            number=pool.number(),
            processor=pool.describe(spec),
            effect=self.effect,
            spec=spec,
            settings=settings,
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
        return batch

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

    def _with_proven_reset(self, spec: RenderSpec, renders: int) -> RenderSpec:
        """The specification with the cheapest exact reset, which is looked for once enough is to render."""
        if not self._has_cheaper_resets:
            return spec
        with self._proving:
            self._submitted[spec] = self._submitted.get(spec, 0) + renders
        if self._submitted[spec] >= PROVE_FROM:
            self.prove_reset(spec.sample_rate, spec.channels)
        # What turned out not to be repeatable after all is not trusted again.
        proof = self._proofs.get(spec)
        if proof is None or proof.policy == "fresh" or self.unrepeatable is not None:
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

    def _stream(self, setting: np.ndarray, spec: RenderSpec) -> Stream:
        return Stream(self._pool, spec, setting, owner=self)
