"""What callers see of every executor: checks of what they give, futures, streams, errors."""

from __future__ import annotations

import os
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import JobFailure, RenderError, RepeatabilityWarning, ShapeError, UsageError
from dafxhost.execution.checks import check_audio, check_rate, check_settings, like, to_numpy
from dafxhost.execution.dispatcher import Dispatcher
from dafxhost.execution.failures import default_folder
from dafxhost.execution.stats import RenderStats, Unrepeatable
from dafxhost.processor import RenderSpec

OnError = Literal["raise", "nan"]
Verify = Literal["spot", "all", "off"]


class Submitted(Protocol):
    """A batch on its way: its future gives the samples `[B, K, C, T]` and what failed."""

    future: Future[tuple[np.ndarray, list[JobFailure]]]


class BaseExecutor(ABC):
    """Renders batches of clips and settings through one effect. See `Executor` for all that is said here of
    none in particular; `open_executor` chooses one by name.

    Attributes:
        effect, deadline, block_size, seed, reset: as given.
    """

    _pool: Any  # the subclass's own kind of Dispatcher

    def __init__(
        self,
        effect: Effect,
        *,
        workers: int | None,
        deadline: float,
        block_size: int,
        seed: int,
        reset: str,
        verify: str,
    ) -> None:
        if workers is not None and workers < 1:
            raise UsageError(f"workers is {workers}; at least one is needed")
        if not deadline > 0:
            raise UsageError(f"deadline is {deadline} s; it must be positive")
        if block_size < 1:
            raise UsageError(f"block_size is {block_size}; it must be at least 1")
        if verify not in ("spot", "all", "off"):
            raise UsageError(f"verify is {verify!r}; it is 'spot', 'all' or 'off'")
        self.effect, self.deadline = effect, deadline
        self.block_size, self.seed, self.reset = block_size, seed, reset
        self._warned = False

    def _run(self, pool: Dispatcher) -> None:
        """To be called at the end of the constructor."""
        self._pool = pool
        # Also runs at the interpreter's exit.
        self._finalizer = weakref.finalize(self, type(pool).close, pool)

    @property
    @abstractmethod
    def workers(self) -> int:
        """Worker processes in all."""

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
            EffectUnavailableError: no node of a cluster has the plugin, or it is another one there.
            DafxhostError: no node of a cluster was there for `patience` seconds.

        Warns:
            RepeatabilityWarning: once, when a render that was made twice did not give the same samples.
        """
        batch, convert = self._start(audio, settings, sample_rate, on_error, wait=True)
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
        """As `render`, but returns at once with a future of its result.

        The audio is copied before this returns (unless it lies in memory from `empty` or from an earlier
        result, which must then stay as it is until the future is done).
        """
        batch, convert = self._start(audio, settings, sample_rate, on_error, wait=False)
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

    def _start(
        self, audio: Any, settings: Any, sample_rate: int, on_error: str, *, wait: bool
    ) -> tuple[Submitted, Callable[[np.ndarray, list[JobFailure]], Any]]:
        """Check everything and submit it; the batch, and what makes the caller's result of the batch's."""
        if on_error not in ("raise", "nan"):
            raise UsageError(f"on_error is {on_error!r}; it is 'raise' or 'nan'")
        clips = check_audio(audio, "B, C, T", self._fetcher(audio))
        spec = self.spec(sample_rate, clips.shape[1])
        flat = np.ndim(settings) == 2
        rows = check_settings(self.effect, settings, (len(clips),) if flat else (len(clips), -1))
        batch = self._submit(clips, rows[:, None] if flat else rows, spec, on_error, wait)
        kind = audio[:0]  # remembers kind and device without the samples

        def convert(result: np.ndarray, failures: list[JobFailure]) -> Any:
            total = result.shape[0] * result.shape[1]
            converted = self._converted(result[:, 0] if flat else result, kind)
            if failures and on_error == "raise":
                raise RenderError(failures, total, partial=converted)
            return converted

        return batch, convert

    @abstractmethod
    def _submit(
        self, clips: np.ndarray, settings: np.ndarray, spec: RenderSpec, on_error: str, wait: bool
    ) -> Submitted:
        """Begin to render `[B, C, T]` with `[B, K, P]`; both are checked, but not that samples are finite.

        Args:
            wait: whether the caller waits for the result, so that the clips cannot change meanwhile.
        """

    def _fetcher(self, audio: Any) -> Callable[[Any], np.ndarray]:
        """What makes a numpy array of the audio."""
        return to_numpy

    def _converted(self, result: np.ndarray, kind: Any) -> Any:
        """The result as the kind of array, on the device, that the caller gave."""
        return like(result, kind)

    @abstractmethod
    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialised float32 array, in the workers' memory where they share it: clips `[B, C, T]` written
        there are not copied.
        """

    def stream(self, setting: Any, sample_rate: int, channels: int) -> AbstractContextManager[BaseStream]:
        """A context manager that renders one long recording in pieces, state kept; see `BaseStream`.

        Args:
            setting: `[P]` on 0..1. sample_rate: Hz. channels: 1 or 2.
        """
        if channels not in (1, 2):
            raise ShapeError(f"channels is {channels}; 1 or 2 are possible")
        return self._stream(check_settings(self.effect, setting, ()), self.spec(sample_rate, channels))

    @abstractmethod
    def _stream(self, setting: np.ndarray, spec: RenderSpec) -> BaseStream: ...

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
        """Totals since this executor was made. Of a cluster, over all nodes: a lost node's workers count as
        replaced, and the renders it had in hand as retried.
        """
        return self._pool.stats()

    def close(self) -> None:
        """End the workers. Results stay valid; renders still waiting fail with UsageError."""
        self._finalizer()
        self._pool.close()  # if another thread is closing it: come back when that is done, too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "" if self._finalizer.alive else ", closed"
        name = f"{self.effect.name!r} by {self.effect.provider.name}"
        return f"{type(self).__name__}({name}, {self._where()}{state})"

    def _where(self) -> str:
        return f"{self.workers} workers"


