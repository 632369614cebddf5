"""A worker process: loads plugins on its main thread and renders what the executor asks for.

Started as `python -c` by `process.py`; imports numpy and the light parts of dafxhost only, never torch and
never the user's `__main__`.
"""

from __future__ import annotations

import collections
import ctypes
import faulthandler
import importlib
import json
import math
import mmap
import os
import platform
import resource
import signal
import socket
import sys
import time
import traceback
from typing import Any

import numpy as np

from dafxhost.execution import protocol
from dafxhost.processor import Processor, RenderSpec

LARGEST_LOG = 1 << 20
KEPT_PROCESSORS = 4
VERIFIED_FIRST, VERIFIED_EVERY = 8, 100
PR_SET_PDEATHSIG = 1
MADV_POPULATE_WRITE = 23
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_PERTURB = -1, -3, -6

_libc = ctypes.CDLL(None)


class _NotAppliedError(Exception):
    """Plugin value `index` was sent as `sent` and reads back as `read`."""

    def __init__(self, index: int, sent: float, read: float) -> None:
        super().__init__(index, sent, read)
        self.index, self.sent, self.read = index, sent, read


class _LoadError(Exception):
    """The processor could not be made; the text is the reason."""


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


class Loaded:
    """One processor and what the worker knows about it."""

    def __init__(self, description: dict[str, Any], floating_point: FloatingPoint) -> None:
        self.spec = RenderSpec(**description["spec"])
        self.tolerance = float(description["tolerance"])
        self.verify = description["verify"]
        self.renders = 0
        self._floating_point = floating_point
        self._scratch: tuple[np.ndarray, np.ndarray] | None = None
        floating_point.restore(self.spec.flush_denormals)
        module, _, attribute = description["processor"].partition(":")
        if module == "__main__":
            raise _LoadError(
                f"processor {attribute!r} is defined in the main script, which workers never import; "
                "move it to a module of its own"
            )
        try:
            factory: Any = importlib.import_module(module)
            for part in attribute.split("."):
                factory = getattr(factory, part)
            self.processor: Processor = factory(description["options"], self.spec)
        except Exception as error:
            traceback.print_exc()
            raise _LoadError(_text(error)) from error

    def prepare(self, values: np.ndarray) -> float:
        """Reset to `values`, verify by reading back now and then; returns the seconds the plugin took."""
        self._floating_point.restore(self.spec.flush_denormals)
        _libc.srand(self.spec.seed)
        began = time.perf_counter()
        self.processor.prepare(values)
        seconds = time.perf_counter() - began
        # A fresh instance may have been loaded just now.
        self._floating_point.restore(self.spec.flush_denormals)
        due = self.renders < VERIFIED_FIRST or self.renders % VERIFIED_EVERY == 0
        if self.verify == "all" or (self.verify == "spot" and due):
            self._check_values(values)
        self.renders += 1
        return seconds

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
            raise _NotAppliedError(index, float(values[index]), float(read[index]))

    def render(self, values: np.ndarray, audio: np.ndarray, out: np.ndarray) -> float:
        """One whole render `[C, T]` into `out`, latency compensated; returns the plugin's seconds."""
        seconds = self.prepare(values)
        latency = int(self.processor.latency)
        began = time.perf_counter()
        if latency <= 0:
            self.processor.process(audio, out)
            seconds += time.perf_counter() - began
        else:
            padded, wet = self._padded(audio, latency)
            self.processor.process(padded, wet)
            seconds += time.perf_counter() - began
            out[:] = wet[:, latency:]
        check_finite(out)
        return seconds

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


def check_finite(out: np.ndarray) -> None:
    """Raise FloatingPointError if a sample is NaN or infinite."""
    flat = out.reshape(-1)
    # One quick pass that is NaN or infinite if any sample is (BLAS has one thread here); squares of huge
    # samples overflow too, hence the second.
    with np.errstate(all="ignore"):
        total = float(np.dot(flat, flat))
    if not math.isfinite(total) and not np.isfinite(flat).all():
        raise FloatingPointError("returned NaN/Inf")


