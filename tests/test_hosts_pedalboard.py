"""pedalboard's built-in effects by name."""

from __future__ import annotations

import numpy as np
import pedalboard
import pytest

import dafxhost
from dafxhost.errors import PluginError
from dafxhost.processor import RenderSpec
from dafxhost_effects import pedalboard_effects
from dafxhost_effects.hosts.pedalboard_builtin import PedalboardProcessor
from hosting import RATE, noise, render


@pytest.mark.parametrize("name", sorted(pedalboard_effects.TABLE))
def test_every_builtin_renders_repeatably_and_reads_back(name: str) -> None:
    effect = dafxhost.effect(name)
    processor = PedalboardProcessor(effect.provider.options, RenderSpec(RATE, 2))
    rng = np.random.default_rng(2)
    audio = noise(2, 1.5 if processor.latency else 0.3)[0]
    draws = rng.random((4, len(effect.parameters)))
    first = []
    for setting in (*draws, *draws):
        values, wet = effect.plugin_values(setting), np.empty_like(audio)
        processor.prepare(values)
        processor.process(audio, wet)
        read = processor.read_back()
        assert np.all(np.abs(read - values) <= effect.provider.read_back_tolerance), (read, values)
        assert np.isfinite(wet).all()
        first.append(wet)
    for i in range(4):
        np.testing.assert_array_equal(first[i], first[4 + i])


@pytest.mark.parametrize("name", sorted(pedalboard_effects.TABLE))
def test_defaults_are_pedalboards_own(name: str) -> None:
    effect = dafxhost.effect(name)
    plugin = getattr(pedalboard, effect.provider.options["effect"])()
    for p in effect.parameters:
        value = getattr(plugin, p.name)
        if p.kind == "choice":
            assert value.name == p.choices[int(p.default)]
        else:
            assert float(value) == pytest.approx(p.default, abs=1e-3), p.name


def test_a_worker_gives_what_pedalboard_gives() -> None:
    effect = dafxhost.effect("pedalboard-reverb")
    audio = noise(2)
    wet = render(effect, audio, effect.setting(room_size=0.8, wet_level=0.5)[None, None])[0]
    own = pedalboard.Reverb(room_size=0.8, wet_level=0.5)
    np.testing.assert_allclose(wet, own.process(audio[0], RATE, buffer_size=512), atol=1e-5)


@pytest.mark.parametrize("name", ["pedalboard-reverb", "pedalboard-delay"])
def test_chunks_down_to_one_sample(name: str) -> None:
    effect = dafxhost.effect(name)
    processor = PedalboardProcessor(effect.provider.options, RenderSpec(RATE, 2))
    audio = noise(2, 0.1)[0]
    whole, parts = np.empty_like(audio), np.empty_like(audio)
    values = effect.plugin_values(effect.default_setting())
    processor.prepare(values)
    processor.process(audio, whole)
    processor.prepare(values)
    for start, stop in ((0, 900), (900, 901), (901, 903), (903, 906), (906, audio.shape[1])):
        piece = np.ascontiguousarray(audio[:, start:stop])
        wet = np.empty_like(piece)
        processor.process(piece, wet)
        parts[:, start:stop] = wet
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    processor.prepare(values)
    with pytest.raises(PluginError, match="fewer than three samples"):
        processor.process(audio[:, :2].copy(), np.empty((2, 2), np.float32))


def test_pitch_shift_keeps_time() -> None:
    effect = dafxhost.effect("pedalboard-pitch-shift")
    t = np.arange(RATE * 2) / RATE
    audio = (np.sin(2 * np.pi * 300 * t) * np.exp(-(((t - 1) / 0.1) ** 2))).astype(np.float32)[None, None]
    wet = render(effect, audio, effect.setting(semitones=12)[None, None])[0, 0]
    spectrum = np.abs(np.fft.rfft(wet))
    assert spectrum.argmax() / 2 == pytest.approx(600, abs=10)
    energy = np.convolve(wet**2, np.ones(2205), "same")
    assert energy.argmax() / RATE == pytest.approx(1.0, abs=0.05)


def test_cutoff_above_half_the_sample_rate_stays_finite() -> None:
    effect = dafxhost.effect("pedalboard-peak")
    values = effect.plugin_values(effect.setting(cutoff_frequency_hz=20000, gain_db=20))
    processor = PedalboardProcessor(effect.provider.options, RenderSpec(8000, 1))
    audio = noise(1, 1.0)[0]
    wet = np.empty_like(audio)
    processor.prepare(values)
    processor.process(audio, wet)
    assert np.abs(wet).max() < 100
    np.testing.assert_allclose(processor.read_back(), values, atol=2e-3)
