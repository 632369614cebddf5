"""What can be wrong with samples: silence and clipping (what is not finite is refused in reading)."""

from __future__ import annotations

import numpy as np

FULL_SCALE = 0.9999
"""Samples at least so large, relative to full scale, may have been cut off."""
RUN = 3
"""So many of them in a row have been: no band-limited signal stays at its peak so long at common rates."""


def is_silent(audio: np.ndarray) -> bool:
    """Whether all of `audio` lies below -80 dBFS, or either half of it is 50 dB or more below its peak.

    The second is Grant's rule (2023: the mean square of a half below 1e-5), taken relative to the peak,
    because clips are peak-normalised afterwards: a quiet recording is as good as a loud one.
    """
    peak = float(np.abs(audio).max()) if audio.size else 0.0
    if peak < 1e-4:
        return True
    middle = audio.shape[-1] // 2
    return any(
        float(np.mean(np.square(half / peak))) < 1e-5
        for half in (audio[..., :middle], audio[..., middle:])
        if half.size
    )


def clipped_samples(audio: np.ndarray) -> int:
    """How many samples of `[C, T]` stand in runs of three or more at full scale, of one sign."""
    if not audio.size or float(np.abs(audio).max()) < FULL_SCALE:
        return 0
    return sum(_in_runs(row >= FULL_SCALE) + _in_runs(row <= -FULL_SCALE) for row in audio)


def _in_runs(marked: np.ndarray) -> int:
    edges = np.flatnonzero(np.diff(marked.astype(np.int8), prepend=0, append=0))
    lengths = edges[1::2] - edges[::2]
    return int(lengths[lengths >= RUN].sum())
