"""`eq-compressor`: NumPy against torch, gradients against differences, and what the formulas promise."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

import dafxhost
from dafxhost.errors import DafxhostError, ParameterError, PluginError, ShapeError, UnknownNameError
from dafxhost.processor import RenderSpec
from dafxhost_effects.builtin import eq_compressor as numpy_side
from dafxhost_effects.eq_compressor import BANDS, HIGHEST, PARAMETERS
from dafxhost_effects.torch_effects import eq_compressor as torch_side

FLAT: dict[str, Any] = {f"{band}_gain": 0 for band in BANDS} | {"ratio": 1, "makeup": 0}


def noise(channels: int, seconds: float, rate: int) -> np.ndarray:
    """`[channels, T]` float32, RMS 0.2."""
    shape = (channels, round(seconds * rate))
    return (0.2 * np.random.default_rng(channels).standard_normal(shape)).astype(np.float32)


def render(audio: np.ndarray, settings: torch.Tensor, rate: int) -> np.ndarray:
    """`[C, T]` and `[K, 24]` -> `[K, C, T]`, by a worker."""
    with dafxhost.Executor(dafxhost.effect("eq-compressor"), workers=1) as executor:
        return executor.render(audio[None], settings.numpy()[None], rate)[0]


def corners(count: int, seed: int) -> torch.Tensor:
    """Random settings; in the second half every parameter lies at one of its bounds."""
    u = torch.rand(count, len(PARAMETERS), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u[count // 2 :] = u[count // 2 :].round()
    return u


def decibels(error: np.ndarray, of: np.ndarray) -> float:
    return float(10 * np.log10(np.square(error).sum() / np.square(of).sum()))


def in_torch(
    audio: np.ndarray, settings: torch.Tensor, rate: int = 24000, dtype: Any = torch.float32
) -> np.ndarray:
    """`[1, C, T]` and `[K, 24]` -> `[K, C, T]`."""
    return torch_side.eq_compressor(torch.from_numpy(audio).to(dtype), settings, rate).numpy()


def processed(audio: np.ndarray, rate: int = 24000, pieces: int = 1, **values: Any) -> np.ndarray:
    """Audio `[C, T]` through the processor, without a worker."""
    fx = dafxhost.effect("eq-compressor")
    processor = numpy_side.EqCompressorProcessor({}, RenderSpec(rate, len(audio)))
    processor.prepare(fx.plugin_values(fx.setting(**values)))
    out = np.empty_like(audio)
    for part in np.array_split(np.arange(audio.shape[1]), pieces):
        piece = np.empty((len(audio), len(part)), np.float32)
        processor.process(np.ascontiguousarray(audio[:, part]), piece)
        out[:, part] = piece
    return out


def test_it_is_registered_with_the_parameters_of_deepafx_st() -> None:
    fx = dafxhost.effect("eq-compressor")
    assert len(fx.parameters) == 24 and len(BANDS) == 6
    assert (fx.provider.name, fx.parameter_names[-6:]) == (
        "builtin",
        ["threshold", "ratio", "attack", "release", "knee", "makeup"],
    )
    with pytest.raises(UnknownNameError, match="builtin"):
        dafxhost.effect("eq-compressor", "lv2")


@pytest.mark.parametrize(("rate", "channels"), [(24000, 1), (44100, 2), (8000, 1)])
def test_numpy_and_torch_null(rate: int, channels: int) -> None:
    settings = corners(24, seed=rate)
    audio = noise(channels, 1.0, rate)
    audio[..., rate // 3 : rate // 2] *= 1e-4  # a pause, so that the compressor lets go
    wet = render(audio, settings, rate)
    for dtype in (torch.float32, torch.float64):
        ours = in_torch(audio[None], settings, rate, dtype)
        worst = max(decibels(a - b, of=b) for a, b in zip(ours, wet, strict=True))
        assert worst < (-100 if dtype == torch.float32 else -125)


def test_a_short_and_an_odd_clip_null_too() -> None:
    for samples in (1, 2, 777):
        audio, settings = noise(1, 1.0, 24000)[:, :samples], corners(2, seed=samples)
        wet = render(audio, settings, 24000)
        assert decibels(in_torch(audio[None], settings) - wet, of=wet) < -100


def test_gradients_are_those_of_finite_differences() -> None:
    """Of all 24 parameters, in float64, through a loss that looks at every sample."""
    generator = torch.Generator().manual_seed(3)
    dry = 0.2 * torch.randn(1, 1, 3000, generator=generator, dtype=torch.float64)
    weights = torch.randn(1, 1, 3000, generator=generator, dtype=torch.float64)
    settings = 0.1 + 0.8 * torch.rand(4, 24, generator=generator, dtype=torch.float64)

    def loss(u: torch.Tensor) -> torch.Tensor:
        return (torch_side.eq_compressor(dry, u, 24000) * weights).sum((-2, -1))

    u = settings.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(u).sum(), u)
    moves = 1e-6 * torch.eye(24, dtype=torch.float64)
    with torch.no_grad():
        differences = torch.stack([(loss(settings + m) - loss(settings - m)) / 2e-6 for m in moves], dim=1)
    assert (gradient.abs() > 1e-9).all(), "a parameter says nothing"
    assert (gradient - differences).norm() < 1e-4 * gradient.norm()
    torch.testing.assert_close(gradient, differences, rtol=5e-3, atol=1e-4 * float(gradient.abs().max()))


def test_gradients_reach_the_audio_and_stop_at_the_bounds() -> None:
    dry = torch.from_numpy(noise(1, 0.1, 24000))[None].requires_grad_()
    outside = torch.full((1, 24), 0.5)
    outside[:, ::2] = 1.5
    outside.requires_grad_()
    torch_side.eq_compressor(dry, outside, 24000).square().sum().backward()
    assert dry.grad is not None and dry.grad.abs().min() > 0
    assert outside.grad is not None
    assert (outside.grad[:, ::2] == 0).all() and (outside.grad[:, 1::2] != 0).all()


def test_one_spectrum_serves_all_settings() -> None:
    dry = torch.from_numpy(noise(2, 0.2, 24000)).reshape(1, 1, 2, -1)
    settings = corners(3, seed=1)[None]
    shared = torch_side.spectrum(dry, 24000)
    whole = torch_side.eq_compressor(dry, settings, 24000, shared)
    assert whole.shape == (1, 3, 2, dry.shape[-1])
    for k in range(3):
        alone = torch_side.eq_compressor(dry[:, 0], settings[:, k], 24000)
        torch.testing.assert_close(whole[:, k], alone, rtol=1e-5, atol=1e-6)


def test_flat_leaves_audio_alone() -> None:
    audio = noise(2, 0.5, 24000)
    np.testing.assert_allclose(processed(audio, **FLAT), audio, rtol=1e-6)


def test_native_values_are_the_parameters_own() -> None:
    settings = corners(4, seed=9)
    expected = dafxhost.effect("eq-compressor").plugin_values(settings.numpy())
    np.testing.assert_allclose(torch_side.native_values(settings).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("gain", [-12.0, 12.0])
def test_bands_have_their_gain_where_it_is_asked_for(gain: float) -> None:
    """A peak at its frequency; a shelf far below or above, half of its decibels at its frequency."""
    hertz = np.array([100.0, 300.0, 1000.0, 2000.0, 4000.0, 5000.0])
    for i, band in enumerate(BANDS):
        bands = np.stack([np.where(np.arange(6) == i, gain, 0.0), hertz, np.full(6, 0.7071)], axis=1)
        b, a = numpy_side.biquads(bands, 48000.0)[i, :3], [1.0, *numpy_side.biquads(bands, 48000.0)[i, 3:]]

        def level(frequency: float, b: Any = b, a: Any = a) -> float:
            z = np.exp(-2j * np.pi * frequency / 48000.0 * np.arange(3))
            return 20 * np.log10(abs((b @ z) / (a @ z)))

        full = {"low_shelf": 0.0, "high_shelf": 24000.0}.get(band, hertz[i])
        assert level(full) == pytest.approx(gain, abs=1e-6)
        assert level(24000.0 - full if "shelf" in band else 0.0) == pytest.approx(0.0, abs=1e-6)
        if "shelf" in band:
            assert level(hertz[i]) == pytest.approx(gain / 2, abs=1e-6)


def test_the_compressor_follows_its_curve_in_its_time() -> None:
    """A constant of -6 dBFS, threshold -26: 20 dB over, of which ratio 4 leaves 5."""
    audio = np.full((1, 24000), 10 ** (-6 / 20), np.float32)
    values = FLAT | {"threshold": -26, "ratio": 4, "knee": 6, "attack": 10, "release": 100, "makeup": 3}
    gain = 20 * np.log10(processed(audio, **values)[0] / audio[0])
    assert gain[-1] == pytest.approx(-15 + 3, abs=1e-4)
    tau = round(24000 * np.sqrt(10 * 100) / 1000)
    assert gain[tau - 1] == pytest.approx(3 - 15 * (1 - np.exp(-1)), abs=0.01)


def test_the_knee_is_a_parabola() -> None:
    level = np.array([-40.0, -23.0, -20.0, -17.0, 0.0], np.float32)
    gain = numpy_side.gain_decibels(level, -20.0, 2.0, 6.0)
    np.testing.assert_allclose(gain, [0.0, 0.0, -0.5 * 9 / 12, -1.5, -10.0], atol=1e-5)


def test_both_channels_get_one_gain() -> None:
    audio = noise(2, 0.5, 24000)
    audio[1] *= 0.01
    wet = processed(audio, **(FLAT | {"threshold": -40, "ratio": 8}))
    np.testing.assert_allclose(wet[0] / audio[0], wet[1] / audio[1], rtol=1e-3)
    assert np.abs(wet[0] / audio[0]).min() < 0.5


def test_it_carries_on_from_piece_to_piece() -> None:
    audio = noise(2, 0.5, 24000)
    values = {"low_shelf_gain": 12, "low_shelf_freq": 40, "low_shelf_q": 3, "threshold": -50, "release": 900}
    np.testing.assert_allclose(
        processed(audio, pieces=13, **values), processed(audio, **values), rtol=1e-5, atol=1e-7
    )


@pytest.mark.parametrize("rate", [8000, 24000, 96000])
def test_all_poles_lie_within_the_unit_circle(rate: int) -> None:
    """Also where a band's frequency lies above half the sample rate."""
    fx = dafxhost.effect("eq-compressor")
    for values in fx.plugin_values(corners(200, seed=rate).numpy()):
        coefficients = numpy_side.biquads(values[:18].reshape(6, 3), float(rate))
        assert np.isfinite(coefficients).all()
        for a1, a2 in coefficients[:, 3:]:
            assert abs(a2) < 1 and abs(a1) < 1 + a2  # the stability triangle
    assert HIGHEST < 0.5


