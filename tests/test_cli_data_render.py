"""dafxhost data render: sets on disk that are whole or not there, and the same to the byte whatever
happened."""

from __future__ import annotations

import errno
import gc
import io
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import wavfile

from dafxhost.data import fixed_set, shards
from dafxhost.data.examples import Examples
from dafxhost.data.fixed_set import MANIFEST, render_set
from dafxhost.errors import OutputError, UsageError
from test_examples_protocol import RATE, FakeExecutor, Source, drive
from training_effects import write_audio

SAMPLES = 2048


class Named(Source):
    """Its draws are all called alike: `Source` counts them, in whatever order they come."""

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        return super().draw(rng, samples, sample_rate)[0], "bursts"


def examples(pairs: str = "ab", function: Any = drive) -> Examples:
    return Examples(Named(), FakeExecutor(function), sample_rate=RATE, samples=SAMPLES, pairs=pairs)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / MANIFEST).read_text())


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """A set of ten examples in each format, never interrupted."""
    made = {}
    for form in shards.FORMS:
        folder = tmp_path_factory.mktemp(form) / "set"
        report = render_set(folder, examples(), 10, seed=3, form=form, shard=4)
        assert (report.shards, report.made, report.kept, report.broken) == (3, 3, 0, [])
        made[form] = contents(folder)
    return made


def test_a_webdataset_holds_the_examples(whole: dict[str, dict[str, bytes]]) -> None:
    batch = examples().batch(3, 10)
    seen = 0
    for name in ("shard-000000.tar", "shard-000001.tar", "shard-000002.tar"):
        with tarfile.open(fileobj=io.BytesIO(whole["webdataset"][name])) as tar:
            for member in tar.getmembers():
                number, part = int(member.name[:6]), member.name[7:]
                data = tar.extractfile(member)
                assert data is not None and member.mtime == 0
                if part == "json":
                    card = json.loads(data.read())
                    assert list(card["setting"].values()) == batch.settings[number].tolist()
                    assert card["applied"] == batch.applied[number] and card["number"] == number
                    seen += 1
                    continue
                rate, audio = wavfile.read(io.BytesIO(data.read()))
                wanted = {
                    "input.wav": batch.dry,
                    "reference.wav": batch.reference,
                    "target.wav": batch.target,
                }
                assert rate == RATE
                np.testing.assert_array_equal(audio, wanted[part][number, 0])
    assert seen == 10


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # it leaves its file open
def test_webdataset_reads_a_shard(whole: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="the package webdataset is not installed")
    path = tmp_path / "shard.tar"
    path.write_bytes(whole["webdataset"]["shard-000001.tar"])
    rows = list(webdataset.WebDataset(str(path), shardshuffle=False))
    assert [row["__key__"] for row in rows] == ["000004", "000005", "000006", "000007"]
    assert {"json", "input.wav", "reference.wav", "target.wav"} <= set(rows[0])
    gc.collect()


def test_arrow_and_folders_hold_the_examples(whole: dict[str, dict[str, bytes]]) -> None:
    batch = examples().batch(3, 10)
    files = whole["folder"]
    _, audio = wavfile.read(io.BytesIO(files["shard-000001/000005.target.wav"]))
    np.testing.assert_array_equal(audio, batch.target[5, 0])
    pyarrow = pytest.importorskip("pyarrow", reason="the package pyarrow is not installed")
    with pyarrow.ipc.open_file(io.BytesIO(whole["arrow"]["shard-000001.arrow"])) as reader:
        table = reader.read_all()
    np.testing.assert_array_equal(table["target"][1].as_py(), batch.target[5, 0])
    np.testing.assert_array_equal(table["setting"][1].as_py(), batch.settings[5])
    assert table["number"].to_pylist() == [4, 5, 6, 7]
    assert table.schema.metadata[b"sample_rate"] == str(RATE).encode()


def test_pairs_with_one_wet_clip_hold_it_once_and_16_bits_are_near(tmp_path: Path) -> None:
    render_set(tmp_path / "set", examples("two-settings"), 2, form="folder", bits=16)
    names = [p.name for p in sorted((tmp_path / "set/shard-000000").iterdir())]
    assert names[:3] == ["000000.input.wav", "000000.json", "000000.target.wav"]
    batch = examples("two-settings").batch(0, 2)
    _, audio = wavfile.read(tmp_path / "set/shard-000000/000001.target.wav")
    assert audio.dtype == np.int16
    np.testing.assert_allclose(audio / 32767, batch.target[1, 0], atol=0.6 / 32767)
    card = json.loads((tmp_path / "set/shard-000000/000001.json").read_text())
    assert batch.input_settings is not None
    assert list(card["input_setting"].values()) == batch.input_settings[1].tolist()


def test_sums_are_those_of_sha256sum(whole: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    for form, files in whole.items():
        for name, data in files.items():
            (tmp_path / form / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / form / name).write_bytes(data)
        subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=tmp_path / form, check=True)


