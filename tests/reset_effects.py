"""Effects that are slow to make and can be reset, more or less. Workers import this module."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec


def slow_effect(resets: tuple[str, ...] = ("reset",), **options: Any) -> Effect:
    """Options: `leak`, "nothing", "delay" (8 s later) or "rarely" (not in the trials' few renders); `load`
    and `work`, seconds that making one and a call of `process` take.
    """
    return Effect(
        "lab-slow",
        tuple(Parameter(n, default=0.5, port=Port(i)) for i, n in enumerate(("gain", "delay"))),
        Provider(
            "lab",
            "reset_effects:Slow",
            {"leak": "nothing", "load": 0.01, "work": 0.0, **options},
            cheaper_resets=resets,
        ),
        inputs=1,
        outputs=1,
    )


class Slow(Processor):
    """An echo: output is the input plus what went in up to 8 s earlier. A reset clears it, or does not."""

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        self._options, self._spec = options, spec
        self._resets = 0
        self._new()

    def _new(self) -> None:
        time.sleep(self._options["load"])
        self._past = np.zeros((self._spec.channels, 8 * self._spec.sample_rate), np.float32)

    def prepare(self, values: np.ndarray) -> None:
        self._values = values
        if self._spec.reset in ("auto", "fresh"):
            self._new()
            return
        self._resets += 1
        leak = self._options["leak"]
        if leak == "nothing" or (leak == "rarely" and self._resets < 100):
            self._past[:] = 0

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        time.sleep(self._options["work"])
        late = round(self._values[1] * (self._past.shape[1] - 1))
        line = np.concatenate([self._past, audio], axis=1)
        start = self._past.shape[1] - late
        out[:] = self._values[0] * audio + 0.5 * line[:, start : start + audio.shape[1]]
        self._past = line[:, -self._past.shape[1] :]
