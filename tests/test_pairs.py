"""Kinds of examples and distributions of settings; the executor is mostly a small one in this process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dafxhost.data.examples import Examples
from dafxhost.data.features import fade, mfcc, normalise_peak
from dafxhost.data.judging import DryFeatures, Judge
from dafxhost.data.setting_draws import EvenDraw, PresetDraw, UniformDraw, make_draw
from dafxhost.errors import UnknownNameError, UsageError
from dafxhost.execution.executor import Executor
from dafxhost.registry import effect, registry
from dafxhost.settings import save_setting
from test_examples_protocol import RATE, FakeExecutor, Source, T, drive


def made(pairs: str, function: Any = drive, **options: Any) -> Examples:
    return Examples(Source(), FakeExecutor(function), sample_rate=RATE, samples=T, pairs=pairs, **options)


def clip_of(seed: int, k: int) -> np.ndarray:
    """The clip of example k with one row, before anything is done to it but fades and level."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(k,)))
    rng.random()
    return normalise_peak(fade(Source().draw(rng, T, RATE)[0], RATE))


def test_parallel_examples_are_one_performance_dry_and_processed() -> None:
    batch = made("parallel").batch(4, 6)
    assert batch.pairs == "parallel" and batch.input_settings is None and batch.applied.any()
    for i in range(6):
        np.testing.assert_array_equal(batch.dry[i], clip_of(4, i))
        wet = normalise_peak(drive(batch.dry[i], batch.settings[i])) if batch.applied[i] else batch.dry[i]
        np.testing.assert_array_equal(batch.target[i], wet)
    np.testing.assert_array_equal(batch.reference, batch.target)


def test_two_settings_examples_are_one_clip_at_two_settings() -> None:
    batch = made("two-settings", apply_probability=1.0).batch(4, 6)
    assert batch.input_settings is not None and batch.input_settings.shape == batch.settings.shape
    for i in range(6):
        dry = clip_of(4, i)
        np.testing.assert_array_equal(batch.dry[i], normalise_peak(drive(dry, batch.input_settings[i])))
        np.testing.assert_array_equal(batch.target[i], normalise_peak(drive(dry, batch.settings[i])))
    np.testing.assert_array_equal(batch.reference, batch.target)


def test_two_settings_that_sound_alike_are_redrawn() -> None:
    def three(x: np.ndarray, s: np.ndarray) -> np.ndarray:
        return drive(x, np.floor(s * 3) / 3)

    batch = made("two-settings", three, apply_probability=1.0).batch(0, 20)
    assert batch.input_settings is not None
    assert batch.counts["inaudible"] > 2
    assert (np.floor(batch.settings[:, 0] * 3) != np.floor(batch.input_settings[:, 0] * 3)).all()


@pytest.mark.parametrize("pairs", ["parallel", "two-settings"])
def test_each_setting_of_a_pair_is_judged(pairs: str) -> None:
    def half(x: np.ndarray, s: np.ndarray) -> np.ndarray:
        return drive(x, s) if s[0] > 0.5 else x * 0

    batch = made(pairs, half, apply_probability=1.0).batch(1, 8)
    assert (batch.settings[:, 0] > 0.5).all() and batch.counts["silent"] > 3
    if batch.input_settings is not None:
        assert (batch.input_settings[:, 0] > 0.5).all()
    again = made(pairs, half, apply_probability=1.0)
    pieces = list(again.pieces(1, 8, 3))
    np.testing.assert_array_equal(batch.dry, np.concatenate([p.dry for p in pieces]))
    np.testing.assert_array_equal(batch.target, np.concatenate([p.target for p in pieces]))


