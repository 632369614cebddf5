"""Scanning for plugins: those that misbehave cost themselves alone, and what is found is remembered."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import dafxhost
import lab_lv2
import lab_pair_build
import lab_plugin_build
from dafxhost.effects import Effect, Provider
from dafxhost.errors import DafxhostError, EffectUnavailableError, PluginError, UnknownNameError
from dafxhost.parameters import Parameter
from dafxhost_cli.main import app
from dafxhost_effects import files, mda
from dafxhost_effects import scan as scanning
from dafxhost_effects.hosts import plugin_info
from dafxhost_effects.scan import Found, scan
from hosting import need, noise, render

ZAM_VST2 = Path("/usr/lib/vst/ZamDelay-vst.so")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(shutil.which("gcc"), "gcc")
    return lab_lv2.build(tmp_path_factory.mktemp("lab"))


@pytest.fixture(scope="module")
def vst3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need(not lab_plugin_build.missing(), lab_plugin_build.missing() or "dpf-source")
    return lab_plugin_build.build(tmp_path_factory.mktemp("vst3"))


@pytest.fixture(scope="module")
def verified(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """The lab's plugins after one scan with all checks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAFXHOST_CACHE", str(tmp_path_factory.mktemp("cache")))
        return by_name(list(scan([lab.parent], verify=True, timeout=12, dead_seconds=2)))


def by_name(found: list[Found]) -> dict[str, Found]:
    return {one.name.removeprefix("Lab "): one for one in found}


def test_every_misbehaviour_is_told_and_costs_nobody_else(verified: dict[str, Found]) -> None:
    found = verified
    assert list(found) == sorted(lab_lv2.NAMES)
    assert {name: one.status for name, one in found.items()} == {
        "good": "ok",
        "late": "ok",
        "slow-only": "failed",
        "crash-loading": "broken",
        "hang": "broken",
        "crash": "broken",
        "nan": "broken",
        "clock": "failed",
        "meddle": "failed",
    }
    assert found["crash-loading"].reason == "loading: crashed by SIGSEGV"
    # An LV2 plugin runs a first block when it is loaded, to tell its latency.
    assert found["crash"].reason == "loading: crashed by SIGABRT"
    assert found["hang"].reason == "loading: took more than 14 s"
    assert "NaN" in found["nan"].reason
    assert "96000 Hz" in found["slow-only"].reason and "48000" not in found["slow-only"].reason
    assert found["clock"].reason == "two renders of one setting differ"


def test_what_is_said_of_a_plugin_that_works(verified: dict[str, Found]) -> None:
    good, late = verified["good"], verified["late"]
    assert (good.format, good.inputs, good.outputs, good.provider) == ("LV2", 1, 1, "lv2")
    assert good.parameters == {"continuous": 1, "toggle": 1}
    assert good.identity.startswith("sha256:")
    assert good.load_seconds is not None and 0 < good.load_seconds < 5
    assert (good.latency, late.latency) == (0, 64)
    assert good.checks == {
        "not_applied": [],
        "dead": ["nothing"],
        "untried": [],
        "repeatable": True,
        "silent": False,
        "rates": {"44100": "", "48000": "", "96000": ""},
    }


def test_values_that_a_plugin_changes_do_not_read_back(verified: dict[str, Found]) -> None:
    meddle = verified["meddle"]
    assert meddle.status == "failed"
    assert meddle.checks["not_applied"] == ["gain"] and "do not read back: gain" in meddle.reason


