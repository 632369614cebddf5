"""The effect of tests/lab_plugin in Python, with faults that a VST3 cannot have, and one to watch another.

Worker processes import this module by name, so it imports neither torch nor pytest.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec
from lab_effects import Gain


class _Endless:
    def __repr__(self) -> str:
        return repr(self)


def _eat_stack() -> None:
    sys.setrecursionlimit(1 << 30)
    repr(_Endless())


def _interrupt() -> None:
    raise KeyboardInterrupt


def _throw() -> None:
    raise ValueError("the lab threw this")


def _loop() -> None:
    while True:
        pass


def _flood() -> None:
    for descriptor in (1, 2):
        os.write(descriptor, b"a line of noise, again and again\n" * 20_000)


def _run_on() -> None:
    while True:
        time.sleep(0.001)


def _crash_later() -> None:
    time.sleep(0.05)
    ctypes.string_at(8)


def _fork() -> None:
    if os.fork() == 0:
        while True:
            signal.pause()


def _move() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)


def _take_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: None)


LEAKED: list[np.ndarray] = []
LEAK_BYTES = 10 << 20  # a render


class Faulty(Gain):
    """What tests/lab_plugin does as a VST3, and more, in Python: the second parameter chooses the fault.

    Options: `load`, what is wrong when it is loaded ("refuse", "crash", "display", "slow" by `seconds`).
    """

    BEFORE: dict[str, Callable[[], object]] = {  # noqa: RUF012  (a constant)
        "segfault": lambda: ctypes.string_at(8),
        "abort": os.abort,
        "throw": _throw,
        "stack": _eat_stack,
        "_exit": lambda: os._exit(3),
        "exit": lambda: sys.exit(3),
        "interrupt": _interrupt,
        "loop": _loop,
        "sleep": lambda: time.sleep(1000),
        "leak": lambda: LEAKED.append(np.ones(LEAK_BYTES, np.uint8)),  # touched, so that it takes memory
        "flood": _flood,
        "thread": lambda: threading.Thread(target=_run_on).start(),
        "late": lambda: threading.Thread(target=_crash_later, daemon=True).start(),
        "fork": _fork,
        "twin": os.fork,  # both go on as if they were the worker
        "chdir": _move,
        "signals": _take_signals,
        "close": lambda: os.closerange(0, 256),
    }
    AFTER = ("nan", "inf", "huge", "noise", "self-change", "refused", "long", "short", "unwritten")
    FAULTS = ("none", *BEFORE, *AFTER)

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        super().__init__(options, spec)
        load = options.get("load")
        if load == "refuse":
            raise RuntimeError("the lab refuses to load")
        if load == "crash":
            ctypes.string_at(8)
        if load == "display" and "DISPLAY" not in os.environ:
            print("LabFault: cannot open display", file=sys.stderr)
            os._exit(1)  # what programs written for X do
        if load == "slow":
            time.sleep(options["seconds"])

    def prepare(self, values: np.ndarray) -> None:
        super().prepare(values)
        self.fault = self.FAULTS[round(values[1])]
        if self.fault == "refused":
            self.values[0] = 0.125

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        self.BEFORE.get(self.fault, lambda: None)()
        wet = audio * np.float32(self.values[0])
        middle = wet.shape[1] // 2
        if self.fault == "long":
            wet = np.concatenate([wet, wet[:, :1]], axis=1)
        elif self.fault == "short":
            wet = wet[:, 1:]
        elif self.fault == "nan":
            wet[0, middle] = np.nan
        elif self.fault == "inf":
            wet[0, middle] = -np.inf
        elif self.fault == "huge":
            wet[0, middle] = 1e30
        elif self.fault == "noise":
            wet[0, middle] += 1 + int.from_bytes(os.urandom(2), "little")
        elif self.fault == "self-change":
            self.values[0] = 0.125
        if self.fault == "unwritten":
            out[:, :middle] = wet[:, :middle]
        else:
            out[:] = wet


def faulty_effect(**options: Any) -> Effect:
    """`Faulty` as an effect with the parameters of the VST3 of tests/lab_plugin: `gain`, `fault`."""
    last = len(Faulty.FAULTS) - 1
    return Effect(
        name="lab-faulty",
        parameters=(
            Parameter("gain", default=0.5, port=Port(0)),
            Parameter(
                "fault",
                "choice",
                0,
                last,
                0,
                choices=Faulty.FAULTS,
                port=Port(1, values=tuple(range(last + 1))),
            ),
        ),
        provider=Provider("lab", "lab_faulty:Faulty", options),
        inputs=1,
        outputs=1,
    )


class Watched(Processor):
    """Another processor, whose process says after every render how much memory of its own it has.

    Options: `processor` and `options` of the other; `record`, a file that gets lines "pid bytes".
    """

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        module, _, attribute = options["processor"].partition(":")
        self.inner: Processor = getattr(importlib.import_module(module), attribute)(options["options"], spec)
        self.record = options["record"]

    @property
    def latency(self) -> int:  # type: ignore[override]
        return self.inner.latency

    def prepare(self, values: np.ndarray) -> None:
        self.inner.prepare(values)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        self.inner.process(audio, out)
        with open("/proc/self/status") as status, open(self.record, "a") as record:
            kilobytes = next(line.split()[1] for line in status if line.startswith("RssAnon:"))
            record.write(f"{os.getpid()} {int(kilobytes) * 1024}\n")

    def read_back(self) -> np.ndarray | None:
        return self.inner.read_back()

    def close(self) -> None:
        self.inner.close()


def watched(effect: Effect, record: str) -> Effect:
    """The effect, served through `Watched`."""
    provider = effect.provider
    options = {"processor": provider.processor, "options": dict(provider.options), "record": record}
    return replace(effect, provider=replace(provider, processor="lab_faulty:Watched", options=options))
