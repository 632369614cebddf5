"""Running a module that loads a plugin in a process of its own: a crash or a hang is only an answer."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative: the signal), None if it took too long and was killed, and
    the last line that it wrote.
    """

    code: int | None
    words: str


class NoAnswerError(Exception):
    """A module ended without an answer; `ended` tells how."""

    def __init__(self, ended: Ended) -> None:
        super().__init__(ended)
        self.ended = ended

    @property
    def why(self) -> str:
        """The end in words: "signal 11", "exit code 1"."""
        code = self.ended.code or 0
        return f"signal {-code}" if code < 0 else f"exit code {code}"


def run_alone(module: str, arguments: Iterable[str], timeout: float) -> Ended:
    """Run `python -m module arguments` in a process group of its own for `timeout` s at most."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what the plugin started
            process.wait()
        log.seek(max(0, log.seek(0, os.SEEK_END) - 2000))
        words = log.read().decode(errors="replace").strip().splitlines()[-1:]
    return Ended(code, "".join(words))


def ask(module: str, arguments: Iterable[str], timeout: float) -> dict[str, Any]:
    """The JSON object that the module writes to the file named by its last argument, which is added here.

    Raises:
        NoAnswerError: it ended, or was killed after `timeout` s, before it had written that.
    """
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        ended = run_alone(module, [*arguments, str(answer)], timeout)
        if ended.code is None or not answer.exists():
            raise NoAnswerError(ended)
        return json.loads(answer.read_text(encoding="utf-8"))
