"""Presets that a DAW loads: written, read back by other readers, and rendered to the same samples."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rdflib

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import OutputError, ParameterError, PluginError, ShapeError, UsageError
from dafxhost.presets import save_preset, suffixes, writer
from dafxhost_effects import mda, zam
from dafxhost_effects.hosts import lv2_info
from dafxhost_effects.presets import lv2_bundle, states, vst2_program, vst3_preset
from hosting import need, noise, python, render

PSET = rdflib.Namespace("http://lv2plug.in/ns/ext/presets#")
LV2 = rdflib.Namespace("http://lv2plug.in/ns/lv2core#")
VST2 = Path("/usr/lib/vst/ZamEQ2-vst.so")


def need_zam() -> None:
    need(zam.provider_of("zam-comp") == "vst3", "zam-plugins")


def need_mda() -> None:
    need(mda.bundle("mda-combo"), "mda-lv2")


def a_setting(effect: Effect, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).random(len(effect.parameters))


def by_preset(effect: Effect, processor: str, options: dict[str, Any]) -> Effect:
    """The effect without parameters: what it is set to comes from the preset alone."""
    provider = replace(
        effect.provider,
        processor=f"preset_processors:{processor}" if processor else effect.provider.processor,
        options={**effect.provider.options, "parameters": [], **options},
        cheaper_resets=(),
    )
    return replace(effect, parameters=(), provider=provider)


def assert_same_sound(effect: Effect, setting: np.ndarray, preset: Effect) -> None:
    audio = noise(effect.inputs)
    wet = render(effect, audio, setting[None, None])
    plain = render(effect, audio, effect.default_setting()[None, None])
    assert np.abs(wet - plain).max() > 1e-3  # else a preset that holds nothing would pass
    np.testing.assert_array_equal(render(preset, audio, np.zeros((1, 1, 0))), wet)


@pytest.mark.parametrize("provider", ["vst3", "dawdreamer"])
@pytest.mark.parametrize("name", ["zam-comp", "zam-eq2", "zam-maxim-x2", "zam-multi-comp-x2"])
def test_vst3_presets_render_as_the_setting_does(name: str, provider: str, tmp_path: Path) -> None:
    need_zam()
    effect = dafxhost.effect(name, provider)
    path, setting = tmp_path / "Mine.vstpreset", a_setting(effect)
    assert save_preset(path, effect, setting) == path
    processor = "FromVst3Preset" if provider == "vst3" else "FromDawDreamerPreset"
    assert_same_sound(effect, setting, by_preset(effect, processor, {"preset": str(path)}))


def test_a_vst3_preset_is_what_steinberg_documents(tmp_path: Path) -> None:
    need_zam()
    effect = dafxhost.effect("zam-comp")
    setting = effect.setting(attack=12.5, ratio=3, threshold=-20, sidechain=True)
    data = save_preset(tmp_path / "a.vstpreset", effect, setting).read_bytes()
    kept = vst3_preset.read(data)
    assert len(kept.class_id) == 32 and kept.chunks.keys() >= {"Comp"}
    # DPF keeps its parameters as words: name and native value.
    state = dict(re.findall(r"(\w+)\0(-?[\d.]+)\0", kept.chunks["Comp"].decode("latin-1")))
    values = [float(state[name]) for name in ("att", "rat", "thr", "sidech")]
    assert values == pytest.approx([12.5, 3, -20, 1], rel=1e-6)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: b"",
        lambda d: d[:40],
        lambda d: b"VST4" + d[4:],
        lambda d: d[:4] + struct.pack("<i", 2) + d[8:],
        lambda d: d[:8] + b"no class id of thirty-two digits" + d[40:],
        lambda d: d[:-60] + b"Lost" + d[-56:] if len(d) > 200 else d[:-3],
        lambda d: d[:-8] + struct.pack("<q", len(d)),
    ],
)
def test_what_is_no_vst3_preset_is_refused(spoil: Any) -> None:
    body = b"state"
    head = struct.pack("<4si32sq", b"VST3", 1, b"0123456789abcdef" * 2, 48 + len(body))
    data = head + body + struct.pack("<4si4sqq", b"List", 1, b"Comp", 48, len(body))
    assert vst3_preset.read(data) == vst3_preset.Contents("0123456789ABCDEF" * 2, {"Comp": body})
    with pytest.raises(PluginError, match="VST3 preset"):
        vst3_preset.read(spoil(data))


def read_bundle(path: Path, plugin: str) -> dict[str, float]:
    """Symbol -> value, as a host finds them: the manifest says which file holds the plugin's preset."""
    manifest, preset = rdflib.Graph(), rdflib.Graph()
    manifest.parse(path / "manifest.ttl")
    (subject,) = manifest.subjects(LV2.appliesTo, rdflib.URIRef(plugin))
    assert (subject, rdflib.RDF.type, PSET.Preset) in manifest
    file = manifest.value(subject, rdflib.RDFS.seeAlso)
    assert file is not None
    preset.parse(str(file).removeprefix("file://"))
    assert (subject, LV2.appliesTo, rdflib.URIRef(plugin)) in preset
    assert str(preset.value(subject, rdflib.RDFS.label)) == path.stem
    return {
        str(preset.value(port, LV2.symbol)): float(str(preset.value(port, PSET.value)))
        for port in preset.objects(subject, LV2.port)
    }


