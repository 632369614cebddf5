"""dafxhost effects scan: what plugins are installed, and whether they work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import Json

if TYPE_CHECKING:
    from dafxhost_effects.scan import Found

_WIDEST_REASON = 90


def scan(
    folders: Annotated[
        list[Path] | None, typer.Argument(help="Where to look; the system's usual folders if not given.")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Also set and read back values, look for dead parameters, try other sample rates.",
        ),
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Do not use what earlier scans found.")] = False,
    timeout: Annotated[
        float,
        typer.Option("--timeout", help="Seconds that a plugin may take before it counts as hung.", min=1),
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Find VST3, LV2 and VST2 plugins, and try each in a process of its own.

    What one is worth is remembered until its file changes. VST3_PATH, LV2_PATH and VST_PATH replace the usual
    folders.
    """
    from dataclasses import asdict

    from dafxhost.errors import UsageError
    from dafxhost_effects.scan import scan as scan_plugins

    for folder in folders or []:
        if not folder.exists():
            raise UsageError(f"there is no folder {folder}")
    found: list[Found] = []
    for one in scan_plugins(folders or [], verify=verify, fresh=fresh, timeout=timeout):
        found.append(one)
        note(f"{one.status}: {one.location}" + (f" ({_cut(one.reason)})" if one.reason else ""))
    if as_json:
        result_json([asdict(one) for one in found])
        return
    columns = ("format", "name", "audio", "parameters", "latency", "load", "status", "effect")
    result(table(columns, [_row(one) for one in found]))
    for one in found:
        for line in _remarks(one):
            result(f"{one.location}: {line}")
    result(_summary(found))


def _row(one: Found) -> list[str]:
    counts = " ".join(f"{n} {kind}" for kind, n in one.parameters.items())
    return [
        one.format,
        one.name or "-",
        f"{one.inputs}>{one.outputs}" if one.name else "-",
        counts or "-",
        "-" if one.latency is None else str(one.latency),
        "-" if one.load_seconds is None else f"{1e3 * one.load_seconds:.1f} ms",
        one.status,
        one.location,
    ]


def _remarks(one: Found) -> list[str]:
    lines = [f"{one.status}: {one.reason}"] if one.reason and one.status != "instrument" else []
    if one.checks.get("dead"):
        lines.append(f"no effect heard of {', '.join(one.checks['dead'])}")
    if one.checks.get("untried"):
        lines.append(f"no time to try {len(one.checks['untried'])} parameters")
    if one.checks.get("silent"):
        lines.append("silent at its defaults")
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST_REASON else text[: _WIDEST_REASON - 3] + "..."


def _summary(found: list[Found]) -> str:
    counts = {status: sum(one.status == status for one in found) for status in ("ok", "failed", "broken")}
    rest = len(found) - sum(counts.values())
    parts = [f"{n} {status}" for status, n in counts.items()] + [f"{rest} instruments"] * bool(rest)
    return f"{len(found)} plugins: {', '.join(parts)}"
