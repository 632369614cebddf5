"""VST3, VST2 and LV2 plugins in a worker, through DawDreamer.

DawDreamer restarts every plugin at each of its renders, so a stream is rendered again from its beginning for
every chunk: exact, but slow for long ones. Its latency is not compensated; nor is it here, as `Processor`
asks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import dawdreamer as _library
import numpy as np

from dafxhost.errors import PluginError
from dafxhost.processor import Processor, RenderSpec
from dafxhost_effects.hosts.layout import fit_inputs, instances_needed, mix_outputs

dawdreamer: Any = _library  # its own type information lacks its classes

LONGEST_STREAM = 600  # seconds


class Graph:
    """One engine with a player and the plugin, freshly loaded."""

    def __init__(self, target: str, spec: RenderSpec) -> None:
        self._rate = spec.sample_rate
        self.engine = dawdreamer.RenderEngine(spec.sample_rate, spec.block_size)
        try:
            self.plugin: Any = self.engine.make_plugin_processor("plugin", target)
        except RuntimeError as error:
            raise PluginError(f"DawDreamer cannot load {target}: {error}") from error
        self.inputs = int(self.plugin.get_num_input_channels())
        self.outputs = int(self.plugin.get_num_output_channels())
        self._player = self.engine.make_playback_processor(
            "player", np.zeros((max(self.inputs, 1), spec.block_size), dtype=np.float32)
        )
        feeds = ["player"] if self.inputs else []
        nodes = [(self._player, [])] if self.inputs else []
        if not self.engine.load_graph([*nodes, (self.plugin, feeds)]):
            raise PluginError(f"DawDreamer cannot connect {target}")

    def render(self, audio: np.ndarray) -> np.ndarray:
        """`[inputs, N]` -> `[outputs, N]`, from the plugin's initial state."""
        length = audio.shape[1]
        if self.inputs:
            # A worker's clips are read-only, which DawDreamer does not take.
            self._player.set_data(np.array(audio, dtype=np.float32, order="C"))
        # Durations in seconds are cut to whole samples; the half sample keeps that from losing one.
        self.engine.render((length + 0.5) / self._rate)
        return np.asarray(self.engine.get_audio())[:, :length]


class DawDreamerProcessor(Processor):
    """One plugin of any format that DawDreamer loads on Linux.

    Args:
        options: `target` (path of a .vst3 or VST2 .so, or an LV2 plugin's URI), `parameters` (indices), or
            instead `names` (DawDreamer orders an LV2 plugin's parameters by group, so that indices would not
            do), `lv2_path` (where the LV2 bundles are; "" to leave LV2_PATH alone).
        spec: reset "auto" and "fresh" load the plugin anew for every render (10 to 50 ms); "reset" trusts the
            restart that comes with every render, which many plugins do not honour.
    """

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        self._o, self._spec = dict(options), spec
        if spec.reset == "state":
            raise PluginError("the DawDreamer host has no reset policy 'state'; use 'fresh' or 'reset'")
        if self._o.get("lv2_path"):
            os.environ["LV2_PATH"] = self._o["lv2_path"]
        first = self._load()
        self._count = instances_needed(spec.channels, first.inputs, first.outputs)
        self._indices = self._find(first)
        self._graphs = [first]
        self._values = np.zeros(0)
        self._stale = True
        self._past = np.zeros((spec.channels, 0), dtype=np.float32)
        # Some know their latency only once they have run. Not in `prepare`: a first render must draw the same
        # numbers from the C library's `rand` as all later ones.
        first.render(np.zeros((first.inputs, spec.block_size), dtype=np.float32))
        self.latency = int(first.plugin.get_latency_samples())

    def _load(self) -> Graph:
        return Graph(self._o["target"], self._spec)

    def _find(self, graph: Graph) -> list[int]:
        if not self._o.get("names"):
            return list(self._o["parameters"])
        there = [d["name"] for d in graph.plugin.get_parameters_description()]
        missing = [n for n in self._o["names"] if there.count(n) != 1]
        if missing:
            raise PluginError(f"{self._o['target']} has no single parameter named {', '.join(missing)}")
        return [there.index(n) for n in self._o["names"]]

    def prepare(self, values: np.ndarray) -> None:
        if np.shape(values) != (len(self._indices),):
            raise PluginError(
                f"{self._o['target']} takes {len(self._indices)} values, not {np.shape(values)}"
            )
        self._values = np.array(values, dtype=np.float64)
        self._stale = True
        self._ready()
        self._past = np.zeros((self._spec.channels, 0), dtype=np.float32)

    def _ready(self) -> None:
        """Plugins in their initial state, holding the values."""
        fresh = self._stale and self._spec.reset != "reset"
        if fresh or len(self._graphs) != self._count:
            self._graphs = []
            self._graphs = [self._load() for _ in range(self._count)]
        for graph in self._graphs:
            for index, value in zip(self._indices, self._values, strict=True):
                graph.plugin.set_parameter(index, float(value))
        self._stale = False

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        before = self._past.shape[1]
        if before + audio.shape[1] > LONGEST_STREAM * self._spec.sample_rate and before:
            raise PluginError(
                f"DawDreamer cannot carry a plugin's state on, so streams end at {LONGEST_STREAM} s; "
                "use another provider for longer ones"
            )
        if self._stale:
            self._ready()
        whole = np.concatenate([self._past, audio], axis=1) if before else audio
        if self._count == 2:
            for channel, graph in enumerate(self._graphs):
                out[channel] = graph.render(whole[channel : channel + 1])[0, before:]
        else:
            wet = self._graphs[0].render(fit_inputs(whole, self._graphs[0].inputs))
            mix_outputs(wet[:, before:], out)
        self._past, self._stale = np.array(whole), True

    def read_back(self) -> np.ndarray:
        """Raw 0..1 values as the plugin reports them."""
        plugin = self._graphs[0].plugin
        return np.array([plugin.get_parameter(i) for i in self._indices], dtype=np.float64)

    def close(self) -> None:
        self._graphs = []