@pytest.mark.parametrize("provider", ["lv2", "dawdreamer"])
@pytest.mark.parametrize("name", ["mda-combo", "mda-multiband", "mda-leslie"])
def test_lv2_presets_render_as_the_setting_does(name: str, provider: str, tmp_path: Path) -> None:
    need_mda()
    effect = dafxhost.effect(name, provider)
    path, setting = save_preset(tmp_path / "Mine.lv2", effect, a_setting(effect)), a_setting(effect)
    description = lv2_info.find(mda.table()[name]["uri"])
    ports = {c["symbol"]: c["index"] for c in description["controls"]}
    values = read_bundle(path, description["uri"])
    fixed = [[ports[symbol], value] for symbol, value in values.items()]
    assert len(fixed) == len(ports)
    lv2 = dafxhost.effect(name, "lv2")
    assert_same_sound(lv2, setting, by_preset(lv2, "", {"fixed": fixed}))


def test_lv2_presets_of_a_plugin_with_ranges_of_its_own(tmp_path: Path) -> None:
    need_zam()
    uri = "urn:zamaudio:ZamComp"
    effect = dafxhost.effect(uri)
    setting = a_setting(effect)
    description = lv2_info.find(uri)
    values = read_bundle(save_preset(tmp_path / "Mine.lv2", effect, setting), uri)
    wanted = effect.plugin_values(setting)
    assert [values[c["symbol"]] for c in description["controls"]] == pytest.approx(wanted, rel=1e-6)
    other = dafxhost.effect(uri, "dawdreamer")
    again = read_bundle(save_preset(tmp_path / "Other.lv2", other, setting), uri)
    assert again == pytest.approx(values, rel=1e-6)


LILV = """
import ctypes, json
from ctypes import CFUNCTYPE, c_char_p, c_float, c_uint32, c_void_p
lilv = ctypes.CDLL("liblilv-0.so.0")
for name in ("world_new", "new_uri", "state_new_from_world", "nodes_get_first", "plugin_get_related",
             "world_get_all_plugins", "plugins_get_by_uri", "state_get_label"):
    getattr(lilv, "lilv_" + name).restype = c_char_p if name == "state_get_label" else c_void_p
P = c_void_p
uris = {}
MAP = CFUNCTYPE(c_uint32, c_void_p, c_char_p)
SET = CFUNCTYPE(None, c_char_p, c_void_p, c_void_p, c_uint32, c_uint32)
class Map(ctypes.Structure):
    _fields_ = [("handle", c_void_p), ("map", MAP)]
mapping = Map(None, MAP(lambda _, uri: uris.setdefault(uri, len(uris) + 1)))
world = P(lilv.lilv_world_new())
lilv.lilv_world_load_all(world)
plugins = P(lilv.lilv_world_get_all_plugins(world))
plugin = P(lilv.lilv_plugins_get_by_uri(plugins, P(lilv.lilv_new_uri(world, PLUGIN.encode()))))
kind = P(lilv.lilv_new_uri(world, b"http://lv2plug.in/ns/ext/presets#Preset"))
found = P(lilv.lilv_plugin_get_related(plugin, kind))
preset = P(lilv.lilv_nodes_get_first(found))
lilv.lilv_world_load_resource(world, preset)
state = P(lilv.lilv_state_new_from_world(world, ctypes.byref(mapping), preset))
values = {}
@SET
def take(symbol, _, value, size, kind):
    assert size == 4 and uris[b"http://lv2plug.in/ns/ext/atom#Float"] == kind
    values[symbol.decode()] = c_float.from_address(value).value
lilv.lilv_state_emit_port_values(state, take, None)
answer = [lilv.lilv_nodes_size(found), lilv.lilv_state_get_label(state).decode(), values]
"""


