"""Every page: its code runs, its commands run, and mkdocs builds it without a warning."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from command_line import Call
from documentation import LANGUAGES, PAGES, ROOT, blocks, prepared, sandbox

NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
ELSEWHERE = {
    "dafxhost render in.wav --effect my-gain --set gain=6 -o out.wav": "not installed; test_cli_new.py",
    "dafxhost train --effect /usr/lib/vst3/ZamComp.vst3": "test_effects_catalogue.py loads plugin files",
    "RAY_ADDRESS=HOST:6379 dafxhost train --executor ray --effect mda-combo": "test_executor_ray.py",
    "dafxhost effects scan": "takes minutes where much is installed; test_scan.py",
    "dafxhost effects scan --json": "takes minutes where much is installed; test_scan.py",
}
"""Commands that are not run here, and who runs them."""


FIRST = ("README.md",)


def commands(page: Path) -> list[list[str]]:
    return [words for block in blocks(page) if block.language == "bash" for words in block.commands]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}: {block.text[:60]!r}"
        if block.language == "text":
            assert not re.search(r"^(dafxhost|python3? \S+\.py) ", block.text, re.M), "commands are bash"
        elif block.language == "json":
            json.loads(block.text)
        elif block.language == "toml":
            tomllib.loads(block.text)


@pytest.mark.slow  # but for what everybody types first
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.name, marks=[pytest.mark.not_slow] if page.name in FIRST else [])
        for page in PAGES
        if commands(page)
    ],
)
def test_every_command_runs(page: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    sandbox(tmp_path)
    for words in commands(page):
        text = " ".join(words)
        if text in ELSEWHERE:
            print(f"not run: {text} ({ELSEWHERE[text]})")
            continue
        arguments = prepared(words, tmp_path)
        if isinstance(arguments, str):
            print(f"not run: {text} ({arguments})")
            continue
        code, _, err = call(*arguments)
        assert code == 0, f"{text}\n{err[-1000:]}"


def test_what_runs_elsewhere_is_still_shown() -> None:
    shown = {" ".join(words) for page in PAGES for words in commands(page)}
    assert set(ELSEWHERE) <= shown


@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=lambda p: p.name)
def test_every_python_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sandbox(tmp_path)
    import torch

    with torch.random.fork_rng(devices=[]):
        for block in blocks(page):
            if block.language == "python":
                # What the README's reader has at hand.
                names = {"audio": torch.rand(2, 1, 4410) - 0.5, "settings": torch.full((2, 3, 7), 0.4)}
                exec(compile(block.text, f"{page.name}", "exec"), names)


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    """mkdocs --strict: links, anchors, navigation, docstrings; nothing on them asks the net."""
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONWARNINGS": "default"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list((tmp_path / "site").glob("*.html"))
    assert len(pages) >= len(list((ROOT / "docs").glob("*.md")))
    away = re.compile(r'<(script|link|img)[^>]+(src|href)="(https?:)?//', re.I)
    assert not [page.name for page in pages if away.search(page.read_text())], "pages load from the net"
