"""The built-in mda-combo: against the real plugin (in workers of its own), and against plain loops."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import dafxhost
from dafxhost.errors import ParameterError, PluginError
from dafxhost.processor import RenderSpec
from dafxhost_effects.builtin.base import FLUSH
from dafxhost_effects.builtin.combo import ComboProcessor, resonator, speaker
from dafxhost_effects.builtin.recursion import Recursion, run_with_flushes
from hosting import real_plugin
from null_benchmark import null_test

DEFAULTS = (1.0, 0.5, 0.5, 0.5, 0.0, 0.0, 0.5)
GOAL = -60.0  # dB


@pytest.fixture(scope="module")
def installed() -> None:
    real_plugin("mda-combo")


def render(values, audio: np.ndarray, rate: int = 44100, block: int = 512, chunks=None) -> np.ndarray:
    processor = ComboProcessor({}, RenderSpec(rate, channels=len(audio), block_size=block))
    processor.prepare(np.array(values))
    out = np.full_like(audio, np.nan)
    at = 0
    for size in chunks or [audio.shape[1]]:
        piece = np.ascontiguousarray(audio[:, at : at + size])
        wet = np.empty_like(piece)
        processor.process(piece, wet)
        out[:, at : at + size] = wet
        at += size
    return out


# --- against the real plugin


@pytest.mark.usefixtures("installed")
def test_null_on_200_settings_of_every_model() -> None:
    nulls, _ = null_test.compare("mda-combo", 200, seconds=1.5, seed=3)
    assert len(nulls) == 200
    assert {n.choice for n in nulls} == set(range(7))
    assert {n.signal for n in nulls} == {"music", "speech", "noise"}
    assert {(n.rate, n.channels) for n in nulls} == {(r, c) for r in (24000, 44100, 48000) for c in (1, 2)}
    worst = max(nulls, key=lambda n: n.depth)
    print(f"worst null depth: {worst}")
    assert worst.depth <= GOAL


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("rate", [8000, 48000, 96000])
def test_null_where_the_plugin_is_odd(rate: int) -> None:
    """A new instance's own values (it keeps 44.1 kHz coefficients), edges of drive, flushes in silence."""
    real = dafxhost.effect("mda-combo", provider="lv2")
    ours = dafxhost.effect("mda-combo", provider="builtin")
    setting = real.setting
    rows = [setting(model=m) for m in range(7)]
    rows += [setting(model=0, stereo="on")]
    rows += [setting(model=5, drive=d, bias=0.7) for d in (0.0, 0.4999, 0.5, 0.7, 0.7001, 1.0)]
    rows += [setting(model=3, hpf_freq=f, hpf_reso=1.0, drive=0.3) for f in (0.001, 0.05, 0.0501, 1.0)]
    clip = null_test.speech(rate, 1.0, 5)[None, :1].copy()
    clip[:, :, rate // 3 : rate // 2] = 0.0
    with dafxhost.Executor(real, workers=1) as a, dafxhost.Executor(ours, workers=1) as b:
        depths = [
            null_test.null_depth(y, z)
            for y, z in zip(
                a.render(clip, np.stack(rows)[None], rate)[0],
                b.render(clip, np.stack(rows)[None], rate)[0],
                strict=True,
            )
        ]
    assert max(depths) <= GOAL, depths


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("block", [256, 441, 8192])
def test_null_at_other_block_sizes(block: int) -> None:
    nulls, _ = null_test.compare("mda-combo", 21, seconds=1.0, seed=11, rates=(44100,), block_size=block)
    assert max(n.depth for n in nulls) <= GOAL


def test_null_depth_can_fail() -> None:
    y = np.ones(100, dtype=np.float32)
    assert null_test.null_depth(y, y) == null_test.PERFECT
    assert null_test.null_depth(y, y * 0.99) == pytest.approx(-40.0, abs=0.01)
    assert null_test.null_depth(np.zeros(100), y) == float("inf")


# --- by itself


def _loop(filter_: str, x: np.ndarray, block: int, first: float, second: float) -> np.ndarray:
    """The formulas of docs/combo.md, one sample at a time in float64, with the flush at each block's end."""
    out = np.empty(len(x))
    s = [0.0] * 5
    for n, value in enumerate(x.tolist()):
        if filter_ == "resonator":
            s[0] += first * (s[1] + value)
            s[1] -= first * (s[0] + second * s[1])
            out[n] = s[1]
        else:
            signal = value
            for i in range(4):
                signal = s[i] = first * s[i] + signal
            s[4] = second * (s[4] - signal) + signal
            out[n] = signal - s[4]
        if ((n + 1) % block == 0 or n + 1 == len(x)) and abs(s[0]) < FLUSH:
            s = [0.0] * 5
    return out


@pytest.mark.parametrize(("name", "first", "second"), [("resonator", 0.2, 0.3), ("speaker", 0.8, 0.99)])
@pytest.mark.parametrize("block", [64, 100, 5000])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 2500])
def test_recursion_equals_a_loop(name: str, first: float, second: float, block: int, length: int) -> None:
    rng = np.random.default_rng(length)
    x = rng.standard_normal(length).astype(np.float32)
    x[length // 3 : length // 2] = 0.0  # long enough, at the longest, to be flushed
    x[length // 2 : length // 2 + 300] *= 1e-14
    recursion: Recursion = (resonator if name == "resonator" else speaker)(first, second)
    y = run_with_flushes(recursion, x, np.zeros(recursion.order), block, FLUSH)
    assert np.allclose(y, _loop(name, x, block, first, second), rtol=0, atol=1e-10)


def test_recursion_watches_states_and_leaves_the_last() -> None:
    recursion = speaker(0.8, 0.99)
    x = np.random.default_rng(0).standard_normal(300)
    whole, parts = np.zeros(5), np.zeros(5)
    watch = np.array([0, 30, 31, 32, 150, 299])
    y, seen = recursion.run(x, whole, watch)
    for i, end in enumerate(watch):
        state = np.zeros(5)
        recursion.run(x[: end + 1], state, np.array([end]))
        assert seen[i] == pytest.approx(state[0], abs=1e-12)
    a, _ = recursion.run(x[:77], parts, np.array([0]))
    b, _ = recursion.run(x[77:], parts, np.array([0]))
    assert np.allclose(np.concatenate([a, b]), y, atol=1e-10)
    assert np.allclose(parts, whole, atol=1e-10)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    "values", [(5 / 6, 0.8, 0.6, 0.5, s, h, 0.9) for s in (0.0, 1.0) for h in (0.0, 0.4)]
)
def test_stream_equals_whole(values: tuple[float, ...], channels: int) -> None:
    audio = np.ascontiguousarray(null_test.music(44100, 1.0, 2)[:channels])
    blocks = [512] * (44100 // 512) + [44100 % 512]
    for chunks in (blocks, [2048, 512 * 7, 44100 - 512 * 11]):
        assert np.allclose(render(values, audio, chunks=chunks), render(values, audio), rtol=0, atol=1e-6)


def test_stream_of_odd_chunks_keeps_every_state() -> None:
    """Chunks that are not whole blocks move the plugin's flushes; with a bias there are none to move."""
    audio = null_test.noise(44100, 0.5, 4)[:1].copy()
    chunks = [1, 2, 700, 33, 5000, 1, audio.shape[1] - 5737]
    for model in range(7):
        values = (model / 6, 0.95, 0.8, 0.5, 0.0, 0.0, 0.5)
        assert np.allclose(render(values, audio, chunks=chunks), render(values, audio), rtol=0, atol=1e-6)


def test_prepare_forgets() -> None:
    audio = null_test.music(24000, 0.5, 2)[:1].copy()
    processor = ComboProcessor({}, RenderSpec(24000))
    processor.prepare(np.array(DEFAULTS))
    first, again = np.empty_like(audio), np.empty_like(audio)
    processor.process(audio, first)
    processor.prepare(np.array([0.5, 0.9, 0.1, 0.5, 1.0, 0.5, 0.5]))
    processor.process(audio, again)
    assert np.abs(first - again).max() > 1e-3
    processor.prepare(np.array(DEFAULTS))
    processor.process(audio, again)
    assert np.array_equal(first, again)


def test_channels() -> None:
    stereo = null_test.music(44100, 0.5, 7)
    mono_mode = render(DEFAULTS, stereo)
    assert np.array_equal(mono_mode[0], mono_mode[1])
    one = stereo[:1].copy()
    both = np.repeat(one, 2, axis=0)
    for switch in (0.0, 1.0):
        values = (0.5, 0.6, 0.4, 0.5, switch, 0.0, 0.5)
        assert np.array_equal(render(values, one)[0], render(values, both)[1])
    apart = render((0.5, 0.6, 0.4, 0.5, 1.0, 0.0, 0.5), stereo)
    assert np.abs(apart[0] - apart[1]).max() > 1e-3


def test_silence_in_silence_out() -> None:
    assert not render(DEFAULTS, np.zeros((1, 5000), dtype=np.float32)).any()


@pytest.mark.parametrize(
    "values", [DEFAULTS[:6], (*DEFAULTS, 0.0), (1.1, *DEFAULTS[1:]), (float("nan"), *DEFAULTS[1:])]
)
def test_wrong_values_are_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ParameterError, match="7 plugin values"):
        render(values, np.zeros((1, 10), dtype=np.float32))


def test_wrong_use_is_refused() -> None:
    with pytest.raises(ParameterError, match="no options"):
        ComboProcessor({"gain": 1}, RenderSpec(44100))
    audio = np.zeros((1, 10), dtype=np.float32)
    with pytest.raises(PluginError, match="before prepare"):
        ComboProcessor({}, RenderSpec(44100)).process(audio, audio.copy())


def test_imports_numpy_only() -> None:
    code = (
        "import sys, dafxhost_effects.builtin.combo\n"
        "print([m for m in ('torch', 'scipy', 'numba', 'dawdreamer', 'pedalboard') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
