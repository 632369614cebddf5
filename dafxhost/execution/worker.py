"""A worker process: takes tickets and renders them. It never loads what it need not.

Started as `python -c` by `process.py`; imports numpy and the light parts of dafxhost only, never torch and
never the user's `__main__`.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import faulthandler
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
import traceback
from dataclasses import asdict
from typing import Any

import numpy as np

from dafxhost import processor
from dafxhost.execution import protocol
from dafxhost.execution.guard import PR_SET_PDEATHSIG
from dafxhost.execution.instance import (
    FloatingPoint,
    InputError,
    Instance,
    LoadError,
    NotAppliedError,
    OutputError,
    check_output,
    is_finite,
    text_of,
)
from dafxhost.execution.protocol import BATCH, IDLE, JOB, LOADING, PHASE, PREPARING, RUNNING, SINCE, TICKET
from dafxhost.execution.reset_proof import TRIALS, prove

LARGEST_LOG = 1 << 20
KEPT_PROCESSORS = 4
HOUSEKEEPING = 10_000_000  # ns between looks at the log's size and the memory in use
HARD_LIMIT = 4  # times the memory limit: a plugin's requests for more than that are refused
MADV_POPULATE_WRITE = 23
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_PERTURB = -1, -3, -6

_libc = ctypes.CDLL(None)


class _GoneError(Exception):
    """The batch is over and its memory somebody else's."""


class _Batch:
    """The batch whose tickets come now: arrays over the arena."""

    def __init__(self, worker: Worker, page: int, number: int) -> None:
        start = page * protocol.PAGE
        header = memoryview(worker.memory)[start : start + protocol.HEADER_SIZE]
        self.words = header.cast("q")
        self.layout = layout = protocol.unpack_layout(header)
        if layout.batch != number:
            raise _GoneError
        self.values = _array(worker.memory, np.float64, layout.table, (layout.jobs, layout.parameters))
        self.state = memoryview(worker.memory)[layout.state : layout.state + 4 * layout.jobs].cast("i")
        self.audio_us = round(1e6 * layout.samples / worker.describe(layout).spec_rate)
        self.checked = -1  # clip that was found to be finite last

    def shape(self) -> tuple[int, int]:
        return self.layout.channels, self.layout.samples


class _Description:
    """What the executor says about a processor."""

    def __init__(self, text: bytes) -> None:
        self.content: dict[str, Any] = json.loads(text)
        self.spec_rate: int = self.content["spec"]["sample_rate"]


