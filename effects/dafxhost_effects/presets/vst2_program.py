"""VST2 programs and banks (.fxp, .fxb), as the plugin itself gives its state.

Facts are those of the VST 2.4 interface's program and bank files, all big-endian: 'CcnK', the size of what
follows, a kind, version, the plugin's ID and version, a count. 'FxCk' is a program: its name in 28 bytes,
then its parameters as float32. 'FxBk' is a bank of whole programs behind a header of 156 bytes; from version
2 on, the number behind the count says which one is in use. 'FBCh' is a bank of bytes that only the plugin
understands, so that no single program can be cut from it.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import PluginError
from dafxhost_effects.presets import states

_HEADER = struct.Struct(">4si4siIiii")
"""Magic, size, kind, version, ID, the plugin's version, count, in a bank of version 2 the program in use."""
_BANK, _PROGRAM = 156, 56  # bytes before a bank's first program, and before a program's first parameter


def write(effect: Effect, setting: np.ndarray, path: Path) -> None:
    """Write a program or a bank, by the suffix, with the plugin's own state at this setting.

    Raises:
        PluginError: as `states.write`; or the plugin has banks only, for a .fxp.
        OutputError: the file cannot be written.
    """
    plugin = {
        "host": "vst2",
        "target": effect.provider.options["target"],
        "parameters": list(effect.provider.options["parameters"]),
    }
    states.write(effect, setting, path, plugin, program if path.suffix.lower() == ".fxp" else bank)


def bank(data: bytes) -> bytes:
    """A bank as the host gives it -> the same with the sizes filled in. Raises PluginError: it is no bank."""
    kind, count, _ = _facts(data)
    whole = bytearray(data)
    struct.pack_into(">i", whole, 4, len(data) - 8)
    if kind == b"FxBk":
        start = _BANK
        for _ in range(count):
            length = _program_length(data, start)
            struct.pack_into(">i", whole, start + 4, length - 8)
            start += length
    return bytes(whole)


def program(data: bytes) -> bytes:
    """A bank as the host gives it -> its program in use. Raises PluginError: it is none of parameters."""
    kind, count, current = _facts(data)
    if kind != b"FxBk" or not 0 <= current < count:
        raise PluginError("the plugin's state is its own affair, no .fxp can be cut from it; ask for .fxb")
    data, start = bank(data), _BANK
    for _ in range(current):
        start += _program_length(data, start)
    return data[start : start + _program_length(data, start)]


def _facts(data: bytes) -> tuple[bytes, int, int]:
    """Kind, number of programs, and the one in use."""
    if len(data) < _BANK:
        raise PluginError("the plugin gave no state")
    magic, _, kind, version, _, _, count, current = _HEADER.unpack_from(data)
    if magic != b"CcnK" or kind not in (b"FxBk", b"FBCh"):
        raise PluginError("the plugin's state is no VST2 bank")
    return kind, count, current if version >= 2 else 0


def _program_length(data: bytes, start: int) -> int:
    try:
        magic, _, kind, _, _, _, count = struct.unpack_from(">4si4siIii", data, start)
    except struct.error as error:
        raise PluginError("the plugin's bank was cut off") from error
    length = _PROGRAM + 4 * count
    if magic != b"CcnK" or kind != b"FxCk" or count < 0 or start + length > len(data):
        raise PluginError("the plugin's bank holds no program of parameters where one should be")
    return length
