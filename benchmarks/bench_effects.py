"""The effects that the benchmarks render, our own ones among them. Imported by workers: numpy only."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

import dafxhost
from dafxhost.effects import Effect, Provider
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec

BLOCK = 8192  # samples of `Work` at a time: 32 KB, which stay in the cache between passes

# Name on the page -> (registered name, provider). The first is the effect the project is measured by.
REAL = {
    "mda-combo (LV2)": ("mda-combo", "lv2"),
    "mda-combo (built in)": ("mda-combo", "builtin"),
    "zam-comp (pedalboard)": ("zam-comp", "vst3"),
    "zam-comp (DawDreamer)": ("zam-comp", "dawdreamer"),
    "Reverb (pedalboard)": ("pedalboard-reverb", None),
}
LAB_MILLISECONDS = (0.3, 2.0, 5.0)


class Work(Processor):
    """A gain and a known amount of work: `options["passes"]` times tanh of every sample.

    `passes` need not be whole: of its fraction, so many of the clip's blocks get one pass more.
    """

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        self._passes = float(options.get("passes", 0.0))
        self._values = np.zeros(1)

    def prepare(self, values: np.ndarray) -> None:
        self._values = values.copy()

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        gain = np.float32(self._values[0])
        due = 0.0
        for start in range(0, audio.shape[1], BLOCK):
            block = out[:, start : start + BLOCK]
            np.multiply(audio[:, start : start + BLOCK], gain, out=block)
            due += self._passes
            while due >= 1.0:
                np.tanh(block, out=block)
                due -= 1.0

    def read_back(self) -> np.ndarray | None:
        return self._values


class Facts(Work):
    """Writes facts about its process into the output: modules loaded, whether torch is, descriptors, pid."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        out[:] = 0
        facts = (len(sys.modules), "torch" in sys.modules, len(os.listdir("/proc/self/fd")), os.getpid())
        out[0, : len(facts)] = facts


class Leak(Work):
    """Keeps 32 KB of every render: what the soak has to find."""

    kept: list[bytes]

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        super().process(audio, out)
        self.kept = [*getattr(self, "kept", []), bytes(range(256)) * 128]


def lab(kind: str = "Work", name: str | None = None, **options: Any) -> Effect:
    """An effect served by a class of this module, with one parameter, the gain."""
    return Effect(
        name=name or f"lab-{kind.lower()}",
        parameters=(Parameter("gain", default=0.5, port=Port(0)),),
        provider=Provider("lab", f"bench_effects:{kind}", options),
        inputs=1,
        outputs=1,
    )


def real(name: str) -> Effect:
    """An effect by its name on the page. Raises DafxhostError where it is not installed."""
    registered, provider = REAL[name]
    return dafxhost.effect(registered, provider=provider)


def calibrated(
    milliseconds: float,
    plugin_milliseconds: Callable[[Effect], float],
    tolerance: float = 0.04,
    steps: int = 6,
) -> tuple[Effect, float]:
    """A `Work` that takes so long a render, and how long it took when it was measured last.

    Args:
        milliseconds: wanted. Below the cost of one multiplication of the clip it cannot be had.
        plugin_milliseconds: measures an effect on the clips that will be used.
        tolerance: of `milliseconds`, at which to stop.
        steps: measurements at most (after the first two).
    """
    none = plugin_milliseconds(lab(passes=0.0))
    each = (plugin_milliseconds(lab(passes=16.0)) - none) / 16.0
    if each <= 0.0:
        raise RuntimeError("more work took no more time: the machine is too busy to measure anything")
    passes = max(0.0, (milliseconds - none) / each)
    best: tuple[float, Effect, float] | None = None
    for _ in range(steps):
        effect = lab(name=f"lab {milliseconds:g} ms", passes=passes)
        took = plugin_milliseconds(effect)
        error = abs(took - milliseconds) / milliseconds
        if best is None or error < best[0]:
            best = error, effect, took
        if error <= tolerance:
            break
        # A secant through the cost of no pass; half a step only, since the measurement is noisy too.
        slope = max((took - none) / passes, 0.25 * each) if passes else each
        passes = max(0.0, passes + 0.7 * (milliseconds - took) / slope)
    assert best is not None
    return best[1], best[2]
