"""dafxhost apply, dafxhost preset, and what transfer leaves for them, as typed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import dafxhost
from command_line import Call, make_run
from dafxhost.settings import load_setting, save_setting
from dafxhost_effects import mda, zam
from hosting import need


def write(path: Path, channels: int, rate: int, seconds: float = 1.0, subtype: str | None = None) -> None:
    """Noise with a peak of 0.5."""
    audio = np.random.default_rng(channels).standard_normal((round(rate * seconds), channels))
    soundfile.write(path, 0.5 * audio / np.abs(audio).max(), rate, subtype)


@pytest.fixture
def files(tmp_path: Path) -> None:
    """delay.json, gain.json, and three stems of several rates, channels and subtypes."""
    delay = dafxhost.effect("pedalboard-delay")
    save_setting(tmp_path / "delay.json", delay, delay.setting(delay_seconds=0.01, mix=0.5))
    gain = dafxhost.effect("pedalboard-gain")
    save_setting(tmp_path / "gain.json", gain, gain.setting(gain_db=6))
    write(tmp_path / "vocals.wav", 1, 44100, 5.3, subtype="PCM_24")
    write(tmp_path / "drums.flac", 2, 48000)
    write(tmp_path / "bass.aiff", 1, 22050, subtype="FLOAT")


def hashes(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.is_file()}


STEMS = ("vocals.wav", "drums.flac", "bass.aiff")


@pytest.mark.usefixtures("files")
def test_apply_keeps_rate_channels_and_length_and_the_inputs(call: Call, tmp_path: Path) -> None:
    before = hashes(tmp_path)
    code, out, err = call("apply", "delay.json", *STEMS, "-o", "wet")
    assert code == 0 and err == ""
    assert hashes(tmp_path) == before
    assert sorted(p.name for p in (tmp_path / "wet").iterdir()) == sorted(STEMS)
    for line, name in zip(out.splitlines(), STEMS, strict=True):
        dry, wet = soundfile.info(tmp_path / name), soundfile.info(tmp_path / "wet" / name)
        assert (wet.samplerate, wet.channels, wet.frames) == (dry.samplerate, dry.channels, dry.frames)
        assert wet.subtype == dry.subtype
        a, b = (soundfile.read(p)[0] for p in (tmp_path / name, tmp_path / "wet" / name))
        assert np.square(b).mean() == pytest.approx(np.square(a).mean(), rel=1e-3)  # as loud as before
        peaks = [f"{20 * np.log10(np.abs(x).max()):.1f} dBFS" for x in (a, b)]
        assert line.startswith(f"wet/{name}: ") and f"peak {peaks[0]} before, {peaks[1]} after" in line


@pytest.mark.usefixtures("files")
def test_apply_is_render_when_the_levels_are_left_alone(call: Call, tmp_path: Path) -> None:
    assert call("apply", "delay.json", "vocals.wav", "--level", "plugin", "--input-gain", "0")[0] == 0
    done = call(
        *("render", "vocals.wav", "--effect", "pedalboard-delay", "-o", "rendered.wav"),
        *("--set", "delay_seconds=0.01", "--set", "mix=0.5"),
    )
    assert done[0] == 0
    one, other = (soundfile.read(tmp_path / f)[0] for f in ("vocals-applied.wav", "rendered.wav"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("files")
def test_apply_as_json_and_the_gains(call: Call) -> None:
    code, out, _ = call("apply", "gain.json", "vocals.wav", "bass.aiff", "--json", "--level", "plugin")
    said = json.loads(out)
    assert code == 0 and [s["output"] for s in said] == ["vocals-applied.wav", "bass-applied.aiff"]
    for one in said:
        assert one["peak_before"] == pytest.approx(20 * np.log10(0.5), abs=1e-3)
        assert one["input_gain_db"] == pytest.approx(-12 - one["peak_before"])
        assert one["peak_after"] == pytest.approx(-6, abs=1e-3)  # -12 dBFS and 6 dB
        assert one["output_gain_db"] == 0 and one["clipped"] == 0


@pytest.mark.usefixtures("files")
def test_clipping_is_said(call: Call) -> None:
    code, out, err = call("apply", "gain.json", "vocals.wav", "--level", "plugin", "--input-gain", "6")
    assert code == 0 and "peak -6.0 dBFS before, 6.0 dBFS after" in out
    assert err.startswith("warning: ") and "samples of vocals-applied.wav lie beyond full scale" in err


@pytest.mark.usefixtures("files")
def test_a_silent_stem_stays_silent(call: Call, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "pause.wav", np.zeros(1000), 44100)
    code, out, _ = call("apply", "delay.json", "pause.wav")
    assert code == 0 and "peak silence before, silence after" in out
    assert not soundfile.read(tmp_path / "pause-applied.wav")[0].any()


@pytest.mark.usefixtures("files")
def test_strength_goes_from_nothing_to_the_match(call: Call, tmp_path: Path) -> None:
    heard = {}
    for strength in ("0", "0.5", "1"):
        plain = ("--level", "plugin", "--input-gain", "0", "--strength", strength)
        assert call("apply", "delay.json", "bass.aiff", "-o", f"s{strength}", *plain)[0] == 0
        heard[strength] = soundfile.read(tmp_path / f"s{strength}" / "bass.aiff", dtype="float32")[0]
    dry = soundfile.read(tmp_path / "bass.aiff", dtype="float32")[0]
    np.testing.assert_array_equal(heard["0"], dry)
    np.testing.assert_allclose(heard["0.5"], (heard["1"] + dry) / 2, atol=1e-6)  # a delay's mix is linear
    assert np.abs(heard["1"] - dry).max() > 0.1


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("delay.json",), 2, "INPUT"),
        (("nothing.json", "vocals.wav"), 2, "nothing.json: there is no such file"),
        (("vocals.wav", "vocals.wav"), 2, "is no setting"),
        (("delay.json", "nothing.wav"), 1, "nothing.wav: there is no such file"),
        (("delay.json", "delay.json"), 1, "cannot be read as audio"),
        (("delay.json", "vocals.wav", "-o", "."), 2, "one of the recordings to work on"),
        (("delay.json", "vocals.wav", "-o", "out.wav"), 2, "name a folder"),
        (("delay.json", "vocals.wav", "-o", "gain.json"), 1, "cannot be made a folder"),
        (("delay.json", "vocals.wav", "-o", "no/where"), 1, "cannot be made a folder"),
        (("delay.json", "vocals.wav", "vocals.wav"), 2, "would both become"),
        (("delay.json", "vocals.wav", "--level", "match-reference"), 2, "unknown level"),
        (("delay.json", "vocals.wav", "--strength", "2"), 2, "strength 2 is out of range"),
        (("delay.json", "vocals.wav", "--input-gain", "nan"), 2, "is no gain"),
        (("delay.json", "vocals.wav", "--provider", "vst9"), 2, "vst9"),
    ],
)
def test_bad_requests_are_one_sentence(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = hashes(tmp_path)
    got, out, err = call("apply", *arguments)
    assert got == code and words in err, err
    assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err and out == ""
    assert hashes(tmp_path) == before


@pytest.mark.usefixtures("files")
def test_no_input_is_overwritten_by_another_s_result(call: Call, tmp_path: Path) -> None:
    write(tmp_path / "vocals-applied.wav", 1, 44100)
    before = hashes(tmp_path)
    code, _, err = call("apply", "delay.json", "vocals.wav", "vocals-applied.wav")
    assert code == 2 and "one of the recordings" in err and hashes(tmp_path) == before
    (tmp_path / "link.wav").symlink_to("vocals.wav")
    (tmp_path / "wet").mkdir()
    (tmp_path / "wet" / "drums.flac").hardlink_to(tmp_path / "drums.flac")
    assert call("apply", "delay.json", "drums.flac", "-o", "wet")[0] == 2
    assert hashes(tmp_path) == {**before, "link.wav": before["vocals.wav"]}


@pytest.mark.usefixtures("files")
def test_a_lossy_input_becomes_wav(call: Call, tmp_path: Path) -> None:
    write(tmp_path / "voice.ogg", 1, 44100)
    assert call("apply", "delay.json", "voice.ogg")[0] == 0
    assert soundfile.info(tmp_path / "voice-applied.wav").format == "WAV"


@pytest.fixture
def run(tmp_path: Path) -> None:
    """input.wav, reference.wav, and a run with an untrained controller for mda-combo."""
    for name, rate in (("input", 44100), ("reference", 22050)):
        write(tmp_path / f"{name}.wav", 1, rate, 2.0)
    make_run(tmp_path / "runs")


@pytest.mark.usefixtures("run")
def test_what_transfer_writes_is_applied_to_the_same_samples(call: Call, tmp_path: Path) -> None:
    code, _, err = call("transfer", "input.wav", "reference.wav", "-o", "out.wav")
    assert code == 0, err
    kept = load_setting("out.wav.json")
    said = json.loads((tmp_path / "out.wav.json").read_text())
    assert kept.setting.tolist() == list(said["setting"].values()) and kept.difference() == ""
    assert call("apply", "out.wav.json", "input.wav")[0] == 0
    one, other = (soundfile.read(tmp_path / f)[0] for f in ("out.wav", "input-applied.wav"))
    np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("run")
def test_transfer_at_a_strength_and_with_a_preset(call: Call, tmp_path: Path) -> None:
    need(mda.bundle("mda-combo"), "mda-lv2")
    match = ("transfer", "input.wav", "reference.wav", "-o", "full.wav")
    code, out, err = call(*match, "--preset", "Full.lv2")
    assert code == 0 and "preset: Full.lv2" in out, err
    half = (*match[:-1], "half.wav", "--strength", "0.5", "--preset", "Half.lv2", "--json")
    code, out, err = call(*half)
    said = json.loads(out)
    assert code == 0 and (said["strength"], said["preset"]) == (0.5, "Half.lv2"), err
    full = load_setting("full.wav.json")
    from dafxhost.settings import at_strength

    np.testing.assert_array_equal(
        load_setting("half.wav.json").setting, at_strength(full.effect, full.setting, 0.5)
    )
    assert call("preset", "full.wav.json", "Again.lv2")[0] == 0
    texts = [(tmp_path / f"{n}.lv2" / "preset.ttl").read_text() for n in ("Full", "Again", "Half")]
    assert texts[1] == texts[0].replace('"Full"', '"Again"') and texts[2] != texts[0]
    assert call("preset", "full.wav.json", "Weak.lv2", "--strength", "0.5")[0] == 0
    weak = (tmp_path / "Weak.lv2" / "preset.ttl").read_text()
    assert weak == texts[2].replace('"Half"', '"Weak"')


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--preset", "a.vstpreset"), "presets of mda-combo by lv2 end in .lv2"),
        (("--preset", "a.lv2", "--provider", "builtin"), "has no preset that a DAW loads"),
        (("--strength", "-1"), "strength -1 is out of range"),
    ],
)
def test_transfer_refuses_before_it_works(
    call: Call, tmp_path: Path, option: tuple[str, ...], words: str
) -> None:
    need(mda.bundle("mda-combo"), "mda-lv2")
    code, out, err = call("transfer", "input.wav", "reference.wav", "-o", "out.wav", *option)
    assert code == 2 and words in err and out == ""
    assert not list(tmp_path.glob("out*"))


def test_preset_of_a_vst3(call: Call, tmp_path: Path) -> None:
    need(zam.provider_of("zam-comp") == "vst3", "zam-plugins")
    fx = dafxhost.effect("zam-comp")
    save_setting(tmp_path / "comp.json", fx, fx.setting(ratio=8, threshold=-30))
    code, out, err = call("preset", "comp.json", "Squash.vstpreset", "--json")
    assert code == 0 and err == "" and json.loads(out)["native"]["ratio"] == pytest.approx(8)
    assert (tmp_path / "Squash.vstpreset").read_bytes().startswith(b"VST3\x01")
    code, out, _ = call("preset", "comp.json", "Squash.vstpreset")
    assert code == 0 and "threshold" in out and "preset: Squash.vstpreset" in out


@pytest.mark.usefixtures("files")
def test_preset_of_what_is_no_plugin(call: Call) -> None:
    code, out, err = call("preset", "delay.json", "a.vstpreset")
    assert code == 2 and out == "" and "pedalboard-delay by pedalboard has no preset" in err


def test_a_setting_of_our_own_version_becomes_a_preset_of_the_plugin(call: Call, tmp_path: Path) -> None:
    need(mda.bundle("mda-combo"), "mda-lv2")
    own = dafxhost.effect("mda-combo", "builtin")
    save_setting(tmp_path / "combo.json", own, own.setting(drive=0.25))
    code, _, err = call("preset", "combo.json", "Warm.lv2", "--provider", "lv2")
    assert code == 0 and err.startswith("warning: combo.json was made with mda-combo by builtin")
    assert '"drive" ;\n\t\tpset:value 0.25' in (tmp_path / "Warm.lv2" / "preset.ttl").read_text()