def test_what_does_not_fit_is_refused() -> None:
    spec = RenderSpec(24000)
    with pytest.raises(ParameterError, match="takes no options, not colour"):
        numpy_side.EqCompressorProcessor({"colour": 1}, spec)
    processor = numpy_side.EqCompressorProcessor({}, spec)
    assert processor.read_back() is None
    with pytest.raises(PluginError, match="before prepare"):
        processor.process(np.zeros((1, 8), np.float32), np.zeros((1, 8), np.float32))
    good = np.array([p.default for p in PARAMETERS])
    for bad in (good[:-1], np.where(np.arange(24) == 3, np.nan, good), good * 0 + 1e9):
        with pytest.raises(ParameterError, match="24 plugin values within their ranges"):
            processor.prepare(bad)
    processor.prepare(good)
    np.testing.assert_array_equal(processor.read_back(), good)
    for audio, settings in ((torch.zeros(8), torch.zeros(24)), (torch.zeros(1, 8), torch.zeros(23))):
        with pytest.raises(ShapeError, match=r"settings \[\.\.\., 24\], not \["):
            torch_side.eq_compressor(audio, settings, 24000)
    assert issubclass(ShapeError, DafxhostError)


def test_workers_load_no_torch_for_it() -> None:
    code = "import dafxhost_effects.builtin.eq_compressor, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
