"""What this host offers LV2 plugins: the URID map, options with the block length, and empty event ports.

Structures and URIs as in the LV2 specifications urid, options, buf-size and atom (https://lv2plug.in/ns/).
"""

from __future__ import annotations

import ctypes
from ctypes import CFUNCTYPE, c_char_p, c_float, c_int32, c_uint32, c_void_p
from typing import Any

LV2 = "http://lv2plug.in/ns/lv2core#"
EXT = "http://lv2plug.in/ns/ext/"
URID_MAP, URID_UNMAP = EXT + "urid#map", EXT + "urid#unmap"
OPTIONS, BOUNDED = EXT + "options#options", EXT + "buf-size#boundedBlockLength"
HARD_REALTIME, LIVE = LV2 + "hardRTCapable", LV2 + "isLive"
# isLive and hardRTCapable ask nothing of the host; a plugin that requires them runs as well here.
SUPPORTED = frozenset({URID_MAP, URID_UNMAP, OPTIONS, BOUNDED, HARD_REALTIME, LIVE})

SEQUENCE_BYTES = 4096


class _Feature(ctypes.Structure):
    _fields_ = (("uri", c_char_p), ("data", c_void_p))


class _Handle(ctypes.Structure):
    """`LV2_URID_Map` and `LV2_URID_Unmap`: a handle and one function."""

    _fields_ = (("handle", c_void_p), ("function", c_void_p))


class _Option(ctypes.Structure):
    _fields_ = (
        ("context", c_uint32),
        ("subject", c_uint32),
        ("key", c_uint32),
        ("size", c_uint32),
        ("type", c_uint32),
        ("value", c_void_p),
    )


class Urids:
    """Numbers for URIs, from 1; one table a process."""

    def __init__(self) -> None:
        self._numbers: dict[bytes, int] = {}
        self._texts: list[Any] = [None]

    def map(self, uri: bytes) -> int:
        if uri not in self._numbers:
            self._numbers[uri] = len(self._texts)
            self._texts.append(ctypes.create_string_buffer(uri))
        return self._numbers[uri]

    def text(self, number: int) -> int | None:
        """Address of the URI's text, or None."""
        return ctypes.addressof(self._texts[number]) if 0 < number < len(self._texts) else None


URIDS = Urids()
_map = CFUNCTYPE(c_uint32, c_void_p, c_char_p)(lambda _, uri: URIDS.map(uri or b""))
_unmap = CFUNCTYPE(c_void_p, c_void_p, c_uint32)(lambda _, number: URIDS.text(number))


class Features:
    """The NULL-ended array of features that `instantiate` gets; keep it alive as long as the plugin lives.

    Attributes:
        address: of the array.
    """

    def __init__(self, block_size: int, sample_rate: int) -> None:
        integer, real = URIDS.map((EXT + "atom#Int").encode()), URIDS.map((EXT + "atom#Float").encode())
        lengths = {
            "buf-size#minBlockLength": 0,
            "buf-size#maxBlockLength": block_size,
            "buf-size#nominalBlockLength": block_size,
            "buf-size#sequenceSize": SEQUENCE_BYTES,
        }
        self._values: list[Any] = [c_int32(v) for v in lengths.values()] + [c_float(sample_rate)]
        keys = [EXT + key for key in lengths] + [EXT + "parameters#sampleRate"]
        kinds = [integer] * len(lengths) + [real]
        self._options = (_Option * (len(keys) + 1))()  # the last, all zero, ends the list
        for slot, key, kind, value in zip(self._options, keys, kinds, self._values, strict=False):
            slot.key, slot.type, slot.size = URIDS.map(key.encode()), kind, 4
            slot.value = ctypes.addressof(value)
        self._handles = [_Handle(None, ctypes.cast(f, c_void_p).value) for f in (_map, _unmap)]
        data = {
            URID_MAP: ctypes.addressof(self._handles[0]),
            URID_UNMAP: ctypes.addressof(self._handles[1]),
            OPTIONS: ctypes.addressof(self._options),
            BOUNDED: None,
        }
        self._features = [_Feature(uri.encode(), address) for uri, address in data.items()]
        pointers = [ctypes.addressof(f) for f in self._features] + [None]
        self._array = (c_void_p * len(pointers))(*pointers)
        self.address = ctypes.addressof(self._array)


class _SequenceHeader(ctypes.Structure):
    """`LV2_Atom_Sequence` without events: an atom's size and type, then the body's time unit."""

    _fields_ = (("size", c_uint32), ("type", c_uint32), ("unit", c_uint32), ("pad", c_uint32))


class Sequences:
    """Buffers for event ports: inputs that hold no event, outputs whose events nobody reads."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self._in = [(ctypes.c_uint64 * (SEQUENCE_BYTES // 8))() for _ in range(inputs)]
        self._out = [(ctypes.c_uint64 * (SEQUENCE_BYTES // 8))() for _ in range(outputs)]
        self.inputs = [ctypes.addressof(b) for b in self._in]
        self.outputs = [ctypes.addressof(b) for b in self._out]
        self._sequence = URIDS.map((EXT + "atom#Sequence").encode())
        self._chunk = URIDS.map((EXT + "atom#Chunk").encode())
        self.reset()

    def reset(self) -> None:
        """Before every `run`: inputs empty, outputs a chunk of the room they have."""
        for address in self.inputs:
            header = _SequenceHeader.from_address(address)
            header.size, header.type, header.unit, header.pad = 8, self._sequence, 0, 0
        for address in self.outputs:
            header = _SequenceHeader.from_address(address)
            header.size, header.type = SEQUENCE_BYTES - 8, self._chunk
