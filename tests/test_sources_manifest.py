"""Manifests: CSV, TSV and JSONL lists of recordings, and a sentence with the line for each mistake in one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from dafxhost.data.manifest import read_manifest
from dafxhost.data.sources import open_source
from dafxhost.errors import AudioFileError, UsageError
from lab_recordings import write_tone

RATE = 8000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.wav", "b.wav", "deep/c.flac"):
        write_tone(tmp_path / name, 1.0)
    return tmp_path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_a_manifest_is_read(folder: Path, suffix: str) -> None:
    lines = {
        "csv": '\ufeffpath,group,split,note\na.wav,ann,train,x\nb.wav,ben,val,"y, z"\n\n'
        "deep/c.flac,ann,train,\n",
        "tsv": "path\tgroup\tsplit\na.wav\tann\ttrain\nb.wav\tben\tvalid\ndeep/c.flac\tann\ttrain\n",
        "jsonl": '{"path": "a.wav", "group": "ann", "split": "train"}\n{"path": "b.wav", "group": "ben", '
        '"split": "dev"}\n\n{"path": "deep/c.flac", "group": "ann", "split": "train"}\n',
    }
    path = folder / f"list.{suffix}"
    path.write_text(lines[suffix], encoding="utf-8")
    train, validation = (open_source(path, RATE, split) for split in ("train", "validation"))
    assert train.names == ["a.wav", "deep/c.flac"] and validation.names == ["b.wav"]
    assert {r.group for r in train.recordings} == {"ann"}
    assert "(manifest, train)" in train.description and train.total_seconds == pytest.approx(2.0)


@pytest.mark.parametrize("memory_limit", [1 << 30, 0])
def test_a_stretch_of_a_file_is_a_recording(folder: Path, memory_limit: int) -> None:
    audio = np.zeros(10 * RATE, np.float32)
    audio[2 * RATE : 4 * RATE] = 0.1 + 0.2 * np.sin(np.arange(2 * RATE))
    soundfile.write(folder / "long.wav", audio, RATE, subtype="FLOAT")
    path = folder / "list.csv"
    path.write_text("path,start,end\nlong.wav,2.0,4.0\n")
    source = open_source(path, RATE, memory_limit=memory_limit)
    assert source.names == ["long.wav [2-4]"] and source.total_seconds == pytest.approx(2.0)
    for seed in range(10):
        made = source.draw_excerpt(np.random.default_rng(seed), RATE, RATE)
        start = round(made.start * RATE)
        assert 2 * RATE <= start <= 3 * RATE
        np.testing.assert_allclose(made.audio[0], audio[start : start + RATE], atol=1e-6)
    path.write_text("path,start\nlong.wav,11\na.wav,0\n")
    short = open_source(path, RATE)
    assert short.names == ["a.wav"] and "ends at 10.000 s" in short.unreadable[0][1]


@pytest.mark.parametrize(
    ("suffix", "text", "words"),
    [
        (
            "csv",
            "file,group\na.wav,x\n",
            r"must name the columns, 'path' among them, not \['file', 'group'\]",
        ),
        ("csv", "path,split\na.wav,trian\n", "line 2: split 'trian' is none of train, validation, test"),
        ("csv", "path,start\na.wav,soon\n", "line 2: start is 'soon', not a number of seconds"),
        ("csv", "path,start,end\na.wav,3,2\n", "line 2: a stretch from 3 s to 2"),
        ("csv", "path,group\n,x\n", "line 2: the path is missing"),
        ("csv", "path\na.wav\nb.wav\na.wav\n", r"line 4: a\.wav stands in line 2 already"),
        (
            "csv",
            "path,group,split\na.wav,x,train\nb.wav,x,test\n",
            "group 'x' is in test here, and in train in line 2",
        ),
        ("csv", "path\n", "lists no recordings"),
        ("jsonl", '{"path": "a.wav"}\n{oops}\n', "line 2 is no JSON"),
        ("jsonl", '["a.wav"]\n', "line 1 is no JSON object"),
    ],
)
def test_a_mistake_is_named_with_its_line(folder: Path, suffix: str, text: str, words: str) -> None:
    path = folder / f"list.{suffix}"
    path.write_text(text)
    with pytest.raises((UsageError, AudioFileError), match=words):
        read_manifest(path)


def test_missing_files_are_named_and_the_rest_is_used(folder: Path) -> None:
    path = folder / "list.csv"
    path.write_text("path\na.wav\ngone.wav\n")
    source = open_source(path, RATE)
    assert source.names == ["a.wav"]
    assert [(p.name, "no such file" in reason) for p, reason in source.unreadable] == [("gone.wav", True)]
    path.write_bytes(b"path\n\xff\xfe.wav\n")
    with pytest.raises(AudioFileError, match="no text in UTF-8"):
        read_manifest(path)
