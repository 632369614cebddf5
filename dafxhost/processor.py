"""What runs inside a worker: the render specification, and the interface that every host implements.

This module and everything it imports must stay light (numpy only): workers import it.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class RenderSpec:
    """Everything besides audio and setting that decides a render's samples; kept with every result.

    Attributes:
        sample_rate: Hz.
        channels: channels of the clip, 1 or 2.
        block_size: samples handed to the plugin at a time; some plugins' results depend on it.
        reset: how a plugin is brought back to its initial state before a render: "fresh" (a new instance),
            "state" (a stored initial state is restored), "reset" (the host's reset call), or "auto" (a new
            instance, unless something cheaper was shown to give the same samples, see `reset_proof`).
        flush_denormals: whether the worker sets flush-to-zero and denormals-are-zero.
        seed: seed of the C library's `rand()` before every render.
    """

    sample_rate: int
    channels: int = 1
    block_size: int = 2048
    reset: str = "auto"
    flush_denormals: bool = True
    seed: int = 1

    def fingerprint(self) -> str:
        """Short hash of all fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


def _unwatched(part: int) -> None:
    del part


enter_part: Callable[[int], None] = _unwatched
"""To be called by a processor made of several plugins before it lets one of them do anything: that one's
number in `Provider.parts`, from 1; 0 when it is back. A crash is then blamed on it. The worker puts its own
function here."""


class Processor(ABC):
    """A plugin as a worker sees it. One instance serves one effect and one `RenderSpec`, on one thread.

    `__init__(options, spec)` gets the provider's JSON-able options and loads the plugin; it raises
    `PluginError` with the reason if that fails.
    """

    latency: int = 0
    """Samples by which output lags input; the caller compensates. Valid after `prepare`."""

    @abstractmethod
    def prepare(self, values: np.ndarray) -> None:
        """Bring the plugin to its initial state with these plugin values `[P]` (float64).

        After it, `process` must give the same samples whatever was processed before.
        """

    @abstractmethod
    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        """Process `[C, N]` float32 into `out` `[C, N]`, carrying on from the last call.

        `C` is the spec's channel count; the processor adapts it to the plugin's own layout (one channel into
        a stereo plugin: fed to both inputs, mean of both outputs). `N` is any length of at least one;
        it is cut into the spec's block size by the processor. Both arrays are C-contiguous.
        """

    def read_back(self) -> np.ndarray | None:
        """Plugin values `[P]` as the plugin now reports them, or None if its format cannot tell."""
        return None

    def close(self) -> None:  # noqa: B027  (optional to override)
        """Free the plugin."""