def test_two_settings_stay_one_clip_when_a_new_one_is_drawn() -> None:
    accepted = made("two-settings", apply_probability=1.0).batch(3, 1).dry
    calls: list[bytes] = []

    def at_first_nothing(x: np.ndarray, s: np.ndarray) -> np.ndarray:
        calls.append(x.tobytes())
        return x * 0 if x.tobytes() == calls[0] else drive(x, s)

    batch = made("two-settings", at_first_nothing, apply_probability=1.0, new_clip_after=4).batch(3, 1)
    assert batch.counts["new_clips"] == 1 and len(set(calls)) == 2
    assert not np.allclose(batch.dry, accepted)
    dry = np.frombuffer(calls[-1], np.float32)[None]
    assert batch.input_settings is not None
    np.testing.assert_array_equal(batch.dry[0], normalise_peak(drive(dry, batch.input_settings[0])))
    np.testing.assert_array_equal(batch.target[0], normalise_peak(drive(dry, batch.settings[0])))


def test_an_unknown_kind_of_pairs_is_named() -> None:
    with pytest.raises(UnknownNameError, match="parallel"):
        made("paralel")


def test_some_frames_decide_as_all_of_them_do() -> None:
    """Over settings from harmless to senseless; and most are decided by some frames alone."""
    rng, judge, full = np.random.default_rng(0), Judge(RATE), 0
    seen = set()
    for i in range(60):
        dry = Source().draw(rng, T, RATE)[0][None]
        noise = rng.standard_normal(dry.shape).astype(np.float32) * np.abs(dry)
        wet = (dry + np.float32(10 ** rng.uniform(-3, 1)) * noise).astype(np.float32)
        features = DryFeatures(dry, RATE)
        got = judge.fault([wet[0]], features)
        full += (0, 1) in features.kept
        a, b = mfcc(dry[0, 0], RATE), mfcc(wet[0, 0], RATE)
        mean = ((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1))).mean()
        if got in (None, "senseless"):
            assert (got is None) == (mean >= 0.75), (i, mean)
            seen.add(got)
    assert seen == {None, "senseless"} and full < 30


# --- distributions of settings ----------------------------------------------------------------------------


class Half(FakeExecutor):
    """p0 does all it does above 0.8, p1 nothing."""

    def __init__(self) -> None:
        super().__init__(lambda x, s: np.tanh(x * (1 + 50 * max(0.0, s[0] - 0.8))).astype(np.float32), 3)

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: str = "raise") -> np.ndarray:
        return np.stack([[self.function(a, s) for s in row] for a, row in zip(audio, settings, strict=True)])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_even_draws_follow_the_sound_and_are_measured_once(cache: Path) -> None:
    executor = Half()
    draw = make_draw("even", executor, 16000)
    assert isinstance(draw, EvenDraw) and set(draw.movement) == {"p0", "p1"}  # a choice is not measured
    settings = np.stack([draw.draw(np.random.default_rng(i)) for i in range(600)])
    assert 0.75 < (settings[:, 0] > 0.74).mean() < 0.95  # 85 % and some, where the sound moves
    assert 0.4 < (settings[:, 1] > 0.5).mean() < 0.6
    assert set(np.round(settings[:, 2] * 6)) == {1, 3, 5}
    executor.function = lambda x, s: x * np.nan
    kept = EvenDraw.measured(executor, 16000)
    assert {k: list(v) for k, v in kept.movement.items()} == {k: list(v) for k, v in draw.movement.items()}
    (file,) = cache.glob("even-*.json")
    file.write_text('{"p0": [1, 2')  # a broken cache only costs measuring again
    nothing = EvenDraw.measured(executor, 16000)
    assert nothing.movement["p0"].sum() == 0  # all renders failed: drawn uniformly
    uniform = [UniformDraw(executor.effect).draw(np.random.default_rng(i)) for i in range(5)]
    np.testing.assert_array_equal(uniform, [nothing.draw(np.random.default_rng(i)) for i in range(5)])


def test_equal_probability_covers_equal_change() -> None:
    fx = FakeExecutor(drive).effect
    steps = np.array([0.0, 1.0, 3.0, 0.5] * 4)
    draw = EvenDraw(fx, {"p0": steps})
    u = np.sort([draw.draw(np.random.default_rng(i))[0] for i in range(4000)])
    share = np.histogram(u, 16, (0, 1))[0] / 4000
    np.testing.assert_allclose(share, 0.15 / 16 + 0.85 * steps / steps.sum(), atol=0.02)


