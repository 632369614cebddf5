"""The built-in mda effects: against the real plugins (in workers of their own), and by themselves.

An effect is added by a line in `GOALS`; mda-combo has its own tests as well.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

import dafxhost
from dafxhost.errors import ParameterError, PluginError
from dafxhost.processor import Processor, RenderSpec
from dafxhost_effects.builtin.base import rounded_sums, varying_one_pole
from dafxhost_effects.builtin.ringmod import TWO_PI, RingModProcessor
from dafxhost_effects.mda import BUILTIN
from hosting import real_plugin
from null_benchmark import null_test

GOALS: dict[str, float] = {  # dB, the worst null that is accepted; why, where it is not -60
    "mda-ambience": -60.0,
    "mda-combo": -60.0,
    "mda-delay": -60.0,
    "mda-dynamics": -60.0,
    "mda-leslie": -60.0,
    "mda-limiter": -60.0,
    "mda-multiband": -60.0,
    "mda-overdrive": -60.0,
    "mda-ringmod": -60.0,
    "mda-subsynth": -60.0,
    "mda-thruzero": -60.0,
}
EFFECTS = sorted(GOALS)
BLOCK = 512
HIGHEST = {  # Hz, where the plugin is not fit for every rate
    # With hi_depth at 1 its horn's delay is longer than its buffer above 97280 Hz: NaN, infinities, anything.
    "mda-leslie": 96000,
}


def make(name: str, rate: int, channels: int) -> Processor:
    module, cls = BUILTIN[name].split(":")
    processor = getattr(importlib.import_module(module), cls)
    return processor({}, RenderSpec(rate, channels=channels, block_size=BLOCK))


def values_of(name: str, seed: int) -> np.ndarray:
    """Plugin values `[P]` of a random setting; seed -1: the defaults."""
    effect = dafxhost.effect(name, provider="builtin")
    if seed < 0:
        return np.asarray(effect.plugin_values(effect.setting()))
    return np.asarray(effect.plugin_values(np.random.default_rng(seed).random(len(effect.parameters))))


def run(processor: Processor, audio: np.ndarray, chunks: list[int] | None = None) -> np.ndarray:
    out = np.full_like(audio, np.nan)
    at = 0
    for size in chunks or [audio.shape[1]]:
        piece = np.ascontiguousarray(audio[:, at : at + size])
        wet = np.full_like(piece, np.nan)
        processor.process(piece, wet)
        out[:, at : at + size] = wet
        at += size
    return out


def render(name: str, seed: int, audio: np.ndarray, rate: int = 44100, chunks: list[int] | None = None):
    processor = make(name, rate, len(audio))
    processor.prepare(values_of(name, seed))
    return run(processor, audio, chunks)


# --- against the real plugin


@pytest.mark.parametrize("name", EFFECTS)
def test_null(name: str) -> None:
    real_plugin(name)
    nulls, _ = null_test.compare(name, 8, seconds=1.0, seed=3)
    worst = max(nulls, key=lambda n: n.depth)
    print(f"worst null depth: {worst}")
    assert worst.depth <= GOALS[name], worst


@pytest.mark.parametrize("name", EFFECTS)
@pytest.mark.parametrize("rate", [8000, 48000, pytest.param(192000, marks=pytest.mark.slow)])
def test_null_of_the_defaults_and_the_corners(name: str, rate: int) -> None:
    """A fresh instance's own values, for which the plugin may keep 44.1 kHz coefficients, all 0 and all 1."""
    real_plugin(name)
    rate = min(rate, HIGHEST.get(name, rate))
    real, ours = dafxhost.effect(name, provider="lv2"), dafxhost.effect(name, provider="builtin")
    count = len(real.parameters)
    rows = np.stack([real.setting(), np.zeros(count), np.ones(count)])
    clip = null_test.music(rate, 0.5, 5)[None]
    with dafxhost.Executor(real, workers=1) as a, dafxhost.Executor(ours, workers=1) as b:
        pairs = zip(a.render(clip, rows[None], rate)[0], b.render(clip, rows[None], rate)[0], strict=True)
        depths = [null_test.null_depth(y, z) for y, z in pairs]
    assert max(depths) <= GOALS[name], depths


@pytest.mark.parametrize("silent", [0, 1])
@pytest.mark.parametrize("name", EFFECTS)
def test_null_with_one_channel_silent(name: str, silent: int) -> None:
    """What a plugin clears for both channels when one has nothing to say."""
    real_plugin(name)
    real, ours = dafxhost.effect(name, provider="lv2"), dafxhost.effect(name, provider="builtin")
    rows = np.random.default_rng(8).random((4, len(real.parameters)))
    clip = null_test.music(44100, 0.5, 5)[None]
    clip[:, silent] = 0.0
    with (
        dafxhost.Executor(real, workers=1, block_size=BLOCK) as a,
        dafxhost.Executor(ours, workers=1, block_size=BLOCK) as b,
    ):
        pairs = zip(a.render(clip, rows[None], 44100)[0], b.render(clip, rows[None], 44100)[0], strict=True)
        depths = [null_test.null_depth(y, z) for y, z in pairs]
    assert max(depths) <= GOALS[name], depths


@pytest.mark.parametrize("levels", [1, 2, 3, 4, 7])
def test_every_choice_meets_every_signal(levels: int) -> None:
    kinds = null_test.signal_numbers(84, 3, levels)
    assert set(zip(kinds.tolist(), (np.arange(84) % levels).tolist(), strict=True)) == {
        (k, c) for k in range(3) for c in range(levels)
    }


