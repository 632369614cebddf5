"""dafxhost new: packages that work as they are written, and names and folders that are refused."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from dafxhost_cli import main as cli

KINDS = ("effect", "encoder", "estimator")


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple]:
    """Run the command line in this process: (exit code, stdout, stderr)."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dafxhost", "new", *map(str, arguments)])
        with pytest.raises(SystemExit) as info:
            cli.main()
        words = capsys.readouterr()
        return int(info.value.code or 0), words.out, words.err

    return run


def test_what_is_written_passes_its_own_tests(call: Callable[..., tuple], tmp_path: Path) -> None:
    """All three, named by words that the modules themselves use, found as an installed package would be."""
    site = tmp_path / "site"
    site.mkdir()
    for kind in KINDS:
        code, out, err = call(kind, kind, "--directory", tmp_path / "made")
        folder = tmp_path / "made" / kind
        assert (code, out) == (0, f"{folder}\n") and f"pip install -e {folder}" in err
        names = {"pyproject.toml", f"{kind}.py", f"test_{kind}.py", "README.md"}
        assert {p.name for p in folder.iterdir()} == names
        assert not any("@" in p.read_text().replace("@hookimpl", "") for p in folder.iterdir())
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        points = project["entry-points"]["dafxhost"]
        assert (project["name"], points) == (kind, {kind: kind})
        info = (
            site / f"{kind}-0.1.0.dist-info"
        )  # what an installer makes of it; building is tested of examples
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {kind}\nVersion: 0.1.0\n")
        (info / "entry_points.txt").write_text(f"[dafxhost]\n{kind} = {kind}\n")
        (site / f"{kind}.py").write_text((folder / f"{kind}.py").read_text())
        (site / f"test_{kind}.py").write_text((folder / f"test_{kind}.py").read_text())
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=site,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "32 passed" in done.stdout and "skipped" not in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My-Gain", "lower-case letters"),
        ("3-band", "beginning with a letter"),
        ("my_gain", "single hyphens"),
        ("my--gain", "single hyphens"),
        ("-gain", "No such option"),
        ("gain-", "single hyphens"),
        ("../gain", "single hyphens"),
        ("", "cannot be a package's name"),
        ("g" * 61, "at most 60"),
        ("grün", "lower-case letters"),
        ("lambda", "word or module of Python"),
        ("json", "word or module of Python"),
        ("numpy", "module 'numpy' in this environment"),
        ("mda-combo", "an effect named 'mda-combo' already"),
    ],
)
def test_bad_names_are_refused_in_one_sentence(
    call: Callable[..., tuple], tmp_path: Path, name: str, words: str
) -> None:
    code, out, err = call("effect", name, "--directory", tmp_path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith("error: ") and words in err
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_stays_as_it_is(call: Callable[..., tuple], tmp_path: Path) -> None:
    (tmp_path / "my-gain").mkdir()
    (tmp_path / "file").write_text("mine")
    code, _, err = call("effect", "my-gain", "--directory", tmp_path)
    assert code == 2 and "my-gain is there already" in err and len(err.splitlines()) == 1
    assert not list((tmp_path / "my-gain").iterdir())
    code, _, err = call("encoder", "my-gain", "--directory", tmp_path / "file")
    assert code == 2 and len(err.splitlines()) == 1 and (tmp_path / "file").read_text() == "mine"


def test_a_folder_that_cannot_be_made(call: Callable[..., tuple]) -> None:
    code, _, err = call("estimator", "my-slope", "--directory", "/proc/nowhere")
    assert code == 1 and "cannot make /proc/nowhere/my-slope" in err and len(err.splitlines()) == 1
