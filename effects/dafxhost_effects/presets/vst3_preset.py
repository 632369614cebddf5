"""VST3 presets (.vstpreset): the component's state, as the plugin itself gives it.

The format is documented in Steinberg's VST 3 developer portal, "Preset Format": a header ('VST3', version 1,
the component's class ID as 32 hexadecimal digits, offset of the chunk list), the chunks' data, and the list
('List', their number; of each its name, offset and size). Numbers are little-endian. 'Comp' is the
component's state, 'Cont' the controller's.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import PluginError
from dafxhost_effects.hosts import plugin_info
from dafxhost_effects.presets import states

_HEADER = struct.Struct("<4si32sq")
_LIST = struct.Struct("<4si")
_ENTRY = struct.Struct("<4sqq")


@dataclass(frozen=True)
class Contents:
    """What a .vstpreset holds: the class ID of the component, and the chunks by name."""

    class_id: str
    chunks: dict[str, bytes]


def read(data: bytes) -> Contents:
    """Take a preset apart. Raises PluginError: it is none, or was cut off."""
    try:
        magic, version, class_id, offset = _HEADER.unpack_from(data)
        if magic != b"VST3" or version != 1 or not re.fullmatch(rb"[0-9A-Fa-f]{32}", class_id):
            raise PluginError("this is no VST3 preset of version 1")
        name, count = _LIST.unpack_from(data, offset)
        if name != b"List" or not 0 <= count <= 128:
            raise PluginError("this VST3 preset has no list of chunks")
        chunks = {}
        for i in range(count):
            key, start, size = _ENTRY.unpack_from(data, offset + _LIST.size + i * _ENTRY.size)
            if not (min(start, size) >= 0 and start + size <= len(data)):
                raise PluginError("this VST3 preset was cut off")
            chunks[key.decode("latin-1")] = data[start : start + size]
    except struct.error as error:
        raise PluginError("this VST3 preset was cut off") from error
    return Contents(class_id.decode().upper(), chunks)


def write(effect: Effect, setting: np.ndarray, path: Path) -> None:
    """Write a preset with the plugin's own state at this setting. Raises as `states.write`.

    pedalboard makes it also where DawDreamer serves the effect: both number the parameters alike.
    """
    options = effect.provider.options
    target, name = options.get("path") or options["target"], options.get("plugin_name")
    channels = options.get("channels")
    if channels is None:
        channels = plugin_info.describe("vst3", Path(target), name or "")["outputs"]
    if not channels:
        raise PluginError(f"{target} takes neither one nor two channels, as pedalboard needs it to")
    plugin = {
        "host": "vst3",
        "target": target,
        "plugin_name": name,
        "channels": channels,
        "parameters": list(options["parameters"]),
    }
    states.write(effect, setting, path, plugin, _whole)


def _whole(data: bytes) -> bytes:
    if not read(data).chunks.get("Comp"):
        raise PluginError("the plugin gave no state of its component")
    return data
