"""dafxhost runs: lists, comparisons, and that deleting never leaves the runs folder."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from command_line import Call
from dafxhost.errors import RunError, UsageError
from dafxhost.run_folders import delete_run, list_runs, read_info
from dafxhost.training.config import TrainConfig


def write_run(
    folder: Path, name: str, best: float = 1.0, seconds: tuple[float, ...] = (60.0,), **options
) -> Path:
    """What training leaves, without weights worth the name."""
    path = folder / name
    path.mkdir(parents=True)
    config = TrainConfig(**options)
    (path / "config.toml").write_text(config.to_toml())
    lines = [
        {"phase": "end-to-end", "step": i, "best": best, "untouched": 2.0, "failures": 0, "elapsed": elapsed}
        for i, elapsed in enumerate(seconds, start=1)
    ]
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"cut off')
    card = {
        "effect": config.effect, "provider": {"name": "lv2"}, "encoder": {"name": config.encoder},
        "figures": {"validation_mrstft": best, "untouched_mrstft": 2.0},
    }  # fmt: skip
    (path / "best.json").write_text(json.dumps(card))
    (path / "best.safetensors").write_bytes(b"0" * 5000)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three runs in ./runs, made one after the other, and a folder that is none."""
    for age, (name, best, effect) in enumerate(
        (("third", 0.5, "mda-delay"), ("second", 1.5, "mda-combo"), ("first", 1.0, "mda-combo"))
    ):
        path = write_run(tmp_path / "runs", name, best, (30.0, 90.0, 15.0), effect=effect, seed=age)
        for file in path.iterdir():
            os.utime(file, (1e9 - 100 * age, 1e9 - 100 * age))
    (tmp_path / "runs/notes").mkdir()
    return tmp_path / "runs"


def test_lists_are_sorted_and_say_what_matters(folder: Path, call: Call) -> None:
    code, out, _ = call("runs")
    lines = out.splitlines()
    assert code == 0 and [line.split()[0] for line in lines[1:4]] == ["third", "second", "first"]
    assert "0.25" in lines[1] and "1.8" in lines[1] and lines[-1].startswith("3 runs, ")
    code, out, _ = call("runs", "list", "--sort", "best", "--json")
    said = json.loads(out)
    assert [run["name"] for run in said] == ["third", "first", "second"]
    first = said[1]
    assert first["minutes"] == pytest.approx((90 + 15) / 60)  # two sittings
    assert first["ratio"] == 0.5 and first["effect"] == "mda-combo" and first["size"] > 5000
    assert [run["name"] for run in json.loads(call("runs", "--sort", "name", "--json")[1])] == [
        "first", "second", "third",
    ]  # fmt: skip


def test_show_and_compare(folder: Path, call: Call) -> None:
    code, out, _ = call("runs", "show", "first")
    assert code == 0 and "option seed" in out and "1.000" in out and "--run runs/first" in out
    code, out, _ = call("runs", "compare", "first", "runs/third", "--json")
    said = json.loads(out)
    assert code == 0 and said["options"] == {"effect": ["mda-combo", "mda-delay"], "seed": [2, 0]}
    code, out, _ = call("runs", "compare", "first", "third")
    assert "option seed" in out and "option batch" not in out


def test_damaged_runs_are_listed_with_what_is_wrong(folder: Path, call: Call) -> None:
    (folder / "first/best.json").write_text("{")
    (folder / "second/config.toml").write_text("= nothing")
    (folder / "second/log.jsonl").write_bytes(b"\xff\xfe")
    begun = folder / "begun"
    begun.mkdir()
    (begun / "config.toml").write_text(TrainConfig().to_toml())
    code, out, _ = call("runs")
    assert code == 0 and "problem: first: best.json is damaged" in out
    assert "problem: second: config.toml: " in out and "problem: begun: no controller yet" in out
    assert read_info(folder / "second").best == 1.5  # the card has it, too


def test_deleting_asks_and_deletes_that_run_only(
    folder: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = call("runs", "delete", "first")
    assert code == 2 and "add --yes" in err and (folder / "first").is_dir() and out == ""

    class Terminal:
        def __init__(self, answer: str) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return True

        def readline(self, *_: int) -> str:
            return self.answer

    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    monkeypatch.setattr("builtins.input", lambda prompt="": "n")
    code, _, err = call("runs", "delete", "first")
    assert code == 130 and (folder / "first").is_dir()
    code, out, _ = call("runs", "delete", "first", "second", "--yes")
    assert code == 0 and out.splitlines() == ["deleted runs/first", "deleted runs/second"]
    assert sorted(path.name for path in folder.iterdir()) == ["notes", "third"]


def test_deleting_never_leaves_the_runs_folder(folder: Path, call: Call, tmp_path: Path) -> None:
    outside = write_run(tmp_path / "elsewhere", "precious")
    (folder / "link").symlink_to(outside)
    (folder / "third/inner").symlink_to(outside)
    (folder / "up").symlink_to(tmp_path)
    for name in ("link", "../elsewhere/precious", outside, "up/elsewhere/precious", "link/."):
        code, _, err = call("runs", "delete", name, "--yes")
        assert code == 2 and "not deleted" in err, (name, err)
    for name in ("notes", ".", "..", "", "nothing", "third/.."):
        code, _, err = call("runs", "delete", name, "--yes")
        assert code == 1 and "is no run" in err and "the newest in runs: " in err, (name, err)
    # One bad name among good ones: nothing is deleted.
    assert call("runs", "delete", "first", "link", "--yes")[0] == 2 and (folder / "first").is_dir()
    delete_run("third", folder)
    assert not (folder / "third").exists()
    assert sorted(path.name for path in outside.iterdir()) == sorted(
        ["best.json", "best.safetensors", "config.toml", "log.jsonl"]
    )
    # A runs folder that is a link itself is the folder that it points to.
    (tmp_path / "linked").symlink_to(folder)
    delete_run("second", tmp_path / "linked")
    assert not (folder / "second").exists()


def test_no_runs_is_said(call: Call, tmp_path: Path) -> None:
    code, out, err = call("runs")
    assert code == 1 and "train one: dafxhost train" in err and out == ""
    (tmp_path / "runs").mkdir()
    code, out, err = call("runs")
    assert code == 0 and out == "" and "there are no runs in runs" in err
    assert json.loads(call("runs", "--json")[1]) == []
    assert call("runs", "--sort", "colour")[0] == 2 and call("runs", "compare", "one")[0] == 2
    with pytest.raises(RunError):
        list_runs(tmp_path / "nothing")
    with pytest.raises((RunError, UsageError)):
        delete_run(tmp_path, tmp_path)
