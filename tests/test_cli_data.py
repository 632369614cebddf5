"""dafxhost data: what it says of a folder, remembers, and survives."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from command_line import Call
from dafxhost.data import describe as describing
from dafxhost.data import measuring
from dafxhost.data.dataset import open_dataset
from dafxhost.data.describe import describe, measure_dataset
from dafxhost.data.facts import Facts, measure
from dafxhost.data.facts_cache import FactsCache
from dafxhost.data.measuring import measure_all
from lab_recordings import write_tone

RATE = 8000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path_factory.mktemp("cache")))


def here(requests: Iterable[measuring.Request], **_: object) -> Iterator[Facts]:
    """`measure_all` in this process: a worker's start costs seconds of imports."""
    for path, stream in requests:
        yield measure(path, stream)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(describing, "measure_all", here)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "music"
    for k in range(4):
        write_tone(root / f"song{k}.wav", 1.0 + k)
    audio, _ = soundfile.read(root / "song0.wav")
    soundfile.write(root / "copy.flac", audio, RATE)
    half = np.concatenate([np.zeros(RATE), np.full(RATE, 1.5)])
    soundfile.write(root / "clipped.wav", half, RATE)
    soundfile.write(root / "silent.wav", np.zeros((RATE, 2)), 16000)
    (root / "broken.mp3").write_bytes(b"words" * 100)
    (root / "empty.ogg").write_bytes(b"")
    return root


@pytest.mark.usefixtures("in_process")
def test_a_folder_is_described_and_remembered(folder: Path, call: Call) -> None:
    code, out, _ = call("data", folder, "--json", "--workers", "1")
    assert code == 0
    made = json.loads(out)
    assert made["layout"] == "folder" and made["recordings"] == 7 and made["remembered"] == 0
    assert made["seconds"] == pytest.approx(1 + 2 + 3 + 4 + 1 + 2 + 0.5)
    assert made["rates"] == {"8000": 6, "16000": 1} and made["channels"] == {"1": 6, "2": 1}
    assert made["formats"] == {"WAV PCM_16": 6, "FLAC PCM_16": 1}
    assert made["silent"] == ["silent.wav"] and made["clipped"] == [["clipped.wav", RATE]]
    assert made["duplicates"] == [["copy.flac", "song0.wav"]]
    assert [Path(p).name for p, _ in made["unreadable"]] == ["broken.mp3", "empty.ogg"]
    assert "0 bytes" in made["unreadable"][1][1]
    assert made["silence"] == pytest.approx(1.5 / 13.5, abs=0.01)
    loud = made["facts"]["song1.wav"]
    audio, _ = soundfile.read(folder / "song1.wav")
    assert loud["rms"] == pytest.approx(20 * np.log10(np.sqrt(np.mean(audio**2))), abs=0.01)
    assert loud["peak"] == pytest.approx(20 * np.log10(np.abs(audio).max()), abs=0.01)
    sides = made["sides"]
    assert set(sides) == {"train", "validation"} and sum(s["recordings"] for s in sides.values()) == 7

    write_tone(folder / "song3.wav", 2.0)
    code, out, _ = call("data", "describe", folder, "--workers", "1")
    assert code == 0 and "7 recordings, 7 groups, 11.5 s" in out and "8 known from before" in out
    assert "the same samples: 1\n  copy.flac = song0.wav" in out
    assert "unreadable: 2\n" in out and "(0 bytes)" in out
    assert "clipped.wav: 8000 samples in runs at full scale" in out


