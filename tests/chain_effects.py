"""Effects that show whether a chain's links find what they would find alone. Workers import this module."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.execution.instance import FloatingPoint
from dafxhost.processor import Processor, RenderSpec
from lab_effects import Gain, lab_effect

_libc = ctypes.CDLL(None)


def chain_lab(processor: str, parameters: tuple[str, ...] = ("gain",), **options: Any) -> Effect:
    """As `lab_effect`, by a class of this module."""
    from dataclasses import replace

    made = lab_effect(processor, parameters, **options)
    return replace(made, provider=replace(made.provider, processor=f"chain_effects:{processor}"))


class Swell(Gain):
    """Louder with time since its reset, and less the first sample of each block: it hears where time and
    blocks begin.
    """

    def prepare(self, values: np.ndarray) -> None:
        super().prepare(values)
        self.time = 0

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        size, length = self.spec.block_size, audio.shape[1]
        swell = np.arange(self.time, self.time + length, dtype=np.float32) / np.float32(48000)
        for start in range(0, length, size):
            block = audio[:, start : start + size]
            out[:, start : start + size] = (block - block[:, :1]) * swell[start : start + size]
        out *= np.float32(self.values[0])
        self.time += length


class Random(Gain):
    """Adds a number of the C library's `rand()` at its reset and at each block."""

    def prepare(self, values: np.ndarray) -> None:
        super().prepare(values)
        self.first = _libc.rand() % 1000

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        for start in range(0, audio.shape[1], self.spec.block_size):
            piece = slice(start, start + self.spec.block_size)
            out[:, piece] = audio[:, piece] * np.float32(self.values[0]) + self.first + _libc.rand() % 1000


class Denormal(Gain):
    """Adds one where the smallest numbers are flushed to zero, and leaves the thread without that."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        tiny = np.full(1, 1e-39, np.float32) * np.float32(1)
        out[:] = audio * np.float32(self.values[0]) + np.float32(tiny[0] == 0)
        FloatingPoint().restore(False)


class LookAhead(Processor):
    """The mean of this sample and the one `options["latency"]` later."""

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        self.latency, self.spec = options["latency"], spec

    def prepare(self, values: np.ndarray) -> None:
        self.held = np.zeros((self.spec.channels, self.latency), np.float32)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        joined = np.concatenate([self.held, audio], axis=1)
        out[:] = (joined[:, : audio.shape[1]] + audio) / 2
        self.held = joined[:, audio.shape[1] :]
