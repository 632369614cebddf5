"""A layout in a process of its own, which times itself: so that no layout inherits another's threads, heap or
floating-point mode, and none pays for the transport between the benchmark and the process it runs in.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from layouts import LAYOUTS, ForbiddenError, Layout
from measure import say

from dafxhost.effects import Effect

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
_BOOT = (
    "import json, sys; setup = json.loads(sys.argv[1]); sys.path[:] = setup['path']; "
    "from stage import serve; serve(setup['socket'])"
)
PATIENCE = 20.0  # s for a layout to end by itself
LONGEST = 300.0  # s for one answer; a rival hangs for ever where a plugin dies
LOG_TAIL = 2000
WARM = 0.5  # s; a batch that takes longer needs none before it to warm the caches


class Stage:
    """One layout of one effect with its batch.

    Args:
        items, allocator, reset: see `Layout`.
        preload: modules that its process imports before the time starts.

    Raises:
        ForbiddenError: the effect's host does not allow the layout.
    """

    def __init__(
        self,
        layout: str,
        effect: Effect,
        audio: np.ndarray,
        settings: np.ndarray,
        sample_rate: int,
        *,
        workers: int,
        items: int | None = None,
        allocator: str = "worker",
        reset: str = "auto",
        preload: tuple[str, ...] = (),
    ) -> None:
        ours, theirs = socket.socketpair()
        setup: dict[str, Any] = {"path": [str(Path(__file__).parent), *(p or os.getcwd() for p in sys.path)]}
        setup["socket"] = theirs.fileno()
        # As the executor's workers write: some plugins print at every render, and a terminal is slow.
        self._log = os.memfd_create("dafxhost-stage-log", os.MFD_CLOEXEC)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(setup)],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=(theirs.fileno(),),
            env={**os.environ, **ONE_THREAD},
            start_new_session=True,
        )
        theirs.close()
        self._pipe = Connection(ours.detach())
        options = {
            "sample_rate": sample_rate,
            "channels": audio.shape[1],
            "workers": workers,
            "items": len(audio) if items is None else items,
            "allocator": allocator,
            "reset": reset,
        }
        try:
            #: Seconds from nothing to the first batch's result, and the SHA-256 of its samples.
            self.first, self.digest = self._ask(("start", layout, effect, audio, settings, options, preload))
        except BaseException:
            self._end()
            raise

    def turn(self, seconds: float) -> tuple[float, float]:
        """Wall and plugin seconds of one batch: means over as many batches as fit into the time given."""
        return self._ask(("turn", seconds))

    def policy(self) -> str:
        """The reset policy that the layout settles on; an executor may take seconds to prove one."""
        return self._ask(("policy",))

    def close(self) -> None:
        """End the layout. Raises what went wrong with it."""
        try:
            self._ask(("close",))
        finally:
            self._end()

    def kill(self) -> None:
        self._end(patience=0.0)

    def _ask(self, message: tuple[Any, ...]) -> Any:
        try:
            self._pipe.send(message)
            if not self._pipe.poll(LONGEST):
                self._end(patience=0.0)
                raise RuntimeError(f"the layout gave no answer to {message[0]!r} in {LONGEST:g} s")
            good, answer = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            code = self._process.wait(PATIENCE)
            text = f"the process of the layout ended with status {code}; it wrote: {self._tail()}"
            raise RuntimeError(text) from error
        if not good:
            if not isinstance(answer, ForbiddenError):
                say(f"the layout's process wrote: {self._tail()}")
            raise answer
        return answer

    def _tail(self) -> str:
        """The last that layout and plugins wrote to stdout and stderr."""
        size = os.fstat(self._log).st_size
        return os.pread(self._log, LOG_TAIL, max(0, size - LOG_TAIL)).decode("utf-8", "replace")

    def _end(self, patience: float = PATIENCE) -> None:
        if self._log < 0:
            return  # ended before
        self._pipe.close()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        os.close(self._log)
        self._log = -1


def serve(descriptor: int) -> None:
    """The process's side: obey until told to close, or until the benchmark has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark decides
    pipe = Connection(descriptor)
    served = _Served()
    while True:
        try:
            command, *arguments = pipe.recv()
        except EOFError:
            command, arguments = "close", []
        try:
            answer = True, getattr(served, command)(*arguments)
        except ForbiddenError as error:
            answer = False, error
        except Exception as error:  # noqa: BLE001  (told to the benchmark, whatever it is)
            answer = False, RuntimeError(f"{type(error).__name__}: {error}")
        with suppress(ConnectionError):
            pipe.send(answer)
        if command == "close":
            return


class _Served:
    layout: Layout | None = None

    def start(
        self,
        name: str,
        effect: Effect,
        audio: np.ndarray,
        settings: np.ndarray,
        options: dict[str, Any],
        preload: tuple[str, ...],
    ) -> tuple[float, str]:
        self.audio, self.settings = audio, settings
        # Imports of the parent are nobody's start-up time.
        for module in (*preload, *(("joblib",) if name == "joblib" else ())):
            importlib.import_module(module)
        began = time.perf_counter()
        layout = LAYOUTS[name](effect, **options)
        layout.start()
        self.layout = layout
        wet = layout.render(audio, settings)
        return time.perf_counter() - began, hashlib.sha256(np.ascontiguousarray(wet)).hexdigest()

    def turn(self, seconds: float) -> tuple[float, float]:
        layout = self.layout
        assert layout is not None
        plugin, began = layout.plugin_seconds(), time.perf_counter()
        layout.render(self.audio, self.settings)
        took = time.perf_counter() - began
        if took > max(WARM, seconds):
            return took, layout.plugin_seconds() - plugin
        batches = max(1, round(seconds / max(took, 1e-6)))
        plugin, began = layout.plugin_seconds(), time.perf_counter()
        for _ in range(batches):
            layout.render(self.audio, self.settings)
        wall = time.perf_counter() - began
        return wall / batches, (layout.plugin_seconds() - plugin) / batches

    def policy(self) -> str:
        assert self.layout is not None
        return self.layout.policy()

    def close(self) -> None:
        if self.layout is not None:
            self.layout.close()
