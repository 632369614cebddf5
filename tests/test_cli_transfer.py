"""dafxhost transfer and dafxhost pretrain, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import dafxhost
from command_line import Call, make_run


@pytest.fixture
def files(tmp_path: Path) -> None:
    """input.wav, reference.wav, and a run with an untrained controller in runs/."""
    rng = np.random.default_rng(1)
    for name, rate in (("input", 44100), ("reference", 22050)):
        decay = np.exp(-5 * (np.arange(2 * rate) / rate % 0.25))
        soundfile.write(tmp_path / f"{name}.wav", 0.2 * rng.standard_normal(2 * rate) * decay, rate)
    make_run(tmp_path / "runs")


@pytest.mark.usefixtures("files")
def test_transfer_prints_the_setting_and_the_distances(call: Call, tmp_path: Path) -> None:
    code, out, err = call("transfer", "input.wav", "reference.wav", "-o", "out.wav")
    assert code == 0, err
    kept = json.loads((tmp_path / "out.wav.json").read_text())
    lines = out.splitlines()
    assert lines[0].split() == ["parameter", "value"]
    assert [line.split()[0] for line in lines[1:8]] == [
        p.name for p in dafxhost.effect("mda-combo").parameters
    ]
    assert f"{kept['distance_before']:.2f} dB before, {kept['distance_after']:.2f} dB after" in out
    assert "level: match-input" in out and "out.wav" in out and "out.wav.json" in out
    assert "runs/mda-combo-" in err and "mda-combo by " in err
    assert soundfile.info(tmp_path / "out.wav").frames == 88200


@pytest.mark.usefixtures("files")
def test_transfer_as_json_and_the_default_output(call: Call, tmp_path: Path) -> None:
    code, out, err = call("transfer", "input.wav", "reference.wav", "--json", "--level", "plugin")
    assert code == 0, err
    said = json.loads(out)
    assert said == json.loads((tmp_path / "input-transferred.wav.json").read_text())
    assert said["level"] == "plugin" and said["output"] == "input-transferred.wav"
    assert (
        set(said["native"])
        == set(said["setting"])
        == {p.name for p in dafxhost.effect("mda-combo").parameters}
    )


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("input.wav", "nothing.wav"), 1, "nothing.wav: there is no such file"),
        (("input.wav", "reference.wav", "-o", "input.wav"), 2, "another name"),
        (("input.wav", "reference.wav", "-o", "nowhere/out.wav"), 1, "no folder nowhere"),
        (("input.wav", "reference.wav", "--level", "loud"), 2, "unknown level 'loud'"),
        (("input.wav", "reference.wav", "--run", "nothing"), 1, "no run folder nothing"),
        (("input.wav", "reference.wav", "--effect", "mda-bandisto"), 1, "train --effect mda-bandisto"),
        (("input.wav", "reference.wav", "--provider", "vst9"), 2, "vst9"),
        (("input.wav",), 2, "REFERENCE"),
    ],
)
def test_bad_requests_are_one_sentence(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    before = sorted(p.name for p in tmp_path.iterdir())
    got, out, err = call("transfer", *arguments)
    assert got == code and words in err, err
    assert err.splitlines()[-1].startswith("error: ") and "Traceback" not in err and out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_pretrain_leaves_weights_that_load(call: Call, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    (tmp_path / "data").mkdir()
    for i in range(3):
        soundfile.write(tmp_path / "data" / f"{i}.wav", 0.2 * rng.standard_normal(4 * 24000), 24000)
    code, out, err = call(
        "pretrain", "spectrogram-vae", "--out", "vae", "--data", "data", "--max-minutes", "0.01", "--json"
    )
    assert code == 0, err
    from dafxhost.encoders import load_encoder

    said = json.loads(out)
    assert said["steps"] >= 1
    assert load_encoder(tmp_path / said["weights"]).name == "spectrogram-vae"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("log-mel", "--out", "x"), 2, "spectrogram-vae"),
        (("spectrogram-vae", "--out", "x", "--data", "nowhere"), 1, "nowhere: there is no such folder"),
        (("spectrogram-vae", "--out", "x", "--max-minutes", "0"), 2, "above 0"),
        (("spectrogram-vae",), 2, "--out"),
    ],
)
def test_bad_pretraining_is_one_sentence(
    call: Call, arguments: tuple[str, ...], code: int, words: str
) -> None:
    got, out, err = call("pretrain", *arguments)
    assert got == code and words in err and out == ""
    assert len(err.splitlines()) == 1 and "Traceback" not in err
