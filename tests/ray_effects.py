"""Effects for the tests of the Ray executor. Workers import this module by name: no torch, pytest or ray."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.parameters import Parameter, Port
from lab_effects import Gain


def ray_effect(processor: str, identity: str = "", **options: Any) -> Effect:
    """An effect served by a class of this module, with parameters gain and trigger."""
    return Effect(
        name=f"ray-{processor.lower()}",
        parameters=tuple(Parameter(n, default=0.5, port=Port(i)) for i, n in enumerate(("gain", "trigger"))),
        provider=Provider("lab", f"ray_effects:{processor}", options, identity),
        inputs=1,
        outputs=1,
    )


class KillActor(Gain):
    """Kills the process that its worker belongs to, as one that eats all of a node's memory would."""

    def trigger(self) -> None:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)


class Where(Gain):
    """Takes `options["seconds"]`, and writes into the first sample which process is its worker's parent."""

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        time.sleep(self.options["seconds"])
        super().process(audio, out)
        out[0, 0] = os.getppid() % 16_777_216
