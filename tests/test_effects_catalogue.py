"""Names, parameters and providers of the effects that come with dafxhost. Nothing here loads a plugin."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import dafxhost
from dafxhost.errors import EffectUnavailableError, PluginError, UnknownNameError
from dafxhost.registry import registry
from dafxhost_effects import files, mda, pedalboard_effects, zam
from dafxhost_effects.hosts import lv2_info, plugin_info
from hosting import need, python


def test_there_are_36_mda_plugins_and_17_zam() -> None:
    names = registry().names("effect")
    assert len([n for n in names if n.startswith("mda-")]) == 36
    assert len([n for n in names if n.startswith("zam-")]) == 17
    assert len([n for n in names if n.startswith("pedalboard-")]) == len(pedalboard_effects.TABLE)


def test_the_mda_table_is_what_the_installed_turtle_files_say() -> None:
    bundle = mda.bundle("mda-combo")
    need(bundle, "mda-lv2")
    assert bundle is not None
    installed = {d["uri"]: d for d in lv2_info.describe_bundle(bundle)}
    assert len(installed) == 36
    for name in mda.table():
        ours = mda.description(name, bundle)
        theirs = installed.pop(ours["uri"])
        for control in theirs["controls"]:
            control["unit"] = ""  # of what a panel displays, not of a port that runs 0..1
        differing = {k for k in ours if ours[k] != theirs[k]}
        assert not differing, (name, differing)
        assert ("instrument" in mda.summary(name)) == theirs["instrument"]
    assert not installed


def test_combo_parameters() -> None:
    fx = dafxhost.effect("mda-combo")
    assert fx.parameter_names == ["model", "drive", "bias", "output", "stereo", "hpf_freq", "hpf_reso"]
    model, drive, stereo = fx.parameter("model"), fx.parameter("drive"), fx.parameter("stereo")
    assert (model.kind, stereo.kind, drive.kind) == ("choice", "toggle", "continuous")
    assert len(model.choices) == 7 and model.choices[2] == "Small radio speaker"
    assert fx.describe(fx.setting(model="small radio", drive=0.7, stereo="on")) == {
        "model": "Small radio speaker",
        "drive": pytest.approx(0.7),
        "bias": 0.5,
        "output": 0.5,
        "stereo": True,
        "hpf_freq": 0.0,
        "hpf_reso": 0.5,
    }
    assert drive.text(0.7) == "0.7 (40 %)"
    np.testing.assert_allclose(model.to_plugin(model.to_setting(np.arange(7))), np.arange(7) / 6, atol=1e-7)


@pytest.mark.parametrize("name", sorted(mda.BUILTIN))
def test_builtin_effects_have_the_plugins_parameters(name: str) -> None:
    builtin = dafxhost.effect(name, provider="builtin")
    assert builtin.provider.name == "builtin"
    assert builtin.provider.identity == f"dafxhost {dafxhost.__version__}"
    need(mda.bundle(name), "mda-lv2")
    assert builtin.parameters == dafxhost.effect(name, provider="lv2").parameters


def test_identity_is_of_the_binary() -> None:
    need(mda.bundle("mda-combo"), "mda-lv2")
    identities = {dafxhost.effect(n, provider="lv2").provider.identity for n in mda.table()}
    assert len(identities) == 36 and all(i.startswith("sha256:") and len(i) == 71 for i in identities)


def test_without_any_plugin(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    monkeypatch.setenv("VST3_PATH", str(tmp_path))
    assert dafxhost.effect("mda-combo").provider.name == "builtin"
    assert mda.provider_of("mda-combo") == "builtin"
    assert mda.provider_of("mda-detune") == "not installed"
    for name, package in (("mda-detune", "mda-lv2"), ("zam-comp", "zam-plugins")):
        with pytest.raises(EffectUnavailableError, match=package):
            dafxhost.effect(name)
    with pytest.raises(EffectUnavailableError, match="for provider 'lv2'"):
        dafxhost.effect("mda-combo", provider="lv2")


@pytest.mark.parametrize("name", ["mda-combo", "mda-detune", "zam-comp", "pedalboard-reverb"])
def test_unknown_provider(name: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown provider of") as caught:
        dafxhost.effect(name, provider="vst2")
    assert ("builtin" in caught.value.known) == (name == "mda-combo")


def test_every_listed_name_says_what_serves_it() -> None:
    for name in registry().names("effect"):
        spec = registry().find("effect", name)
        assert spec.summary
        if name.startswith(("mda-", "zam-", "pedalboard-")):
            assert spec.provider_text() in ("lv2", "vst3", "builtin", "pedalboard", "not installed")


def test_listing_and_naming_stay_light_and_load_no_plugin() -> None:
    answer = python(
        "import sys, dafxhost\n"
        "from dafxhost.registry import registry\n"
        "from dafxhost_effects import mda\n"
        "texts = [registry().find('effect', n).provider_text() for n in registry().names('effect')]\n"
        "effects = [dafxhost.effect(n) for n in mda.table() if mda.provider_of(n) != 'not installed']\n"
        "maps = open('/proc/self/maps').read()\n"
        "heavy = ('torch', 'pedalboard', 'dawdreamer', 'rdflib', 'scipy', 'numba')\n"
        "answer = [[m for m in heavy if m in sys.modules], '/lv2/' in maps or '/vst3/' in maps, len(texts)]"
    )
    assert answer[:2] == [[], False] and answer[2] >= 36 + 17


def test_describing_a_vst3_loads_nothing_here(tmp_path: Path) -> None:
    need(zam.provider_of("zam-comp") == "vst3", "zam-plugins")
    answer = python(
        "import ctypes, dafxhost\n"
        "libm = ctypes.CDLL('libm.so.6'); e = (ctypes.c_uint32 * 8)()\n"
        "libm.fegetenv(e); before = e[7]\n"
        "names = dafxhost.effect('zam-comp').parameter_names\n"
        "libm.fegetenv(e)\n"
        "answer = [names, before == e[7], '.vst3' in open('/proc/self/maps').read()]",
        DAFXHOST_CACHE=str(tmp_path),
    )
    assert answer[0][:2] == ["attack", "release"] and answer[1:] == [True, False]


def test_locations() -> None:
    assert files.is_location("/usr/lib/vst3/X.vst3") and files.is_location("http://a/b")
    assert not files.is_location("mda-combo")
    with pytest.raises(EffectUnavailableError, match="there is no plugin"):
        files.from_location("/nowhere/X.vst3")
    with pytest.raises(EffectUnavailableError, match="no plugin file"):
        files.from_location("/etc/hostname")
    with pytest.raises(UnknownNameError):
        files.from_location("/nowhere/X.so", provider="vst3")


@pytest.mark.parametrize("content", [b"", b"not a library at all" * 50])
def test_a_broken_bundle_gives_the_loaders_reason(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    inside = tmp_path / "Broken.vst3" / "Contents" / "x86_64-linux"
    inside.mkdir(parents=True)
    with pytest.raises(PluginError, match="holds no shared library for this machine"):
        files.from_location(str(tmp_path / "Broken.vst3"))
    (inside / "Broken.so").write_bytes(content)
    with pytest.raises(PluginError, match=r"file too short|invalid ELF header"):
        files.from_location(str(tmp_path / "Broken.vst3"))


def _bundle(tmp_path: Path, source: str, *arguments: str) -> Path:
    """A .vst3 whose shared library is compiled from C."""
    need(shutil.which("gcc"), "gcc")
    inside = tmp_path / "Made.vst3" / "Contents" / f"{platform.machine()}-linux"
    inside.mkdir(parents=True)
    (tmp_path / "made.c").write_text(source)
    command = ["gcc", "-shared", "-fPIC", str(tmp_path / "made.c"), "-o", str(inside / "Made.so"), *arguments]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=60)
    return tmp_path / "Made.vst3"


def test_a_missing_dependency_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    need(shutil.which("gcc"), "gcc")
    gone = tmp_path / "libgone.so.3"
    (tmp_path / "gone.c").write_text("int gone(void) { return 1; }")
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "gone.c", "-o", gone.name, f"-Wl,-soname,{gone.name}"],
        check=True,
        cwd=tmp_path,
        timeout=60,
    )
    bundle = _bundle(tmp_path, "int gone(void); int here(void) { return gone(); }", str(gone))
    gone.unlink()
    with pytest.raises(PluginError, match=r"libgone\.so\.3: cannot open shared object file"):
        files.from_location(str(bundle))


def test_a_plugin_that_crashes_when_loaded_costs_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    bundle = _bundle(
        tmp_path, "#include <signal.h>\n__attribute__((constructor)) void f(void) { raise(SIGSEGV); }"
    )
    with pytest.raises(PluginError, match="ended its process by signal 11"):
        files.from_location(str(bundle))


def test_mda_through_the_vst3_bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Steinberg's bundle is on no Debian machine: what it would say is made up here, the mapping is ours."""
    inside = tmp_path / mda.VST3_BUNDLE / "Contents" / f"{platform.machine()}-linux"
    inside.mkdir(parents=True)
    (inside / "mda-vst3.so").write_bytes(b"x")
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    monkeypatch.setenv("VST3_PATH", str(tmp_path))
    names = ["Bypass", "Model", "Drive", "Bias", "Output", "Process", "HPF Freq", "HPF Reso"]
    rows = [{"index": i, "name": n, "automatable": True} for i, n in enumerate(names)]
    asked = []

    def describe(*arguments: object) -> dict[str, object]:
        asked.append(arguments)
        return {"parameters": rows, "inputs": 2, "outputs": 2}

    monkeypatch.setattr(plugin_info, "describe", describe)
    assert mda.provider_of("mda-combo") == "vst3"
    fx = dafxhost.effect("mda-combo")
    assert fx.provider.name == "vst3" and asked == [("vst3", tmp_path / mda.VST3_BUNDLE, "mda Combo")]
    assert fx.provider.options["parameters"] == [1, 2, 3, 4, 5, 6, 7]
    assert fx.plugin_values(fx.setting(model=3, drive=0.2))[:2] == pytest.approx([0.5, 0.2])
    rows.pop()
    with pytest.raises(PluginError, match="has 6 parameters, not 7"):
        dafxhost.effect("mda-combo", provider="vst3")