def test_results_are_remembered_until_the_file_changes(
    lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = shutil.copytree(lab, tmp_path / "lab.lv2")
    text = bundle / "manifest.ttl"
    first, rest = text.read_text().split("<urn:dafxhost:lab:late>", 1)
    assert rest
    text.write_text(first)  # one plugin is enough here
    tried = []
    real = scanning._tried
    monkeypatch.setattr(scanning, "_tried", lambda *a: (tried.append(a), real(*a))[1])
    once = list(scan([bundle]))
    assert len(tried) == len(once) == 1 and once[0].status == "ok"
    assert list(scan([bundle])) == once and len(tried) == 1
    list(scan([bundle], fresh=True))
    assert len(tried) == 2
    list(scan([bundle], verify=True, dead_seconds=1))  # a basic scan knows too little for that
    assert len(tried) == 3
    library = bundle / "lab.so"
    library.write_bytes(library.read_bytes() + b"\0")
    (changed,) = scan([bundle])
    assert changed.identity != once[0].identity and len(tried) == 4


def test_a_damaged_memory_is_no_error(lab: Path, own_cache: Path) -> None:
    one = files.from_location(f"{lab}#urn:dafxhost:lab:good")
    candidate = next(c for c in scanning.candidates([lab]) if c.location.endswith("good"))
    name = scanning._memory_name(candidate, False)
    own_cache.mkdir(exist_ok=True)
    for content in ("{", '{"format": "LV2", "colour": 1}', "[]"):
        (own_cache / f"scan-{name}.json").write_text(content)
        again = list(scanning._look_at(candidate, False, False, 15, 1))
        assert [a.status for a in again] == ["ok"] and again[0].identity == one.provider.identity


def test_garbage_is_listed_as_broken(tmp_path: Path) -> None:
    inside = tmp_path / "Empty.vst3" / "Contents" / "x86_64-linux"
    inside.mkdir(parents=True)
    text = tmp_path / "Text.vst3" / "Contents" / "x86_64-linux"
    text.mkdir(parents=True)
    (text / "Text.so").write_bytes(b"not a library at all" * 50)
    (tmp_path / "text.so").write_bytes(b"neither is this" * 50)
    (tmp_path / "bad.lv2").mkdir()
    (tmp_path / "bad.lv2" / "manifest.ttl").write_text("this is no Turtle <")
    (tmp_path / "none.lv2").mkdir()
    (tmp_path / "none.lv2" / "manifest.ttl").write_text("")
    found = {Path(one.location).name: one for one in scan([tmp_path], timeout=30)}
    assert {name: one.status for name, one in found.items()} == dict.fromkeys(
        ("Empty.vst3", "Text.vst3", "text.so", "bad.lv2"), "broken"
    )
    assert found["Empty.vst3"].reason.endswith("holds no shared library for this machine")
    assert "invalid ELF header" in found["Text.vst3"].reason
    assert "cannot be read" in found["bad.lv2"].reason
    assert all("\n" not in one.reason and one.reason for one in found.values())


def test_libraries_that_are_no_plugins_are_passed_by(lab: Path, tmp_path: Path) -> None:
    shutil.copy(lab / "lab.so", tmp_path / "helper.so")  # a library, without a VST2 plugin's entry
    assert scanning.candidates([tmp_path]) == []


def test_the_labs_vst3(vst3: Path, tmp_path: Path) -> None:
    latent = lab_plugin_build.variant(vst3, tmp_path / "latent", latency=100)
    crash = lab_plugin_build.variant(vst3, tmp_path / "crash", load="crash")
    slow = lab_plugin_build.variant(vst3, tmp_path / "slow", load="slow", seconds=100)
    found = {one.location: one for one in scan([latent, crash, slow], timeout=8)}
    assert (found[str(latent)].status, found[str(latent)].latency) == ("ok", 100)
    assert (found[str(latent)].inputs, found[str(latent)].outputs) == (1, 1)
    assert found[str(latent)].parameters == {"continuous": 1, "choice": 1}
    assert "signal 11" in found[str(crash)].reason
    assert found[str(slow)].reason.endswith("did not describe itself within 8 s")
    assert [one.status for one in found.values()] == ["ok", "broken", "broken"]


def test_mono_latent_and_rate_rejecting_plugins_as_effects(lab: Path) -> None:
    audio = noise(2)
    late = dafxhost.effect(f"{lab}#urn:dafxhost:lab:late")
    wet = render(late, audio, late.setting(gain=0.25)[None, None])
    np.testing.assert_allclose(wet[0], 0.25 * audio[0], atol=1e-7)  # latency is taken back, both channels
    slow = dafxhost.effect(f"{lab}:Lab slow-only")
    with dafxhost.Executor(slow, workers=1) as executor:
        assert executor.render(audio, slow.default_setting()[None, None], 48000).shape == (
            1,
            1,
            *audio.shape[1:],
        )
        with pytest.raises(DafxhostError, match="96000"):
            executor.render(audio, slow.default_setting()[None, None], 96000)


def test_a_bundle_of_several_wants_a_name(lab: Path, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match=r"holds 9 plugins; name one, as in .*lab\.lv2#urn:dafxhost:lab:"):
        files.from_location(str(lab))
    with pytest.raises(UnknownNameError, match="did you mean"):
        files.from_location(f"{lab}#urn:dafxhost:lab:goood")
    with pytest.raises(EffectUnavailableError, match=r"no manifest\.ttl"):
        files.from_location(str(tmp_path / "nothing.lv2"))


def test_names_of_several_plugins_in_a_vst3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pedalboard would say of such a file is made up here; the next test has a true one."""
    inside = tmp_path / "Two.vst3" / "Contents" / "x86_64-linux"
    inside.mkdir(parents=True)
    (inside / "Two.so").write_bytes(b"x")
    one = {"name": "Two A", "instrument": False, "inputs": 2, "outputs": 2, "latency": 0, "parameters": []}
    asked = []

    def describe(host: str, target: str, plugin: str, timeout: float) -> dict[str, object]:
        asked.append(plugin)
        return {**one, "name": plugin} if plugin else {"several": ["Two A", "Two B"]}

    monkeypatch.setattr(plugin_info, "_in_a_process", describe)
    path = str(tmp_path / "Two.vst3")
    with pytest.raises(
        PluginError, match=r"several plugins \(Two A, Two B\); name one, as in .*Two\.vst3#Two A"
    ):
        files.from_location(path)
    for text in (f"{path}#Two B", f"{path}:Two B"):
        fx = files.from_location(text)
        assert fx.name == "two-b" and fx.provider.options["plugin_name"] == "Two B"
    with pytest.raises(PluginError, match="only the first"):
        files.from_location(f"{path}#Two B", provider="dawdreamer")
    assert files.is_location("Two.vst3#Two B")
    monkeypatch.setattr(scanning, "_tried", lambda *_: {"stage": "done", "silent": False})
    assert [found.location for found in scan([tmp_path])] == [f"{path}#Two A", f"{path}#Two B"]


@pytest.mark.slow
def test_a_vst3_of_two_plugins_and_one_of_two_buses(tmp_path: Path) -> None:
    need(not lab_pair_build.missing(), lab_pair_build.missing() or "dpf-source")
    pair, side = lab_pair_build.pair(tmp_path), lab_pair_build.side_chain(tmp_path)
    found = {one.name: one for one in scan([tmp_path], timeout=30)}
    assert {name: (one.inputs, one.outputs) for name, one in found.items()} == {
        "Lab A": (2, 2),
        "Lab B": (1, 1),
        "Lab Side": (2, 2),
    }
    assert {one.status for one in found.values()} == {"ok"}
    audio = noise(2)
    for location in (f"{pair}#Lab A", f"{pair}:Lab B", str(side)):
        fx = dafxhost.effect(location)
        wet = render(fx, audio, fx.setting(**{fx.parameter_names[0]: 0.25})[None, None])
        np.testing.assert_allclose(wet[0], 0.25 * audio[0], atol=1e-6)
    with pytest.raises(PluginError, match="Lab A, Lab B"):
        dafxhost.effect(str(pair))
    with pytest.raises(PluginError, match="Lab C"):
        dafxhost.effect(f"{pair}#Lab C")
    # DawDreamer counts all buses' channels; those past the second are silent.
    other = dafxhost.effect(str(side), provider="dawdreamer")
    wet = render(other, audio, other.default_setting()[None, None])
    np.testing.assert_allclose(wet[0], 0.5 * audio[0], atol=1e-6)


def test_the_command(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("VST3_PATH", "VST_PATH"):
        monkeypatch.setenv(variable, "")
    monkeypatch.setenv("LV2_PATH", str(lab.parent))
    monkeypatch.setattr(
        scanning, "_tried", lambda *_: {"stage": "done", "silent": False, "latency": 3, "load_seconds": 0.001}
    )
    run = CliRunner().invoke(app, ["effects", "scan", "--json"])
    assert run.exit_code == 0, run.output
    rows = json.loads(run.stdout)
    assert [r["location"] for r in rows] == [f"urn:dafxhost:lab:{n}" for n in sorted(lab_lv2.NAMES)]
    assert rows[0]["latency"] == 3 and rows[0]["parameters"] == {"continuous": 1, "toggle": 1}
    run = CliRunner().invoke(app, ["effects", "scan", str(lab)])
    assert run.exit_code == 0 and run.stdout.splitlines()[-1] == "9 plugins: 9 ok, 0 failed, 0 broken"
    run = CliRunner().invoke(app, ["effects", "scan", "/nowhere/at/all"])
    assert run.exit_code != 0
    assert CliRunner().invoke(app, ["effects", "--json"]).exit_code == 0


def test_kinds_are_guessed_from_texts() -> None:
    """VST2 tells no kinds: words that each hold one stretch of the range are a list; numbers are not."""

    def row(name: str, text: Callable[[float], str], default: float) -> dict[str, Any]:
        def facts(count: int) -> list[list[Any]]:
            return [[i / (count - 1), text(i / (count - 1))] for i in range(count)]

        plain = {"index": 0, "name": name, "unit": "", "default": default, "steps": 2**31 - 1}
        return {**plain, "texts": facts(11), "fine": facts(257)}

    words = ["Room", "Hall", "Plate"]
    kinds = plugin_info.parameters(
        [
            row("Space", lambda r: words[min(int(3 * r), 2)], 0.5),
            row("Switch", lambda r: "on" if r > 0.5 else "off", 1.0),
            row("Limit", lambda r: "off" if r > 0.9 else f"{-20 * r:.0f}", 0.2),
            row("Again", lambda r: "low" if 0.3 < r < 0.6 else "high", 0.2),
        ]
    )
    assert [p.kind for p in kinds] == ["choice", "toggle", "continuous", "continuous"]
    space, switch = kinds[:2]
    assert space.choices == ("Room", "Hall", "Plate") and space.default == 1
    assert space.port.values == (0.0, pytest.approx(0.5, abs=0.01), 1.0)
    assert switch.default == 1 and switch.to_plugin(np.array([0.2, 0.8])).tolist() == [0, 1]


def test_parameters_that_only_some_providers_have_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(name: str, provider: str | None = None) -> Effect:
        names = {None: "ab", "lv2": "ab", "vst3": "bc"}
        if provider not in names:
            raise UnknownNameError("provider of fake", str(provider), ["lv2", "vst3"])
        parameters = tuple(Parameter(n) for n in names[provider])
        return Effect(name, parameters, Provider(provider or "lv2", "nowhere:Nothing"))

    monkeypatch.setattr("dafxhost.registry.effect", fake)
    run = CliRunner().invoke(app, ["effects", "fake"])
    assert "provider vst3 lacks a\n" in run.stdout and "provider vst3 also has c\n" in run.stdout
    assert "provider lv2 lacks" not in run.stdout
    rows = json.loads(CliRunner().invoke(app, ["effects", "fake", "--json"]).stdout)
    assert rows["differences"] == {"vst3": {"missing": ["a"], "more": ["c"]}}


def test_what_debian_has() -> None:
    """One of each format; the whole list is benchmarks/scan_table.py's."""
    bundle = mda.bundle("mda-combo")
    need(bundle, "mda-lv2")
    need(ZAM_VST2.exists(), "zam-plugins")
    found = list(scan([ZAM_VST2, Path("/usr/lib/vst3/ZamDelay.vst3")], verify=True, dead_seconds=2))
    assert [one.format for one in found] == ["VST3", "VST2"]
    assert [one.status for one in found] == ["ok", "ok"], [one.reason for one in found]
    assert found[1].name == "ZamDelay-vst"
    # The same parameters, of which the VST3 says more.
    assert sum(found[0].parameters.values()) == sum(found[1].parameters.values())


def test_scanning_loads_nothing_here(verified: dict[str, Found]) -> None:
    assert verified
    assert "lab.so" not in Path("/proc/self/maps").read_text()
