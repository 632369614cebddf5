"""A process of its own that loads one plugin as a worker would, and tries it.

`python -m dafxhost_effects.hosts.probe JOB RESULT` reads a JSON file JOB (see `scan.py`, which writes it) and
keeps RESULT up to date, so that whoever started it knows how far it came if the plugin ends or hangs it.
Imports numpy and what workers import.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.execution.instance import FloatingPoint, Instance, check_output
from dafxhost.processor import RenderSpec

RATE = 44100
OTHER_RATES = (48000, 96000)
SECONDS = 0.4  # of noise, the first and the third quarter of it
M_PERTURB = -6


def noise(channels: int, rate: int) -> np.ndarray:
    """`[channels, T]` float32 in bursts, so that dynamics and tails have something to do."""
    length = round(SECONDS * rate)
    burst = (np.arange(length) * 4 // length) % 2 == 0
    rng = np.random.default_rng(0)
    return (0.2 * rng.standard_normal((channels, length)) * burst).astype(np.float32)


class Probe:
    """One plugin's trials; `facts` is what is known so far.

    Args:
        job: processor, options, tolerance, channels; names `[P]`, plugin values default `[P]`, other `[P]` (a
            second setting) and tries (a few values of each parameter); verify; seconds to look for dead
            parameters.
        result: file that `facts` is written to at each stage.
    """

    def __init__(self, job: dict[str, Any], result: Path) -> None:
        self._job, self._result = job, result
        self._floating_point = FloatingPoint()
        self.facts: dict[str, Any] = {}

    def _stage(self, name: str, **facts: Any) -> None:
        self.facts.update(facts, stage=name)
        beside = self._result.with_suffix(".part")
        beside.write_text(json.dumps(self.facts), encoding="utf-8")
        os.replace(beside, self._result)

    def _instance(self, rate: int) -> Instance:
        spec = RenderSpec(rate, self._job["channels"])
        description = {
            **{k: self._job[k] for k in ("processor", "options", "tolerance")},
            "spec": {k: getattr(spec, k) for k in spec.__dataclass_fields__},
            "verify": "off",
        }
        return Instance(description, self._floating_point)

    def run(self) -> None:
        """Load, render the defaults, and, if asked to, verify."""
        self._stage("loading")
        self._instance(RATE).close()  # the first one also loads libraries
        began = time.perf_counter()
        instance = self._instance(RATE)
        default = np.array(self._job["default"], dtype=np.float64)
        instance.prepare(default)
        self._stage("rendering", load_seconds=time.perf_counter() - began)
        base = self._render(instance, default)
        self.facts["latency"] = int(instance.processor.latency)
        self.facts["silent"] = not base.any()
        if self._job["verify"]:
            self._verify(instance, default, base)
        self._stage("done")

    def _render(self, instance: Instance, values: np.ndarray) -> np.ndarray:
        audio = noise(self._job["channels"], instance.spec.sample_rate)
        out = np.empty_like(audio)
        instance.render(values, audio, out)
        return out

    def _verify(self, instance: Instance, default: np.ndarray, base: np.ndarray) -> None:
        self._stage("reading values back", not_applied=[])
        for values in (default, np.array(self._job["other"])):
            instance.prepare(values)
            read = instance.processor.read_back()
            if read is not None:
                wrong = np.flatnonzero(np.abs(np.asarray(read) - values) > self._job["tolerance"])
                names = [self._job["names"][i] for i in wrong]
                self.facts["not_applied"] = sorted({*self.facts["not_applied"], *names})
        self._stage("rendering again")
        other = self._render(instance, np.array(self._job["other"]))
        self.facts["repeatable"] = bool(np.array_equal(self._render(instance, default), base))
        self._stage("rendering silence")
        silence = np.zeros_like(base)
        out = np.empty_like(base)
        instance.prepare(default)
        instance.processor.process(silence, out)
        check_output(out)
        self.facts["rates"] = {str(RATE): ""}
        for rate in OTHER_RATES:
            self._stage(f"rendering at {rate} Hz")
            try:
                self._render(self._instance(rate), default)
                self.facts["rates"][str(rate)] = ""
            except Exception as error:  # noqa: BLE001  (whatever it says is the reason)
                self.facts["rates"][str(rate)] = str(error) or type(error).__name__
        self._find_dead(instance, default, base, other)

    def _find_dead(
        self, instance: Instance, default: np.ndarray, base: np.ndarray, other: np.ndarray
    ) -> None:
        """Parameters whose values change no sample, beside the defaults nor beside a random setting."""
        self._stage("looking for dead parameters", dead=[], untried=[])
        end = time.perf_counter() + self._job["seconds"]
        beside = ((default, base), (np.array(self._job["other"]), other))
        for i, name in enumerate(self._job["names"]):
            if time.perf_counter() > end:
                self.facts["untried"] = self._job["names"][i:]
                return
            if not any(self._heard(instance, i, *pair) for pair in beside):
                self.facts["dead"].append(name)

    def _heard(self, instance: Instance, i: int, around: np.ndarray, reference: np.ndarray) -> bool:
        for value in self._job["tries"][i]:
            if value == around[i]:
                continue
            values = around.copy()
            values[i] = value
            if not np.array_equal(self._render(instance, values), reference):
                return True
        return False


def main(arguments: Sequence[str]) -> None:
    job, result = map(Path, arguments)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_PERTURB, 255)  # as in workers: fresh memory is the same every time
    probe = Probe(json.loads(job.read_text(encoding="utf-8")), result)
    try:
        probe.run()
    except Exception as error:  # noqa: BLE001  (the reason is what is wanted)
        probe.facts["error"] = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        result.write_text(json.dumps(probe.facts), encoding="utf-8")
    os._exit(0)  # some plugins crash or hang in their libraries' destructors


if __name__ == "__main__":
    main(sys.argv[1:])
