"""Damaged, lying and unusual files: none crashes or hangs, and each that cannot be read is named once.

CI reads a hundred; DAFXHOST_TEST_ALL=1 a thousand, as benchmarks/hostile_files.py does for docs/data.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import hostile_files

from dafxhost.data.audio_io import read_audio
from dafxhost.errors import AudioFileError

COUNT = 1000 if os.environ.get("DAFXHOST_TEST_ALL") else 108


@pytest.fixture(scope="module")
def maker() -> hostile_files.Maker:
    return hostile_files.Maker(3, mpeg4=COUNT == 1000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, maker: hostile_files.Maker) -> Path:
    root = tmp_path_factory.mktemp("hostile")
    for number in range(COUNT):
        made = maker.make(number)
        (root / made.name).write_bytes(made.content)
    return root


def test_none_crashes_or_hangs_and_each_is_answered_once(folder: Path, maker: hostile_files.Maker) -> None:
    kinds = {str(folder / made.name): made.kind for made in map(maker.make, range(COUNT))}
    found = list(hostile_files.read_all(folder, workers=1))
    assert sorted(facts.path for facts in found) == sorted(kinds)
    assert not [facts.problem for facts in found if "its decoder" in facts.problem]
    for facts in found:
        assert facts.problem.count(facts.path) == bool(facts.problem) and "\n" not in facts.problem
    for kind, count, read, refused, lost, _ in hostile_files.rows(kinds, found):
        assert count and read + refused == count and not lost
        if kind in ("rate", "channels", "sample type", "silence", "one sample", "wrong name"):
            assert read == count, kind
        if kind in ("NaN or infinity", "empty", "noise", "text"):
            assert refused == count, kind


def test_drawing_from_all_of_them_names_each_unreadable_one_once(folder: Path) -> None:
    named = hostile_files.draw_all(folder, COUNT, 0)
    assert len({path for path, _ in named}) == len(named) > COUNT // 4
    assert all(str(path) in reason for path, reason in named)


@settings(max_examples=COUNT // 2, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    which=st.integers(0, len(hostile_files.SUBTYPES) - 1),
    cut=st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    start=st.integers(0, 10_000),
)
def test_any_change_is_read_or_refused(
    folder: Path,
    maker: hostile_files.Maker,
    which: int,
    cut: float,
    changes: list[tuple[float, int]],
    start: int,
) -> None:
    content, suffix = maker.originals[which]
    data = bytearray(content[: round(cut * len(content))])
    for place, value in changes:
        if data:
            data[int(place * len(data))] = value
    path = folder.parent / f"changed.{suffix}"
    path.write_bytes(data)
    try:
        audio, _ = read_audio(path, start=start, frames=5000, mono=True)
    except AudioFileError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert audio.shape[0] == 1 and 0 < audio.shape[1] <= 5000


def test_headers_take_no_memory(folder: Path) -> None:
    """All hostile headers are read by a process that may take 1 GB more than its libraries."""
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from dafxhost.data import facts\n"
        "import scipy.signal\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30),) * 2)\n"
        "problems = [facts.measure(p).problem for p in sorted(Path(sys.argv[1]).glob('*huge*'))]\n"
        "print(len(problems), sum('memory' in p for p in problems))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    count, starved = map(int, done.stdout.split())
    assert count == COUNT // len(hostile_files.KINDS) and starved == 0
