"""Sharpness and boominess: two readings of the specific loudness."""

from __future__ import annotations

import numpy as np

from dafxhost.timbre.clip import Clip
from dafxhost.timbre.undefined import log10, regression
from dafxhost.timbre.zwicker import BARK_STEPS

_BARK = np.arange(1, BARK_STEPS + 1) / 10.0


def _sharpness_weights() -> np.ndarray:
    """g(z) of Fastl and Zwicker: 1 up to 14 Bark, a polynomial fitted to their curve above."""
    z = _BARK
    rise = 0.00012 * z**4 - 0.0056 * z**3 + 0.1 * z**2 - 0.81 * z + 3.5
    return np.where(z <= 14.0, 1.0, rise)


def _booming_weights() -> np.ndarray:
    """2.13 exp(-0.151 n), n the number of the third octave counted from 1 at 25 Hz; less in the first 0.4
    Bark."""
    octaves = np.log10(600.0 * np.sinh(_BARK / 6.0) / 25.0) / np.log10(31.5 / 25.0)
    weights = 2.13 * np.exp(-0.151 * (octaves + 1.0))
    weights[:4] = 0.8, 1.05, 1.10, 1.18
    return weights


_BELOW_280 = int(np.flatnonzero(600.0 * np.sinh(_BARK / 6.0) >= 280.0)[0])


def sharpness(clip: Clip) -> float:
    """Sharpness.

    Of every window S = 0.11 int N'(z) g(z) z dz / int N'(z) dz (H. Fastl and E. Zwicker, "Psychoacoustics:
    Facts and Models", chapter 9; g as fitted by C. Churchill, University of Salford, 2004); the mean over
    windows weighted by power; its logarithm, mapped onto listeners' ratings (Audio Commons D5.8, model 0.4:
    102.505 log10 S + 34.433).

    Raises:
        Undefined: no loudness anywhere.
    """
    loudness = clip.specific
    of = np.where(loudness.total > 0, loudness.pattern.sum(axis=1), np.inf)
    each = 0.11 * (loudness.pattern @ (_sharpness_weights() * _BARK)) / of
    parts = {"sharpness of Fastl": log10(loudness.mean(each, 2))}
    return regression(parts, {"sharpness of Fastl": 102.50508921364404}, 34.432655185001735)


def boominess(clip: Clip) -> float:
    """Boominess.

    Of every window the booming index B = 10 log10 sum 10^(N'(z) w(z) / 10) * N(below 280 Hz) / N (S. Hatano
    and T. Hashimoto, "Booming index as a measure for evaluating booming sensation", Inter-Noise 2000; S.
    Shin, J. Ih, T. Hashimoto and S. Hatano, Applied Acoustics 70, 2009), its mean weighted by power; with
    the mean loudness L of 0 to 7 Bark: 43.674 log10 B - 10.901 log10 L + 26.837 (Audio Commons D5.8, model
    0.4).

    Raises:
        Undefined: no loudness anywhere, or none below 7 Bark.
    """
    loudness = clip.specific
    whole = loudness.pattern.sum(axis=1)
    low = loudness.pattern[:, :_BELOW_280].sum(axis=1)
    bands = 10.0 * np.log10((10.0 ** (loudness.pattern * _booming_weights() / 10.0)).sum(axis=1))
    index = np.where(loudness.total > 0, bands * low / np.where(whole > 0, whole, np.inf), 0.0)
    parts = {
        "booming index": log10(loudness.mean(index, 2)),
        "loudness of low frequencies": log10(float(loudness.weighted(0, 70).mean())),
    }
    coefficients = {"booming index": 43.67402696195865, "loudness of low frequencies": -10.90054738389845}
    return regression(parts, coefficients, 26.836530575185435)
