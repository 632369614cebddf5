"""More variety from little audio. Every change is a source that draws from another one, so they are
composed by nesting, and whatever they do is decided by the `rng` of the draw alone::

    Polarity(Mixing(Speed(FolderSource("music", 44100))))

`augmented` makes such a nest of names. Where the input of an example is peak-normalised, as in training, a
gain changes nothing by itself; it does where clips are mixed later on or written to disk.

Pitch and tempo without each other take Rubber Band some hundred times what a plugin takes for the same
clip, so these are changed beforehand, in a bank of pieces (`dafxhost.data.stretching`), and not clip by clip.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import scipy.fft
import scipy.signal
from numpy.lib.stride_tricks import sliding_window_view

from dafxhost.data.features import peak_of
from dafxhost.data.sources import AudioSource, is_silent
from dafxhost.errors import UnknownNameError, UsageError

TRIES = 8
BLOCK, TAPS = 16384, 4097
"""FFT size and filter length of the equaliser: it resolves 11 Hz at 44.1 kHz."""
AT_ONCE = 8
TABLE = 1024


class Change(AudioSource):
    """A source that changes what another one drew.

    Args:
        source: where clips come from. probability: of the change, in each draw.
    """

    def __init__(self, source: AudioSource, probability: float = 1.0) -> None:
        if not 0.0 <= probability <= 1.0:
            raise UsageError(f"a change cannot happen with probability {probability}")
        self.source, self.probability = source, probability
        self.names, self.total_seconds = source.names, source.total_seconds
        self.description = source.description

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        clip, name = self.source.draw(rng, samples, sample_rate)
        if rng.random() < self.probability:
            clip = self.changed(clip, rng, sample_rate)
        return clip, name

    def changed(self, clip: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
        """`[1, T]` -> `[1, T]` float32; `clip` may be overwritten."""
        raise NotImplementedError


class Speed(Change):
    """Played faster or slower, as a tape is: pitch and tempo change together (linear interpolation).

    Args:
        octaves: largest change, up and down; the logarithm of the speed is uniform.
    """

    def __init__(self, source: AudioSource, probability: float = 0.6, octaves: float = 0.505) -> None:
        super().__init__(source, probability)
        self.range = octaves * float(np.log(2.0))

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        if rng.random() >= self.probability:
            return self.source.draw(rng, samples, sample_rate)
        speed = float(np.exp(rng.uniform(-self.range, self.range)))
        clip, name = self.source.draw(rng, int(samples * speed) + 2, sample_rate)
        changed = resampled(clip[0], speed, samples)[None]
        # What sounds may lie outside; whoever draws wants a peak to divide by.
        return (changed if peak_of(changed) > 0 else clip[:, :samples]), name


def resampled(audio: np.ndarray, speed: float, samples: int) -> np.ndarray:
    """`[N]` at times 0, `speed`, 2 `speed`, ... -> `[samples]` float32; N must be above (samples - 1) *
    speed + 1."""
    place = np.arange(samples) * speed
    index = place.astype(np.int32)
    place -= index
    out, behind = audio[index], audio[1:][index]
    behind -= out
    behind *= place.astype(np.float32)
    out += behind
    return out


class Mixing(Change):
    """A second clip added, `quietest` to 0 dB below the first, both at peak 1 before."""

    def __init__(self, source: AudioSource, probability: float = 0.3, quietest: float = -20.0) -> None:
        super().__init__(source, probability)
        self.quietest = quietest

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        clip, name = self.source.draw(rng, samples, sample_rate)
        if rng.random() >= self.probability:
            return clip, name
        other, other_name = self.source.draw(rng, samples, sample_rate)
        level = 10 ** (rng.uniform(self.quietest, 0) / 20)
        clip = clip * np.float32(1 / peak_of(clip))
        other = other * np.float32(level / peak_of(other))
        clip += other
        return clip, f"{name} + {other_name}"


class Equaliser(Change):
    """A smooth random equalisation without phase: normal deviates of `decibels` at eight frequencies from
    20 Hz up, joined on a logarithmic axis."""

    def __init__(self, source: AudioSource, probability: float = 0.5, decibels: float = 3.0) -> None:
        super().__init__(source, probability)
        self.decibels = decibels

    def changed(self, clip: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
        steps = np.interp(np.linspace(0, 7, TABLE), np.arange(8), rng.normal(0, self.decibels, 8))
        gain = (10 ** (steps / 20)).astype(np.float32)[_log_axis(sample_rate)]
        return filtered(clip, gain)


@lru_cache(maxsize=8)
def _log_axis(sample_rate: int) -> np.ndarray:
    """Where in a table of `TABLE` steps from 20 Hz to half the rate each bin of a block lies, `[bins]`
    int."""
    frequency = np.linspace(0, sample_rate / 2, BLOCK // 2 + 1)
    place = np.log(np.maximum(frequency, 20) / 20) / np.log(sample_rate / 40)
    return np.round(place * (TABLE - 1)).astype(np.intp)


def filtered(clip: np.ndarray, gain: np.ndarray) -> np.ndarray:
    """`[1, T]` filtered by a zero-phase response, gains `[BLOCK / 2 + 1]` on a linear frequency axis.

    Overlap-save, a few blocks at a time: a transform of the whole clip takes four times as long.
    """
    half = TAPS // 2
    impulse = np.roll(np.asarray(scipy.fft.irfft(gain.astype(np.float32), BLOCK)), half)[:TAPS] * _taper()
    response = np.asarray(scipy.fft.rfft(np.asarray(impulse), BLOCK))
    hop, samples = BLOCK - TAPS + 1, clip.shape[1]
    blocks = -(-samples // hop)
    padded = np.zeros(blocks * hop + TAPS - 1, np.float32)
    padded[half : half + samples] = clip[0]
    out = np.empty((blocks, hop), np.float32)
    frames = sliding_window_view(padded, BLOCK)[::hop]
    for i in range(0, blocks, AT_ONCE):
        spectra = np.asarray(scipy.fft.rfft(frames[i : i + AT_ONCE]))
        spectra *= response
        out[i : i + AT_ONCE] = np.asarray(scipy.fft.irfft(spectra, BLOCK))[:, TAPS - 1 :]
    return out.reshape(1, -1)[:, :samples]


@lru_cache(maxsize=1)
def _taper() -> np.ndarray:
    return np.hanning(TAPS + 2)[1:-1].astype(np.float32)


class Tilt(Change):
    """The balance of lows and highs turned about 1 kHz by up to `decibels` each way, up here and down there
    (a first-order shelf)."""

    def __init__(self, source: AudioSource, probability: float = 0.5, decibels: float = 6.0) -> None:
        super().__init__(source, probability)
        self.decibels = decibels

    def changed(self, clip: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
        return tilted(clip, float(rng.uniform(-self.decibels, self.decibels)), sample_rate)


def tilted(clip: np.ndarray, decibels: float, sample_rate: int, pivot: float = 1000.0) -> np.ndarray:
    """`[1, T]` with `decibels` more far above `pivot` Hz, and as many less far below it.

    H(s) = (g s + w) / (s + g w) with g the gain of the highs, by the bilinear transform; 1 at `pivot`.
    """
    g = 10 ** (decibels / 20)
    k = np.tan(np.pi * pivot / sample_rate)
    b, a = np.array([g + k, k - g]) / (1 + g * k), np.array([1.0, (g * k - 1) / (g * k + 1)])
    return np.asarray(scipy.signal.lfilter(b.astype(np.float32), a.astype(np.float32), clip))


class Gain(Change):
    """A level of `lowest` to `highest` dB, uniform."""

    def __init__(
        self, source: AudioSource, probability: float = 1.0, lowest: float = -12.0, highest: float = 0.0
    ) -> None:
        super().__init__(source, probability)
        self.lowest, self.highest = lowest, highest

    def changed(self, clip: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
        del sample_rate
        return clip * np.float32(10 ** (rng.uniform(self.lowest, self.highest) / 20))


class Polarity(Change):
    """The sign inverted."""

    def __init__(self, source: AudioSource, probability: float = 0.5) -> None:
        super().__init__(source, probability)

    def changed(self, clip: np.ndarray, rng: np.random.Generator, sample_rate: int) -> np.ndarray:
        del rng, sample_rate
        return -clip


CHANGES: dict[str, Callable[[AudioSource], AudioSource]] = {
    "speed": Speed,
    "mixing": Mixing,
    "equaliser": Equaliser,
    "tilt": Tilt,
    "gain": Gain,
    "polarity": Polarity,
}
DEFAULT = ("speed", "mixing", "equaliser", "polarity")


def check_changes(names: str | tuple[str, ...]) -> tuple[str, ...]:
    """Names of changes, also as one text with commas -> the names. Raises UnknownNameError."""
    parts = tuple(name.strip() for name in names.split(",")) if isinstance(names, str) else names
    parts = tuple(name for name in parts if name)
    for name in parts:
        if name not in CHANGES:
            raise UnknownNameError("augmentation", name, CHANGES)
    return parts


class AugmentedSource(AudioSource):
    """Draws from another source and changes what it drew, with each change's own probability.

    Args:
        source: where clips come from. changes: names (see `CHANGES`), in the order in which they are made.
    """

    def __init__(self, source: AudioSource, changes: str | tuple[str, ...] = DEFAULT) -> None:
        """Raises UnknownNameError: no such change."""
        self.source = source
        self.names, self.total_seconds = source.names, source.total_seconds
        self.description = source.description
        self._changed = source
        for name in check_changes(changes):
            self._changed = CHANGES[name](self._changed)

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        """As the source's own; falls back on a clip as it is if every changed one is silent in a half."""
        for _ in range(TRIES):
            clip, name = self._changed.draw(rng, samples, sample_rate)
            if not is_silent(clip):
                return clip, name
        return self.source.draw(rng, samples, sample_rate)


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
