"""Processors that get their values from a preset alone, for the tests of presets; imported by workers."""

from __future__ import annotations

from typing import Any

from dafxhost.errors import PluginError
from dafxhost_effects.hosts.dawdreamer import DawDreamerProcessor, Graph
from dafxhost_effects.hosts.vst3 import Vst3Processor


class FromVst3Preset(Vst3Processor):
    """A VST3 plugin that loads the preset `options["preset"]`; it has no parameters."""

    def _load(self) -> Any:
        plugin = super()._load()
        plugin.load_preset(self._o["preset"])
        return plugin


class FromDawDreamerPreset(DawDreamerProcessor):
    """The same through DawDreamer, of .vstpreset, .fxp and .fxb."""

    def _load(self) -> Graph:
        graph = super()._load()
        path = self._o["preset"]
        take = graph.plugin.load_vst3_preset if path.endswith(".vstpreset") else graph.plugin.load_preset
        if not take(path):
            raise PluginError(f"{path} was not loaded")
        return graph
