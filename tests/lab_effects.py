"""Effects for tests: Python processors that work, misbehave or fail on demand.

Worker processes import this module by name, so it imports neither torch nor pytest.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec


def lab_effect(processor: str, parameters: tuple[str, ...] = ("gain", "trigger"), **options: Any) -> Effect:
    """An effect served by a class of this module; all parameters run over 0..1 natively and for the
    plugin.
    """
    return Effect(
        name=f"lab-{processor.lower()}",
        parameters=tuple(Parameter(n, default=0.5, port=Port(i)) for i, n in enumerate(parameters)),
        provider=Provider("lab", f"lab_effects:{processor}", options),
        inputs=1,
        outputs=1,
    )


class Gain(Processor):
    """Multiplies by the first parameter. `trigger` above 0.9 is for subclasses."""

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        self.options, self.spec = options, spec
        self.values = np.zeros(0)

    def prepare(self, values: np.ndarray) -> None:
        self.values = values.copy()

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        if len(self.values) > 1 and self.values[1] > 0.9:
            self.trigger()
        np.multiply(audio, np.float32(self.values[0]), out=out)

    def trigger(self) -> None:
        """What happens when the second parameter is above 0.9."""

    def read_back(self) -> np.ndarray | None:
        return self.values


class Echo(Processor):
    """A one-tap feedback echo of 100 samples, whose state lives from block to block."""

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        self.feedback = np.float32(0)
        self.line: np.ndarray = np.zeros((spec.channels, 100), np.float32)

    def prepare(self, values: np.ndarray) -> None:
        self.feedback = np.float32(values[0])
        self.line[:] = 0

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        for start in range(0, audio.shape[1], 100):
            piece = audio[:, start : start + 100]
            n = piece.shape[1]
            out[:, start : start + n] = piece + self.feedback * self.line[:, :n]
            self.line = np.concatenate([self.line[:, n:], out[:, start : start + n]], axis=1)


class Leaky(Gain):
    """Adds what it rendered before: a plugin whose reset does not reset."""

    carry = np.float32(0)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        super().process(audio, out)
        out += self.carry
        self.carry = out[0, -1]


class Busy(Gain):
    """A fixed amount of work, in blocks: tanh of every sample, `options["passes"]` times."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        size = self.spec.block_size
        for start in range(0, audio.shape[1], 16 * size):
            block = audio[:, start : start + 16 * size] * np.float32(self.values[0])
            for _ in range(self.options["passes"]):
                np.tanh(block, out=block)
            out[:, start : start + 16 * size] = block


class Sleeper(Gain):
    """Sleeps as many seconds as its second parameter says."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        time.sleep(self.values[1])
        np.multiply(audio, np.float32(self.values[0]), out=out)


class Segfault(Gain):
    def trigger(self) -> None:
        ctypes.string_at(8)


class Exit(Gain):
    def trigger(self) -> None:
        os._exit(3)


class Hang(Gain):
    def trigger(self) -> None:
        while True:
            pass


class Raise(Gain):
    def trigger(self) -> None:
        raise ValueError("the lab raised this")


class Nan(Gain):
    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        super().process(audio, out)
        if self.values[1] > 0.9:
            out[0, out.shape[1] // 2] = np.nan


class Printer(Gain):
    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        print("noise on stdout", flush=True)
        os.write(2, b"noise on stderr\n")
        super().process(audio, out)


class Flood(Gain):
    """Writes `options["lines"]` lines a render."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        os.write(1, b"a line of noise, again and again\n" * self.options["lines"])
        super().process(audio, out)


class Deaf(Gain):
    """Ignores its second parameter."""

    def read_back(self) -> np.ndarray | None:
        return np.array([self.values[0], 0.25])


class Late(Gain):
    """Delays by `options["latency"]` samples and says so."""

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        super().__init__(options, spec)
        self.latency = options["latency"]

    def prepare(self, values: np.ndarray) -> None:
        super().prepare(values)
        self.held = np.zeros((self.spec.channels, self.latency), np.float32)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        joined = np.concatenate([self.held, audio * np.float32(self.values[0])], axis=1)
        out[:] = joined[:, : audio.shape[1]]
        self.held = joined[:, audio.shape[1] :]


class Once(Gain):
    """Fails once, in the way `options["how"]` says, then never again: `options["marker"]` is the file it
    leaves.
    """

    def trigger(self) -> None:
        marker = self.options["marker"]
        if os.path.exists(marker):
            return
        with open(marker, "w") as file:
            file.write(self.options["how"])
        if self.options["how"] == "segfault":
            ctypes.string_at(8)
        elif self.options["how"] == "exit":
            os._exit(3)
        elif self.options["how"] == "kill":
            os.kill(os.getpid(), 9)
        elif self.options["how"] == "hang":
            while True:
                pass


class Refuse(Gain):
    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        raise RuntimeError("no such plugin file")


class CrashAtLoad(Gain):
    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        ctypes.string_at(8)


class Scribble(Gain):
    """Writes into its input."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        audio *= 0
        super().process(audio, out)


class Gap(Gain):
    """Forgets one block in the middle."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        size = self.spec.block_size
        for start in range(0, audio.shape[1], size):
            if start != 20 * size:
                super().process(audio[:, start : start + size], out[:, start : start + size])


class Inspect(Gain):
    """Writes facts about its process into the output: torch imported?, flush-to-zero?, rand(), pytest
    imported?, pid, cores it may use.
    """

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        out[:] = 0
        tiny = np.full(1, 1e-39, np.float32)
        out[0, 0] = "torch" in sys.modules
        out[0, 1] = float((tiny * np.float32(1.0))[0]) == 0.0
        out[0, 2] = ctypes.CDLL(None).rand() % 100_000
        out[0, 3] = "pytest" in sys.modules
        out[0, 4] = os.getpid() % 16_777_216
        out[0, 5] = len(os.sched_getaffinity(0))
