"""docs/errors.md: what it says is what the commands say, for some of them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

import error_table  # noqa: E402

SOME = (
    "",
    "trian",
    "effects mda-dely",
    "effects scan nowhere",
    "render a.wav --effect mda-delay -o nowhere/out.wav",
    "render text.wav --effect mda-delay -o out.wav",
    "render a.wav --effect mda-delay -o out.wav --set feedback=1000",
    "train --data nowhere",
    "train --track tensorbord",
    "apply setting.json a.wav",
    "evaluate nothing",
    "runs --folder nowhere",
    "runs delete .. --yes",
    "completion tcsh",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[error_table.Said]]:
    folder = tmp_path_factory.mktemp("place")
    error_table.make_place(folder)
    return error_table.ask_all(folder, {"some": SOME})


def test_some_lines_of_the_page_are_still_true(found: dict[str, list[error_table.Said]]) -> None:
    page = (ROOT / "docs/errors.md").read_text(encoding="utf-8")
    for line in error_table.page(found).splitlines():
        if line.startswith("| ") and "exit code" not in line:
            assert line in page, f"{line}\nwrite the page again: python benchmarks/error_table.py --write ..."


def test_every_complaint_is_one_sentence_and_leaves_nothing(found: dict[str, list[error_table.Said]]) -> None:
    assert error_table.problems(found) == []
    assert {one.code for one in found["some"]} == {1, 2}


def test_every_command_is_in_the_table() -> None:
    import typer

    from dafxhost_cli.main import app

    names = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    asked = {command.split()[0] for commands in error_table.CASES.values() for command in commands if command}
    assert names <= asked, f"no bad input is tried of {', '.join(sorted(names - asked))}"
    assert set(SOME) <= {command for commands in error_table.CASES.values() for command in commands}


def test_the_rules_notice_what_breaks_them() -> None:
    said = error_table.Said
    broken = {
        "x": [said("a", 0, "error: b", ""), said("c", 1, "d", "e"), said("f", 1, "error: this is a bug", "")]
    }
    assert len(error_table.problems(broken)) == 4