def test_lilv_reads_an_lv2_preset(tmp_path: Path) -> None:
    """The library by which most hosts read LV2: it finds the bundle, and reads label and values."""
    need_mda()
    need(Path("/usr/lib/x86_64-linux-gnu/liblilv-0.so.0").exists(), "liblilv-0-0")
    effect = dafxhost.effect("mda-combo", "lv2")
    setting = a_setting(effect)
    setting[[1, 2, 3]] = [0, 1, 1e-6]  # whole numbers, and one that has an exponent elsewhere
    save_preset(tmp_path / 'Loud "one" \\ più.lv2', effect, setting)
    path = os.pathsep.join([str(tmp_path), *map(str, lv2_info.folders())])
    uri = mda.table()["mda-combo"]["uri"]
    count, label, values = python(f"PLUGIN = {uri!r}\n{LILV}", LV2_PATH=path)
    wanted = effect.plugin_values(setting).astype(np.float32)
    assert (count, label) == (1, 'Loud "one" \\ più')
    assert [values[c["symbol"]] for c in lv2_info.find(uri)["controls"]] == wanted.tolist()


def test_lv2info_lists_the_preset(tmp_path: Path) -> None:
    need_mda()
    need(shutil.which("lv2info"), "lilv-utils")
    save_preset(tmp_path / "Warm.lv2", effect := dafxhost.effect("mda-combo", "lv2"), a_setting(effect))
    path = os.pathsep.join([str(tmp_path), *map(str, lv2_info.folders())])
    command = ["lv2info", mda.table()["mda-combo"]["uri"]]
    done = subprocess.run(
        command, env={**os.environ, "LV2_PATH": path}, capture_output=True, text=True, check=True
    )
    assert "Warm" in done.stdout.partition("Presets:")[2].splitlines()[1]


@pytest.mark.parametrize("suffix", [".fxp", ".fxb"])
def test_vst2_presets_render_as_the_setting_does(suffix: str, tmp_path: Path) -> None:
    need(VST2.exists(), "zam-plugins")
    effect = dafxhost.effect(str(VST2))
    path, setting = tmp_path / f"mine{suffix}", a_setting(effect)
    data = save_preset(path, effect, setting).read_bytes()
    magic, size, kind = struct.unpack_from(">4si4s", data)
    assert (magic, size, kind) == (b"CcnK", len(data) - 8, b"FxCk" if suffix == ".fxp" else b"FxBk")
    preset = by_preset(effect, "FromDawDreamerPreset", {"preset": str(path)})
    assert_same_sound(effect, setting, preset)


def a_program(value: float, count: int = 2) -> bytes:
    return struct.pack(
        f">4si4siIii28s{count}f", b"CcnK", 0, b"FxCk", 1, 7, 1, count, b"name", *[value] * count
    )


def a_bank(*programs: bytes, kind: bytes = b"FxBk", version: int = 2, current: int = 0) -> bytes:
    head = struct.pack(">4si4siIiii", b"CcnK", 0, kind, version, 7, 1, len(programs), current)
    return head.ljust(156, b"\0") + b"".join(programs)


def test_the_program_in_use_is_cut_from_a_bank() -> None:
    programs = [a_program(v) for v in (0.25, 0.5, 0.75)]
    cut = vst2_program.program(a_bank(*programs, current=2))
    assert struct.unpack(">2f", cut[56:]) == (0.75, 0.75) and struct.unpack_from(">i", cut, 4) == (
        len(cut) - 8,
    )
    assert vst2_program.program(a_bank(*programs, version=1, current=2))[56:] == programs[0][56:]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "gave no state"),
        (b"?" * 200, "no VST2 bank"),
        (a_bank(b"chunk", kind=b"FBCh"), "ask for .fxb"),
        (a_bank(a_program(1)[:-4]), "holds no program"),
        (a_bank(b"", b""), "cut off"),
        (a_bank(a_program(1), current=1), "ask for .fxb"),
    ],
)
def test_what_is_no_bank_of_programs_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        vst2_program.program(data)