@pytest.mark.usefixtures("in_process")
def test_duplicates_on_both_sides_of_the_split_are_named(tmp_path: Path) -> None:
    write_tone(tmp_path / "a.wav")
    for k in range(8):
        (tmp_path / f"b{k}.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    made = describe(open_dataset(tmp_path), workers=1)
    assert len(made.duplicates) == len(made.leaks) == 1 and len(made.leaks[0]) == 9


def test_mistakes_are_one_sentence(folder: Path, call: Call) -> None:
    (folder.parent / "nothing").mkdir()
    for arguments, words, expected in (
        (["nowhere"], "there is no such folder", 1),
        ([folder.parent / "nothing"], "holds no audio file", 1),
        ([folder, "--layout", "vctk"], "is not laid out as vctk", 2),
        ([folder, "--layout", "vtck"], "unknown layout 'vtck'; did you mean vctk", 2),
        ([folder, "--validation-fraction", "1"], "lies outside 0..1", 2),
        ([folder, "--stems", "mixture"], "unknown stem 'mixture'", 2),
    ):
        code, out, err = call("data", *arguments)
        assert code == expected and out == "" and words in err and err.count("\n") == 1, err


@pytest.mark.usefixtures("in_process")
def test_a_folder_in_which_nothing_can_be_read_is_described_too(tmp_path: Path, call: Call) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "a.wav").write_bytes(b"")
    code, out, _ = call("data", tmp_path / "m", "--workers", "1")
    assert code == 0 and "0 recordings" in out and "unreadable: 1" in out


def test_a_cache_that_cannot_be_used_costs_only_time(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "recordings.sqlite").write_bytes(b"no database" * 1000)
    for cache in (tmp_path / "file", broken):
        with FactsCache(cache) as facts:
            facts.put(measure(folder / "song0.wav"), 1, 1)
            assert facts.get([(folder / "song0.wav", 0)]) == {}


WORKER = """
import os, sys, time, json
for line in sys.stdin.buffer:
    asked = json.loads(line)
    name = os.path.basename(bytes.fromhex(asked["path"]).decode())
    if name.startswith("crash"): os.kill(os.getpid(), 11)
    if name.startswith("hang"): time.sleep(1000)
    sys.stdout.write(json.dumps({"path": asked["path"], "frames": 7}) + "\\n"); sys.stdout.flush()
"""


def test_files_that_crash_or_hang_their_decoder_harm_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    start = subprocess.Popen

    def instead(command: list[str], **options: object) -> object:
        return start([command[0], str(program)], **options)  # type: ignore[call-overload]

    monkeypatch.setattr(measuring.subprocess, "Popen", instead)
    names = ["a", "crash1", "b", "hang1", "c", "crash2", "d"]
    found = list(measure_all([(Path(n), 0) for n in names], workers=2, deadline=1.5))
    assert sorted(f.path for f in found) == sorted(names)
    problems = {f.path: f.problem for f in found}
    assert all((problems[n] == "") == (len(n) == 1) for n in names)
    assert problems["crash1"] == "crash1 cannot be read: its decoder crashed (signal SIGSEGV)."
    assert problems["hang1"] == "hang1 cannot be read: its decoder hung (it was stopped)."


@pytest.mark.usefixtures("in_process")
def test_what_is_learned_before_an_interruption_is_kept(folder: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int, facts: object) -> None:
        assert total == 9
        if done == 3:
            raise KeyboardInterrupt

    dataset = open_dataset(folder)
    with pytest.raises(KeyboardInterrupt):
        measure_dataset(dataset, workers=1, cache_folder=tmp_path / "c", progress=stop)
    assert measure_dataset(dataset, workers=1, cache_folder=tmp_path / "c")[1] == 3
    assert measure_dataset(dataset, workers=1, cache_folder=tmp_path / "c", fresh=True)[1] == 0


@pytest.mark.usefixtures("in_process")
def test_ctrl_c_leaves_no_process_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for k in range(300):
        write_tone(root / f"{k}.wav", 0.05)
    cache = tmp_path / "cache"
    process = subprocess.Popen(
        [sys.executable, "-m", "dafxhost_cli.main", "data", root, "--workers", "1"],
        env={**os.environ, "DAFXHOST_CACHE": str(cache)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    database = cache / "recordings.sqlite"
    until = time.monotonic() + 60
    while not (database.exists() and _rows(database)) and time.monotonic() < until:
        assert process.poll() is None, "it ended before it was interrupted"
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (
        process.returncode == 130 and out == "" and err.startswith("interrupted; what was measured is kept")
    )
    kept = _rows(database)
    assert 0 < kept < 300
    assert describing.measure_dataset(open_dataset(root), workers=1, cache_folder=cache)[1] == kept


def _rows(database: Path) -> int:
    try:
        with sqlite3.connect(database) as connection:
            return connection.execute("select count(*) from facts").fetchone()[0]
    except sqlite3.Error:
        return 0
