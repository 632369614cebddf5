"""Parts of the built-in mda effects against plain loops, and what random settings do not reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

import dafxhost
from dafxhost.effects import Effect
from dafxhost.processor import RenderSpec
from dafxhost_effects.builtin import float32_loops as loops
from dafxhost_effects.builtin.ambience import Allpass, AmbienceProcessor
from dafxhost_effects.builtin.leslie import LINE, LeslieProcessor
from dafxhost_effects.builtin.subsynth import TURN, Decay, Divider, Oscillator
from hosting import real_plugin
from null_benchmark import null_test

f32 = np.float32
GOAL = -60.0  # dB


def with_values(effect: Effect, name: str, values: tuple[float, ...]) -> Effect:
    """The effect, a choice of it handed over as other plugin values than those its LV2 port names."""
    parameters = tuple(
        replace(
            p, port=replace(p.port, values=values), choices=tuple(map(str, values)), maximum=len(values) - 1
        )
        if p.name == name
        else p
        for p in effect.parameters
    )
    return replace(effect, parameters=parameters)


def depths(
    name: str, audio: np.ndarray, settings: np.ndarray, rate: int, block: int, change: Callable = lambda e: e
) -> list[float]:
    """Null depth (dB) of each of `settings [K, P]` on `audio [C, N]`; skips where there is no real plugin."""
    real = change(real_plugin(name))
    ours = change(dafxhost.effect(name, provider="builtin"))
    with (
        dafxhost.Executor(real, workers=1, block_size=block) as a,
        dafxhost.Executor(ours, workers=1, block_size=block) as b,
    ):
        wet = [e.render(audio[None], settings[None], rate)[0] for e in (a, b)]
    return [null_test.null_depth(y, z) for y, z in zip(*wet, strict=True)]


# --- against the real plugin


@pytest.mark.parametrize("block", [64, 441, 8192])
@pytest.mark.parametrize("name", ["mda-ambience", "mda-leslie"])
def test_null_at_other_block_sizes(name: str, block: int) -> None:
    """Leslie's waveforms start anew in each block; Ambience looks at its filter at the end of each."""
    rows = np.random.default_rng(block).random((6, len(dafxhost.effect(name).parameters)))
    assert max(found := depths(name, null_test.speech(44100, 1.0, 5), rows, 44100, block)) <= GOAL, found


@pytest.mark.parametrize(
    ("name", "choice", "values"),
    [
        # The values that the LV2 port names stand for other choices in the plugin; these reach all of them.
        ("mda-subsynth", "type", (0.0, 2.01 / 7, 4.01 / 7, 6.01 / 7, 1.0)),
        ("mda-leslie", "mode", (0.0, 0.099, 0.101, 0.499, 0.5, 1.0)),
    ],
)
def test_null_of_choices_that_the_port_does_not_name(
    name: str, choice: str, values: tuple[float, ...]
) -> None:
    effect = with_values(dafxhost.effect(name), choice, values)
    rows = np.random.default_rng(1).random((3 * len(values), len(effect.parameters)))
    rows[:, effect.parameter_names.index(choice)] = (np.arange(len(rows)) % len(values) + 0.5) / len(values)
    audio = null_test.music(44100, 1.0, 5)
    assert (
        max(found := depths(name, audio, rows, 44100, 512, lambda e: with_values(e, choice, values))) <= GOAL
    ), found


def test_null_where_dynamics_is_at_its_edges() -> None:
    """Where the limiter and the gate go off, and ratios of each kind, on a sound that crosses all levels."""
    real = dafxhost.effect("mda-dynamics")
    rows = [real.setting(limiter=v, thresh=0.3) for v in (0.0, 0.66, 0.67, 0.979, 0.981)]
    rows += [real.setting(gate_thr=v) for v in (0.019, 0.021, 0.7)]
    rows += [real.setting(ratio=v, thresh=0.2) for v in (0.0, 0.19, 0.21, 0.6, 0.61, 1.0)]
    audio = null_test.music(48000, 1.0, 3)
    assert max(found := depths("mda-dynamics", audio, np.stack(rows), 48000, 512)) <= GOAL, found


# --- recursions


def _rounded(kind: str, x: np.ndarray, mask: np.ndarray, a: np.float32, r: np.float32) -> list[np.float32]:
    """The formulas, one numpy float32 operation at a time."""
    y, out = f32(0.25), []
    for v, m in zip(x, mask, strict=True):
        if kind == "follow":
            y = y + a * (v - y) if v > y else y * r
        elif kind == "hold":
            y = v if m else y * r
        elif kind == "gate":
            y = y + a - a * y if m else y * r
        else:
            y = r * y + v
        out.append(y)
    return out