@pytest.mark.parametrize("form", shards.FORMS)
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_ends_the_work_leaves_whole_shards_only(
    form: str, error: BaseException, whole: dict[str, dict[str, bytes]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In the middle of writing the second shard; then the same call goes on."""
    folder, written = tmp_path / "set", []
    write = shards._Hashing.write

    def failing(self: Any, data: Any) -> int:
        written.append(len(data))
        if sum(written) > 0.6 * sum(len(d) for d in whole[form].values()):
            raise error
        return write(self, data)

    with monkeypatch.context() as patched:
        patched.setattr(shards._Hashing, "write", failing)
        wanted = OutputError if isinstance(error, OSError) else KeyboardInterrupt
        with pytest.raises(wanted) as raised:
            render_set(folder, examples(), 10, seed=3, form=form, shard=4)
    if isinstance(error, OSError):
        assert "the disk is full" in str(raised.value) and "goes on" in str(raised.value)
    there = contents(folder)
    kept = [name for name in there if name not in (MANIFEST, "SHA256SUMS")]
    assert kept and not [name for name in there if ".partial" in name]
    assert all(there[name] == whole[form][name] for name in kept)
    assert not manifest(folder)["complete"]
    report = render_set(folder, examples(), 10, seed=3, form=form, shard=4)
    assert (report.kept, report.made) == (1, 2) and contents(folder) == whole[form]


def test_what_a_kill_leaves_is_made_again(whole: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    """A partial file, a whole shard that was not listed any more, a shard that was cut off afterwards."""
    folder = tmp_path / "set"
    render_set(folder, examples(), 10, seed=3, shard=4)
    (folder / ".shard-000002.tar.partial").write_bytes(b"half")
    listed = manifest(folder)
    listed["shards"] = listed["shards"][:2]
    (folder / MANIFEST).write_text(json.dumps(listed))
    cut = folder / "shard-000001.tar"
    cut.write_bytes(cut.read_bytes()[:-512])
    report = render_set(folder, examples(), 10, seed=3, shard=4)
    assert (report.kept, report.made, report.broken) == (1, 2, ["shard-000001.tar"])
    assert contents(folder) == whole["webdataset"]


def test_a_set_can_grow_but_not_become_another(tmp_path: Path, whole: dict[str, dict[str, bytes]]) -> None:
    folder = tmp_path / "set"
    render_set(folder, examples(), 6, seed=3, shard=4)
    report = render_set(folder, examples(), 10, seed=3, shard=4)
    assert (report.kept, report.made) == (1, 2) and contents(folder) == whole["webdataset"]
    for options, what in (
        ({"seed": 4}, "seed"),
        ({"bits": 16}, "bits"),
        ({"facts": {"augment": "x"}}, "facts"),
    ):
        with pytest.raises(UsageError, match=f"holds another set: its {what} differs"):
            render_set(folder, examples(), 10, **{"seed": 3, "shard": 4, **options})
    with pytest.raises(UsageError, match="pairs"):
        render_set(folder, examples("parallel"), 10, seed=3, shard=4)
    with pytest.raises(UsageError, match="holds 10 examples already"):
        render_set(folder, examples(), 9, seed=3, shard=4)
    (tmp_path / "music").mkdir()
    (tmp_path / "music/song.wav").write_bytes(b"")
    with pytest.raises(UsageError, match="is not empty and holds no set"):
        render_set(tmp_path / "music", examples(), 10)
    (folder / MANIFEST).write_text("{")
    with pytest.raises(UsageError, match="is no manifest"):
        render_set(folder, examples(), 10)


def test_bad_requests_are_one_sentence(tmp_path: Path) -> None:
    for options in ({"bits": 24}, {"shard": 0}, {"form": "zip"}, {"seed": -1}):
        with pytest.raises(UsageError):
            render_set(tmp_path / "set", examples(), 2, **options)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file could not be written"):
        render_set(tmp_path / "file", examples(), 2)


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("music") / "audio", files=2)


FLAGS = ["--seconds", "0.2", "--rate", "16000", "--workers", "1"]


def test_the_command_renders_goes_on_and_says_so(call: Any, music: Path, tmp_path: Path) -> None:
    first = ["data", "render", "set", "--data", music, *FLAGS, "--shard", "4", "--augment", "tilt, polarity"]
    code, out, err = call(*first, "--examples", "6")
    assert code == 0 and "6 examples in 2 shards" in out, err
    code, out, _ = call(*first, "--examples", "8", "--json")
    said = json.loads(out)
    assert code == 0 and (said["made"], said["kept"]) == (1, 1) and said["counts"]["settings"] >= 8
    code, _, err = call(*first, "--seed", "1")
    assert code == 2 and "holds another set" in err and err.count("\n") == 1
    code, _, err = call("data", "render", "other", *FLAGS, "--augment", "loud")
    assert code == 2 and "unknown augmentation 'loud'" in err and not (tmp_path / "other").exists()


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(music: Path, tmp_path: Path) -> None:
    """Really killed, at a moment of its own choosing; and Ctrl-C, which says 130."""
    command = [
        sys.executable,
        "-m",
        "dafxhost_cli.main",
        "data",
        "render",
        "set",
        "--data",
        str(music),
        *FLAGS,
    ]
    command += ["--examples", "400", "--shard", "20"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    wanted = contents(tmp_path / "set")
    for number in (signal.SIGKILL, signal.SIGINT):
        shutil.rmtree(tmp_path / "set")
        run = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while not (tmp_path / "set/shard-000002.tar").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        run.send_signal(number)
        run.communicate(timeout=60)
        assert run.returncode == (130 if number == signal.SIGINT else -9)
        assert not manifest(tmp_path / "set")["complete"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        assert contents(tmp_path / "set") == wanted


def test_memory_is_bounded_by_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large shard is made in pieces, no more than a few of them ahead."""
    sizes: list[int] = []
    made = examples()
    batch = made.batch

    def noted(seed: int, n: int, *, first: int = 0) -> Any:
        sizes.append(n)
        return batch(seed, n, first=first)

    monkeypatch.setattr(made, "batch", noted)
    render_set(tmp_path / "set", made, 40, shard=40)
    assert max(sizes) <= fixed_set.PIECE and sum(sizes) == 40
