"""How long work is shown, the same for every command: a bar on stderr where that is a terminal, else lines.

On a terminal, one bar: what is being done, how far it is, audio seconds per second where that is known, time
left. Elsewhere nothing but the lines that stay (an epoch of training each, say), and where none came for a
minute, one that says how far it is. With --quiet neither.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from dafxhost_cli import console

SILENCE = 60.0
"""Seconds without a line after which one says how far the work is, where there is no bar."""


class Display:
    """Use as a context manager.

    `line` prints a line that stays, above the bar if there is one; `show` says how far the work is.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._began = self._said = time.monotonic()

    def __enter__(self) -> Display:
        if sys.stderr.isatty() and not console.is_quiet():
            # Rich costs 0.3 s of imports, and obeys NO_COLOR and TERM=dumb by itself.
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[text]}"),
                console=Console(stderr=True, highlight=False),
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("starting", total=1.0, text="")
        return self

    @property
    def live(self) -> bool:
        """Whether there is a bar."""
        return self._bar is not None

    def line(self, text: str) -> None:
        self._said = time.monotonic()
        if self._bar is None:
            console.note(text)
        else:
            self._bar.console.print(text, markup=False, soft_wrap=True)

    def show(
        self,
        phase: str,
        fraction: float,
        text: str,
        *,
        left: float | None = None,
        audio_rate: float | None = None,
    ) -> None:
        """Say how far the work is.

        Args:
            phase: what is being done. fraction: of it that is done, 0..1. text: the rest of the words.
            left: seconds left; by default from the fraction and the time since the display was opened.
            audio_rate: seconds of audio worked on in a second.
        """
        fraction = min(1.0, max(0.0, fraction))
        now = time.monotonic()
        if left is None and fraction > 0:
            left = (now - self._began) * (1 - fraction) / fraction
        if audio_rate:
            text += f", {audio_rate:.0f} s of audio a second"
        if left is not None:
            text += f", {clock(left)} left"
        if self._bar is not None:
            self._bar.update(self._task, description=phase, completed=fraction, text=text)
        elif now - self._said > SILENCE:
            self.line(f"{phase}: {text}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def clock(seconds: float) -> str:
    """100.0 -> "1:40", 4000.0 -> "1:06:40"."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
