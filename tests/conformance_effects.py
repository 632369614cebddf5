"""Effects for the tests of `dafxhost.testing`: a good one, and one that breaks each promise.

Workers import this.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.errors import PluginError
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec

PARAMETERS = (
    Parameter("gain", minimum=0, maximum=2, default=1, port=Port(0, 0, 2, space="native")),
    Parameter("mode", "choice", 0, 2, 0, choices=("plain", "inverted", "plain again"), port=Port(1, 0, 2)),
)


def effect(behaviour: str = "good") -> Effect:
    """A gain with a one-sample memory; `behaviour` names what is wrong with it."""
    options = {"behaviour": behaviour}
    return Effect(
        f"lab-{behaviour}", PARAMETERS, Provider("lab", "conformance_effects:Lab", options), "", 1, 1
    )


class Unquantised(Effect):
    """Lets settings of a discrete parameter through as they are."""

    def plugin_values(self, settings: np.ndarray) -> np.ndarray:
        return 2 * settings


class Lab(Processor):
    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        self.behaviour = options["behaviour"]
        if self.behaviour == "fussy" and spec.sample_rate > 96000:
            raise PluginError(f"at most 96 kHz, not {spec.sample_rate} Hz")
        if self.behaviour == "stumbling" and spec.sample_rate > 96000:
            raise ValueError("table too short")
        self.latency = 100 if self.behaviour in ("latent", "boastful") else 0
        self.values = np.zeros(2)
        self.forget()

    def forget(self) -> None:
        self.line = np.zeros((2, 100), np.float32)
        self.last = np.zeros(2, np.float32)

    def prepare(self, values: np.ndarray) -> None:
        self.values = np.array(values)
        if self.behaviour != "leaking":
            self.forget()

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        gain, mode = self.values
        if self.behaviour == "forgetful":
            self.forget()
        if self.behaviour == "crashing" and audio.shape[1] == 1:
            os._exit(3)
        if self.behaviour == "deaf":
            gain = 1.0
        before = np.concatenate([self.last[: len(audio), None], audio[:, :-1]], axis=1)
        self.last[: len(audio)] = audio[:, -1]
        out[:] = gain * (-1 if mode == 1 else 1) * (audio + 0.1 * before)
        if self.behaviour in ("latent", "late"):
            whole = np.concatenate([self.line[: len(audio)], out], axis=1)
            out[:], self.line[: len(audio)] = whole[:, : out.shape[1]], whole[:, out.shape[1] :]
        if self.behaviour == "humming":
            out += 0.1
        if self.behaviour == "hissing":
            out += 0.01 * np.random.default_rng().standard_normal(out.shape)
        if self.behaviour == "overflowing" and gain > 1.99:
            out[:] = np.inf

    def read_back(self) -> np.ndarray:
        return np.zeros(2) if self.behaviour == "stubborn" else self.values
