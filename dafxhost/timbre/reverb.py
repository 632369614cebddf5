"""Reverb: whether a clip sounds reverberant, from how fast its sounds die away."""

from __future__ import annotations

import math

import numpy as np
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view

from dafxhost.timbre.clip import Clip
from dafxhost.timbre.undefined import Undefined

_PARTS = 7  # of a frame
_FEWEST_DECAYS = 3
_TIMES = np.arange(0.2, 1.15, 0.1)  # RT60, s, that are tried
_SMOOTHING = 0.995
_INITIAL = 0.3
_SLOPE, _INTERCEPT = 2.97126461, -1.45082989


def reverb(clip: Clip) -> float:
    """Reverb: 1 if the clip sounds reverberant, else 0 (A. Pearce et al., Audio Commons D5.8, model 0.4).

    1 where 1 / (1 + exp(1.4508 - 2.9713 RT60)) >= 0.5, RT60 being `decay_time`, the mean of the first two
    channels.

    Raises:
        Undefined: silent, or shorter than one frame (0.2 s).
    """
    if not clip.channels.any():
        raise Undefined("the clip is silent")
    seconds = float(np.mean([decay_time(x, clip.rate) for x in clip.channels]))
    return float(1.0 / (1.0 + math.exp(-_INTERCEPT - _SLOPE * seconds)) >= 0.5)


def decay_time(samples: np.ndarray, rate: int) -> float:
    """Blind estimate of the RT60 in seconds, 0.2 to 1.1, of one channel `[T]`.

    H. Loellmann, E. Yilmaz, M. Jeub and P. Vary, "An improved algorithm for blind reverberation time
    estimation", IWAENC 2010, with the Laplace distribution of T. Jan and W. Wang, EUSIPCO 2012. A frame of
    seven parts whose first ones (4 or 5 of them) fall in variance, maximum and minimum, and that then stop
    falling, is a decay; of it the likeliest of ten RT60 is taken. The RT60 most frequent so far is smoothed
    over frames. Without any decay it is 0.2, the shortest that is considered: nothing was heard to ring.

    Raises:
        Undefined: shorter than one frame.
    """
    part = round(rate / 24000.0 * 700 / 2)
    shift = round(rate / 24000.0 * 200 / 2)
    length = 2 * _PARTS * part
    if len(samples) <= length:
        raise Undefined(f"the clip is too short for a decay: reverb needs {length / rate:.2f} s")
    starts = np.arange(0, len(samples) - length + 1, shift)
    counts = _falls(samples, starts, part)
    decays = np.flatnonzero(counts)
    if not len(decays):
        return float(_TIMES[0])
    picks = np.empty(len(decays), int)
    for parts in np.unique(counts[decays]):
        same = counts[decays] == parts
        picks[same] = _likeliest(samples, starts[decays[same]], int(parts) * part, rate)
    raw = _most_frequent(picks, round(rate / 24000.0 * 800 / 2))
    # RT60 before the first decay is the initial one.
    held = np.concatenate([[_INITIAL], _TIMES[raw]])[np.searchsorted(decays, np.arange(len(starts)), "right")]
    state = [_SMOOTHING * _INITIAL]
    smooth = scipy.signal.lfilter([1 - _SMOOTHING], [1.0, -_SMOOTHING], held, zi=state)[0]
    return float(smooth[decays].mean())


def _falls(samples: np.ndarray, starts: np.ndarray, part: int) -> np.ndarray:
    """Parts by which each frame falls before it stops falling, `[frames]`; 0 for frames that are no decay.

    Every second sample is looked at. Parts after the first are one sample longer, as in the reference.
    """
    falls, going = np.zeros(len(starts), int), np.arange(len(starts))
    before = sliding_window_view(samples, 2 * part - 1)[starts, ::2]
    longer = sliding_window_view(samples, 2 * part + 1)
    high, low = before.max(axis=1), before.min(axis=1)
    for k in range(1, _PARTS - 1):
        now = longer[starts[going] + 2 * k * part, ::2]
        highest, lowest = now.max(axis=1), now.min(axis=1)
        narrower = np.flatnonzero((high > highest) & (low < lowest))
        # The variance takes longest, and few frames get so far.
        falling = narrower[_variance(before[narrower]) > _variance(now[narrower])]
        going, before, high, low = going[falling], now[falling], highest[falling], lowest[falling]
        falls[going] += 1
    falls[going] = 0  # it falls to the end of the frame: the original takes no estimate there
    falls[falls < _FEWEST_DECAYS] = 0
    return falls


def _variance(frames: np.ndarray) -> np.ndarray:
    """Of `[R, N]`, `[R]`."""
    centred = frames - frames.mean(axis=1, keepdims=True)
    return np.einsum("ij,ij->i", centred, centred) / max(1, frames.shape[1])


def _likeliest(samples: np.ndarray, starts: np.ndarray, length: int, rate: int) -> np.ndarray:
    """Index of the RT60 of greatest likelihood for frames of `length` at every second sample `[R]`.

    |x| falls as a^n, a = exp(-3 ln 10 / (RT60 rate)), and is Laplace-distributed:
    log L = -N log(2) - N log(sigma) - sum log a^n - N, sigma = mean |x| a^-n.
    """
    step = -3.0 * math.log(10.0) / (_TIMES * rate / 2.0)
    n = np.arange(length)
    size = np.abs(sliding_window_view(samples, 2 * length - 1)[starts, ::2])
    sigma = (size @ np.exp(-np.outer(n, step))) / length
    return (-length * np.log(sigma) - step * n.sum()).argmax(axis=1)


def _most_frequent(picked: np.ndarray, memory: int) -> np.ndarray:
    """After each estimate the most frequent one of about the last `memory`, the shortest of equals."""
    counts, out = np.zeros(len(_TIMES), int), []
    for i, pick in enumerate(picked.tolist()):
        counts[pick] += 1
        if i > memory:
            counts[picked[i - memory]] -= 1
        out.append(int(counts.argmax()))
    return np.array(out)
