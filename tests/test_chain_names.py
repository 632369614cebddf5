"""Chains: names of parameters, and chains as text and as TOML files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dafxhost
from dafxhost.chains import canonical, parse, read_toml, to_text, to_toml
from dafxhost.errors import (
    DafxhostError,
    EffectUnavailableError,
    ParameterError,
    UnknownNameError,
    UsageError,
)
from lab_effects import lab_effect
from test_chains import TEXT, chain, noise, render


def test_names_are_unique_and_tell_the_link() -> None:
    fx = dafxhost.effect(
        "mda-combo@builtin? > pedalboard-delay > mda-combo@builtin{model=2} > pedalboard-gain?"
    )
    names = fx.parameter_names
    assert names[:2] == ["combo-1.model", "combo-1.drive"]
    assert names[7:12] == [
        "combo-1.bypass", "delay.delay_seconds", "delay.feedback", "delay.mix", "combo-2.drive",
    ]  # fmt: skip
    assert names[-2:] == ["gain.gain_db", "gain.bypass"]
    assert fx.parameter("delay.delay_seconds").unit == "s"
    assert fx.parameter("gain.bypass").default == 0
    assert fx.describe(fx.setting(**{"combo-2.drive": 0.9}))["combo-2.drive"] == pytest.approx(0.9)
    assert (fx.provider.name, fx.inputs, fx.outputs) == ("chain", 2, 2)
    assert fx.provider.identity.count(" by ") == 4


def test_labels_do_not_collide() -> None:
    effects = [lab_effect("a"), lab_effect("a"), lab_effect("a-1"), lab_effect("Gain", ("bypass",))]
    fx = chain(*effects, bypass=(3,))
    assert [n.partition(".")[0][4:] for n in fx.parameter_names[::2]] == ["a-2", "a-3", "a-1", "gain"]
    assert fx.parameter_names[-2:] == ["lab-gain.bypass", "lab-gain.chain_bypass"]


def test_fixed_parameters_are_rendered_and_not_in_the_setting() -> None:
    text = "pedalboard-gain{gain_db=-6} > mda-combo@builtin{model=Small radio, stereo=off, drive=0.75}"
    fx = dafxhost.effect(text)
    assert fx.name == "pedalboard-gain{gain_db=-6} > mda-combo@builtin{model=2, drive=0.75, stereo=0}"
    assert fx.parameter_names == ["combo.bias", "combo.output", "combo.hpf_freq", "combo.hpf_reso"]
    free = dafxhost.effect("pedalboard-gain > mda-combo@builtin")
    wanted = free.setting(**{"gain.gain_db": -6, "combo.model": 2, "combo.drive": 0.75, "combo.stereo": 0})
    audio = noise(1, 1, 4000)
    assert np.array_equal(render(fx, audio, fx.default_setting()[None]), render(free, audio, wanted[None]))
    everything = dafxhost.effect("pedalboard-gain{gain_db=-6} > pedalboard-invert")
    assert everything.parameters == ()
    halved = render(everything, audio, np.zeros((1, 0)))
    assert np.allclose(halved, -audio * 10 ** (-6 / 20), atol=1e-6)


# -- text and TOML


def test_text_and_toml_say_the_same(tmp_path: Path) -> None:
    links = parse(TEXT)
    assert to_text(links) == TEXT
    file = tmp_path / "chain.toml"
    file.write_text(to_toml(links))
    again = read_toml(file)
    assert to_text(again) == TEXT
    assert [(k.name, k.provider, k.bypass, dict(k.fixed)) for k in again] == [
        (k.name, k.provider, k.bypass, dict(k.fixed)) for k in links
    ]
    one, other = dafxhost.effect(TEXT), dafxhost.effect(str(file))
    assert one == other
    assert one.name == TEXT == canonical(TEXT) == canonical(str(file))
    assert dafxhost.effect(one.name, one.provider.name) == one
    assert canonical("mda-combo") == "mda-combo"


def test_toml_as_people_write_it(tmp_path: Path) -> None:
    (tmp_path / "chain.toml").write_text(
        '[[effect]]\nname = "pedalboard-gain"\nbypass = false\n\n[[effect]] # amplifier\nname = "mda-combo"\n'
        'provider = "builtin"\nbypass = true\nfixed = { model = "D.I.", drive = 0.5, stereo = true, bias=1 }'
    )
    fx = dafxhost.effect(str(tmp_path / "chain.toml"))
    assert fx.name == "pedalboard-gain > mda-combo@builtin{model=0, drive=0.5, bias=1, stereo=1}?"


def test_chains_of_chains_are_flattened(tmp_path: Path) -> None:
    (tmp_path / "inner.toml").write_text('[[effect]]\nname = "pedalboard-gain"\nbypass = true\n')
    (tmp_path / "outer.toml").write_text(
        '[[effect]]\nname = "inner.toml"\n[[effect]]\nname = "pedalboard-delay > pedalboard-invert"\n'
    )
    wanted = "pedalboard-gain? > pedalboard-delay > pedalboard-invert"
    assert dafxhost.effect(str(tmp_path / "outer.toml")).name == wanted
    assert dafxhost.effect(f"{tmp_path / 'inner.toml'} > pedalboard-delay > pedalboard-invert").name == wanted
    (tmp_path / "itself.toml").write_text('[[effect]]\nname = "itself.toml"\n')
    with pytest.raises(UsageError, match=r"itself\.toml is a chain that contains itself"):
        dafxhost.effect(str(tmp_path / "itself.toml"))
    (tmp_path / "outer.toml").write_text('[[effect]]\nname = "inner.toml"\nbypass = true\n')
    with pytest.raises(UsageError, match=r"effect 1 of .*outer\.toml, line 1 is itself a chain"):
        dafxhost.effect(str(tmp_path / "outer.toml"))


def test_the_provider_asked_for_is_that_of_links_that_name_none() -> None:
    fx = dafxhost.effect("mda-combo > mda-combo@builtin", "builtin")
    assert [link["provider"] for link in fx.provider.options["links"]] == ["builtin", "builtin"]
    assert fx.name == "mda-combo > mda-combo@builtin"
    assert dafxhost.effect("mda-combo@builtin").name == "mda-combo"
    assert dafxhost.effect("mda-combo@builtin").provider.name == "builtin"


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("pedalboard-gain > > pedalboard-delay", UsageError, "link 2 of the chain .* is empty"),
        ("pedalboard-gain >", UsageError, "link 2 of the chain .* is empty"),
        ("pedalboard-gain > mda-como", UnknownNameError, "link 2 of the chain .*: unknown effect 'mda-como'"),
        ("pedalboard-gain{gain_db=-6", UsageError, "link 1 of the chain .* cannot be read"),
        ("pedalboard-gain{gain_db} > pedalboard-delay", UsageError, "'gain_db': write fixed parameters"),
        ("pedalboard-gain{gain=1} > pedalboard-delay", UnknownNameError, "link 1 .*unknown parameter"),
        (
            "pedalboard-gain{gain_db=99} > pedalboard-delay",
            ParameterError,
            "link 1 .*gain_db=99: out of range",
        ),
        ("pedalboard-delay > pedalboard-gain@lv9", UnknownNameError, "link 2 .*unknown provider"),
        ("/no/such/file.vst3 > pedalboard-gain", EffectUnavailableError, "link 1 of the chain"),
        ("nowhere.toml", UsageError, r"cannot read the chain nowhere\.toml: No such file"),
    ],
)
def test_bad_chains_are_refused_with_the_link(text: str, kind: type[DafxhostError], message: str) -> None:
    with pytest.raises(kind, match=message):
        dafxhost.effect(text)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        (
            '[[effect]]\nname = "mda-combo"\nbypas = true',
            "effect 1 of .*line 1: unknown key 'bypas'; there are name,",
        ),
        ('\n[[effect]]\nname = "mda-combo"\n\n[[effect]]\nbypass = true', "effect 2 of .*line 5 has no name"),
        ('[[effect]]\nname = "mda-combo"\nbypass = "yes"', "line 1: bypass = 'yes': bypass is true or false"),
        ('[[effect]]\nname = "mda-combo"\nfixed = 3', "fixed = 3: fixed is a table"),
        ('[[effect]]\nname = "mda-combo"\nfixed = { drive = [1] }', r"line 1: drive=\[1\]: not a value"),
        ('[[effect]]\nname = "mda-como"', "line 1: unknown effect 'mda-como'"),
        ("[[effect]]\nname = mda-combo", "is not TOML: .*line 2"),
        ('[[efect]]\nname = "mda-combo"', "key 'efect' means nothing"),
        ("effect = []", r"it has no \[\[effect\]\]"),
        ("", r"it has no \[\[effect\]\]"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "chain.toml").write_text(toml)
    with pytest.raises(UsageError, match=message):
        dafxhost.effect(str(tmp_path / "chain.toml"))
