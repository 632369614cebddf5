"""A processor inside a worker: made, reset, rendered, checked. Imported by workers: numpy and the light parts
of dafxhost only.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import platform
import time
import traceback
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from dafxhost.execution.protocol import PREPARING, RUNNING
from dafxhost.processor import Processor, RenderSpec

VERIFIED_FIRST, VERIFIED_EVERY = 8, 100
"""Renders whose parameter values are read back: the first ones, then one in so many."""
REPEATED_EVERY = 500
MARKS = 16  # NaN in an output before it is rendered, at least (of blocks that it has)
"""The first render and then one in so many is rendered twice, to see whether the samples are the same."""

_libc = ctypes.CDLL(None)


class NotAppliedError(Exception):
    """Plugin value `index` was sent as `sent` and reads back as `read`."""

    def __init__(self, index: int, sent: float, read: float) -> None:
        super().__init__(index, sent, read)
        self.index, self.sent, self.read = index, sent, read


class LoadError(Exception):
    """The processor could not be made; the text is the reason."""


class InputError(Exception):
    """The clip holds NaN or infinite samples."""


class OutputError(Exception):
    """The plugin returned NaN or infinite samples."""


class FloatingPoint:
    """The thread's floating-point mode, put back to one known state whatever plugins did to it.

    Loading a library built with -ffast-math switches flush-to-zero on for good, so that what was loaded
    earlier would otherwise decide a render's last bits.
    """

    def __init__(self) -> None:
        libm = ctypes.CDLL("libm.so.6")
        self._set = libm.fesetenv
        words = (ctypes.c_uint32 * 8)()
        # fenv_t: x86-64 glibc keeps MXCSR in its last word (0x8040 is FTZ | DAZ); on ARM the first word is
        # FPCR, whose bit 24 is flush-to-zero.
        self._word, self._bits = {"x86_64": (7, 0x8040), "aarch64": (0, 1 << 24)}.get(
            platform.machine(), (0, 0)
        )
        libm.fegetenv(words)
        self._states: dict[bool, Any] = {}
        for flush in (False, True):
            state = type(words)(*words)
            state[self._word] = (
                state[self._word] | self._bits if flush else state[self._word] & ~self._bits & 0xFFFFFFFF
            )
            self._states[flush] = state

    def restore(self, flush_denormals: bool) -> None:
        self._set(self._states[flush_denormals])


class Instance:
    """One processor and what the worker knows about it.

    Attributes:
        enter: called with the phase (of `protocol`) that begins, within a render.
        seconds, reset_seconds: the plugin's own time in the last render, and what of it went into the reset.
        difference: the largest difference between two renders of the same job, if the last one was made twice
            and they differed; else None.
    """

    def __init__(self, description: dict[str, Any], floating_point: FloatingPoint) -> None:
        self._description = description
        self.spec = RenderSpec(**description["spec"])
        self.tolerance = float(description["tolerance"])
        self.verify = description["verify"]
        self.renders = 0
        self.seconds = self.reset_seconds = 0.0
        self.difference: float | None = None
        self.enter: Callable[[int], None] = lambda phase: None
        self._verified = False
        self._pid = os.getpid()
        self._floating_point = floating_point
        self._scratch: tuple[np.ndarray, np.ndarray] | None = None
        floating_point.restore(self.spec.flush_denormals)
        self.processor = load_processor(description["processor"], description["options"], self.spec)

    def prepare(self, values: np.ndarray) -> None:
        """Reset to `values`, and verify by reading back now and then."""
        self.enter(PREPARING)
        self._floating_point.restore(self.spec.flush_denormals)
        _libc.srand(self.spec.seed)
        began = time.perf_counter()
        self.processor.prepare(values)
        self.seconds = self.reset_seconds = time.perf_counter() - began
        # A fresh instance may have been loaded just now.
        self._floating_point.restore(self.spec.flush_denormals)
        self._verified = self.verify == "values" or self._due(VERIFIED_FIRST, VERIFIED_EVERY)
        if self._verified:
            self._check_values(values)
        self.renders += 1

    def _due(self, first: int, every: int) -> bool:
        if self.verify == "spot":
            return self.renders < first or self.renders % every == 0
        return self.verify == "all"

    def _check_values(self, values: np.ndarray) -> None:
        read = self.processor.read_back()
        if read is None:
            return
        read = np.asarray(read, dtype=np.float64)
        if read.shape != values.shape:
            raise ValueError(f"read_back() gave shape {list(read.shape)}, not {list(values.shape)}")
        # NaN stands for a value that this plugin cannot report.
        wrong = np.flatnonzero(np.abs(read - values) > self.tolerance)
        if len(wrong):
            index = int(wrong[0])
            raise NotAppliedError(index, float(values[index]), float(read[index]))

    def render(self, values: np.ndarray, audio: np.ndarray, out: np.ndarray) -> None:
        """One whole render `[C, T]` into `out`, latency compensated; now and then a second, to compare."""
        repeat = self._due(1, REPEATED_EVERY)
        self._render(values, audio, out)
        check_output(out)
        if self._verified:  # plugins change values by themselves, too
            self._check_values(values)
        self.difference = None
        if repeat:
            self._repeat(values, audio, out)

    def _repeat(self, values: np.ndarray, audio: np.ndarray, out: np.ndarray) -> None:
        again, seconds = np.empty_like(out), self.seconds
        if self.spec.reset in ("reset", "state"):
            # A second reset would leak like the first: only a new instance can tell.
            spec = {**self._description["spec"], "reset": "fresh"}
            self.enter(PREPARING)
            other = Instance({**self._description, "spec": spec, "verify": "off"}, self._floating_point)
            other.enter = self.enter
            other.render(values, audio, again)
            other.close()
        else:
            self._render(values, audio, again)
        self.difference = largest_difference(again, out)
        self.seconds = seconds

    def _render(self, values: np.ndarray, audio: np.ndarray, out: np.ndarray) -> None:
        self.prepare(values)
        latency = int(self.processor.latency)
        if latency > 0:
            audio, wet = self._padded(audio, latency)
        else:
            wet = out
        self._mark(wet, values)
        self.enter(RUNNING)
        began = time.perf_counter()
        self.processor.process(audio, wet)
        self.seconds += time.perf_counter() - began
        if os.getpid() != self._pid:
            os._exit(0)  # the plugin forked, and this is the child
        if latency > 0:
            out[:] = wet[:, latency:]

    def _mark(self, wet: np.ndarray, values: np.ndarray) -> None:
        """The memory was used before: what a plugin leaves unwritten shall not pass for its output.

        Marks lie at beginnings of blocks; in long clips not of all, since in cold memory each costs 0.1 us.
        Of which ones depends on the setting, so that a second attempt finds what the first one found.
        """
        size = self.spec.block_size
        every = 1 if self.verify == "all" else max(1, wet.shape[1] // (size * MARKS))
        first = zlib.crc32(values.tobytes()) % every
        wet[:, first * size :: every * size] = wet[:, -1] = np.nan

    def _padded(self, audio: np.ndarray, latency: int) -> tuple[np.ndarray, np.ndarray]:
        shape = (audio.shape[0], audio.shape[1] + latency)
        if self._scratch is None or self._scratch[0].shape != shape:
            self._scratch = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        padded, wet = self._scratch
        padded[:, : audio.shape[1]] = audio
        padded[:, audio.shape[1] :] = 0
        return padded, wet

    def close(self) -> None:
        try:
            self.processor.close()
        except Exception:  # noqa: BLE001  (it is being thrown away; the log keeps the reason)
            traceback.print_exc()


def load_processor(target: str, options: dict[str, Any], spec: RenderSpec) -> Processor:
    """The processor that "module:attribute" makes. Raises LoadError with the reason."""
    module, _, attribute = target.partition(":")
    if module == "__main__":
        raise LoadError(
            f"processor {attribute!r} is defined in the main script, which workers never import; "
            "move it to a module of its own"
        )
    try:
        factory: Any = importlib.import_module(module)
        for part in attribute.split("."):
            factory = getattr(factory, part)
        return factory(options, spec)
    except Exception as error:
        traceback.print_exc()
        raise LoadError(text_of(error)) from error


def is_finite(samples: np.ndarray) -> bool:
    """Whether no sample of a C-contiguous array is NaN or infinite."""
    flat = samples.reshape(-1)
    # One quick pass that is NaN or infinite if any sample is (BLAS has one thread here); squares of huge
    # samples overflow too, hence the second.
    with np.errstate(all="ignore"):
        total = float(np.dot(flat, flat))
    return math.isfinite(total) or bool(np.isfinite(flat).all())


def largest_difference(one: np.ndarray, other: np.ndarray) -> float | None:
    """Between two samples; None if all are the same, NaN if one of two is NaN."""
    if np.array_equal(one, other):
        return None
    with np.errstate(invalid="ignore"):
        return float(np.abs(one - other).max())


def check_output(out: np.ndarray) -> None:
    if not is_finite(out):
        raise OutputError("returned NaN/Inf")


def text_of(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
