"""VST3 plugins in a worker, through pedalboard.

Parameters are addressed by index through pedalboard's C++ handles. Those die with the plugin they came from
(a stale one crashes the process), so they are fetched anew after every load, reset and state.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pedalboard import VST3Plugin, _pedalboard

from dafxhost.errors import PluginError
from dafxhost.processor import Processor, RenderSpec
from dafxhost_effects.hosts.layout import channels_first, fit_inputs, instances_needed, mix_outputs
from dafxhost_effects.hosts.store import vst3_binary

_SCAN = "__set_initial_parameter_values__"


def load(path: str, plugin_name: str | None = None) -> Any:
    """A `pedalboard.VST3Plugin`, without the scan of 1,001 values a parameter that loading makes otherwise.

    The scan only serves parameters by Python name, which are not used here; it takes from 10 ms to 47 s. It
    is left out by a private hook of pedalboard 0.9: where that is gone, the plugin is loaded the ordinary
    way.

    Raises:
        PluginError: it cannot be loaded, with the loader's own words where the shared library is to blame.
    """
    mixin = getattr(_pedalboard, "_PythonExternalPluginMixin", None)
    scan = getattr(mixin, _SCAN, None)
    try:
        if mixin is None or scan is None:
            return VST3Plugin(path, plugin_name=plugin_name)
        setattr(mixin, _SCAN, lambda self, values=None: None)
        try:
            return VST3Plugin(path, plugin_name=plugin_name)
        finally:
            setattr(mixin, _SCAN, scan)
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        reason = library_fault(path) or str(error)
        raise PluginError(f"cannot load the VST3 plugin {path}: {reason}") from error


def library_fault(path: str) -> str:
    """Why the bundle's shared library cannot be loaded, as the system's loader says it; "" if it can be."""
    binary = vst3_binary(Path(path))
    if binary is None:
        return "it holds no shared library for this machine"
    try:
        ctypes.CDLL(str(binary))
    except OSError as error:
        return str(error)
    return ""


class Vst3Processor(Processor):
    """One VST3 plugin.

    Args:
        options: `path`, `plugin_name` (or None), `parameters` (indices), `channels` (1 or 2: pedalboard
            gives a plugin as many outputs as inputs).
        spec: reset "auto" and "fresh" load the plugin anew for every render (0.1 to 4 ms for most), "state"
            restores the state of a fresh plugin, "reset" calls the host's reset. Only the first is exact for
            all.
    """

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        self._o, self._spec = dict(options), spec
        count = instances_needed(spec.channels, self._o["channels"], self._o["channels"])
        self._plugins: list[Any] = [self._load() for _ in range(count)]
        self._used = False
        self._block = 0
        self._state = bytes(self._plugins[0].raw_state) if spec.reset == "state" else b""
        self.latency = self._measure_latency()

    def _load(self) -> Any:
        return load(self._o["path"], self._o.get("plugin_name"))

    def prepare(self, values: np.ndarray) -> None:
        if np.shape(values) != (len(self._o["parameters"]),):
            raise PluginError(
                f"{self._o['path']} takes {len(self._o['parameters'])} values, not {np.shape(values)}"
            )
        self._restore()
        for plugin in self._plugins:
            self._set(plugin, values)
        self._block, self._used = 0, True

    def _restore(self) -> None:
        if self._spec.reset in ("auto", "fresh"):
            count = len(self._plugins)
            self._plugins = []  # freed before the new ones are made, as in the first render
            self._plugins = [self._load() for _ in range(count)]
            return
        for plugin in self._plugins:
            if self._spec.reset == "state":
                plugin.raw_state = self._state
            plugin.reset()

    def _set(self, plugin: Any, values: np.ndarray) -> None:
        handles = plugin._parameters
        for index, value in zip(self._o["parameters"], values, strict=True):
            handles[index].raw_value = float(value)

    def _measure_latency(self) -> int:
        """By a plugin of its own, since some know their latency only once they have run at the sample rate.

        Not in `prepare`: a first render must draw the same numbers from the C library's `rand` as all later
        ones.
        """
        plugin = self._load()
        silence = np.zeros((self._o["channels"], self._spec.block_size), dtype=np.float32)
        plugin.process(silence, self._spec.sample_rate, buffer_size=self._spec.block_size, reset=False)
        return int(plugin.reported_latency_samples)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        if not self._used:
            raise PluginError("process called before prepare")
        if not self._block:
            # pedalboard restarts a plugin whose blocks grow, so a stream keeps to its first chunk's size.
            self._block = min(self._spec.block_size, audio.shape[1])
        if len(self._plugins) == 2:
            for channel, plugin in enumerate(self._plugins):
                out[channel] = self._run(plugin, audio[channel : channel + 1])[0]
        else:
            mix_outputs(self._run(self._plugins[0], fit_inputs(audio, self._o["channels"])), out)

    def _run(self, plugin: Any, audio: np.ndarray) -> np.ndarray:
        """`[C, N]` through one plugin."""
        return channels_first(plugin, audio, self._spec.sample_rate, self._block)

    def read_back(self) -> np.ndarray:
        """Raw 0..1 values as the plugin's controller reports them."""
        handles = self._plugins[0]._parameters
        return np.array([handles[i].raw_value for i in self._o["parameters"]], dtype=np.float64)

    def close(self) -> None:
        self._plugins = []
        self._used = False
