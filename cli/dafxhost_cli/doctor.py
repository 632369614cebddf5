"""dafxhost doctor: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dafxhost_cli.console import note, result, result_json
from dafxhost_cli.options import Json

if TYPE_CHECKING:
    from dafxhost_cli.checkup import Check

MARKS = {"ok": "ok     ", "warning": "WARNING", "broken": "BROKEN ", "absent": "absent "}


def doctor(as_json: Json = False) -> None:
    """Check this installation and machine.

    Python, torch and CUDA, plugin hosts, folders searched, broken plugins, shared memory, cores, limits;
    starts workers and renders. Exit code 1 if something is broken that dafxhost needs.
    """
    from dataclasses import asdict

    from dafxhost_cli import checkup
    from dafxhost_cli.progress import Display

    found: list[checkup.Check] = []
    with Display() as display:
        display.show("checking", 0.0, "")
        for check in checkup.all_checks():
            found.append(check)
            display.show("checking", 0.0, f"{check.area}: {check.name}")
    broken = [check for check in found if check.status == checkup.BROKEN]
    warnings = [check for check in found if check.status == checkup.WARNING]
    if as_json:
        result_json({"healthy": not broken, "checks": [asdict(check) for check in found]})
    else:
        for area in dict.fromkeys(check.area for check in found):
            result(area)
            for check in found:
                if check.area == area:
                    _show(check)
            result("")
        result(f"{len(broken)} broken, {len(warnings)} warnings" if broken or warnings else "all is well")
    if broken:
        note("error: something that dafxhost needs is broken: " + ", ".join(check.name for check in broken))
        raise typer.Exit(1)


def _show(check: Check) -> None:
    result(f"  {MARKS[check.status]}  {check.name}: {check.detail}")
    if check.status != "ok" and check.remedy:
        result(f"           -> {check.remedy}")
