"""dafxhost train and dafxhost evaluate, as typed: small runs, Ctrl-C, resuming."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_line import small_training

DAFXHOST = [sys.executable, "-m", "dafxhost_cli.main"]


def run(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*DAFXHOST, *map(str, arguments)], capture_output=True, text=True, timeout=240, cwd=cwd
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/, small.toml, and what a small training in it printed."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "data").mkdir()
    rng = np.random.default_rng(1)
    for i in range(3):
        decay = np.exp(-5 * (np.arange(48000) / 24000 % 0.2))
        soundfile.write(folder / "data" / f"{i}.wav", 0.2 * rng.standard_normal(48000) * decay, 24000)
    (folder / "small.toml").write_text(small_training(3))
    done = run(
        "train", "--config", "small.toml", "--data", "data", "--workers", "1", "--seed", "7", cwd=folder
    )
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    assert done.returncode == 0, done.stderr
    return folder


def test_training_says_where_on_what_and_how_long_and_what_to_type_next(folder: Path) -> None:
    out, err = (folder / "stdout").read_text(), (folder / "stderr").read_text()
    [path] = (folder / "runs").iterdir()
    lines = err.splitlines()
    assert lines[0] == f"run folder: runs/{path.name}"
    assert any(line.startswith("data: ") and "files" in line for line in lines)
    assert any("4 min at most" in line for line in lines)
    assert sum("validation MR-STFT" in line for line in lines) == 3  # supervised, step 2, the last step
    for word in (
        f"run folder: runs/{path.name}",
        "input left alone",
        "after the supervised phase",
        "controller",
    ):
        assert word in out
    assert out.splitlines()[-1] == "next: dafxhost transfer input.wav reference.wav -o out.wav"
    assert "seed = 7" in (path / "config.toml").read_text() and "\x1b" not in err


def test_the_command_it_names_works(folder: Path) -> None:
    done = run("transfer", "data/0.wav", "data/1.wav", "-o", "out.wav", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert soundfile.info(folder / "out.wav").frames == 48000


def test_evaluate(folder: Path) -> None:
    [path] = (folder / "runs").iterdir()
    arguments = ("evaluate", path, "--data", "data", "--examples", "2", "-o", "report.md", "--json")
    done = run(*arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {"controller", "random setting", "constant setting", "input left alone"} <= {
        row["name"] for row in said["rows"]
    }
    assert "| controller |" in (folder / "report.md").read_text()


def test_ctrl_c_keeps_what_is_trained_and_says_how_to_go_on(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "long.toml").write_text(small_training(100000))
    process = subprocess.Popen(
        [*DAFXHOST, "train", "--config", "long.toml", "--data", str(folder / "data"), "--run-dir", "r"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # The tests may run in the background of a shell, which then ignores the signal for its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env=os.environ,
    )
    log, patience = tmp_path / "r" / "log.jsonl", time.monotonic() + 120
    while time.monotonic() < patience and not (log.is_file() and "end-to-end" in log.read_text()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and out == ""
    said = err.splitlines()[-1]
    assert said == "interrupted; checkpoint: r/last.safetensors; go on with: dafxhost train --resume r"
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    again = run("train", "--resume", "r", "--max-minutes", "0.05", "--json", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)["steps"] >= steps[-1]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("train", "--effect", "mda-conbo"), 2, "did you mean mda-combo"),
        (("train", "--data", "nowhere"), 1, "nowhere: there is no such folder"),
        (("train", "--space", "time"), 2, "loss, signal"),
        (("train", "--device", "abacus"), 2, "abacus"),
        (("train", "--max-minutes", "0"), 2, "max_minutes must be above 0"),
        (("train", "--config", "nothing.toml"), 1, "nothing.toml"),
        (("train", "--resume", "nothing"), 1, "no run to resume in nothing"),
        (("train", "--resume", "nothing", "--seed", "3"), 2, "--seed"),
        (("train", "--estimator", "guess"), 2, "guess"),
        (("evaluate", "nothing", "--data", "data"), 1, "no run folder nothing"),
        (("evaluate", "nothing", "-o", "nowhere/report.md"), 1, "nowhere/report.md"),
    ],
)
def test_bad_requests_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    arguments: tuple[str, ...],
    code: int,
    words: str,
) -> None:
    from dafxhost_cli import main as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["dafxhost", *arguments])
    with pytest.raises(SystemExit) as info:
        cli.main()
    said = capsys.readouterr()
    assert info.value.code == code and words in said.err, said.err
    assert said.err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said.err and "bug" not in said.err and said.out == ""
    assert not list(tmp_path.glob("runs/*/*.safetensors")), "a request that was refused left a run behind"