def test_presets_from_a_folder(tmp_path: Path) -> None:
    fx = effect("mda-combo")
    rng = np.random.default_rng(0)
    wanted = {}
    for name in ("warm", "cold"):
        wanted[name] = UniformDraw(fx).draw(rng)
        save_setting(tmp_path / f"{name}.json", fx, wanted[name])
    draw = PresetDraw.found(fx, tmp_path)
    drawn = {tuple(draw.draw(np.random.default_rng(i))) for i in range(30)}
    assert drawn == {tuple(v) for v in wanted.values()}
    near = PresetDraw.found(fx, tmp_path, spread=0.02)
    moved = np.stack([near.draw(np.random.default_rng(i)) for i in range(30)])
    distance = np.abs(moved[:, None] - np.stack(list(wanted.values()))).max(axis=-1).min(axis=-1)
    assert 0 < distance.max() < 0.12 and moved.min() >= 0 and moved.max() <= 1


def test_presets_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    fx = effect("mda-combo")
    with pytest.raises(UsageError, match="no such folder"):
        PresetDraw.found(fx, tmp_path / "nowhere")
    with pytest.raises(UsageError, match="holds no settings"):
        PresetDraw.found(fx, tmp_path)
    (tmp_path / "x.json").write_text(json.dumps({"effect": "mda-delay", "native": {}}))
    with pytest.raises(UsageError, match="not of mda-combo"):
        PresetDraw.found(fx, tmp_path)
    builtin = effect("mda-combo", "builtin")
    with pytest.raises(UsageError, match="does not tell its own presets"):
        PresetDraw.found(builtin)
    with pytest.raises(UnknownNameError, match="uniform"):
        make_draw("gaussian", FakeExecutor(drive), 16000)


BUNDLE = """
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix pset: <http://lv2plug.in/ns/ext/presets#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .
<urn:test#one> a pset:Preset ; lv2:appliesTo <%s> ; rdfs:label "One" ; rdfs:seeAlso <presets.ttl> .
<urn:test#other> a pset:Preset ; lv2:appliesTo <urn:somebody:else> ; rdfs:label "Other" .
"""


def test_presets_of_an_lv2_plugin(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        fx = effect("mda-combo", "lv2")
    except Exception as error:  # noqa: BLE001
        pytest.skip(f"no LV2 plugin here: {error}")
    bundle = tmp_path / "more.lv2"
    bundle.mkdir()
    (bundle / "manifest.ttl").write_text(BUNDLE % fx.provider.options["uri"])
    (bundle / "presets.ttl").write_text(
        "@prefix lv2: <http://lv2plug.in/ns/lv2core#> . @prefix pset: <http://lv2plug.in/ns/ext/presets#> ."
        '<urn:test#one> lv2:port [ lv2:symbol "drive" ; pset:value 0.25 ],'
        f'[ lv2:symbol "model" ; pset:value {fx.parameter("model").port.values[2]} ],'
        '[ lv2:symbol "nothing" ; pset:value 7 ] .'
    )
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    known = registry().factory_presets(fx)
    assert known == {"One": {"drive": 0.25, "model": 2.0}}
    setting = PresetDraw.found(fx).draw(np.random.default_rng(0))
    assert fx.describe(setting)["drive"] == 0.25 and setting[fx.parameter_names.index("model")] != 0.5
    (bundle / "manifest.ttl").write_text((bundle / "manifest.ttl").read_text() + "<")
    assert registry().factory_presets(fx) == {}


def test_the_real_executor_renders_pairs_in_its_own_memory() -> None:
    with Executor(effect("mda-combo"), workers=1) as executor:
        both = [
            Examples(Source(), executor, samples=T, apply_probability=1.0, pairs=pairs).batch(3, 3)
            for pairs in ("two-settings", "parallel")
        ]
        for batch in both:
            if batch.input_settings is None:
                wet = executor.render(batch.dry, batch.settings, RATE)
                np.testing.assert_array_equal(batch.target, normalise_peak(wet))
    assert both[0].input_settings is not None
