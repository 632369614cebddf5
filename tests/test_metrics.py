"""Metrics: values known by hand, other implementations, and what is refused."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
import scipy.signal
import torch
import torchaudio

from dafxhost.errors import ShapeError, UnknownNameError, UsageError
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.metrics import DEFAULT, METRICS, Measurer, choose, compare
from dafxhost.metrics import table as metrics_table
from dafxhost.metrics.clips import Clips
from dafxhost.metrics.spectral import mel_distance

RATE = 24000
TIME = np.arange(2 * RATE) / RATE


def sine(hertz: float, amplitude: float = 0.25) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hertz * TIME)).astype(np.float32)[None]


def noise(seed: int, channels: int = 1, samples: int = 33000, level: float = 0.1) -> np.ndarray:
    return (level * np.random.default_rng(seed).standard_normal((channels, samples))).astype(np.float32)


def of(name: str, prediction: np.ndarray, target: np.ndarray, rate: int = RATE) -> float:
    return compare(prediction, target, rate, [name])[name]


@pytest.mark.parametrize("channels", [1, 2])
def test_equal_recordings_are_perfect(channels: int) -> None:
    """Computed, not by the short cut that `Measurer` takes for what is equal to the bit."""
    clips = Clips(noise(1, channels)[None], RATE)
    for name in DEFAULT:
        metric = METRICS[name]
        assert metric.measure(clips, clips)[0] == pytest.approx(metric.perfect, abs=1e-6), name
        assert compare(clips.audio[0], clips.audio[0], RATE)[name] == metric.perfect


def test_a_gain_of_six_decibels() -> None:
    """20 log10 2 = 6.0206 dB, not 20 ln 2 = 13.86."""
    quiet, loud = sine(1000, 0.2), sine(1000, 0.4)
    found = compare(loud, quiet, RATE)
    assert found["rms"] == pytest.approx(6.0206, abs=1e-3)
    assert found["lufs"] == pytest.approx(6.0206, abs=1e-3)
    assert found["crest"] == pytest.approx(0, abs=1e-3)
    assert found["centroid"] == pytest.approx(0, abs=0.1)
    assert found["si-sdr"] == 100  # scale does not count


def test_crest_factor_of_a_sine_and_a_square() -> None:
    """sqrt 2 against 1: 3.0103 dB."""
    square = np.sign(np.sin(2 * np.pi * 100.5 * TIME) + 1e-9).astype(np.float32)[None] * 0.3
    assert of("crest", square, sine(100.5)) == pytest.approx(3.0103, abs=1e-3)


def test_centroids_in_hertz() -> None:
    """Of a sine its frequency; torchaudio's for anything else that never falls silent."""
    assert of("centroid", sine(3000), sine(1000)) == pytest.approx(2000, rel=0.01)
    a, b = noise(1), scipy.signal.lfilter([1], [1, -0.9], noise(2)).astype(np.float32)
    theirs = torchaudio.transforms.SpectralCentroid(RATE, n_fft=2048, hop_length=1024)
    wanted = abs(float(theirs(torch.from_numpy(a)).mean() - theirs(torch.from_numpy(b)).mean()))
    assert of("centroid", a, b) == pytest.approx(wanted, rel=1e-4)


def test_silent_frames_have_no_centroid() -> None:
    burst = np.concatenate([sine(2000), np.zeros((1, RATE), np.float32)], axis=1)
    whole = np.concatenate([sine(2000), sine(2000)[:, :RATE]], axis=1)
    assert of("centroid", burst, whole) < 150  # the edge of the burst is a broad spectrum
    assert of("centroid", np.zeros_like(whole), whole) == pytest.approx(2000, rel=0.05)


def test_loudness_is_that_of_pyloudnorm() -> None:
    """A single channel is one channel: doubled to stereo both would be 3 LU higher."""
    pyloudnorm: Any = import_module("pyloudnorm")
    for rate in (24000, 44100):  # whole steps of 100 ms: pyloudnorm counts a block that is not whole as one
        a, b = noise(1, samples=2 * rate), noise(2, samples=2 * rate, level=0.03)
        b[:, :rate] = scipy.signal.lfilter([1], [1, -0.95], b[:, :rate])  # the gates have work to do
        meter = pyloudnorm.Meter(rate, filter_class="DeMan")
        x, y = (meter.integrated_loudness(clip[0].astype(np.float64)) for clip in (a, b))
        assert of("lufs", a, b, rate) == pytest.approx(abs(x - y), abs=1e-4)
    a = sine(1000)
    assert of("lufs", a, np.zeros_like(a)) < 70  # silence counts as -70 LUFS


