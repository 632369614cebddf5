"""LV2 plugins in a worker, through the LV2 C interface itself (ctypes; no other library).

Audio ports are connected straight to the caller's arrays, so nothing is copied. Facts about the interface
are from the LV2 specification, https://lv2plug.in/ns/lv2core and the headers it documents.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import CFUNCTYPE, PYFUNCTYPE, c_char_p, c_double, c_uint32, c_void_p
from typing import Any

import numpy as np

from dafxhost.errors import PluginError
from dafxhost.processor import Processor, RenderSpec
from dafxhost_effects.hosts.layout import instances_needed, mix_outputs
from dafxhost_effects.hosts.lv2_features import SUPPORTED, Features, Sequences


class _Descriptor(ctypes.Structure):
    """`LV2_Descriptor` of lv2core."""

    _fields_ = (
        ("uri", c_char_p),
        ("instantiate", c_void_p),
        ("connect_port", c_void_p),
        ("activate", c_void_p),
        ("run", c_void_p),
        ("deactivate", c_void_p),
        ("cleanup", c_void_p),
        ("extension_data", c_void_p),
    )


# connect_port is a few stores and is called for every port of every block, so it keeps the GIL: that is
# quicker.
_INSTANTIATE = CFUNCTYPE(c_void_p, c_void_p, c_double, c_char_p, c_void_p)
_CONNECT = PYFUNCTYPE(None, c_void_p, c_uint32, c_void_p)
_RUN = CFUNCTYPE(None, c_void_p, c_uint32)
_CALL = CFUNCTYPE(None, c_void_p)


class Library:
    """A plugin's shared library and the functions of its descriptor; `activate` and `deactivate` may be None.

    Raises:
        PluginError: the library cannot be loaded (with the loader's own words), or holds no such plugin.
    """

    def __init__(self, binary: str, uri: str) -> None:
        try:
            self._dll = ctypes.CDLL(binary)
            lookup = self._dll.lv2_descriptor
        except (OSError, AttributeError) as error:
            raise PluginError(f"cannot load the LV2 plugin {uri}: {error}") from error
        lookup.restype, lookup.argtypes = ctypes.POINTER(_Descriptor), (c_uint32,)
        index = 0
        while (found := lookup(index)) and found.contents.uri != uri.encode():
            index += 1
        if not found:
            raise PluginError(f"{binary} holds no LV2 plugin {uri}")
        d = found.contents
        self.descriptor = ctypes.addressof(d)
        self.instantiate = _INSTANTIATE(d.instantiate)
        self.connect = _CONNECT(d.connect_port)
        self.run = _RUN(d.run)
        self.cleanup = _CALL(d.cleanup)
        self.activate = _CALL(d.activate) if d.activate else None
        self.deactivate = _CALL(d.deactivate) if d.deactivate else None


def _addresses(array: np.ndarray) -> list[int]:
    """Address of each row of a `[C, N]` array whose rows are contiguous."""
    return [array.ctypes.data + c * array.strides[0] for c in range(array.shape[0])]


class Lv2Processor(Processor):
    """One LV2 plugin.

    Args:
        options: what `lv2_info.options` makes: `uri`, `bundle`, `binary`; port numbers `parameters`,
            `audio_in`, `audio_out`, `side_in` (fed silence), `extra_out` (ignored), `control_out`,
            `atom_in`, `atom_out`; `fixed` [[port, value], ...]; `rate_ports`, whose values count in sample
            rates; `latency` (port or None); `required` (feature URIs).
        spec: a reset of "auto" or "fresh" makes a new instance for every render. "reset" deactivates and
            activates the same one, as quick but not exact: a plugin may leave `activate` out, as all of mda
            do.
    """

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        self._o, self._spec = dict(options), spec
        if spec.reset == "state":
            raise PluginError("the LV2 host has no reset policy 'state'; use 'fresh' or 'reset'")
        missing = [f for f in self._o["required"] if f not in SUPPORTED]
        if missing:
            raise PluginError(
                f"the LV2 plugin {self._o['uri']} requires what this host has not: {', '.join(missing)}"
            )
        self._library = Library(self._o["binary"], self._o["uri"])
        self._features = Features(spec.block_size, spec.sample_rate)
        self._sequences = Sequences(len(self._o["atom_in"]), len(self._o["atom_out"]))
        self._ins, self._outs = self._o["audio_in"], self._o["audio_out"]
        count = instances_needed(spec.channels, len(self._ins), len(self._outs))
        self._handles: list[int] = []
        self._count = count
        ports = [*self._o["parameters"], *self._o["control_out"], *(p for p, _ in self._o["fixed"])]
        self._cell = {port: i for i, port in enumerate(ports)}
        self._cells = np.zeros((count, len(ports)), dtype=np.float32)
        self._silence = np.zeros(spec.block_size, dtype=np.float32)
        self._waste = np.zeros(spec.block_size, dtype=np.float32)
        self._scratch = np.zeros((len(self._outs), spec.block_size), dtype=np.float32)
        rates = set(self._o.get("rate_ports", ()))
        self._scale = np.array([spec.sample_rate if p in rates else 1.0 for p in self._o["parameters"]])

    def prepare(self, values: np.ndarray) -> None:
        parameters = len(self._o["parameters"])
        if np.shape(values) != (parameters,):
            raise PluginError(f"{self._o['uri']} takes {parameters} values, not {np.shape(values)}")
        fresh = self._spec.reset != "reset" or not self._handles
        if fresh:
            self.close()
        self._cells[:] = 0.0
        self._cells[:, :parameters] = np.asarray(values) * self._scale
        for port, value in self._o["fixed"]:
            self._cells[:, self._cell[port]] = value
        if fresh:
            self._handles = [self._instance(i) for i in range(self._count)]
        elif self._library.deactivate is not None:
            for handle in self._handles:
                self._library.deactivate(handle)
        if self._library.activate is not None:
            for handle in self._handles:
                self._library.activate(handle)
        if self._o["latency"] is not None:
            self._measure_latency()

    def _instance(self, number: int) -> int:
        bundle = self._o["bundle"].rstrip("/") + "/"
        handle = self._library.instantiate(
            self._library.descriptor,
            float(self._spec.sample_rate),
            bundle.encode(),
            self._features.address,
        )
        if not handle:
            raise PluginError(
                f"the LV2 plugin {self._o['uri']} refused to start at {self._spec.sample_rate} Hz"
            )
        connect = self._library.connect
        for port, cell in self._cell.items():
            connect(handle, port, self._cells.ctypes.data + number * self._cells.strides[0] + 4 * cell)
        for port in self._o["side_in"]:
            connect(handle, port, self._silence.ctypes.data)
        for port in self._o["extra_out"]:
            connect(handle, port, self._waste.ctypes.data)
        for port, address in zip(self._o["atom_in"], self._sequences.inputs, strict=True):
            connect(handle, port, address)
        for port, address in zip(self._o["atom_out"], self._sequences.outputs, strict=True):
            connect(handle, port, address)
        return handle

    def _measure_latency(self) -> None:
        """The port is written by `run`, for which the specification allows zero samples."""
        handle = self._handles[0]
        for port in self._ins:
            self._library.connect(handle, port, self._silence.ctypes.data)
        for port in self._outs:
            self._library.connect(handle, port, self._waste.ctypes.data)
        self._sequences.reset()
        self._library.run(handle, 0)
        self.latency = round(float(self._cells[0, self._cell[self._o["latency"]]]))

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        if not self._handles:
            raise PluginError("process called before prepare")
        if self._count == 2:
            self._process(0, audio[:1], out[:1])
            self._process(1, audio[1:], out[1:])
        else:
            self._process(0, audio, out)

    def _process(self, number: int, audio: np.ndarray, out: np.ndarray) -> None:
        """One instance over `[C, N]`: cut into blocks, with the ports moved along the arrays."""
        channels, length = audio.shape
        if channels == 2 and len(self._ins) == 1:
            audio = audio.mean(axis=0, keepdims=True, dtype=np.float32)
        direct = len(self._outs) == channels
        target = out if direct else self._room(length)
        rows = _addresses(audio)
        sources = [rows[min(i, len(rows) - 1)] if i < 2 else 0 for i in range(len(self._ins))]
        targets = _addresses(target)
        moving = [(p, a) for p, a in zip(self._ins, sources, strict=True) if a]
        moving += list(zip(self._outs, targets, strict=True))
        handle = self._handles[number]
        for port, address in zip(self._ins, sources, strict=True):
            if not address:
                self._library.connect(handle, port, self._silence.ctypes.data)
        self._run_blocks(handle, moving, length)
        if not direct:
            mix_outputs(target[:, :length], out)

    def _run_blocks(self, handle: int, moving: Sequence[tuple[int, int]], length: int) -> None:
        connect, run, size = self._library.connect, self._library.run, self._spec.block_size
        atoms = bool(self._o["atom_in"] or self._o["atom_out"])
        for start in range(0, length, size):
            offset = 4 * start
            for port, address in moving:
                connect(handle, port, address + offset)
            if atoms:
                self._sequences.reset()
            run(handle, min(size, length - start))

    def _room(self, length: int) -> np.ndarray:
        if self._scratch.shape[1] < length:
            self._scratch = np.zeros((len(self._outs), length), dtype=np.float32)
        return self._scratch

    def read_back(self) -> np.ndarray:
        """The control cells. A plugin may not write its inputs, so this tells that nothing overwrote them."""
        parameters = len(self._o["parameters"])
        return self._cells[0, :parameters].astype(np.float64) / self._scale

    def close(self) -> None:
        for handle in self._handles:
            if self._library.deactivate is not None:
                self._library.deactivate(handle)
            self._library.cleanup(handle)
        self._handles = []