# --- by itself


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("seed", [-1, 0, 1, 2])
@pytest.mark.parametrize("name", EFFECTS)
def test_stream_equals_whole(name: str, seed: int, channels: int) -> None:
    audio = np.ascontiguousarray(null_test.music(44100, 0.5, 2)[:channels])
    n = audio.shape[1]
    whole = render(name, seed, audio)
    assert np.isfinite(whole).all()
    scale = max(float(np.abs(whole).max()), 1.0)
    for chunks in (
        [BLOCK] * (n // BLOCK) + [n % BLOCK],
        [7 * BLOCK, n - 7 * BLOCK],
        [1, 2, 700, 33, 5000, 1, n - 5737],
    ):
        parts = render(name, seed, audio, chunks=chunks)
        assert np.allclose(parts, whole, rtol=0, atol=1e-6 * scale), chunks


def test_flanger_drops_its_feedback_where_the_stream_says_not_the_chunk() -> None:
    audio = null_test.music(44100, 0.5, 2)
    audio[0] = 0.0
    whole = render("mda-thruzero", 1, audio)
    parts = render("mda-thruzero", 1, audio, chunks=[1, 700, 33, 5000, audio.shape[1] - 5734])
    assert np.allclose(parts, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", EFFECTS)
def test_prepare_forgets(name: str) -> None:
    audio = null_test.music(24000, 0.5, 2)
    processor = make(name, 24000, 2)
    processor.prepare(values_of(name, 4))
    first = run(processor, audio)
    processor.prepare(values_of(name, 5))
    other = run(processor, audio)
    assert np.abs(first - other).max() > 1e-3
    processor.prepare(values_of(name, 4))
    assert np.array_equal(run(processor, audio), first)
    values = processor.read_back()
    assert values is not None and np.array_equal(values, values_of(name, 4))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("rate", [8000, 11025, 44100, 96000, 192000])
@pytest.mark.parametrize("name", EFFECTS)
def test_any_rate_and_any_length(name: str, rate: int, channels: int) -> None:
    """Silence, a sound and the silence after it, and one sample alone give finite samples."""
    quiet = np.zeros((channels, 3000), dtype=np.float32)
    loud = null_test.noise(rate, 0.05, 1)[:channels]
    for seed in range(3):
        assert np.isfinite(render(name, seed, quiet, rate)).all()
        assert np.isfinite(render(name, seed, np.concatenate([quiet, loud, quiet], axis=1), rate)).all()
        assert np.isfinite(render(name, seed, np.full((channels, 1), 0.5, dtype=np.float32), rate)).all()


@pytest.mark.parametrize("name", EFFECTS)
def test_mono_is_the_mean_of_both_outputs(name: str) -> None:
    one = np.ascontiguousarray(null_test.music(44100, 0.3, 7)[:1])
    for seed in range(4):
        both = render(name, seed, np.repeat(one, 2, axis=0))
        assert np.allclose(render(name, seed, one)[0], both.mean(axis=0), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", EFFECTS)
def test_wrong_use_is_refused(name: str) -> None:
    good = values_of(name, 0)
    processor = make(name, 44100, 1)
    audio = np.zeros((1, 10), dtype=np.float32)
    with pytest.raises(PluginError, match="before prepare"):
        processor.process(audio, audio.copy())
    high, nan = good.copy(), good.copy()
    high[0], nan[-1] = 1.1, np.nan
    for values in (good[:-1], np.append(good, 0.5), high, nan):
        with pytest.raises(ParameterError, match="plugin values"):
            processor.prepare(values)
    with pytest.raises(ParameterError, match="no options"):
        type(processor)({"gain": 1}, RenderSpec(44100))  # type: ignore[call-arg]


def test_all_import_numpy_only() -> None:
    modules = ", ".join(sorted({place.split(":")[0] for place in BUILTIN.values()}))
    heavy = "('torch', 'scipy', 'numba', 'dawdreamer', 'pedalboard')"
    code = f"import sys, {modules}\nprint([m for m in {heavy} if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("length", [1, 2, 63, 64, 1000])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
def test_varying_one_pole_equals_a_loop(length: int, strength: float) -> None:
    rng = np.random.default_rng(length)
    drive, feedback = rng.standard_normal(length), rng.uniform(-strength, strength, length)
    if strength == 1.0:
        feedback = np.sign(feedback)
    expected, y = [], 0.7
    for d, f in zip(drive, feedback, strict=True):
        y = d + f * y
        expected.append(y)
    assert np.allclose(varying_one_pole(drive, feedback, 0.7), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("step", [0.01, 0.19, 0.21, 0.5, 1.3, 2.2, 3.1, 6.0, 12.56])
def test_ring_modulator_rounds_its_phase(step: float) -> None:
    processor = make("mda-ringmod", 44100, 1)
    assert isinstance(processor, RingModProcessor)
    processor.prepare(values_of("mda-ringmod", 0))
    processor._step = float(np.float32(step))
    expected, phase = [], np.float32(0)
    for _ in range(3000):
        expected.append(phase)
        phase = np.fmod(np.float32(phase + np.float32(step)), np.float32(TWO_PI))
    got = np.concatenate([processor._phases(n) for n in (1, 999, 2000)])
    assert np.array_equal(got, expected)


def test_rounded_sums_round_each_time() -> None:
    expected, phase = [], np.float32(0.9)
    for _ in range(1000):
        phase = np.float32(phase + np.float32(4.4e-7))
        expected.append(phase)
    assert np.array_equal(rounded_sums(0.9, 4.4e-7, 1000), expected)
    assert abs(float(expected[-1]) - (0.9 + 1000 * 4.4e-7)) > 1e-6