class Worker:
    """The loop: take a ticket, render, mark it done."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self._socket = socket.socket(fileno=setup["socket"])
        self.memory = mmap.mmap(setup["arena"], setup["reserve"])
        # Which pages are mapped here, a byte each; None where the kernel cannot map them on demand.
        self._mapped: bytearray | None = bytearray(setup["reserve"] // protocol.PAGE)
        self._holes = 0
        # Clips are mapped read-only: one clip serves many renders, and a plugin that wrote into its input
        # would spoil the others without a word.
        self._inputs = mmap.mmap(setup["arena"], setup["reserve"], prot=mmap.PROT_READ)
        for memory in (self.memory, self._inputs):
            memory.madvise(mmap.MADV_DONTDUMP)
        start = setup["claim"]
        self._claim = memoryview(self.memory)[start : start + 8 * protocol.CLAIM_WORDS].cast("q")
        processor.enter_part = self._enter_part
        self._tickets = setup["tickets"]
        self._limit = setup["memory_limit"]
        self._home = setup["home"]
        self._cores = os.sched_getaffinity(0)
        self._descriptions: dict[int, _Description] = {}
        self._instances: collections.OrderedDict[int, Instance] = collections.OrderedDict()
        self._floating_point = FloatingPoint()
        self._stream: Instance | None = None
        self._next_look = 0
        self._statm = os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)

    def serve_tickets(self) -> None:
        """Render what the pipe gives until the executor closes it."""
        # Two descriptions of the same pipe: one to ask whether there is a ticket, one to wait for it. Waiting
        # in read(), the kernel wakes one worker a ticket.
        path = f"/proc/self/fd/{self._tickets}"
        ask = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        wait = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.close(self._tickets)
        self._send(protocol.HELLO)
        batch: _Batch | None = None
        while True:
            try:
                ticket = os.read(ask, TICKET.size)
            except BlockingIOError:
                self._look_after_itself(batch)
                self._leave(batch)
                batch = None
                ticket = self._sleep(wait)
            if len(ticket) != TICKET.size:
                return
            page, job, number = TICKET.unpack(ticket)
            if batch is None or batch.layout.batch != number:
                self._leave(batch)
                self._begin(IDLE, number, job)  # whose ticket this is, should it die in the next line
                try:
                    batch = _Batch(self, page, number)
                except _GoneError:
                    batch = None
                    self._end()
                    continue
                if batch.layout.holes != self._holes and self._mapped is not None:
                    self._holes, self._mapped = batch.layout.holes, bytearray(len(self._mapped))
            self._render(batch, job)
            if time.monotonic_ns() > self._next_look:
                self._look_after_itself(batch)

    def _sleep(self, tickets: int) -> bytes:
        """The next ticket, waited for on a core of one's own: a sleeper is otherwise woken where its waker
        runs, and workers that share a core while another is idle are not told apart for milliseconds. Awake,
        it may run anywhere: other programs need cores, too.
        """
        if self._home is None:
            return os.read(tickets, TICKET.size)
        os.sched_setaffinity(0, {self._home})
        try:
            return os.read(tickets, TICKET.size)
        finally:
            os.sched_setaffinity(0, self._cores)

    def _leave(self, batch: _Batch | None) -> None:
        """Say that nothing of the batch is in work here, so that the executor looks if it is complete."""
        if batch is not None:
            self._send(protocol.pack_left(batch.layout.batch))

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)  # the executor has gone

    def describe(self, layout: protocol.BatchLayout) -> _Description:
        return self._describe(layout.processor, layout.description, layout.description_size)

    def _describe(self, key: int, offset: int, size: int) -> _Description:
        if key not in self._descriptions:
            self._descriptions[key] = _Description(self.memory[offset : offset + size])
        return self._descriptions[key]

    def _begin(self, phase: int, batch: int = 0, job: int = 0) -> None:
        claim = self._claim
        claim[BATCH], claim[JOB], claim[protocol.PART] = batch, job, 0
        claim[SINCE] = time.monotonic_ns()
        claim[PHASE] = phase

    def _enter(self, phase: int) -> None:
        """The next part of the job in hand."""
        self._claim[SINCE] = time.monotonic_ns()
        self._claim[PHASE] = phase

    def _enter_part(self, part: int) -> None:
        """Another plugin of those that the effect is made of is at work."""
        self._claim[protocol.PART] = part

    def _end(self) -> None:
        self._claim[PHASE] = IDLE
        self._claim[BATCH] = 0

    def _get(self, key: int, batch: int = 0, job: int = 0) -> Instance:
        instance = self._instances.get(key)
        if instance is None:
            self._begin(LOADING, batch, job)
            instance = self._instances[key] = Instance(self._descriptions[key].content, self._floating_point)
            instance.enter = self._enter
            while len(self._instances) > KEPT_PROCESSORS:
                self._instances.popitem(last=False)[1].close()
        if len(self._instances) > 1:
            self._instances.move_to_end(key)
        return instance

    def _discard(self, key: int) -> None:
        instance = self._instances.pop(key, None)
        if instance is not None:
            instance.close()

    def _render(self, batch: _Batch, job: int) -> None:
        layout, claim = batch.layout, self._claim
        self._begin(IDLE, layout.batch, job)
        if batch.state[job] != protocol.PENDING:
            self._end()  # the ticket of a dead worker that was handed out twice
            return
        if batch.words[protocol.CANCELLED]:
            batch.state[job] = protocol.SKIPPED
            self._end()
            return
        clip = job // layout.columns
        audio = _array(self._inputs, np.float32, layout.inputs + clip * layout.input_stride, batch.shape())
        out = _array(self.memory, np.float32, layout.outputs + job * layout.output_stride, batch.shape())
        try:
            if clip != batch.checked:
                if not is_finite(audio):
                    raise InputError
                batch.checked = clip
            self._populate(layout.outputs + job * layout.output_stride, layout.output_stride)
            instance = self._get(layout.processor, layout.batch, job)
            self._begin(PREPARING, layout.batch, job)
            instance.render(batch.values[job], audio, out)
        except BaseException as error:  # noqa: BLE001  (may be anything, also SystemExit; it is reported)
            batch.state[job] = protocol.BROKEN
            self._report(error, layout.batch, job)
            if not isinstance(error, InputError):
                # After an exception the plugin may be in any state.
                self._discard(layout.processor)
        else:
            if instance.difference is not None:
                self._send_report(protocol.UNREPEATABLE, layout.batch, job, difference=instance.difference)
            claim[protocol.PLUGIN_NS] += int(instance.seconds * 1e9)
            claim[protocol.AUDIO_US] += batch.audio_us
            claim[protocol.RENDERS] += 1
            batch.state[job] = protocol.DONE
        self._end()

    def _report(self, error: BaseException, batch: int, job: int) -> None:
        more: dict[str, Any] = {"reason": "job", "text": str(error)}
        if isinstance(error, NotAppliedError):
            more = {"reason": "parameter", "index": error.index, "sent": error.sent, "read": error.read}
        elif isinstance(error, LoadError):
            more["reason"] = "load"
        elif isinstance(error, InputError):
            more["reason"] = "input"
        elif not isinstance(error, OutputError):
            traceback.print_exc()
            more["text"] = f"raised {text_of(error)}"
        self._send_report(protocol.FAILED, batch, job, **more)

    def _send_report(self, kind: bytes, batch: int, job: int, **more: Any) -> None:
        self._send(protocol.pack_report(kind, batch, job, **more))

    def _populate(self, offset: int, size: int) -> None:
        """Map the output's pages at once: a page fault for each, in the middle of the plugin, costs more."""
        if self._mapped is None:
            return
        first, last = offset // protocol.PAGE, -(-(offset + size) // protocol.PAGE)
        if self._mapped.find(0, first, last) < 0:
            return
        start = first * protocol.PAGE
        try:
            self.memory.madvise(MADV_POPULATE_WRITE, start, offset + size - start)
            self._mapped[first:last] = b"\1" * (last - first)
        except OSError:  # Linux before 5.14
            self._mapped = None

    def _look_after_itself(self, batch: _Batch | None) -> None:
        """Between jobs: keep the log short, and end where a plugin leaks."""
        self._next_look = time.monotonic_ns() + HOUSEKEEPING
        _shorten_log()
        if self._limit and self._private_memory() > self._limit:
            self._send(protocol.RETIRING)
            self._leave(batch)
            os._exit(0)

    def _private_memory(self) -> int:
        """Bytes that are nobody else's: not the arena's, not libraries'."""
        try:
            resident, shared = os.pread(self._statm, 200, 0).split()[1:3]
        except OSError:
            return 0
        return (int(resident) - int(shared)) * mmap.PAGESIZE

    def serve_stream(self) -> None:
        """Answer OPEN and FEED messages until the executor closes the socket."""
        handlers = {protocol.OPEN: self._open, protocol.FEED: self._feed, protocol.PROVE: self._prove}
        self._send(protocol.HELLO)
        while message := self._socket.recv(protocol.LARGEST_MESSAGE):
            handlers[message[:1]](message)

    def _open(self, message: bytes) -> None:
        key, description, size, offset, parameters = protocol.unpack_open(message)
        values = _array(self.memory, np.float64, offset, (parameters,))
        try:
            self._describe(key, description, size)
            self._stream = self._get(key)
            self._begin(RUNNING)
            self._stream.prepare(values)
            answer = protocol.pack_opened(int(self._stream.processor.latency))
        except Exception as error:  # noqa: BLE001  (reported in full)
            self._report(error, 0, 0)
        else:
            self._send(answer)
        self._end()

    def _prove(self, message: bytes) -> None:
        key, description, size, offset, parameters = protocol.unpack_open(message)
        values = _array(self.memory, np.float64, offset, (TRIALS, 2, parameters))
        content = self._describe(key, description, size).content
        try:
            proof = prove(content, content["candidates"], values, self._floating_point)
        except Exception as error:  # noqa: BLE001  (reported in full)
            self._report(error, 0, 0)
        else:
            self._send(protocol.PROVED + json.dumps(asdict(proof)).encode())

    def _feed(self, message: bytes) -> None:
        channels, samples, inputs, outputs = protocol.unpack_feed(message)
        audio = _array(self._inputs, np.float32, inputs, (channels, samples))
        out = _array(self.memory, np.float32, outputs, (channels, samples))
        self._begin(RUNNING)
        try:
            if self._stream is None:
                raise RuntimeError("no stream is open")
            self._stream.processor.process(audio, out)
            check_output(out)
        except Exception as error:  # noqa: BLE001  (reported in full)
            self._report(error, 0, 0)
        else:
            _shorten_log()
            self._send(protocol.FED)
        self._end()


def _shorten_log() -> None:
    with contextlib.suppress(OSError):  # a plugin may have closed it
        if os.fstat(1).st_size > LARGEST_LOG:
            os.ftruncate(1, 0)


def _array(memory: mmap.mmap, dtype: Any, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    return np.ndarray(shape, dtype, memory, offset)


def _prepare_process(parent: int, memory_limit: int) -> None:
    """Set what the whole process needs before any plugin is loaded."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if memory_limit:
        most, hard = HARD_LIMIT * memory_limit, resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(
            resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
        )
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # should memory run out, a worker can be replaced and the trainer cannot
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
    """Serve until the executor closes the pipe or the socket."""
    _prepare_process(setup["parent"], setup["memory_limit"])
    worker = Worker(setup)
    if setup["tickets"] >= 0:
        worker.serve_tickets()
    else:
        worker.serve_stream()
    os._exit(0)  # some plugins crash or hang in their libraries' destructors
