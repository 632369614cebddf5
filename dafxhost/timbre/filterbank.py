"""Third-octave filters, and how much of many short windows passes them."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

import numpy as np
import scipy.fft
import scipy.signal

from dafxhost.timbre.spectra import squared

Coefficients = tuple[np.ndarray, np.ndarray]
"""Numerator and denominator."""

_ORDER = 4
_FADED = 1e-14  # of a response's energy: what comes later is left out
_LONG = 4  # times as long as the response is a window whose power is taken from its spectrum
_INSIDE = 1e-3  # share of the response's energy inside the window, from which a difference is precise


@lru_cache(maxsize=8)
def third_octaves(rate: int) -> list[Coefficients]:
    """Butterworth filters around 1 kHz 2^(j/3), j = 8 to 11, as (numerator, denominator)."""
    filters = []
    for j in range(8, 12):
        middle = 1000.0 * 2.0 ** (j / 3.0) / (rate / 2.0)
        edges = [middle * 2.0 ** (-1 / 6), min(middle * 2.0 ** (1 / 6), 1 - 1e-10)]
        filters.append(cast("Coefficients", scipy.signal.butter(_ORDER, edges, "bandpass")))
    return filters


@lru_cache(maxsize=1)
def decimator() -> Coefficients:
    return cast("Coefficients", scipy.signal.cheby1(2, 0.1, 0.4))


def levels(windows: np.ndarray, rate: int, count: int) -> np.ndarray:
    """Power in dB of `[W, N]` after each of the first `count` of `third_octaves`, `[W, count]`.

    Each window begins and ends in silence; what rings on after it does not belong to it. Of long windows the
    power of all of the response is taken from the spectrum, and the power of what rings on, from the last
    samples, is subtracted.
    """
    size, fading = windows.shape[1], _fading(rate)
    filters = third_octaves(rate)[:count]
    if size < _LONG * fading:
        return np.stack([_filtered(windows, f) for f in filters], axis=1)
    length = scipy.fft.next_fast_len(size + fading, real=True)
    spectrum = np.asarray(scipy.fft.rfft(windows, length, axis=1))
    energy = squared(spectrum) @ _gains(rate, length)[:, :count]
    ends = np.pad(windows[:, -fading:], ((0, 0), (0, fading)))
    out = np.empty((len(windows), count))
    for k, coefficients in enumerate(filters):
        ringing = np.asarray(scipy.signal.lfilter(*coefficients, ends))[:, fading:]
        inside = energy[:, k] - np.einsum("ij,ij->i", ringing, ringing)
        out[:, k] = _decibels(inside / size)
        unsure = np.flatnonzero(inside <= _INSIDE * energy[:, k])
        if len(unsure):
            out[unsure, k] = _filtered(windows[unsure], coefficients)
    return out


def _filtered(windows: np.ndarray, coefficients: Coefficients) -> np.ndarray:
    out = np.asarray(scipy.signal.lfilter(*coefficients, windows))
    power = np.einsum("ij,ij->i", out, out) / windows.shape[1]
    return np.where(out.max(axis=1) > 0, _decibels(power), -np.inf)


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10.0 * np.log10(power, out=np.full(power.shape, -np.inf), where=power > 0)


@lru_cache(maxsize=8)
def _fading(rate: int) -> int:
    """Samples until the longest of the responses has faded."""
    impulse = np.zeros(rate // 8)
    impulse[0] = 1.0
    energy = [np.square(scipy.signal.lfilter(*f, impulse)) for f in third_octaves(rate)]
    left = [np.cumsum(e[::-1])[::-1] for e in energy]
    return max(int((x < _FADED * x[0]).argmax()) for x in left)


@lru_cache(maxsize=32)
def _gains(rate: int, length: int) -> np.ndarray:
    """`[bins, 4]`: power spectrum times it is the energy of the responses."""
    over, under = (
        np.stack([squared(np.fft.rfft(f[i], length)) for f in third_octaves(rate)], axis=1) for i in (0, 1)
    )
    gains = over / under
    gains[1 : (length + 1) // 2] *= 2.0
    return gains / length
