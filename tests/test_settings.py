"""Settings kept as JSON, and applied more weakly."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dafxhost
from dafxhost.effects import Effect, Provider
from dafxhost.errors import (
    DafxhostError,
    OutputError,
    ParameterError,
    ShapeError,
    UnknownNameError,
    UsageError,
)
from dafxhost.parameters import Parameter
from dafxhost.settings import at_strength, document, load_setting, neutral_setting, save_setting
from dafxhost_effects import mda, neutral, pedalboard_effects, zam
from hosting import need, noise, render


@pytest.fixture
def combo() -> Effect:
    return dafxhost.effect("mda-combo", "builtin")


def of_all_kinds() -> Effect:
    """An effect that nobody registered, with a parameter of each kind."""
    parameters = (
        Parameter("mix"),
        Parameter("cutoff", "continuous", 20, 20000, 500, "Hz", "log"),
        Parameter("voices", "integer", 1, 4, 2),
        Parameter("shape", "choice", 0, 2, 0, choices=("sine", "saw", "noise")),
        Parameter("on", "toggle", 0, 1, 1),
    )
    return Effect("home-made", parameters, Provider("lab", "nowhere:Nothing", {}, "1"))


def test_a_setting_comes_back_to_the_last_bit(tmp_path: Path, combo: Effect) -> None:
    for seed in range(20):
        setting = np.random.default_rng(seed).random(7)
        kept = load_setting(save_setting(tmp_path / "a.json", combo, setting))
        np.testing.assert_array_equal(kept.setting, setting)
    assert kept.effect == combo and kept.difference() == ""
    assert (kept.provider, kept.identity) == ("builtin", combo.provider.identity)
    said = json.loads((tmp_path / "a.json").read_text())
    assert (said["dafxhost"], said["format"], said["effect"]) == (dafxhost.__version__, 1, "mda-combo")
    assert said["native"] == combo.describe(setting)
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_native_values_are_what_counts(tmp_path: Path) -> None:
    fx = of_all_kinds()
    said = document(fx, fx.setting(cutoff=1000, shape="saw", on=False))
    said["native"] |= {"cutoff": 2000, "shape": "noise", "voices": "4"}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(said))
    got = load_setting(path, fx).setting
    np.testing.assert_array_equal(got, fx.setting(cutoff=2000, shape="noise", voices=4, on=False))


def test_a_file_written_by_hand(tmp_path: Path, combo: Effect) -> None:
    path = tmp_path / "a.json"
    path.write_text(
        '{"effect": "mda-combo", "native": {"drive": 0.7, "model": "Small radio", "stereo": true}}'
    )
    kept = load_setting(path, provider="builtin")
    np.testing.assert_array_equal(kept.setting, combo.setting(drive=0.7, model=2, stereo=True))
    path.write_text('{"effect": "mda-combo", "setting": {"drive": 0.7}}')
    np.testing.assert_array_equal(load_setting(path, combo).setting, combo.setting(drive=0.7))


def spoilt(**changes: Any) -> Any:
    return lambda said: json.dumps({k: v for k, v in (said | changes).items() if v is not None})


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda s: json.dumps(s)[:-9], UsageError, "not JSON, or was cut off"),
        (lambda s: "", UsageError, "not JSON"),
        (lambda s: "[1]", UsageError, "is no setting"),
        (lambda s: "[" * 100_000, UsageError, "not JSON"),
        (lambda s: '{"effect": "mda-combo"}', UsageError, "is no setting"),
        (
            spoilt(format=2, dafxhost="9.1"),
            UsageError,
            r"format 2, written by dafxhost 9\.1.*install",
        ),
        (spoilt(format="1"), UsageError, "no number of a format"),
        (spoilt(format=True), UsageError, "no number of a format"),
        (spoilt(effect=None), UsageError, '"effect" is missing'),
        (spoilt(effect=7), UsageError, '"effect" is 7'),
        (spoilt(effect="mda-combi"), UnknownNameError, "did you mean mda-combo"),
        (spoilt(provider="vst9"), UnknownNameError, "vst9.*--provider asks for another"),
        (spoilt(provider=["lv2"]), UsageError, '"provider" is'),
        (spoilt(native=[1]), UsageError, '"native" is list'),
        (spoilt(native={"drove": 1}), UnknownNameError, "did you mean drive"),
        (spoilt(setting={"drove": 1}), UnknownNameError, "did you mean drive"),
        (spoilt(native={"drive": 1.5}), ParameterError, r"a\.json: drive=1\.5: out of range; 0 to 1"),
        (spoilt(native={"drive": float("nan")}), ParameterError, "out of range"),
        (spoilt(native={"drive": [1]}), ParameterError, r"drive: \[1\] is no value"),
        (spoilt(native={"model": "tube"}), ParameterError, "not a value of this parameter"),
        (spoilt(setting={"drive": 1.5}), ParameterError, 'drive: 1.5 in "setting" is no number on 0 to 1'),
        (spoilt(setting={"drive": True}), ParameterError, "True in"),
    ],
)
def test_what_is_no_setting_says_so(
    change: Any, kind: type[DafxhostError], words: str, tmp_path: Path, combo: Effect
) -> None:
    path = tmp_path / "a.json"
    path.write_text(change(document(combo, combo.default_setting())))
    with pytest.raises(kind, match=words):
        load_setting(path)


def test_bad_requests(tmp_path: Path, combo: Effect) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load_setting(tmp_path / "nothing.json")
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        load_setting(tmp_path)
    (tmp_path / "latin.json").write_bytes(b'{"effect": "\xe9"}')
    with pytest.raises(UsageError, match="not JSON"):
        load_setting(tmp_path / "latin.json")
    path = save_setting(tmp_path / "a.json", combo, combo.default_setting())
    with pytest.raises(UsageError, match="is a setting of mda-combo, not of home-made"):
        load_setting(path, of_all_kinds())
    with pytest.raises(OutputError, match="cannot be written: No such file"):
        save_setting(tmp_path / "nowhere" / "a.json", combo, combo.default_setting())
    with pytest.raises(ShapeError):
        save_setting(path, combo, np.zeros(3))
    with pytest.raises(ParameterError, match="drive is nan"):
        save_setting(path, combo, np.where(np.arange(7) == 1, np.nan, 0.5))
    np.testing.assert_array_equal(load_setting(path).setting, combo.default_setting())


def test_another_plugin_than_then_is_told(tmp_path: Path, combo: Effect) -> None:
    path = save_setting(tmp_path / "a.json", combo, combo.default_setting())
    older = replace(combo, provider=replace(combo.provider, identity="dafxhost 0.0.1"))
    assert "another version of mda-combo" in load_setting(path, older).difference()
    other = replace(combo, provider=replace(combo.provider, name="lv2"))
    assert "by builtin; it is lv2 here" in load_setting(path, other).difference()


def test_an_effect_without_a_name_is_found_where_it_is(tmp_path: Path) -> None:
    need(zam.provider_of("zam-comp") == "vst3", "zam-plugins")
    uri = "urn:zamaudio:ZamComp"
    fx = dafxhost.effect(uri)
    path = save_setting(tmp_path / "a.json", fx, fx.default_setting())
    assert json.loads(path.read_text())["location"] == uri
    assert load_setting(path).effect == fx
    assert load_setting(path, provider="dawdreamer").effect.provider.name == "dawdreamer"


def test_strength_by_the_default_where_no_neutral_is_known() -> None:
    fx = of_all_kinds()
    setting = fx.setting(mix=1, cutoff=20000, voices=4, shape="noise", on=False)
    start = fx.default_setting()
    np.testing.assert_array_equal(at_strength(fx, setting, 0), start)
    np.testing.assert_array_equal(at_strength(fx, setting, 1), setting)
    third = fx.describe(at_strength(fx, setting, 1 / 3))
    assert third["mix"] == pytest.approx(2 / 3)
    assert third["cutoff"] == pytest.approx(500 * (20000 / 500) ** (1 / 3))
    assert (third["voices"], third["shape"], third["on"]) == (2, "sine", True)
    assert fx.describe(at_strength(fx, setting, 0.5))["shape"] == "noise"
    assert fx.describe(at_strength(fx, setting, np.nextafter(0.5, 0)))["shape"] == "sine"


def test_strength_one_is_the_match_to_the_last_bit(combo: Effect) -> None:
    for seed in range(50):
        setting = np.random.default_rng(seed).random(7)
        np.testing.assert_array_equal(at_strength(combo, setting, 1), setting)
        np.testing.assert_array_equal(at_strength(combo, setting, 0), neutral_setting(combo, setting))


def test_only_what_makes_it_neutral_moves() -> None:
    fx = dafxhost.effect("pedalboard-delay")
    setting = fx.setting(delay_seconds=0.3, feedback=0.6, mix=0.8)
    assert fx.describe(at_strength(fx, setting, 0.25)) == pytest.approx(
        {"delay_seconds": 0.3, "feedback": 0.6, "mix": 0.2}
    )


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan"), float("inf")])
def test_strength_out_of_range(strength: float, combo: Effect) -> None:
    with pytest.raises(UsageError, match=r"strength .* is out of range"):
        at_strength(combo, combo.default_setting(), strength)


def test_the_neutral_of_a_chain_is_that_of_its_links() -> None:
    delay, own = dafxhost.effect("pedalboard-delay"), of_all_kinds()
    links = [
        {"effect": fx.name, "provider": "", "processor": "", "options": {}, "bypass": True, "free": free}
        for fx, free in ((delay, [0, 2]), (own, [0, 1]))
    ]
    parameters = (
        *(replace(delay.parameters[i], name=f"delay.{delay.parameters[i].name}") for i in (0, 2)),
        Parameter("delay.bypass", "toggle", 0, 1, 0),
        *(replace(p, name=f"home.{p.name}") for p in own.parameters[:2]),
        Parameter("home.bypass", "toggle", 0, 1, 0),
    )
    chain = Effect("a > b", parameters, Provider("chain", "x:y", {"links": links}))
    names = ["delay.delay_seconds", "delay.mix", "delay.bypass", "home.mix", "home.cutoff", "home.bypass"]
    match = chain.setting(**dict(zip(names, [0.3, 0.8, False, 0.9, 900, False], strict=True)))
    assert chain.describe(at_strength(chain, match, 0)) == pytest.approx(
        dict(zip(names, [0.3, 0, False, 0.5, 500, True], strict=True))
    )


FAMILIES = (mda, zam, pedalboard_effects)
SUMS = ("mda-deess", "mda-stereo", "mda-rezfilter")  # mono effects: the mean of both channels


@pytest.mark.parametrize(
    "name", [n for n in (*neutral.EXACT, "zam-geq31") if n not in ("zam-verb", "pedalboard-pitch-shift")]
)
def test_neutral_settings_leave_audio_alone(name: str) -> None:
    _leaves_alone(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zam-verb", "pedalboard-pitch-shift"])
def test_slow_neutral_settings_leave_audio_alone(name: str) -> None:
    _leaves_alone(name)


def _leaves_alone(name: str) -> None:
    family = next(f for f in FAMILIES if name in f.table())
    need(family.provider_of(name) != "not installed", "mda-lv2" if family is mda else "zam-plugins")
    fx = dafxhost.effect(name)
    rng = np.random.default_rng(1)
    settings = np.stack([neutral_setting(fx, rng.random(len(fx.parameters))) for _ in range(3)])
    audio = noise(1 if name in SUMS else 2)
    wet = render(fx, audio, settings[None])
    error, level = np.square(wet - audio[0]).mean(axis=(1, 2)).max(), np.square(audio).mean()
    assert 10 * np.log10(error / level + 1e-30) < -120


def test_every_neutral_value_is_one() -> None:
    for name, values in (neutral.EXACT | neutral.NEAR).items():
        family = next(f for f in FAMILIES if name in f.table())
        if family.provider_of(name) == "not installed":
            continue
        fx = dafxhost.effect(name)
        for parameter, value in values.items():
            fx.parameter(parameter).parse(value)
