"""The distance between recordings of different content."""

from __future__ import annotations

import numpy as np
import pytest

from dafxhost.errors import AudioFileError
from dafxhost.style_distance import LogMel, logmel_distance


def _noise(seconds: float, rate: int, colour: float, seed: int, channels: int = 1) -> np.ndarray:
    """Noise whose magnitude spectrum goes as 1 / f ** colour, with a beat of four per second."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal((channels, count)), axis=-1)
    frequency = np.maximum(np.fft.rfftfreq(count, 1 / rate), 20.0)
    audio = np.fft.irfft(spectrum / frequency**colour, count, axis=-1)
    audio *= np.exp(-8 * (np.arange(count) / rate % 0.25))
    return (audio / np.abs(audio).max()).astype(np.float32)


def _collect(audio: np.ndarray, rate: int, block: int = 4801) -> LogMel:
    mel = LogMel(rate)
    for start in range(0, audio.shape[1], block):
        mel.add(audio[:, start : start + block])
    return mel


def _distance(a: np.ndarray, b: np.ndarray, rate: int = 44100) -> float:
    return logmel_distance(_collect(a, rate), _collect(b, rate))


def test_it_is_zero_for_itself_and_symmetric_and_deaf_to_level() -> None:
    white, pink = _noise(3, 44100, 0, 1), _noise(3, 44100, 1, 2)
    assert _distance(white, white) == 0
    assert _distance(white, pink) == _distance(pink, white) > 5
    assert _distance(white, 0.01 * white) < 1e-3


def test_different_content_of_one_colour_is_near_and_other_colours_are_in_order() -> None:
    white = _noise(3, 44100, 0, 1)
    distances = [_distance(white, _noise(3, 44100, colour, 2)) for colour in (0, 0.3, 0.6, 1.0)]
    assert distances == sorted(distances) and distances[0] < 0.5 < distances[1]


def test_how_much_the_level_moves_counts() -> None:
    rng = np.random.default_rng(3)
    steady = rng.standard_normal((1, 3 * 44100)).astype(np.float32)
    assert _distance(_noise(3, 44100, 0, 1), steady) > 2


def test_blocks_channels_and_rates_do_not_matter() -> None:
    audio = _noise(2, 48000, 0.5, 4)
    whole = _collect(audio, 48000, block=10**9).statistics()
    for block in (1000, 2049, 7777):
        np.testing.assert_allclose(_collect(audio, 48000, block).statistics(), whole, atol=1e-3)
    np.testing.assert_allclose(_collect(np.repeat(audio, 2, 0), 48000).statistics(), whole, atol=1e-3)
    # The same sound at another rate; what lies above the lower rate's Nyquist is not compared.
    tone = [_tone(rate) for rate in (16000, 44100)]
    assert logmel_distance(_collect(tone[0], 16000), _collect(tone[1], 44100)) < 0.5


def _tone(rate: int) -> np.ndarray:
    t = np.arange(3 * rate) / rate
    partials = sum(np.sin(2 * np.pi * 110 * n * t) / n for n in range(1, 60))
    return (partials * np.exp(-3 * (t % 0.5)))[None].astype(np.float32)


def test_short_and_silent_recordings() -> None:
    assert _distance(_noise(0.01, 44100, 0, 1), _noise(0.01, 44100, 0, 1)) == 0
    with pytest.raises(AudioFileError, match="silent"):
        _collect(np.zeros((1, 44100), np.float32), 44100).statistics()
