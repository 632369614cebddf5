"""Timbral features: equal to the reference's, and never an exception."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from dafxhost.errors import ShapeError, UnknownNameError, UsageError
from dafxhost.timbre import FEATURES, filterbank, timbral_features
from dafxhost.timbre.analysis import analyse
from dafxhost.timbre.envelope import peak_envelope
from dafxhost.timbre.medians import running_medians
from dafxhost.timbre.peaks import find_peaks
from timbral_clips import reference_clips

FROZEN = json.loads(Path(__file__).with_name("timbral_reference.json").read_text(encoding="utf-8"))["values"]
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def clips() -> dict[str, tuple[np.ndarray, int]]:
    return reference_clips()


@pytest.mark.parametrize("name", sorted(FROZEN))
def test_values_are_those_of_the_reference(name: str, clips: dict[str, tuple[np.ndarray, int]]) -> None:
    audio, rate = clips[name]
    done = timbral_features(audio[None], rate)
    ours = dict(zip(FEATURES, done.values[0].tolist(), strict=True))
    assert len(FROZEN[name]) >= 7
    for feature, value in FROZEN[name].items():
        assert abs(ours[feature] - value) < TOLERANCE, feature
    assert set(done.reasons[0]) == {feature for feature in FEATURES if not np.isfinite(ours[feature])}


def test_a_clip_does_not_depend_on_its_batch_or_level() -> None:
    rng = np.random.default_rng(0)
    audio = rng.standard_normal((2, 1, 22050)) * np.exp(-np.arange(22050) / 4000)
    both = timbral_features(audio * [[[0.3]], [[0.01]]], 44100).values
    alone = timbral_features(audio[1:] * 0.01, 44100).values
    louder = timbral_features(audio[1:] * 0.1, 44100).values
    np.testing.assert_array_equal(both[1:], alone)
    np.testing.assert_allclose(alone, louder, rtol=1e-4)
    assert np.isfinite(alone[0, :7]).all()


def _shapes() -> dict[str, np.ndarray]:
    n = 9000
    impulse = np.zeros(n)
    impulse[4000] = 1.0
    return {
        "silence": np.zeros(n),
        "dc": np.full(n, 0.5),
        "impulse": impulse,
        "clipping": np.clip(5 * np.sin(np.arange(n) / 30.0), -1, 1),
        "tiny": 1e-30 * np.ones(n),
        "huge": 1e30 * np.sin(np.arange(n)),
        "nan": np.full(n, np.nan),
        "ramp": np.linspace(0, 1, n),
        "half silent": np.concatenate([np.sin(np.arange(n // 2) / 9.0), np.zeros(n - n // 2)]),
    }


@pytest.mark.parametrize("name", sorted(_shapes()))
@pytest.mark.parametrize("rate", [8000, 44100, 192000])
def test_no_clip_raises(name: str, rate: int) -> None:
    _complete(np.stack([_shapes()[name]])[None], rate)


@pytest.mark.parametrize("samples", [1, 2, 3, 100, 513, 2048, 4097])
def test_short_clips_do_not_raise(samples: int) -> None:
    _complete(np.random.default_rng(samples).standard_normal((1, 1, samples)), 44100)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 12000),
    st.sampled_from([1000, 8000, 11025, 22050, 44100, 48000, 96000]),
)  # fmt: skip
def test_any_clip_has_a_value_or_a_reason(seed: int, channels: int, samples: int, rate: int) -> None:
    rng = np.random.default_rng(seed)
    audio = rng.standard_normal((1, channels, samples)) ** rng.integers(1, 4)
    audio[..., rng.integers(samples) :] *= rng.choice([0.0, 1e-6, 1.0])
    _complete(np.round(audio, int(rng.integers(0, 5))).astype(np.float32), rate)


def _complete(audio: np.ndarray, rate: int) -> None:
    done = timbral_features(audio, rate)
    assert done.values.shape == (1, len(FEATURES))
    for name, value in zip(FEATURES, done.values[0], strict=True):
        assert np.isfinite(value) != (name in done.reasons[0])
    assert all(done.reasons[0].values())
    assert not np.isinf(done.values).any()


@pytest.mark.parametrize(
    ("audio", "rate", "error", "words"),
    [
        (np.zeros((2, 5)), 44100, ShapeError, "B, C, T"),
        (np.zeros((1, 1, 0)), 44100, ShapeError, "at least one sample"),
        (np.zeros((1, 1, 9), int), 44100, UsageError, "floating-point"),
        (np.zeros((1, 1, 9)), 5, UsageError, "outside"),
        (np.zeros((1, 1, 9)), 44100.5, UsageError, "whole number"),
    ],
)
def test_bad_requests_are_refused(audio: np.ndarray, rate: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        timbral_features(audio, rate)


def test_unknown_features_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="brightness"):
        timbral_features(np.zeros((1, 1, 9)), 44100, ["brightnes"])
    with pytest.raises(UsageError, match="once"):
        timbral_features(np.zeros((1, 1, 9)), 44100, ["depth", "depth"])


@pytest.mark.parametrize("seed", range(8))
def test_the_envelope_is_the_recursion(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = np.arange(1500)
    samples = rng.standard_normal(1500) * np.exp(-n / rng.choice([100, 500, 1e9])) * np.sin(n * rng.random())
    if seed == 0:
        samples[200:600] = 0.7
    if seed > 5:  # bursts with tails that fade below what a sum with the peak can hold
        samples = rng.standard_normal(1500) * np.exp(-(n % 700) / 3.0) + 1e-17 * np.sin(n / 9)
    rate, level, wanted = 2000, 0.0, []
    fall, held = np.abs(samples).max() / (0.1 * rate), 0
    for x in np.abs(samples):
        if x >= level:
            level, held = x, 0
        elif held < 0.01 * rate:
            held += 1
        else:
            level = max(level - fall, x)
        wanted.append(level)
    np.testing.assert_allclose(peak_envelope(samples, rate, 0.1), wanted, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (16, 2), (45, 40)])
def test_running_medians_are_medians_of_31(shape: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    padded = np.pad(values, ((15, 15), (0, 0)), mode="symmetric")
    wanted = [np.median(padded[i : i + 31], axis=0) for i in range(len(values))]
    np.testing.assert_array_equal(running_medians(values), wanted)


def test_band_levels_of_long_windows_are_those_of_the_filters() -> None:
    windows = np.random.default_rng(0).standard_normal((4, 4096))
    windows[1, :4093], windows[2] = 0.0, 0.0
    windows[3] *= np.linspace(0, 1, 4096) ** 20
    done = filterbank.levels(windows, 44100, 4)
    for level, coefficients in zip(done.T, filterbank.third_octaves(44100), strict=True):
        with np.errstate(divide="ignore"):
            power = 10 * np.log10(np.square(lfilter(*coefficients, windows)).mean(axis=1))
        np.testing.assert_allclose(level, power, atol=1e-4)


@pytest.mark.parametrize("threshold", [0.01, 0.2, 0.6])
def test_peaks_of_many_spectra_are_those_of_each(threshold: float) -> None:
    spectra = np.random.default_rng(0).random((5, 300)) ** 2
    wanted = [_scanned(spectrum, threshold) for spectrum in spectra.tolist()]
    done = find_peaks(spectra, threshold)
    assert [done.index[done.row == i].tolist() for i in range(5)] == wanted


def _scanned(x: list[float], threshold: float) -> list[int]:
    """One spectrum from left to right: a top counts if it is above the notches on both sides."""
    edges = range(len(x))
    tops = [i for i in edges if x[i] >= threshold and (i == 0 or x[i] > x[i - 1])
            and (i == len(x) - 1 or x[i + 1] <= x[i])]  # fmt: skip
    kept, best, left, right = [], tops[0], -2.0, 2.0
    for last, top in pairwise(tops):
        right = min(right, *x[last : top - 1])
        if x[best] - right >= threshold:
            strong = x[best] - left >= threshold
            kept += [best] if strong else []
            left, best, right = (right if strong else min(left, right)), top, 2.0
        elif x[top] > x[best]:
            left, best, right = min(left, right), top, 2.0
    return kept + ([best] if x[best] - left >= threshold else [])


def test_peaks_need_contrast_on_both_sides() -> None:
    spectrum = np.array([[0.0, 0.5, 0.0, 0.0, 1.0, 0.99, 0.98, 0.995, 0.0, 0.0, 0.3, 0.0]])
    assert find_peaks(spectrum, 0.2).index.tolist() == [1, 4, 10]
    assert find_peaks(spectrum, 0.4).index.tolist() == [1, 4]
    assert find_peaks(np.zeros((2, 4)), 0.2).index.size == 0


def test_selection_takes_what_says_most() -> None:
    rng = np.random.default_rng(0)
    one, two, x, y = rng.standard_normal((4, 500))
    table = np.stack([one, one + 0.1 * x, one + 0.1 * y, two, np.ones(500)], axis=1)
    table[::7, 1] = np.nan
    done = analyse("abcde", table)
    first, second = done.select(2)
    assert first.name in "abc"
    assert second.name == "d"
    assert second.redundancy < 0.05
    assert second.explained > 0.95
    assert done.counts.tolist() == [500, 428, 500, 500, 500]
    with pytest.raises(UsageError, match="1 to 4"):
        done.select(5)
