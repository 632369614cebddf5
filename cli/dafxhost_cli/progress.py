"""A progress bar on stderr where that is a terminal; elsewhere only the lines."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from dafxhost_cli.console import note


class Display:
    """Use as a context manager.

    `line` prints a line that stays, above the bar if there is one; `show` moves the bar, and prints nothing
    where there is none.
    """

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Display:
        if sys.stderr.isatty():
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
        if self._bar is None:
            note(text)
        else:
            self._bar.console.print(text, markup=False, soft_wrap=True)

    def show(self, phase: str, fraction: float, text: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description=phase, completed=min(1.0, max(0.0, fraction)), text=text)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
