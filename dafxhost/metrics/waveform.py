"""Sample by sample: SI-SDR."""

from __future__ import annotations

import numpy as np

from dafxhost.metrics.clips import Clips

CAP = 100.0
"""dB: equal waveforms would give infinity, unrelated ones minus infinity; float32 resolves less than this."""


def si_sdr(clips: Clips, target: Clips) -> np.ndarray:
    """`[K]` dB: scale-invariant signal-to-distortion ratio, clipped to -100..100.

    10 log10 (|a s|^2 / |a s - x|^2) with a = <x, s> / |s|^2, channels one after the other, means removed (Le
    Roux, Wisdom, Erdogan, Hershey, "SDR: half-baked or well done?", ICASSP 2019, equation 2). It sees phase:
    what moves phase without changing the sound (a flanger's rate, a delay) has a low value.
    """
    s = _centred(target.audio[0])
    return np.array([_ratio(_centred(clip), s) for clip in clips.audio])


def _ratio(x: np.ndarray, s: np.ndarray) -> float:
    """dB, of `[T]` against the target `[T]`."""
    energy = _energy(s)
    wanted = (float(np.einsum("i,i->", x, s)) / energy if energy else 0.0) * s
    signal, noise = _energy(wanted), _energy(wanted - x)
    if noise == 0.0:  # equal up to a factor, or one of them silent
        return CAP if signal > 0.0 or (energy == 0.0 and _energy(x) == 0.0) else -CAP
    return float(np.clip(10.0 * np.log10(max(signal / noise, 1e-30)), -CAP, CAP))


def _energy(x: np.ndarray) -> float:
    # einsum, not dot: that goes to BLAS, whose threads spin while plugins keep the cores busy.
    return float(np.einsum("i,i->", x, x))


def _centred(clip: np.ndarray) -> np.ndarray:
    """`[C, T]` -> `[C T]` float64, each channel without its mean."""
    wide = clip.astype(np.float64)
    return (wide - wide.mean(axis=1, keepdims=True)).ravel()