class Worker:
    """The loop: receive, render, answer."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._socket = socket.socket(fileno=setup["socket"])
        self._memory = mmap.mmap(setup["arena"], setup["reserve"])
        self._can_populate = True
        # Clips are mapped read-only: one clip serves many renders, and a plugin that wrote into its input
        # would spoil the others without a word.
        self._inputs = mmap.mmap(setup["arena"], setup["reserve"], prot=mmap.PROT_READ)
        for memory in (self._memory, self._inputs):
            memory.madvise(mmap.MADV_DONTDUMP)
        start = setup["claim"]
        self._claim = memoryview(self._memory)[start : start + 8 * protocol.CLAIM_WORDS].cast("q")
        self._descriptions: dict[int, dict[str, Any]] = {}
        self._loaded: collections.OrderedDict[int, Loaded] = collections.OrderedDict()
        self._floating_point = FloatingPoint()
        self._stream: Loaded | None = None

    def run(self) -> None:
        handlers = {
            protocol.PROCESSOR: self._describe,
            protocol.RENDER: self._render_chunk,
            protocol.OPEN: self._open,
            protocol.FEED: self._feed,
        }
        self._send(protocol.HELLO)
        while message := self._socket.recv(protocol.LARGEST_MESSAGE):
            handlers[message[:1]](message)

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except BrokenPipeError:
            os._exit(0)  # the executor has gone

    def _describe(self, message: bytes) -> None:
        offset, size = protocol.unpack_processor(message)
        description = json.loads(self._memory[offset : offset + size])
        self._descriptions[description["id"]] = description

    def _begin(self, phase: int, batch: int = 0, job: int = 0) -> None:
        claim = self._claim
        claim[protocol.BATCH], claim[protocol.JOB] = batch, job
        claim[protocol.SINCE] = time.monotonic_ns()
        claim[protocol.PHASE] = phase

    def _end(self) -> None:
        self._claim[protocol.PHASE] = protocol.IDLE

    def _get(self, key: int) -> Loaded:
        loaded = self._loaded.get(key)
        if loaded is None:
            self._begin(protocol.LOADING)
            loaded = self._loaded[key] = Loaded(self._descriptions[key], self._floating_point)
            while len(self._loaded) > KEPT_PROCESSORS:
                self._loaded.popitem(last=False)[1].close()
            self._end()
        self._loaded.move_to_end(key)
        return loaded

    def _discard(self, key: int) -> None:
        loaded = self._loaded.pop(key, None)
        if loaded is not None:
            loaded.close()

    def _render_chunk(self, message: bytes) -> None:
        layout, jobs = protocol.unpack_chunk(message)
        values = self._array(self._memory, np.float64, (layout.jobs, layout.parameters), layout.table)
        state = self._array(self._memory, np.int32, (layout.jobs,), layout.table + layout.state_start)
        shape = (layout.channels, layout.samples)
        seconds = 0.0
        for job in jobs:
            clip = layout.inputs + job // layout.columns * layout.input_stride
            audio = self._array(self._inputs, np.float32, shape, clip)
            out = self._array(self._memory, np.float32, shape, layout.outputs + job * layout.output_stride)
            self._populate(layout.outputs + job * layout.output_stride, layout.output_stride)
            try:
                loaded = self._get(layout.processor)
                self._begin(protocol.RUNNING, layout.batch, job)
                seconds += loaded.render(values[job], audio, out)
            except Exception as error:  # noqa: BLE001  (may be anything; it is reported)
                state[job] = protocol.BROKEN
                self._report(error, job)
                self._end()
                # After an exception the plugin may be in any state.
                self._discard(layout.processor)
            else:
                state[job] = protocol.DONE
                self._end()
        self._shorten_log()
        self._send(protocol.pack_finished(seconds))

    def _report(self, error: Exception, job: int) -> None:
        if isinstance(error, _NotAppliedError):
            more = {"index": error.index, "sent": error.sent, "read": error.read}
            self._send(protocol.pack_failed("parameter", job, "", **more))
        elif isinstance(error, _LoadError):
            self._send(protocol.pack_failed("load", job, str(error)))
        elif isinstance(error, FloatingPointError) and str(error) == "returned NaN/Inf":
            self._send(protocol.pack_failed("job", job, "returned NaN/Inf"))
        else:
            traceback.print_exc()
            self._send(protocol.pack_failed("job", job, f"raised {_text(error)}"))

    @staticmethod
    def _array(memory: mmap.mmap, dtype: Any, shape: tuple[int, ...], offset: int) -> np.ndarray:
        count = 1
        for length in shape:
            count *= length
        return np.frombuffer(memory, dtype, count, offset).reshape(shape)

    def _populate(self, offset: int, size: int) -> None:
        """Map the output's pages at once: a page fault for each, in the middle of the plugin, costs more."""
        if self._can_populate:
            start = offset // mmap.PAGESIZE * mmap.PAGESIZE
            try:
                self._memory.madvise(MADV_POPULATE_WRITE, start, offset + size - start)
            except OSError:  # Linux before 5.14
                self._can_populate = False

    def _shorten_log(self) -> None:
        if os.fstat(1).st_size > LARGEST_LOG:
            os.ftruncate(1, 0)

    def _open(self, message: bytes) -> None:
        key, offset, parameters = protocol.unpack_open(message)
        values = self._array(self._memory, np.float64, (parameters,), offset)
        try:
            self._stream = self._get(key)
            self._begin(protocol.RUNNING)
            self._stream.prepare(values)
            answer = protocol.pack_opened(int(self._stream.processor.latency))
        except Exception as error:  # noqa: BLE001  (reported in full)
            self._report(error, 0)
            self._end()
        else:
            self._end()
            self._send(answer)

    def _feed(self, message: bytes) -> None:
        channels, samples, inputs, outputs = protocol.unpack_feed(message)
        audio = self._array(self._inputs, np.float32, (channels, samples), inputs)
        out = self._array(self._memory, np.float32, (channels, samples), outputs)
        self._begin(protocol.RUNNING)
        try:
            if self._stream is None:
                raise RuntimeError("no stream is open")
            self._stream.processor.process(audio, out)
            check_finite(out)
        except Exception as error:  # noqa: BLE001  (reported in full)
            self._report(error, 0)
            self._end()
        else:
            self._end()
            self._shorten_log()
            self._send(protocol.FED)


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _prepare_process(parent: int) -> None:
    """Set what the whole process needs before any plugin is loaded."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    faulthandler.enable(sys.stderr, all_threads=False)
    mallopt = getattr(_libc, "mallopt", None)  # musl has none
    if mallopt is not None:
        # Without these glibc returns the heap's top after every render and faults it in again (HOSTS 4.2).
        if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
            mallopt(M_MMAP_THRESHOLD, 32 << 20)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)
        # Plugins that read fresh heap before writing it get zeros, always (HOSTS 1.7).
        mallopt(M_PERTURB, 255)


def main(setup: dict[str, Any]) -> None:
    """Serve until the executor closes the socket."""
    _prepare_process(setup["parent"])
    Worker(setup).run()
    os._exit(0)  # some plugins crash or hang in their libraries' destructors
