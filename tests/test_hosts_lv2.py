"""The LV2 host, on every mda plugin and on zam's LV2 builds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dafxhost
from dafxhost.errors import EffectUnavailableError, PluginError, RenderError
from dafxhost.processor import RenderSpec
from dafxhost_effects import mda
from dafxhost_effects.files import from_location
from dafxhost_effects.hosts import lv2_info
from dafxhost_effects.hosts.lv2 import Lv2Processor
from hosting import RATE, need, noise, python, render

INSTRUMENTS = {"mda-dx10", "mda-epiano", "mda-jx10", "mda-piano"}


@pytest.fixture(autouse=True)
def _installed() -> None:
    need(mda.bundle("mda-combo"), "mda-lv2")


@pytest.mark.parametrize("name", sorted(mda.table()))
def test_every_mda_plugin_renders_repeatably(name: str) -> None:
    effect = dafxhost.effect(name, provider="lv2")
    rng = np.random.default_rng(3)
    a = effect.default_setting()
    # Shepard reads outside its buffer at some settings; only its defaults are promised to be finite.
    c = a if name == "mda-shepard" else rng.random(len(a))
    settings = np.stack([a, rng.random(len(a)), c, a, c])
    wet = render(effect, noise(2), settings[None])
    assert wet.shape == (5, 2, RATE // 2)
    assert np.isfinite(wet[0]).all() and np.isfinite(wet[2]).all()
    np.testing.assert_array_equal(wet[0], wet[3])
    np.testing.assert_array_equal(wet[2], wet[4])
    assert (np.abs(wet[0]).max() == 0) == (name in INSTRUMENTS)


def test_a_parameter_that_is_set_changes_the_sound() -> None:
    effect = dafxhost.effect("mda-combo", provider="lv2")
    settings = np.stack([effect.setting(model=m, drive=0.6) for m in effect.parameter("model").choices])
    wet = render(effect, noise(1), settings[None])
    for i in range(7):
        for j in range(i):
            assert np.abs(wet[i] - wet[j]).max() > 1e-3, (i, j)


def test_mono_clip_is_the_mean_of_a_stereo_plugins_outputs() -> None:
    effect = dafxhost.effect("mda-leslie", provider="lv2")
    settings = effect.setting(mode="Fast")[None, None]
    mono = noise(1)
    wet = render(effect, mono, settings)[0]
    both = render(effect, np.repeat(mono, 2, axis=1), settings)[0]
    assert np.abs(both[0] - both[1]).max() > 1e-3
    np.testing.assert_array_equal(wet[0], (both[0] + both[1]) * np.float32(0.5))


def test_stream_equals_render_whatever_the_chunks() -> None:
    effect = dafxhost.effect("mda-delay", provider="lv2")
    audio, setting = noise(2), effect.setting(feedback=0.8)
    whole = render(effect, audio, setting[None, None])[0]
    with (
        dafxhost.Executor(effect, workers=1) as executor,
        executor.stream(setting, sample_rate=RATE, channels=2) as stream,
    ):
        parts = [stream.process(audio[0][:, i : i + 1537]) for i in range(0, audio.shape[2], 1537)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_mono_plugin_takes_stereo_by_two_instances() -> None:
    need(any(b.name == "ZamEQ2.lv2" for b in lv2_info.bundles()), "zam-plugins")
    effect = from_location("urn:zamaudio:ZamEQ2")
    assert (effect.inputs, effect.outputs) == (1, 1)
    assert {p.scale for p in effect.parameters} == {"linear", "log"}
    settings = np.random.default_rng(1).random((1, 1, len(effect.parameters)))
    audio = noise(2)
    wet = render(effect, audio, settings)[0]
    for channel in range(2):
        alone = render(effect, audio[:, channel : channel + 1], settings)[0]
        np.testing.assert_array_equal(wet[channel], alone[0])


def test_latency_is_found_and_the_worker_compensates_it() -> None:
    need(any(b.name == "ZaMaximX2.lv2" for b in lv2_info.bundles()), "zam-plugins")
    effect = from_location("urn:zamaudio:ZaMaximX2")
    assert effect.provider.options["latency"] is not None
    audio = np.zeros((1, 2, RATE // 2), dtype=np.float32)
    audio[0, :, 5000] = 0.01
    wet = render(effect, audio, effect.default_setting()[None, None])[0]
    assert np.abs(wet[0]).argmax() == 5000


def test_read_back_is_what_was_set() -> None:
    answer = python(
        "import dafxhost, numpy as np\n"
        "from dafxhost.processor import RenderSpec\n"
        "from dafxhost_effects.hosts.lv2 import Lv2Processor\n"
        "fx = dafxhost.effect('mda-combo', provider='lv2')\n"
        "p = Lv2Processor(fx.provider.options, RenderSpec(44100))\n"
        "v = fx.plugin_values(np.random.default_rng(0).random(7)); p.prepare(v)\n"
        "x = np.ones((1, 700), np.float32); p.process(x, np.empty_like(x))\n"
        "answer = float(np.abs(p.read_back() - v).max())"
    )
    assert answer < 1e-6


def _options(**changed: object) -> dict[str, object]:
    return {**dafxhost.effect("mda-combo", provider="lv2").provider.options, **changed}


def test_unsupported_feature_is_named() -> None:
    with pytest.raises(PluginError, match="example"):
        Lv2Processor(_options(required=["http://example.org/needs-this"]), RenderSpec(RATE))


def test_missing_library_gives_the_loaders_words() -> None:
    with pytest.raises(PluginError, match="cannot open shared object file"):
        Lv2Processor(_options(binary="/nowhere/Combo.so"), RenderSpec(RATE))
    with pytest.raises(PluginError, match="holds no LV2 plugin urn:other"):
        Lv2Processor(_options(uri="urn:other"), RenderSpec(RATE))


def test_missing_library_in_a_worker_is_one_sentence() -> None:
    effect = dafxhost.effect("mda-combo", provider="lv2")
    object.__setattr__(effect.provider, "options", _options(binary="/nowhere/Combo.so"))
    with pytest.raises((PluginError, RenderError), match="cannot open shared object file"):
        render(effect, noise(1), effect.default_setting()[None, None])


def test_unknown_reset_policy_is_refused() -> None:
    with pytest.raises(PluginError, match="no reset policy 'state'"):
        Lv2Processor(_options(), RenderSpec(RATE, reset="state"))


def test_a_uri_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    with pytest.raises(EffectUnavailableError, match=str(tmp_path)):
        from_location("urn:nobody:nothing")


def test_a_bundle_that_cannot_be_parsed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bad.lv2").mkdir()
    (tmp_path / "bad.lv2" / "manifest.ttl").write_text("<urn:bad:one> a ; ; nonsense")
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    with pytest.raises(EffectUnavailableError, match=r"bad\.lv2 cannot be read"):
        from_location("urn:bad:one")


def test_descriptions_survive_a_corrupt_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    bundle = mda.bundle("mda-combo")
    assert bundle is not None
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path))
    first = lv2_info.describe_bundle(bundle)
    (kept,) = tmp_path.iterdir()
    kept.write_text('[{"uri": "cut')
    assert lv2_info.describe_bundle(bundle) == first
    assert lv2_info.describe_bundle(bundle) == first