@pytest.mark.parametrize("kind", ["follow", "hold", "gate", "pole"])
@pytest.mark.parametrize("release", [1 - 1e-5, 0.999, 0.9])
@pytest.mark.parametrize("sparse", [False, True])
def test_loops_round_like_float32(kind: str, release: float, sparse: bool) -> None:
    """On noise, and on clicks far apart with long runs between them."""
    rng = np.random.default_rng(3)
    x, mask = np.abs(rng.standard_normal(30000)).astype(f32), rng.random(30000) > 0.5
    if sparse:
        x[rng.random(30000) > 0.002] *= f32(1e-3)
        x[9000:14000] = 0
        mask = np.repeat(mask[:30], 1000)
    a, r, state = f32(0.3), f32(release), f32(0.25)
    run = {
        "follow": lambda x, m, s: loops.peak_follower(x, s, a, r),
        "hold": lambda x, m, s: loops.peak_holder(x, m, s, r),
        "gate": lambda x, m, s: loops.gate(m, s, a, r),
        "pole": lambda x, m, s: loops.one_pole(x, s, r),
    }[kind]
    parts = []
    for begin, end in pairwise([0, 1, 77, 20000, len(x)]):
        part, state = run(x[begin:end], mask[begin:end], state)
        assert part.dtype == f32 and part[-1] == state
        parts.append(part)
    assert np.array_equal(np.concatenate(parts), _rounded(kind, x, mask, a, r))


@pytest.mark.parametrize("delay", [2, 9, 1019])
def test_allpass_equals_a_loop(delay: int) -> None:
    x = np.random.default_rng(delay).standard_normal(3000)
    line, expected = [0.0] * delay, []
    for v in x:
        past = line[-delay]
        line.append(v - float(f32(0.8)) * past)
        expected.append(line[-1] + past)
    allpass = Allpass(delay)
    parts = [allpass.process(p.copy()) for p in np.split(x, [1, 3, 700, 705])]
    assert np.allclose(np.concatenate(parts), expected, rtol=0, atol=1e-12)


def test_divider_turns_over_at_each_fall() -> None:
    levels = np.array([0, -1, 0, 1, 1, 0, -1, 0, 1, -1, -1, 0, 0, 1.0])
    expected = [1, -1, -1, -1, -1, -1, 1, 1, 1, -1, -1, -1, -1, -1]
    for cut in range(1, len(levels)):
        divider = Divider()
        parts = [divider.process(levels[:cut]), divider.process(levels[cut:])]
        assert np.concatenate(parts).tolist() == expected


def test_decay_rounds_and_carries_on() -> None:
    release, y, expected = f32(0.999), f32(0), []
    triggered = np.zeros(5000, dtype=bool)
    triggered[[300, 301, 900, 1200]] = True
    for hit in triggered:
        y = f32(1) if hit else y * release
        expected.append(y)
    decay = Decay(release)
    parts = [decay.process(p) for p in np.split(triggered, [1, 250, 302, 1000, 1201])]
    assert np.array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("step", [1.4e-3, 0.0456, 3.0])
def test_oscillator_rounds_and_wraps(step: float) -> None:
    phase, expected = f32(0), []
    for _ in range(9000):
        expected.append(phase)
        phase = f32(np.fmod(float(phase + f32(step)), TURN))
    oscillator = Oscillator(f32(step))
    parts = [oscillator.phases(n) for n in (1, 2, 4000, 997, 4000)]
    assert np.array_equal(np.concatenate(parts), expected)


# --- by themselves


def test_ambience_is_cut_off_in_a_pause() -> None:
    """At the end of the first block in which its filter has come to rest, and not before."""
    audio = np.zeros((2, 6000), dtype=f32)
    audio[:, :300] = null_test.noise(44100, 1.0, 2)[:, :300]
    processor = AmbienceProcessor({}, RenderSpec(44100, channels=2, block_size=512))
    processor.prepare(np.array([1.0, 1.0, 1.0, 0.5]))
    out = np.empty_like(audio)
    processor.process(audio, out)
    assert np.abs(out[:, 400:512]).max() > 1e-6
    assert np.abs(out[:, 512:]).max() < 1e-9


def test_leslie_repeats_the_horn_after_its_delay() -> None:
    """Standing still, without width or throb: a click's treble comes twice."""
    audio = np.zeros((1, 1000), dtype=f32)
    audio[0, 250] = 1.0
    processor = LeslieProcessor({}, RenderSpec(44100))
    depth = 0.9
    processor.prepare(np.array([0.0, 0.0, 0.0, 0.0, depth, 0.0, 0.0, 0.5, 0.5]))
    out = np.empty_like(audio)
    processor.process(audio, out)
    first, second = np.flatnonzero(np.abs(out[0]) > 0.3 * np.abs(out[0]).max())[[0, -1]]
    assert first == 250
    # cos(1.6 rad) cubed is nearly 0, so the delay is depth squared times a 760th of a second.
    assert abs(second - first - depth**2 * 44100 / 760) < 1.0
    assert second - first < LINE
