"""A few properties of a clip's sound, to colour pictures by."""

from __future__ import annotations

import numpy as np

TIMBRAL = ("brightness", "depth")
"""Of the Audio Commons features (`dafxhost.timbre`), the two that the reports kept."""
UNITS = {"centroid": "Hz", "crest": "dB", "change": "dB", "brightness": "", "depth": ""}
_WINDOW = 2048


def describe(dry: np.ndarray, wet: np.ndarray, sample_rate: int) -> dict[str, float]:
    """Properties of a processed clip.

    Args:
        dry, wet: `[T]`, the clip before and after the effect.

    Returns:
        centroid: spectral centroid (Hz), the mean of frequency weighted by power over the whole clip.
        crest: peak over root mean square (dB).
        change: power of (wet - dry) over that of dry (dB).
        brightness, depth: the Audio Commons features.
        NaN where undefined, as of a silent clip.
    """
    from dafxhost.timbre import timbral_features

    timbral = timbral_features(wet[None, None], sample_rate, TIMBRAL).values[0]
    power = np.square(np.abs(np.fft.rfft(_frames(wet) * np.hanning(_WINDOW), axis=-1))).sum(axis=0)
    frequency = np.fft.rfftfreq(_WINDOW, 1 / sample_rate)
    total, loud, before = float(power.sum()), float(np.mean(np.square(wet))), float(np.mean(np.square(dry)))
    changed = float(np.mean(np.square(wet.astype(np.float64) - dry)))
    return {
        "centroid": float(power @ frequency) / total if total > 0 else float("nan"),
        "crest": 20 * np.log10(float(np.abs(wet).max()) / loud**0.5) if loud > 0 else float("nan"),
        "change": 10 * np.log10(changed / before) if changed > 0 and before > 0 else float("nan"),
        **{name: float(value) for name, value in zip(TIMBRAL, timbral, strict=True)},
    }


def _frames(audio: np.ndarray) -> np.ndarray:
    """`[T]` -> `[frames, window]`, the last one filled with zeros."""
    audio = audio.astype(np.float64)
    count = max(1, -(-audio.size // _WINDOW))
    return np.pad(audio, (0, count * _WINDOW - audio.size)).reshape(count, _WINDOW)