def test_mel_distance_is_that_of_auraloss_by_other_means() -> None:
    """auraloss needs librosa for its bands, which are torchaudio's with Slaney's scale and area."""
    a, b = noise(1, 2, 70000), noise(2, 2, 70000, 0.2)
    bands = torchaudio.functional.melscale_fbanks(32769, 0.0, RATE / 2, 128, RATE, "slaney", "slaney").T
    mels = []
    for audio in (a, b):
        spectrum = torch.stft(
            torch.from_numpy(audio), 65536, 65536, window=torch.hann_window(65536), return_complex=True
        )
        mels.append(bands @ spectrum.abs().square().clamp(min=1e-8).sqrt())
    wanted = (mels[0] - mels[1]).abs().mean() + (mels[0].log() - mels[1].log()).abs().mean()
    assert of("mel", a, b) == pytest.approx(float(wanted), rel=1e-3)


def test_mel_distance_of_short_clips_takes_a_shorter_window() -> None:
    assert (
        mel_distance(Clips(noise(1, samples=1024)[None], RATE), Clips(noise(2, samples=1024)[None], RATE)) > 0
    )


def test_mfcc_cosine_is_that_of_torchaudio() -> None:
    """On frames inside the clip, of which every second one is taken."""
    a, b = noise(1), scipy.signal.lfilter([1], [1, -0.9], noise(2)).astype(np.float32)
    transform = torchaudio.transforms.MFCC(
        RATE, 30, melkwargs={"n_fft": 400, "hop_length": 400, "n_mels": 60, "center": False}
    )
    x, y = (transform(torch.from_numpy(clip))[0] for clip in (a, b))
    wanted = torch.nn.functional.cosine_similarity(x, y, dim=0).mean()
    assert of("mfcc", a, b) == pytest.approx(float(wanted), abs=1e-3)


def test_si_sdr_by_hand() -> None:
    """A target and a rest orthogonal to it, a tenth of its amplitude: 20 dB."""
    target, rest = sine(1000), (0.025 * np.cos(2 * np.pi * 1000 * TIME)).astype(np.float32)[None]
    assert of("si-sdr", target + rest, target) == pytest.approx(20, abs=1e-3)
    assert of("si-sdr", 0.3 * (target + rest) + 0.1, target) == pytest.approx(20, abs=1e-3)
    assert of("si-sdr", np.zeros_like(target), target) == -100
    assert of("si-sdr", rest, target) < -90


def test_mr_stft_is_the_distance_of_training() -> None:
    a, b = noise(1), noise(2)
    wanted = MultiResolutionSTFT()(torch.from_numpy(a)[None], torch.from_numpy(b)[None])
    assert of("mr-stft", a, b) == pytest.approx(float(wanted))


@pytest.mark.skipif(find_spec("pesq") is None, reason="package pesq is not installed")
def test_pesq() -> None:
    """Highest for equal recordings, lower the more noise; none for silence."""
    carrier = np.abs(scipy.signal.lfilter([1], [1, -0.999], noise(3, samples=2 * RATE)[0]))
    voice = (carrier * noise(4, samples=2 * RATE)[0]).astype(np.float32)[None]
    voice *= 0.3 / np.abs(voice).max()
    scores = [of("pesq", voice + noise(5, samples=2 * RATE, level=x), voice) for x in (0.0, 0.003, 0.03)]
    assert scores[0] == pytest.approx(4.644, abs=0.01) and scores[0] > scores[1] > scores[2] > 1
    assert np.isnan(of("pesq", np.zeros_like(voice), voice))


def test_a_failed_render_costs_its_own_row() -> None:
    renders = np.stack([noise(1), np.full((1, 33000), np.nan, np.float32), noise(2)])
    values = Measurer(choose().metrics, RATE).measure(renders, noise(2))
    assert np.isnan(values[1]).all() and np.isfinite(values[[0, 2]]).all()
    assert values[2].tolist() == [m.perfect for m in choose().metrics]


def test_every_metric_says_what_it_is() -> None:
    for name, metric in METRICS.items():
        assert name == metric.name and metric.source and metric.title
        assert metric.to_dict()["better"] in ("lower", "higher")


def test_choosing() -> None:
    assert choose().names == DEFAULT and "pesq" in choose().skipped
    assert choose(["crest"]).names == ("mr-stft", "crest")
    assert "0 by construction" in choose().without_levels().skipped["rms"]
    with pytest.raises(UnknownNameError, match="unknown metric 'centroids'; did you mean centroid"):
        choose(["centroids"])


def test_a_package_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    missing = replace(METRICS["pesq"], installed=lambda: False)
    monkeypatch.setitem(metrics_table.METRICS, "pesq", missing)
    with pytest.raises(UsageError, match="needs package pesq: pip install pesq"):
        choose(["pesq"])
    assert "not installed" in choose(["all"]).skipped["pesq"]


def test_refusals() -> None:
    with pytest.raises(ShapeError, match="one shape"):
        compare(noise(1), noise(1)[:, :-1], RATE)
    with pytest.raises(ShapeError, match="at least 1024"):
        compare(noise(1, samples=1000), noise(1, samples=1000), RATE)
    with pytest.raises(UsageError, match="NaN"):
        compare(np.full((1, 2000), np.nan), noise(1, samples=2000), RATE)
