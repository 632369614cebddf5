"""What a rival's process does with one clip: as dafxhost's own worker does it, without the safety around it.

Renders here must give the worker's samples bit for bit, or a comparison of times would mean nothing. So the
floating-point mode, the C library's seed, the block size and the allocator are the worker's.
"""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import numpy as np

from dafxhost.execution.instance import FloatingPoint
from dafxhost.processor import RenderSpec

# What dafxhost/execution/worker.py sets, for the reasons given there.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_PERTURB = -1, -3, -6


def set_allocator() -> None:
    """The worker's allocator settings for this process: no trimming, no maps for large blocks, zeros in fresh
    memory. Without them glibc may give pages back and fault them in at every render, by luck of the heap.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # musl
        return
    if not mallopt(M_MMAP_THRESHOLD, 1 << 30):
        mallopt(M_MMAP_THRESHOLD, 32 << 20)
    mallopt(M_TRIM_THRESHOLD, 1 << 30)
    mallopt(M_PERTURB, 255)


class Renderer:
    """One processor in this process, for one thread.

    Args:
        processor: "module:attribute" of its class. options: for it.
        spec: as the executor's.
    """

    def __init__(self, processor: str, options: dict[str, Any], spec: RenderSpec) -> None:
        self._spec = spec
        self._libc = ctypes.CDLL(None)
        self._floating_point = FloatingPoint()
        self._floating_point.restore(spec.flush_denormals)
        module, _, name = processor.partition(":")
        self._processor = getattr(importlib.import_module(module), name)(options, spec)

    def render(self, clip: np.ndarray, rows: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Clip `[C, T]` float32 with plugin values `[K, P]` -> `[K, C, T]`, latency compensated."""
        if out is None:
            out = np.empty((len(rows), *clip.shape), np.float32)
        for values, wet in zip(rows, out, strict=True):
            self._floating_point.restore(self._spec.flush_denormals)
            self._libc.srand(self._spec.seed)
            self._processor.prepare(values)
            self._floating_point.restore(self._spec.flush_denormals)
            latency = int(self._processor.latency)
            if latency <= 0:
                self._processor.process(clip, wet)
                continue
            padded = np.concatenate([clip, np.zeros((len(clip), latency), np.float32)], axis=1)
            late = np.zeros_like(padded)
            self._processor.process(padded, late)
            wet[:] = late[:, latency:]
        return out