def test_what_has_no_plugin_has_no_preset(tmp_path: Path) -> None:
    for name, provider in (("mda-combo", "builtin"), ("pedalboard-delay", None)):
        effect = dafxhost.effect(name, provider)
        assert suffixes(effect) == []
        with pytest.raises(UsageError, match=f"{name} by .* has no preset that a DAW loads"):
            save_preset(tmp_path / "a.vstpreset", effect, effect.default_setting())
    assert not list(tmp_path.iterdir())


def test_bad_requests(tmp_path: Path) -> None:
    need_mda()
    effect = dafxhost.effect("mda-combo", "lv2")
    setting = effect.default_setting()
    assert suffixes(effect) == [".lv2"]
    with pytest.raises(UsageError, match=r"a.vstpreset: presets of mda-combo by lv2 end in \.lv2"):
        writer(effect, tmp_path / "a.vstpreset")
    with pytest.raises(OutputError, match="no folder"):
        writer(effect, tmp_path / "nowhere" / "a.lv2")
    with pytest.raises(ShapeError):
        save_preset(tmp_path / "a.lv2", effect, setting[:-1])
    with pytest.raises(ParameterError, match=r"drive is 1\.5"):
        save_preset(tmp_path / "a.lv2", effect, np.where(np.arange(7) == 1, 1.5, setting))
    (tmp_path / "a.lv2").mkdir()
    (tmp_path / "a.lv2" / "Plugin.so").touch()
    with pytest.raises(OutputError, match="is no preset bundle"):
        save_preset(tmp_path / "a.lv2", effect, setting)
    (tmp_path / "b.lv2").touch()
    with pytest.raises(OutputError, match="is no preset bundle"):
        save_preset(tmp_path / "b.lv2", effect, setting)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.lv2", "b.lv2"]
    assert [p.name for p in (tmp_path / "a.lv2").iterdir()] == ["Plugin.so"]


def test_a_preset_is_replaced(tmp_path: Path) -> None:
    need_mda()
    effect = dafxhost.effect("mda-combo", "lv2")
    uri = effect.provider.options["uri"]
    for drive in (0.25, 0.75):
        path = save_preset(tmp_path / "a.lv2", effect, effect.setting(drive=drive))
        assert read_bundle(path, uri)["drive"] == drive
    assert [p.name for p in tmp_path.iterdir()] == ["a.lv2"]


def test_values_that_count_in_sample_rates_are_refused() -> None:
    need_mda()
    effect = dafxhost.effect("mda-combo", "lv2")
    description = lv2_info.find(effect.provider.options["uri"])
    controls = [{**c, "rate": c["symbol"] == "drive"} for c in description["controls"]]
    with pytest.raises(PluginError, match="drive counts in sample rates"):
        lv2_bundle.port_values(effect, effect.default_setting(), {"controls": controls})


@pytest.mark.parametrize(
    ("target", "words"), [("/nowhere/No.vst3", "cannot load"), ("/usr/lib/os-release", "cannot load")]
)
def test_a_plugin_that_cannot_be_loaded_says_why(target: str, words: str) -> None:
    with pytest.raises(PluginError, match=words):
        states.run({"task": "save", "host": "vst3", "target": target, "plugin_name": None})


def test_a_plugin_that_hangs_or_dies_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    job = {"task": "save", "host": "vst3", "target": "x", "plugin_name": None}
    with pytest.raises(PluginError, match=r"no answer within 0.001 s"):
        states.run(job, timeout=0.001)
    monkeypatch.setattr(states.sys, "executable", "/bin/false")
    with pytest.raises(PluginError, match="ended its process by exit code 1"):
        states.run(job)


def test_a_plugin_that_forgets_its_state_is_found_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need_zam()
    effect = dafxhost.effect("zam-comp")
    real = states.run

    def run(job: dict[str, Any], timeout: float = 60) -> dict[str, Any]:
        if job["task"] == "load":  # as if the file had held a fresh plugin's state
            real({**job, "task": "save", "values": effect.plugin_values(effect.default_setting()).tolist()})
        return real(job, timeout)

    monkeypatch.setattr(states, "run", run)
    with pytest.raises(PluginError, match=r"zam-comp does not take its own state again: .* was saved at"):
        save_preset(tmp_path / "a.vstpreset", effect, effect.setting(ratio=11))
    assert not list(tmp_path.iterdir())
