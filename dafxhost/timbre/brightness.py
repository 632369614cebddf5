"""Brightness: how much lies above 2 kHz, and where the centre of what lies above 100 Hz is."""

from __future__ import annotations

import numpy as np

from dafxhost.timbre import spectra
from dafxhost.timbre.clip import Clip, steep
from dafxhost.timbre.undefined import Undefined, log10, regression

_SIZE, _HOP = 2048, 512


def brightness(clip: Clip) -> float:
    """Brightness: 4.613 log10 R + 17.379 log10 C + 17.435 (A. Pearce, T. Brookes, R. Mason, Audio Commons
    D5.2 and D5.8, model 0.4).

    R: share of power above 2 kHz, C: centroid in Hz above 100 Hz, both means over frames of 2048 samples
    every 512 (Hamming), weighted by the frames' power.

    Raises:
        Undefined: nothing above 2 kHz, or nothing at all.
    """
    frames = ("hamming", _SIZE, _HOP)
    every = spectra.total_power(clip.audible, *frames).sum()
    high = spectra.total_power(steep(clip.audible, 2000.0, "highpass", clip.rate), *frames).sum()
    power = spectra.power(steep(clip.audible, 100.0, "highpass", clip.rate), *frames)
    # The power-weighted mean of frames' ratios and centroids is the ratio and centroid of the sums.
    total = power.sum(axis=0, dtype=np.float64)
    if every <= 0 or total.sum() <= 0:
        raise Undefined("there is no sound above 20 Hz")
    centroid = float(total @ np.linspace(0.0, clip.rate / 2.0, len(total))) / float(total.sum())
    parts = {"share above 2 kHz": log10(float(high / every)), "centroid": log10(centroid)}
    coefficients = {"share above 2 kHz": 4.613128018020465, "centroid": 17.378889309312974}
    return regression(parts, coefficients, 17.434733750553022)
