"""dafxhost features as typed, and the encoder."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from command_line import Call
from dafxhost.registry import encoder
from dafxhost.timbre import FEATURES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "sounds"
    place.mkdir()
    n = np.arange(16000)
    for i in range(4):
        sound = 0.3 * np.sin(n * (0.02 + 0.05 * i)) * np.exp(-(n % 4000) / 900) + 0.001 * np.cos(n * n)
        soundfile.write(place / f"tone-{i}.wav", sound, 44100)
    soundfile.write(place / "silence.wav", np.zeros(16000), 44100)
    (place / "broken.wav").write_bytes(b"nothing")
    return place


def test_features_of_a_folder(call: Call, folder: Path) -> None:
    code, out, err = call("features", folder, "--workers", 1, "--csv", "table.csv", "--select", 2)
    assert code == 0
    assert "correlation" in out
    assert "chosen" in out
    assert "broken.wav" in err
    assert "hardness is undefined" in err
    rows = list(csv.DictReader((folder.parent / "table.csv").read_text(encoding="utf-8").splitlines()))
    assert [Path(r["file"]).name for r in rows] == sorted(p.name for p in folder.iterdir())
    tones = [r for r in rows if "tone" in r["file"]]
    assert all(np.isfinite(float(r["brightness"])) for r in tones)
    assert float(tones[0]["brightness"]) < float(tones[3]["brightness"])


def test_json_holds_values_reasons_and_errors(call: Call, folder: Path) -> None:
    code, out, _ = call("features", folder, "--json", "--only", "depth, brightness", "--workers", 2)
    assert code == 0
    done = json.loads(out)
    by_name = {Path(row["file"]).name: row for row in done["files"]}
    assert set(by_name["tone-1.wav"]["values"]) == {"depth", "brightness"}
    assert by_name["silence.wav"]["values"] == {}
    assert "silent" in by_name["silence.wav"]["undefined"]["depth"]
    assert by_name["broken.wav"]["error"]
    assert done["analysis"]["features"]["depth"]["count"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["missing"], 1, "no file or folder"),
        (["sounds", "--only", "brightnes"], 2, "brightness"),
        (["sounds", "--select", "9"], 2, "8 features"),
        (["sounds/broken.wav"], 1, "none of the 1 files"),
        (["sounds", "--csv", "nowhere/t.csv"], 1, "cannot be written"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_requests(call: Call, arguments: list[str], code: int, words: str) -> None:
    found, out, err = call("features", *arguments, "--workers", 1)
    assert found == code
    assert words in err
    assert "nan" not in out


def test_the_encoder_is_deterministic_and_marks_what_is_undefined() -> None:
    made = encoder("timbral-features")
    audio = torch.zeros(2, 1, 12000)
    audio[0, 0] = torch.sin(torch.arange(12000) * 0.1) * torch.exp(-torch.arange(12000) / 2000)
    one, two = made(audio, 44100), made(audio, 44100)
    assert one.shape == (2, 2 * len(FEATURES))
    assert torch.equal(one, two)
    assert torch.isfinite(one).all()
    assert one[1].tolist() == [0.0] * 8 + [1.0] * 8
    assert one[0, :8].abs().max() < 6
    assert made.frozen
