"""Which effects keep what `dafxhost.testing` asks of an effect, and why the rest do not.

    python benchmarks/conformance_table.py [--effect NAME ...] [--provider NAME] [--longest S] [--json FILE]

Every registered effect that can be hosted here, by its preferred provider; mda-combo also by its own.
Prints a Markdown table; docs/effects.md holds its last output. Exit status 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

import dafxhost
from dafxhost.errors import DafxhostError
from dafxhost.registry import registry
from dafxhost.testing import Report, check_effect, check_names

REMARKED = ("latency", "sample-rates", "channels", "streaming", "live-parameters", "discrete")
"""Checks whose remarks the table repeats where they say something of note."""
HEAD = ("effect", "provider", "parameters", "checks passed", "why the rest do not", "remarks")


def subjects(names: list[str], provider: str | None) -> tuple[list[dafxhost.Effect], list[str]]:
    """Effects that can be used here, and a line for each that cannot."""
    effects, absent = [], []
    for name in names or registry().names("effect"):
        try:
            effects.append(dafxhost.effect(name, provider))
        except DafxhostError as error:
            absent.append(f"{name}: {error}")
    if not names and provider is None:
        effects.append(dafxhost.effect("mda-combo", "builtin"))
    return effects, absent


def row(effect: dafxhost.Effect, report: Report) -> list[str]:
    """Cells in the order of HEAD."""
    applied = len(report.passed) + len(report.failed)
    why = [f"**{c.name}**: {short(c.text)}" for c in report.failed]
    why += [f"{c.name} cannot tell: {short(c.text)}" for c in report.skipped if c.name == "latency"]
    remarks = [
        f"{c.name}: {short(c.text)}"
        for c in report.passed
        if c.name in REMARKED and c.text and not usual(c.text)
    ]
    cells = [report.name, report.provider, str(len(effect.parameters)), f"{len(report.passed)} of {applied}"]
    return [*cells, "; ".join(why) or "-", "; ".join(remarks) or "-"]


def usual(remark: str) -> bool:
    """Whether it says what holds of most effects."""
    return remark.startswith(("0 samples reported", "all ")) or remark.endswith(" rates")


def short(text: str) -> str:
    """Fit for a table's cell."""
    text = text.replace("|", "/").replace("; name a setting that passes it on as neutral=", "")
    text = text.replace("; name a setting without delay as neutral=", "")
    text = re.sub(r" with setting \([^)]*\)", "", text)  # whole reports have it
    return text if len(text) <= 160 else text[:157] + "..."


def save(path: Path, reports: list[Report]) -> None:
    path.write_text(json.dumps([r.to_dict() for r in reports], indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Conformance of every effect.")
    parser.add_argument("--effect", action="append", default=[], help="all by default")
    parser.add_argument("--provider", help="instead of the preferred one")
    parser.add_argument("--longest", type=float, default=60.0, help="seconds of the longest clip")
    parser.add_argument("--json", type=Path, help="write whole reports there")
    options = parser.parse_args()
    effects, absent = subjects(options.effect, options.provider)
    print(f"| {' | '.join(HEAD)} |\n{'|---' * len(HEAD)}|", flush=True)
    reports: list[Report] = []
    for effect in effects:
        shared: dict[str, Any] = {"longest": options.longest}
        reports.append(check_effect(effect, **shared))
        print(f"| {' | '.join(row(effect, reports[-1]))} |", flush=True)
        if options.json:
            save(options.json, reports)
    good = sum(r.conformant for r in reports)
    print(f"\n{good} of {len(reports)} effects pass all that apply to them of {len(check_names())} checks.")
    for line in absent:
        print(f"left out: {line}", file=sys.stderr)
    return 0 if good == len(reports) else 1


if __name__ == "__main__":
    sys.exit(main())
