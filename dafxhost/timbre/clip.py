"""One clip, and what several models need of it, made once at its first use."""

from __future__ import annotations

from functools import cached_property, lru_cache

import numpy as np
import scipy.signal
import soxr

from dafxhost.timbre import envelope, loudness, onsets, spectra, zwicker

LOWEST_RATE = 44_100
"""Hz; clips below it are brought to it, because the bands of loudness reach to 12.5 kHz."""

_MIXED = 3  # channels in the sum


class Clip:
    """A clip as the models see it.

    Args:
        channels: `[C, T]`, any number of channels.
        rate: Hz.

    Attributes:
        channels: the first two, float64, at 44.1 kHz or more. rate: theirs, Hz.
    """

    def __init__(self, channels: np.ndarray, rate: int) -> None:
        audio = np.asarray(channels, np.float64)
        total = audio[:_MIXED].sum(axis=0, keepdims=True)
        audio = np.concatenate([audio[:2], total])
        if rate < LOWEST_RATE:
            audio, rate = _resampled(audio, rate), LOWEST_RATE
        self.channels, self._sum, self.rate = audio[:-1], audio[-1], rate

    @cached_property
    def samples(self) -> np.ndarray:
        """The sum of the channels (of more than three, of the first three) at -24 LUFS, `[T]`.

        Raises:
            Undefined: silent, or too quiet for a loudness.
        """
        return loudness.at_target(self._sum, self.rate)

    @cached_property
    def specific(self) -> zwicker.SpecificLoudness:
        return zwicker.specific_loudness(self.samples, self.rate)

    @cached_property
    def audible(self) -> np.ndarray:
        """`samples` without what lies below 20 Hz, at a peak of 1."""
        filtered = steep(self.samples, 20.0, "highpass", self.rate)
        return filtered / np.abs(filtered).max()

    @cached_property
    def stft(self) -> np.ndarray:
        return spectra.stft(self.samples)

    @cached_property
    def envelope(self) -> np.ndarray:
        return envelope.peak_envelope(self.samples, self.rate, 0.1)


def find_all(shape: np.ndarray, strength: np.ndarray, rate: int, margin: int = 4096) -> list[int]:
    """Onsets as warmth and hardness take them: a single one begins the clip."""
    found = onsets.find_onsets(strength, shape, rate, margin)
    return [0] if len(found) == 1 else found


def steep(samples: np.ndarray, frequency: float, kind: str, rate: int) -> np.ndarray:
    """A Butterworth filter of second order, three times over: 36 dB an octave, -9 dB at `frequency`."""
    return np.asarray(scipy.signal.sosfilt(_steep_sections(frequency, kind, rate), samples))


@lru_cache(maxsize=32)
def _steep_sections(frequency: float, kind: str, rate: int) -> np.ndarray:
    section = scipy.signal.butter(2, frequency / (rate / 2.0), kind, output="sos")
    return np.repeat(np.asarray(section), 3, axis=0)


def _resampled(audio: np.ndarray, rate: int) -> np.ndarray:
    """`[C, T]` -> `[C, ceil(T 44100 / rate)]`."""
    length = -(-audio.shape[1] * LOWEST_RATE // rate)
    out = soxr.resample(np.ascontiguousarray(audio.T), rate, LOWEST_RATE, "HQ").T[:, :length]
    return np.ascontiguousarray(np.pad(out, ((0, 0), (0, length - out.shape[1]))))
