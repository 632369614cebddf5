"""pedalboard's built-in effects in a worker. Values are in native units, as the attributes of its classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pedalboard

from dafxhost.errors import PluginError
from dafxhost.processor import Processor, RenderSpec
from dafxhost_effects.hosts.layout import channels_first

HIGHEST_CUTOFF = 0.49  # of the sample rate; filters above half of it are unstable


class PedalboardProcessor(Processor):
    """One built-in effect. It processes each channel of a clip as it is, so there is no layout to adapt.

    Args:
        options: `effect` (class name), `names` (attributes, in order), `choices` {attribute: [enum member,
            ...]}, `lag` [of the sample rate, of the block, samples]:
            an upper bound of the samples it keeps back; see `_run`.
        spec: reset "auto" and "fresh" make a new object (microseconds); "reset" calls its `reset`, which is
            not exact for the reverb.
    """

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        self._o, self._spec = dict(options), spec
        if spec.reset == "state":
            raise PluginError("pedalboard's own effects have no reset policy 'state'; use 'fresh' or 'reset'")
        self._class: Any = getattr(pedalboard, self._o["effect"])
        self._plugin: Any = None
        self._asked = np.zeros(0)
        rate, block, samples = self._o.get("lag") or (0.0, 0.0, 0.0)
        self.latency = round(rate * spec.sample_rate + block * spec.block_size + samples)
        self._queue = np.zeros((spec.channels, 0), dtype=np.float32)
        self._block = 0

    def _arguments(self, values: np.ndarray) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for name, value in zip(self._o["names"], values, strict=True):
            members = self._o.get("choices", {}).get(name)
            if members:
                made[name] = self._class.Mode.__members__[members[round(value)]]
            elif name.startswith("cutoff"):
                made[name] = min(float(value), HIGHEST_CUTOFF * self._spec.sample_rate)
            else:
                made[name] = float(value)
        return made

    def prepare(self, values: np.ndarray) -> None:
        if np.shape(values) != (len(self._o["names"]),):
            raise PluginError(
                f"{self._o['effect']} takes {len(self._o['names'])} values, not {np.shape(values)}"
            )
        self._asked = np.array(values, dtype=np.float64)
        arguments = self._arguments(self._asked)
        try:
            if self._spec.reset == "reset" and self._plugin is not None:
                for name, value in arguments.items():
                    setattr(self._plugin, name, value)
                self._plugin.reset()
            else:
                self._plugin = self._class(**arguments)
        except (ValueError, TypeError) as error:
            raise PluginError(f"pedalboard's {self._o['effect']} refuses {arguments}: {error}") from error
        self._queue = np.zeros((self._spec.channels, self.latency), dtype=np.float32)
        self._block = 0

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        if self._plugin is None:
            raise PluginError("process called before prepare")
        if not self._block:
            # pedalboard restarts an effect whose blocks grow, so a stream keeps to its first chunk's size.
            self._block = min(self._spec.block_size, audio.shape[1])
        wet = self._run(audio)
        if not self.latency:
            out[:] = wet
            return
        self._queue = np.concatenate([self._queue, wet], axis=1)
        length = audio.shape[1]
        if self._queue.shape[1] < length:
            raise PluginError(f"pedalboard's {self._o['effect']} keeps back more than {self.latency} samples")
        out[:], self._queue = self._queue[:, :length], self._queue[:, length:].copy()

    def _run(self, audio: np.ndarray) -> np.ndarray:
        """`[C, N]` -> `[C, M]`. M < N where the effect keeps samples back until it has enough to work on."""
        return channels_first(self._plugin, audio, self._spec.sample_rate, self._block)

    def read_back(self) -> np.ndarray:
        """The attributes' values; for a cutoff, where this host put it lower, the value asked for."""
        values = np.zeros(len(self._o["names"]))
        for i, name in enumerate(self._o["names"]):
            members = self._o.get("choices", {}).get(name)
            value = getattr(self._plugin, name)
            values[i] = members.index(value.name) if members else float(value)
            limit = HIGHEST_CUTOFF * self._spec.sample_rate
            if name.startswith("cutoff") and self._asked[i] > limit:
                values[i] = self._asked[i]
        return values
