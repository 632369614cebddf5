"""Levels: RMS, crest factor, loudness. Errors are absolute differences, in true decibels (20 log10)."""

from __future__ import annotations

import numpy as np

from dafxhost.data.loudness import ABSOLUTE_GATE, loudness
from dafxhost.metrics.clips import Clips, decibels

FLOOR = -120.0
"""dB re 1 below which peak and RMS count as equal: silence has a finite level, and a crest factor of 0 dB."""


def rms_error(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]` dB: difference of 20 log10 RMS, over channels and time."""
    return np.abs(decibels(clips.rms, FLOOR) - decibels(target.rms, FLOOR))


def crest_error(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]` dB: difference of 20 log10 (peak / RMS), over channels and time."""
    return np.abs(_crest(clips) - _crest(target))


def loudness_error(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]` LU: difference of the integrated loudness; what passes no gate counts as -70 LUFS.

    Mono is one channel (not doubled to stereo, which would add 3 LU to both and change nothing here).
    """
    return np.abs(_loudness(clips) - _loudness(target))


def _crest(clips: Clips) -> np.ndarray:
    return decibels(clips.peak, FLOOR) - decibels(clips.rms, FLOOR)


def _loudness(clips: Clips) -> np.ndarray:
    return np.array([max(loudness(clip, clips.sample_rate), ABSOLUTE_GATE) for clip in clips.audio])