class BaseStream(ABC):
    """A plugin that carries on from chunk to chunk. Use as a context manager, from one thread at a time.

    The plugin's latency is taken out: all that `process` returned and then what `finish` returns, joined,
    are as long as the input and the same samples as one `Executor.render` of the whole (for plugins whose
    output depends on block boundaries: if all chunks but the last are multiples of the block size).

    Attributes:
        latency: the plugin's latency (samples). `process` returns that many samples fewer at the beginning,
            `finish` returns them at the end; with no latency every chunk comes back whole.
    """

    def __init__(self, effect: Effect, spec: RenderSpec, setting: np.ndarray, owner: Any) -> None:
        self._effect, self._spec, self._setting, self._owner = effect, spec, setting, owner
        self._finished = False
        self.latency = 0

    def __enter__(self) -> Self:
        if self._is_open():
            raise UsageError("this stream is open already")
        try:
            self._open()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def process(self, chunk: Any) -> Any:
        """Next samples `[C, N]` -> `[C, N]`, except for the plugin's latency (see `latency`).

        Raises:
            ShapeError, UsageError: the chunk is not `[C, N]` of this stream's channels, or the stream is
                closed.
            ParameterError: the chunk holds NaN or infinite samples.
            PluginError: the plugin died, hung or returned NaN, or its node was lost; the stream cannot go on.
        """
        audio = check_audio(chunk, "C, N")
        if audio.shape[0] != self._spec.channels:
            raise ShapeError(f"chunk has {audio.shape[0]} channels; this stream has {self._spec.channels}")
        if self._finished:
            raise UsageError("this stream is finished")
        self._check_open()
        return like(self._feed(audio), chunk)

    def finish(self) -> np.ndarray:
        """The last samples `[C, latency]`, which the plugin still held back; the stream then takes no
        more.
        """
        self._finished = True
        self._check_open()
        if not self.latency:
            return np.zeros((self._spec.channels, 0), np.float32)
        return self._drain()

    def _check_open(self) -> None:
        if not self._is_open():
            raise UsageError("this stream is not open; use it in a with statement")

    @abstractmethod
    def _is_open(self) -> bool: ...

    @abstractmethod
    def _open(self) -> None:
        """Have a plugin loaded, and set `latency`."""

    @abstractmethod
    def _feed(self, audio: np.ndarray) -> np.ndarray:
        """`[C, N]`, checked but for NaN -> what the plugin gives, less its latency."""

    @abstractmethod
    def _drain(self) -> np.ndarray:
        """The last `[C, latency]`."""

    @abstractmethod
    def close(self) -> None:
        """End the worker. Called on leaving the with statement."""


def failure_folder(given: str | os.PathLike[str] | None) -> Path:
    """Where inputs of failed renders go."""
    return default_folder() if given is None else Path(given)
