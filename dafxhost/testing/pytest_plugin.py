"""The pytest plugin: ends the workers of conformance items, and tells at the end what they remarked.

Imports nothing but the standard library: pytest loads it at every start, also where nothing of dafxhost is
tested.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_open: list[tuple[object, Any]] = []  # the session in use, at most one
_notes: list[str] = []


def session(key: object, make: Callable[[], Any]) -> Any:
    """The session of that key; the one of another key is closed first, so that workers do not pile up."""
    if not (_open and _open[0][0] is key):
        close()
        _open.append((key, make()))
    return _open[0][1]


def close() -> None:
    """Close the session in use, if there is one."""
    while _open:
        _open.pop()[1].close()


def note(subject: str, check: Any) -> None:
    """Keep what a check that passed remarked, for the summary."""
    if check.status == "passed" and check.text:
        _notes.append(f"{subject}: {check.name}: {check.text}")


def pytest_sessionfinish() -> None:
    close()


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """With -v: latencies, refused sample rates, parameters without effect, ..."""
    if _notes and config.get_verbosity() > 0:
        terminalreporter.section("dafxhost conformance")
        for line in _notes:
            terminalreporter.write_line(line)
    _notes.clear()
