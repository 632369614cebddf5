#!/usr/bin/env python3
"""Set up dafxhost in ./.venv and run one of its commands: needs Python 3.11 or newer with pip, nothing else.

    python3 run.py train                              every command of dafxhost: train, transfer, effects, ...
    python3 run.py transfer input.wav reference.wav -o out.wav
    python3 run.py test                               the tests (arguments go to pytest)
    python3 run.py check                              ruff and pyright

The first call makes the environment and installs what pyproject.toml names (about 5 GB, most of it torch);
later calls find it there. The environment is made anew when pyproject.toml changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
NO_TESTS = 5  # pytest's exit code where none was chosen
CHECKS = (
    ["-m", "ruff", "check", "."],
    ["-m", "ruff", "format", "--check", "."],
    ["-m", "pyright"],
)


def say(text: str) -> None:
    print(f"run.py: {text}", file=sys.stderr, flush=True)


def stop(text: str, code: int = 1) -> None:
    say(text)
    raise SystemExit(code)


def call(command: list[str], failure: str) -> None:
    """Run a set-up step; its output goes to stderr, so that stdout holds only results."""
    if subprocess.run(command, stdout=sys.stderr, cwd=ROOT).returncode:
        stop(failure)


def install(extra: str) -> None:
    """Make sure that ./.venv holds dafxhost with the extra, unless its stamp says that it does."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest() + sys.version.split()[0]
    stamp = VENV / f"dafxhost{extra or '-base'}.stamp"
    if stamp.exists() and stamp.read_text() == wanted and (BIN / "python").exists():
        return
    start = time.monotonic()
    if not (BIN / "python").exists():
        say(f"making the environment {VENV}")
        if VENV.exists():
            shutil.rmtree(VENV)
        call(
            [sys.executable, "-m", "venv", str(VENV)],
            "could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv",
        )
    say("installing dafxhost and what it needs (the first time takes some minutes, mostly torch)")
    uv = shutil.which("uv")
    installer = (
        [uv, "pip", "install", "--python", str(BIN / "python")]
        if uv
        else [str(BIN / "python"), "-m", "pip", "install", "--disable-pip-version-check"]
    )
    call(
        [*installer, "--quiet", "-e", f"{ROOT}{extra}"],
        "the installation failed; the lines above say why. Correct that and run the same command again",
    )
    stamp.write_text(wanted)
    say(f"ready after {time.monotonic() - start:.0f} s")


def test_environment() -> dict[str, str]:
    """Of the tests, which start some thousand Python processes.

    Where Python is told to write no bytecode, as containers like to, each of them compiles numpy or torch
    anew, for half the time of its start: here .venv keeps it, and the sources stay clean. And one thread for
    each, because the tests are a process a core already.
    """
    environment = {"OMP_NUM_THREADS": "1", **os.environ}
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment.setdefault("PYTHONPYCACHEPREFIX", str(VENV / "bytecode"))
    return environment


def test(pytest: list[str]) -> int:
    """All tests, a process a core; then those on a Ray cluster, whose daemons would be in the others' way."""
    many = ["-n", "logical", "--maxprocesses", "8", "--dist", "loadfile", "-m", "not ray"]
    codes = [
        subprocess.run([*pytest, *which], cwd=ROOT, env=test_environment()).returncode
        for which in (many, ["-m", "ray"])
    ]
    found = [code for code in codes if code != NO_TESTS]
    return max(found, default=NO_TESTS)


def main(arguments: list[str]) -> int:
    if sys.version_info < (3, 11):  # noqa: UP036  (an older Python must be told, not crash)
        stop(f"needs Python 3.11 or newer, this is {sys.version.split()[0]}", 2)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    command, rest = arguments[0], arguments[1:]
    python = str(BIN / "python")
    if command == "check":
        install("[test]")
        return max(subprocess.run([python, *check], cwd=ROOT).returncode for check in CHECKS)
    if command == "test":
        install("[test]")
        return test([python, "-m", "pytest", *rest])
    install("")
    program = [str(BIN / "dafxhost"), *arguments]
    if os.name != "nt":
        # Replace this process, so that Ctrl-C and exit codes are the command's own.
        os.execv(program[0], program)
    return subprocess.run(program).returncode


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
