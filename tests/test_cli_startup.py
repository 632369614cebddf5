"""The first things typed: no command at all, --quiet, colours, and what starting costs."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import Call
from dafxhost_cli import console, progress
from dafxhost_cli.progress import Display, clock

DISPLAY = """
from dafxhost_cli.progress import Display
with Display() as display:
    display.show("training", 0.5, "step 1/2", left=75, audio_rate=12.3)
    display.line("epoch 1")
    display._bar and display._bar.refresh()
"""


def on_a_terminal(code: str, **environment: str) -> str:
    """What a program writes to a terminal that is its stderr."""
    ours, theirs = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE")}
    env |= {"TERM": "xterm-256color", "COLUMNS": "100", **environment}
    done = subprocess.Popen([sys.executable, "-c", code], stderr=theirs, stdout=subprocess.PIPE, env=env)
    os.close(theirs)
    written = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        written += piece
    os.close(ours)
    assert done.stdout is not None
    with done.stdout:
        assert done.wait() == 0 and done.stdout.read() == b""
    return written.decode()


def colours(text: str) -> set[str]:
    """Colours among the escapes of a text: 30 to 37, 38 to 49, 90 to 107, as terminals number them."""
    found: set[str] = set()
    for piece in text.split("\x1b[")[1:]:
        if piece.lstrip("0123456789;")[:1] == "m":
            codes = piece.partition("m")[0].split(";")
            found |= {c for c in codes if c.isdigit() and (30 <= int(c) <= 49 or 90 <= int(c) <= 107)}
    return found


def test_no_command_prints_the_help_and_complains_of_nothing(call: Call) -> None:
    for arguments in ((), ("new",)):
        code, out, err = call(*arguments)
        assert code == 2 and out == "" and "error:" not in err
        assert err.startswith("Usage: dafxhost") and "Commands:" in err and len(err.splitlines()) > 8
    assert call("--help")[0] == 0


def test_the_bar_has_colours_only_where_they_are_wanted() -> None:
    coloured = on_a_terminal(DISPLAY)
    assert colours(coloured) and "step 1/2, 12 s of audio a second, 1:15 left" in coloured
    plain = on_a_terminal(DISPLAY, NO_COLOR="1")
    assert not colours(plain) and "epoch 1" in plain
    assert "\x1b" not in on_a_terminal(DISPLAY, TERM="dumb")


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "CLICOLOR_FORCE"])
def test_no_escapes_where_there_is_no_terminal(variable: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DISPLAY], capture_output=True, text=True, env={**os.environ, variable: "1"}
    )
    assert done.stderr == "epoch 1\n" and done.stdout == ""


def test_without_a_terminal_a_line_comes_only_after_a_silence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Display() as display:
        assert not display.live
        for second in range(0, 200, 5):
            now[0] = float(second)
            display.show("evaluating", second / 200, f"{second}/200 examples")
            if second == 100:
                display.line("something to keep")
    assert capsys.readouterr().err.splitlines() == [
        "evaluating: 65/200 examples, 2:15 left",
        "something to keep",
        "evaluating: 165/200 examples, 0:35 left",
    ]
    assert clock(3999.9) == "1:06:39" and clock(59) == "0:59"


def test_quiet_leaves_results_warnings_and_errors(call: Call, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert call("runs")[2] != "" and call("runs", "--quiet") == (0, "", "")
    assert call("--quiet", "runs") == (0, "", "")
    assert call("plugins", "--quiet")[1] == call("plugins")[1] != ""
    code, _, err = call("train", "--quiet", "--effect", "mda-conbo")
    assert code == 2 and err.startswith("error: ")
    assert not console.is_quiet() or call("runs")[2] != ""  # it does not last
    assert "--quiet" in call("evaluate", "--help")[1] and "--quiet" in call("effects", "scan", "--help")[1]
    console.be_quiet(False)


def test_help_imports_little() -> None:
    code = (
        "import sys; sys.argv = ['dafxhost', '--help']\n"
        "from dafxhost_cli.main import main\n"
        "try: main()\n"
        "except SystemExit: print(len(sys.modules), 'rich' in sys.modules, 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, rich, numpy = done.stdout.split()[-3:]
    assert rich == numpy == "False" and int(count) < 600
