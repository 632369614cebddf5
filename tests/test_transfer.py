"""Making one recording sound like another: files of all kinds, levels, and everything that can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

import dafxhost
from command_line import make_run
from dafxhost.data.audio_io import read_audio
from dafxhost.errors import AudioFileError, DafxhostError, OutputError, RunError, UsageError
from dafxhost.file_rendering import CEILING
from dafxhost.style_transfer import TransferResult, transfer
from dafxhost.training.runs import load_run
from hosting import need


def music(
    path: Path,
    rate: int = 44100,
    channels: int = 1,
    seconds: float = 2.0,
    seed: int = 0,
    level: float = 0.3,
    **options,
) -> Path:
    """Noise bursts through a falling spectrum, a different one in every channel."""
    rng = np.random.default_rng(seed)
    count = int(seconds * rate)
    spectrum = np.fft.rfft(rng.standard_normal((channels, count)))
    audio = np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(count, 1 / rate), 50), count)
    audio *= np.exp(-6 * (np.arange(count) / rate % 0.3))
    soundfile.write(path, (level * audio / np.abs(audio).max()).T, rate, **options)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs"), favour=4)


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    return music(tmp_path / "reference.wav", 48000, 1, 1.5, seed=9)


@pytest.mark.parametrize(
    ("rate", "channels", "seconds", "options"),
    [
        (44100, 2, 2.0, {"subtype": "PCM_16"}),
        (22050, 1, 3.0, {"subtype": "FLOAT"}),
        (96000, 1, 0.5, {"subtype": "PCM_24"}),
        (8000, 2, 0.2, {"subtype": "PCM_16"}),
    ],
)
def test_rate_channels_length_and_subtype_are_kept(
    trained: Path, reference: Path, tmp_path: Path, rate: int, channels: int, seconds: float, options: dict
) -> None:
    source = music(tmp_path / "in.wav", rate, channels, seconds, **options)
    done = transfer(source, reference, output=tmp_path / "out.wav", run=trained)
    made = soundfile.info(tmp_path / "out.wav")
    assert (made.samplerate, made.channels, made.subtype) == (rate, channels, options["subtype"])
    assert made.frames == soundfile.info(source).frames == done.frames
    assert np.isfinite(done.distance_before) and np.isfinite(done.distance_after) and not done.clipped
    assert done.native["model"] == dafxhost.effect("mda-combo").parameters[0].choices[4]


def test_what_is_written_beside_the_output_says_how_to_make_it_again(
    trained: Path, reference: Path, tmp_path: Path
) -> None:
    source, out = music(tmp_path / "in.wav", 44100, 1, 6.0, subtype="FLOAT"), tmp_path / "out.wav"
    done = transfer(source, reference, output=out, run=trained)
    kept = json.loads((tmp_path / "out.wav.json").read_text())
    assert kept == json.loads(json.dumps(done.to_dict()))
    assert kept["effect"] == "mda-combo" and kept["run"] == str(trained) and kept["provider"]
    assert kept["render_spec"]["sample_rate"] == 44100 and len(kept["render_spec"]["fingerprint"]) == 12
    fx = dafxhost.effect("mda-combo")
    np.testing.assert_allclose(fx.setting(**kept["native"]), done.setting, atol=1e-6)
    # The whole input in one render, at the gains that the file states, is the output that was made in blocks.
    audio = read_audio(source)[0] * np.float32(10 ** (kept["input_gain_db"] / 20))
    with dafxhost.Executor(fx, workers=1) as executor:
        wet = np.asarray(executor.render(audio[None], done.setting[None], sample_rate=44100))[0]
    np.testing.assert_allclose(
        read_audio(out)[0], wet * 10 ** (kept["output_gain_db"] / 20), atol=2e-5 * np.abs(wet).max()
    )


def test_the_same_request_gives_the_same_samples(trained: Path, reference: Path, tmp_path: Path) -> None:
    source = music(tmp_path / "in.wav", channels=2)
    for name in ("a.wav", "b.wav"):
        transfer(source, reference, output=tmp_path / name, run=trained)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def rms(path: Path) -> float:
    return float(np.sqrt(np.mean(np.square(read_audio(path)[0]))))


def test_levels(trained: Path, tmp_path: Path) -> None:
    source = music(tmp_path / "in.wav", level=0.2, subtype="FLOAT")
    reference = music(tmp_path / "ref.wav", level=0.05, seed=3, subtype="FLOAT")
    out = tmp_path / "out.wav"

    def at(level) -> TransferResult:
        return transfer(source, reference, output=out, run=trained, level=level)

    at("match-input")
    assert rms(out) == pytest.approx(rms(source), rel=1e-3)
    at("match-reference")
    assert rms(out) == pytest.approx(rms(reference), rel=1e-3)
    assert at("plugin").output_gain_db == 0
    # Too loud to be matched: the peak decides, and nothing clips.
    music(source, level=1.0, subtype="FLOAT")
    square = np.sign(np.sin(2 * np.pi * 100 * np.arange(44100) / 44100))
    soundfile.write(reference, 0.99 * square, 44100, subtype="FLOAT")
    done = at("match-reference")
    assert done.clipped == 0 and np.abs(read_audio(out)[0]).max() == pytest.approx(CEILING, rel=1e-4)
    with pytest.raises(UsageError, match="known levels: match-input"):
        at("loudest")


def test_input_level_does_not_change_the_sound(trained: Path, reference: Path, tmp_path: Path) -> None:
    for name, level in (("loud", 0.8), ("quiet", 0.008)):
        source = music(tmp_path / f"{name}.wav", level=level, subtype="FLOAT")
        transfer(source, reference, output=tmp_path / f"{name}-out.wav", run=trained)
    loud, quiet = (read_audio(tmp_path / f"{name}-out.wav")[0] for name in ("loud", "quiet"))
    np.testing.assert_allclose(loud / np.abs(loud).max(), quiet / np.abs(quiet).max(), atol=1e-3)


def test_the_newest_run_is_used_and_effects_are_told_apart(
    reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = music(tmp_path / "in.wav")
    with pytest.raises(RunError, match="dafxhost train"):
        transfer(source, reference)
    (tmp_path / "runs").mkdir()
    combo = make_run(tmp_path / "runs", name="combo-run")
    drive = make_run(tmp_path / "runs", "mda-overdrive", name="overdrive-run")
    done = transfer(source, reference)
    assert done.run == Path("runs") / drive.name and done.effect == "mda-overdrive"
    assert done.output == tmp_path / "in-transferred.wav" and done.output.is_file()
    assert transfer(source, reference, effect="mda-combo").run == Path("runs") / combo.name
    with pytest.raises(RunError, match=r"mda-overdrive.*not 'mda-combo'"):
        transfer(source, reference, effect="mda-combo", run=drive)
    with pytest.raises(RunError, match="mda-bandisto"):
        transfer(source, reference, effect="mda-bandisto")
    with pytest.raises(RunError, match="no run folder"):
        transfer(source, reference, run=tmp_path / "nothing")


def test_a_run_of_a_plugin_without_a_name_finds_it_again(reference: Path, tmp_path: Path) -> None:
    where = "/usr/lib/vst3/ZamComp.vst3"
    need(Path(where).exists(), "zam-plugins")
    run = make_run(tmp_path, where, name="run")
    source = music(tmp_path / "in.wav")
    done = transfer(source, reference, run=run, output=tmp_path / "out.wav")
    assert load_run(run).effect_name == done.effect == "zamcomp" and load_run(run).where == where


def test_a_run_for_other_parameters_is_refused(reference: Path, tmp_path: Path) -> None:
    path = make_run(tmp_path, name="old-run")
    card = json.loads((path / "best.json").read_text())
    card["parameters"][1]["maximum"] = 2.0
    (path / "best.json").write_text(json.dumps(card))
    with pytest.raises(RunError, match="'drive'"):
        transfer(music(tmp_path / "in.wav"), reference, output=tmp_path / "out.wav", run=path)
    assert not (tmp_path / "out.wav").exists()


def _write(samples: np.ndarray) -> Callable[[Path], object]:
    return lambda path: soundfile.write(path, samples, 44100, subtype="FLOAT")


def _corrupt(path: Path) -> None:
    music(path.with_suffix(".flac"), seconds=3)
    data = path.with_suffix(".flac").read_bytes()
    path.write_bytes(data[:2000] + bytes(len(data) - 2000))


BAD = {
    "missing": (lambda path: None, "no such file"),
    "folder": (Path.mkdir, "folder"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "text": (lambda path: path.write_text("not audio"), "cannot be read as audio"),
    "corrupt": (_corrupt, "corrupt|samples"),
    "headeronly": (_write(np.zeros(0)), "no samples"),
    "silent": (_write(np.zeros(44100)), "silent"),
    "nan": (_write(np.where(np.arange(44100) == 30000, np.nan, 0.1)), "NaN"),
    "onesample": (_write(np.ones(1)), "too short"),
}


@pytest.mark.parametrize("kind", sorted(BAD))
@pytest.mark.parametrize("role", ["input", "reference"])
def test_bad_recordings_are_named_and_nothing_is_written(
    trained: Path, tmp_path: Path, kind: str, role: str
) -> None:
    make, words = BAD[kind]
    bad, good, out = tmp_path / f"{kind}.wav", music(tmp_path / "good.wav"), tmp_path / "out.wav"
    make(bad)
    pair = (bad, good) if role == "input" else (good, bad)
    with pytest.raises(AudioFileError, match=words) as info:
        transfer(*pair, output=out, run=trained)
    assert f"{kind}" in str(info.value)
    assert not [p for p in tmp_path.iterdir() if "out" in p.name or p.name.startswith(".")]


def test_outputs_that_cannot_be_written_are_seen_before_the_work(
    trained: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = music(tmp_path / "in.wav")
    before = source.read_bytes()
    monkeypatch.setattr("dafxhost.style_transfer.measure", lambda *a: pytest.fail("began to work"))
    folder = tmp_path / "folder.wav"
    folder.mkdir()
    cases: list[tuple[Path, type[DafxhostError], str]] = [
        (tmp_path / "nowhere" / "out.wav", OutputError, "no folder"),
        (folder, OutputError, "it is a folder"),
        (tmp_path / "out.txt", OutputError, "choose a name ending in"),
        (Path("/proc/out.wav"), OutputError, "/proc/out.wav"),
        (source, UsageError, "another name"),
        (reference, UsageError, "another name"),
    ]
    for out, kind, words in cases:
        with pytest.raises(kind, match=words):
            transfer(source, reference, output=out, run=trained)
    (tmp_path / "link.wav").symlink_to(source)
    with pytest.raises(UsageError, match="another name"):
        transfer(source, reference, output=tmp_path / "link.wav", run=trained)
    assert source.read_bytes() == before


def test_more_than_two_channels_are_refused(trained: Path, reference: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="6 channels"):
        transfer(music(tmp_path / "in.wav", channels=6), reference, output=tmp_path / "o.wav", run=trained)


def test_an_interrupted_transfer_leaves_what_was_there(
    trained: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = music(tmp_path / "in.wav"), tmp_path / "out.wav"
    out.write_bytes(b"kept")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dafxhost.file_rendering._spill", interrupt)
    with pytest.raises(KeyboardInterrupt):
        transfer(source, reference, output=out, run=trained)
    assert out.read_bytes() == b"kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.wav", "out.wav", "reference.wav"]


def test_memory_does_not_grow_with_length(trained: Path, reference: Path, tmp_path: Path) -> None:
    import tracemalloc

    peaks = []
    for seconds in (10, 80):
        source = music(tmp_path / f"{seconds}.wav", 16000, 2, seconds)
        tracemalloc.start()
        transfer(source, reference, output=tmp_path / "out.wav", run=trained)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 70 more seconds are 9 MB of float32; what remains of them are their log-mel frames, 0.4 MB a pass.
    assert peaks[1] - peaks[0] < 4e6, peaks
