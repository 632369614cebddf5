"""A tremolo: everything that a package needs to add an effect to dafxhost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.errors import PluginError, UnknownNameError
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec
from dafxhost.registry import EffectSpec, hookimpl

SHAPES = ("sine", "square")


@hookimpl
def dafxhost_effects() -> list[EffectSpec]:
    """What this package adds. Nothing named here is imported before somebody asks for it."""
    return [EffectSpec("example-tremolo", "dafxhost_example_effect:make", "A tremolo.")]


def make(provider: str | None = None) -> Effect:
    """The effect as dafxhost sees it: parameters in their own units, and what renders it in a worker."""
    if provider not in (None, "example"):
        raise UnknownNameError("provider of example-tremolo", provider, ["example"])
    return Effect(
        name="example-tremolo",
        summary="A tremolo.",
        inputs=1,
        outputs=1,
        parameters=(
            # Port says what reaches the processor: here the native values as they are.
            Parameter("rate", minimum=0.5, maximum=20, default=5, unit="Hz", scale="log",
                      port=Port(0, 0.5, 20, space="native")),
            Parameter("depth", minimum=0, maximum=100, default=50, unit="%", port=Port(1, 0, 1)),
            Parameter("shape", "choice", 0, 1, 0, choices=SHAPES, port=Port(2, values=(0, 1))),
        ),
        provider=Provider("example", "dafxhost_example_effect:Tremolo", identity="1.2.0"),
    )  # fmt: skip


class Tremolo(Processor):
    """Runs in a worker process: numpy only, no torch."""

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        if options:
            raise PluginError(f"the tremolo takes no options, not {dict(options)}")
        self.sample_rate = spec.sample_rate
        self.values = np.array([5.0, 0.5, 0.0])
        self.position = 0

    def prepare(self, values: np.ndarray) -> None:
        self.values = np.array(values, dtype=np.float64)
        self.position = 0

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        rate, depth, shape = self.values
        samples = audio.shape[-1]
        wave = np.sin(2 * np.pi * rate / self.sample_rate * np.arange(self.position, self.position + samples))
        if shape >= 0.5:
            wave = np.sign(wave)
        out[:] = audio * (1 - depth * (0.5 + 0.5 * wave))
        self.position += samples

    def read_back(self) -> np.ndarray:
        return self.values
