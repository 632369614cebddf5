"""More variety from little audio: clips played faster or slower, mixed, filtered, inverted, or synthetic."""

from __future__ import annotations

import numpy as np
import scipy.fft

from dafxhost.data.sources import AudioSource, is_silent

TRIES = 8


class AugmentedSource(AudioSource):
    """Draws from another source and changes what it drew.

    Independently of each other: with probability 0.6 a speed of 0.7 to 1.4 (linear interpolation: pitch and
    length change together); with 0.3 a second clip added, 0 to 20 dB below the first; with 0.5 a smooth
    random equalisation (normal deviates of 3 dB at eight frequencies from 20 Hz up, joined on a logarithmic
    axis); with 0.5 the sign inverted.

    Args:
        source: where clips come from.
    """

    def __init__(self, source: AudioSource) -> None:
        self.source = source
        self.names, self.total_seconds = source.names, source.total_seconds
        self.description = source.description

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        """As the source's own; falls back on a clip as it is if every changed one is silent in a half."""
        for _ in range(TRIES):
            clip, name = self._one(rng, samples, sample_rate)
            if rng.random() < 0.3:
                other, other_name = self._one(rng, samples, sample_rate)
                level = 10 ** (rng.uniform(-20, 0) / 20)
                clip = clip / np.abs(clip).max() + level * other / np.abs(other).max()
                name = f"{name} + {other_name}"
            if rng.random() < 0.5:
                clip = _equalise(clip, rng, sample_rate)
            if rng.random() < 0.5:
                clip = -clip
            clip = clip.astype(np.float32, copy=False)
            if not is_silent(clip):
                return clip, name
        return self.source.draw(rng, samples, sample_rate)

    def _one(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        speed = float(np.exp(rng.uniform(-0.35, 0.35))) if rng.random() < 0.6 else 1.0
        if speed == 1.0:
            return self.source.draw(rng, samples, sample_rate)
        clip, name = self.source.draw(rng, int(samples * speed) + 2, sample_rate)
        changed = np.interp(np.arange(samples) * speed, np.arange(clip.shape[1]), clip[0])
        # Resampling may leave the only sound outside; whoever draws wants a peak to divide by.
        return (
            (changed.astype(np.float32)[None], name)
            if np.abs(changed).max() > 0
            else (clip[:, :samples], name)
        )


class MixedSource(AudioSource):
    """Draws from one of two sources.

    Args:
        first, second: where clips come from. share: probability of the second.
    """

    def __init__(self, first: AudioSource, second: AudioSource, share: float) -> None:
        self.first, self.second, self.share = first, second, share
        self.names = sorted({*first.names, *second.names})
        self.total_seconds = first.total_seconds + second.total_seconds
        self.description = f"{first.description}; {share:.0%} of clips from the {second.description}"

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        """A clip of the second source with the probability `share`, else of the first."""
        source = self.second if rng.random() < self.share else self.first
        return source.draw(rng, samples, sample_rate)


def _equalise(clip: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    """`[1, T]` filtered with a smooth random magnitude response and zero phase."""
    spectrum = np.asarray(scipy.fft.rfft(clip))
    frequency = np.linspace(0, sample_rate / 2, spectrum.shape[1])
    knots = np.geomspace(20, sample_rate / 2, 8)
    gain = np.interp(np.log(np.maximum(frequency, 20)), np.log(knots), rng.normal(0, 3, len(knots)))
    response = (10 ** (gain / 20)).astype(np.float32)
    return np.asarray(scipy.fft.irfft(spectrum * response, clip.shape[1]))
