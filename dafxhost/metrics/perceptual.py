"""Models of listening: PESQ, where package pesq is installed."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import soxr

from dafxhost.errors import UsageError
from dafxhost.metrics.clips import Clips

PESQ_RATE = 16000
"""Hz of its wide-band mode (ITU-T P.862.2)."""
QUIETEST = 1e-6


def pesq_installed() -> bool:
    return find_spec("pesq") is not None


def pesq_wideband(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]` MOS-LQO, about 1 to 4.64: wide-band PESQ of each channel, averaged; the target is its reference.

    NaN where PESQ has no answer: it finds no utterance, or a recording is silent or shorter than a quarter of
    a second. Made for speech through telephone networks; for music its figures only rank.

    Raises:
        UsageError: package pesq is not installed.
    """
    if not pesq_installed():
        raise UsageError("PESQ needs package pesq, which is not installed: pip install pesq")
    package: Any = import_module("pesq")
    refused = (package.NoUtterancesError, package.BufferTooShortError)
    wanted = [_at_rate(channel, target.sample_rate) for channel in target.audio[0]]

    def score(reference: np.ndarray, channel: np.ndarray) -> float:
        heard = _at_rate(channel, clips.sample_rate)
        if min(np.abs(reference).max(), np.abs(heard).max()) < QUIETEST:
            return np.nan
        try:
            return float(package.pesq(PESQ_RATE, reference, heard, "wb"))
        except refused:
            return np.nan

    return np.array(
        [np.mean([score(r, c) for r, c in zip(wanted, clip, strict=True)]) for clip in clips.audio]
    )


def _at_rate(channel: np.ndarray, sample_rate: int) -> np.ndarray:
    return channel if sample_rate == PESQ_RATE else soxr.resample(channel, sample_rate, PESQ_RATE)
