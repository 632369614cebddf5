"""`--report` of transfer, evaluate and train, as typed, and their pages in a browser."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from command_line import Call, make_run, small_training
from dafxhost.report.transfer import transfer_report
from dafxhost.style_transfer import TransferResult, transfer

ODD = "<script>window.hurt=1<&amp'\".wav"
PLAYED = "dafxhostPlayers.map(p => [p.playing, p.versions.length])"


def recording(path: Path, seconds: float = 1.5, rate: int = 16000, channels: int = 1, seed: int = 1) -> Path:
    decay = np.exp(-5 * (np.arange(round(seconds * rate)) / rate % 0.25))[:, None]
    noise = np.random.default_rng(seed).standard_normal((len(decay), channels))
    soundfile.write(path, 0.2 * noise * decay, rate)
    return path


def look(page: Any, where: Path) -> str:
    """Open a report: its pictures are pictures, it fits a phone and asks for nothing. Returns its text."""
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(where.as_uri())
    assert page.evaluate("window.hurt") is None
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    return page.locator("main").inner_text()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[TransferResult, Path, Path]:
    """A transfer with odd names, one stereo and one mono recording of other rates, refined."""
    folder = tmp_path_factory.mktemp("transfer")
    source = recording(folder / ODD, rate=44100, channels=2)
    reference = recording(folder / "reference.wav", 0.7, rate=8000, seed=2)
    run = make_run(folder / "runs")
    return transfer(source, reference, output=folder / "out.flac", run=run, refine=20), source, reference


def test_a_transfers_report(page: Any, made: tuple[TransferResult, Path, Path], tmp_path: Path) -> None:
    result, source, reference = made
    where = transfer_report(result, source, reference, command="dafxhost transfer <a>").write(
        tmp_path / "out.html"
    )
    text = look(page, where)
    assert ODD in text and "dafxhost transfer <a>" in text
    for path in (source, reference, result.output):
        assert hashlib.sha256(path.read_bytes()).hexdigest() in text
    for name, value in result.table:
        assert name in text and value in text
    assert f"{result.distance_before:.2f}" in text and f"{result.distance_after:.2f}" in text
    assert len(result.history) >= 2 and "tried 20 settings" in text
    assert "history" not in result.to_dict()
    assert page.locator(".panels .area").count() == 3 and page.locator(".slider").count() == len(result.table)
    page.keyboard.press("3")
    page.keyboard.press("Space")
    for _ in range(400):
        if page.evaluate("dafxhostPlayers[0].position() > 0.1"):
            break
        page.wait_for_timeout(50)
    assert page.evaluate(PLAYED) == [[True, 3]]
    lengths = page.evaluate("dafxhostPlayers[0].versions.map(v => v.length)")
    assert lengths == [pytest.approx(s, abs=0.01) for s in (1.5, 0.7, 1.5)]


def test_an_effect_that_gave_silence(made: tuple[TransferResult, Path, Path], tmp_path: Path) -> None:
    result, source, reference = made
    soundfile.write(tmp_path / "silent.wav", np.zeros(1000), 44100)
    silent = replace(
        result, output=tmp_path / "silent.wav", distance_after=math.inf, refined=None, history=()
    )
    html = transfer_report(silent, source, reference).html()
    assert "gave silence" in html and "silent</em>" in html and "No search was asked for" in html


@pytest.fixture
def files(tmp_path: Path) -> None:
    recording(tmp_path / "input.wav")
    recording(tmp_path / "reference.wav", seed=2)
    make_run(tmp_path / "runs")


@pytest.mark.usefixtures("files")
def test_transfer_as_typed(call: Call, tmp_path: Path) -> None:
    code, out, err = call("transfer", "input.wav", "reference.wav", "--report", "a page.html", "--json")
    assert code == 0, err
    assert '"report": "a page.html"' in out and "report: a page.html" in err
    html = (tmp_path / "a page.html").read_text(encoding="utf-8")
    assert "dafxhost transfer input.wav reference.wav --report &#x27;a page.html&#x27; --json" in html


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("input.wav", "reference.wav", "--report", "nowhere/out.html"), 1, "no folder nowhere"),
        (("input.wav", "reference.wav", "--report", "runs"), 2, "ends in .html"),
        (("input.wav", "reference.wav", "--report", "input.wav"), 2, "ends in .html"),
        (("input.wav", "reference.wav", "-o", "x.html", "--report", "x.html"), 2, "give the report its own"),
        (("six.wav", "reference.wav", "--report", "out.html"), 2, "6 channels"),
        (("silent.wav", "reference.wav", "--report", "out.html"), 1, "silent"),
    ],
)
def test_bad_requests_are_one_sentence(
    call: Call, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    soundfile.write(tmp_path / "six.wav", np.full((8000, 6), 0.1), 8000)
    soundfile.write(tmp_path / "silent.wav", np.zeros(8000), 8000)
    before = sorted(p.name for p in tmp_path.iterdir())
    got, out, err = call("transfer", *arguments)
    assert got == code and words in err, err
    assert len(err.splitlines()) <= 2 and "Traceback" not in err and out == ""
    assert sorted(p.name for p in tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", [("evaluate", "runs"), ("train",)])
def test_other_commands_look_first(call: Call, command: tuple[str, ...]) -> None:
    code, out, err = call(*command, "--report", "nowhere/out.html")
    assert code == 1 and "no folder nowhere" in err and out == ""


def test_train_and_evaluate_as_typed(
    call: Call, page: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dafxhost.training.evaluation.CALIBRATION", 2)
    monkeypatch.setattr("dafxhost.training.evaluation.BOOTSTRAPS", 50)
    (tmp_path / "data").mkdir()
    for i in range(3):
        recording(tmp_path / "data" / f"{i}.wav", 3, 24000, seed=i)
    (tmp_path / "small.toml").write_text(small_training(3) + 'data = "data"\n')
    code, _, err = call("train", "--config", "small.toml", "--run-dir", "run", "--report", "train.html")
    assert code == 0 and "report: train.html" in err, err
    text = look(page, tmp_path / "train.html")
    assert "How run was trained" in text and "3 steps end to end" in text and "Example 1:" in text
    code, out, err = call("report", "run", "-o", "later.html")
    assert code == 0 and "report: later.html" in out, err
    later = (tmp_path / "later.html").read_text(encoding="utf-8")
    assert "dafxhost report run -o later.html" in later and "3 steps end to end" in later
    assert page.evaluate(PLAYED)[0] == [False, 4]
    code, out, err = call(
        "evaluate", "run", "--data", "data", "--examples", "5", "--seed", "2", "--report", "eval.html"
    )
    assert code == 0, err
    text = look(page, tmp_path / "eval.html")
    mean = next(line.split()[1] for line in out.splitlines() if line.startswith("controller"))
    assert mean in text  # what stdout says
    assert "Best:" in text and "Worst:" in text and "Parameter by parameter" in text
    assert "crest factor error, dB" in text and "pesq was not measured" in text
    assert page.locator(".spread").count() == 6 + 4
    assert len(page.evaluate(PLAYED)) == 3
