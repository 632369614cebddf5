"""How many plugins of Debian's packages load, render and pass, and why the rest do not; for docs/plugins.md.

`python benchmarks/scan_table.py [--write] [PACKAGE...]` scans what the packages' file lists name, with
--verify. Results are remembered by file (see `dafxhost effects scan`), so a second run only prints.
"""

from __future__ import annotations

import argparse
import collections
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from dafxhost_effects.scan import Found, scan

PACKAGES = ("mda-lv2", "zam-plugins", "dpf-plugins-vst", "dragonfly-reverb-vst", "lsp-plugins-vst")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "plugins.md"
MARKS = "<!-- scan: begin -->", "<!-- scan: end -->"
LOAD_STAGES = ("starting", "loading")


def files(package: str) -> list[Path]:
    """VST3 and LV2 bundles and VST2 libraries of an installed Debian package; none if it is not installed."""
    done = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=False)
    bundles, libraries = set(), set()
    for line in done.stdout.splitlines():
        match = re.match(r".*?\.(?:vst3|lv2)(?=/|$)", line)
        if match:
            bundles.add(Path(match.group()))
        elif line.endswith(".so") and re.search(r"/(?:lx)?vst/", line):
            libraries.add(Path(line))
    return sorted(bundles) + sorted(libraries)


def stage(one: Found) -> str:
    """How far it came: "passes", "renders", "loads", "instrument" or "nothing"."""
    if one.status in ("ok", "instrument"):
        return {"ok": "passes"}.get(one.status, one.status)
    if one.status == "failed":
        return "renders"
    return "loads" if one.load_seconds is not None else "nothing"


def row(package: str, kind: str, found: list[Found]) -> str:
    stages = collections.Counter(stage(one) for one in found)
    passes = stages["passes"]
    renders = passes + stages["renders"]
    loads = renders + stages["loads"]
    dead = sum(len(one.checks.get("dead", ())) for one in found)
    tried = sum(
        sum(one.parameters.values()) - len(one.checks["untried"]) for one in found if "untried" in one.checks
    )
    numbers = (len(found), stages["instrument"], loads, renders, passes, f"{dead} of {tried}")
    return "| " + " | ".join([package, kind, *map(str, numbers)]) + " |"


def short(reason: str) -> str:
    """A reason that several plugins may share: without the names of parameters and with few digits."""
    text = re.sub(r"(do not read back): .*?(?=;|$)", r"\1", reason)
    return text if len(text) <= 160 else text[:157] + "..."


def reasons(everything: dict[tuple[str, str], list[Found]]) -> Iterator[str]:
    for (package, kind), found in everything.items():
        groups: dict[str, list[str]] = collections.defaultdict(list)
        for one in found:
            if one.status in ("broken", "failed"):
                groups[short(one.reason)].append(one.name or Path(one.location).stem)
        for reason, names in groups.items():
            listed = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
            yield f"- {package}, {kind}: {listed}: {reason}"


def page(everything: dict[tuple[str, str], list[Found]], missing: list[str]) -> str:
    head = "| package | format | plugins | instruments | load | render | pass | dead of tried parameters |\n"
    lines = [row(package, kind, found) for (package, kind), found in everything.items()]
    text = head + "|---|---|--:|--:|--:|--:|--:|--:|\n" + "\n".join(lines) + "\n"
    whys = list(reasons(everything))
    if whys:
        text += "\nWhy the rest do not pass:\n\n" + "\n".join(whys) + "\n"
    if missing:
        text += f"\nNot installed here: {', '.join(missing)}.\n"
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("packages", nargs="*", default=PACKAGES)
    parser.add_argument("--write", action="store_true", help="put the table into docs/plugins.md")
    parser.add_argument("--seconds", type=float, default=3.0, help="for dead parameters of each plugin")
    parser.add_argument("--timeout", type=float, default=180.0, help="for each plugin, as for the command")
    arguments = parser.parse_args()
    everything: dict[tuple[str, str], list[Found]] = collections.defaultdict(list)
    missing = []
    for package in arguments.packages:
        paths = files(package)
        if not paths:
            missing.append(package)
            continue
        how = {"timeout": arguments.timeout, "dead_seconds": arguments.seconds}
        for one in scan(paths, verify=True, **how):
            sys.stderr.write(f"{package}: {one.status}: {one.location} {one.reason}\n")
            everything[package, one.format].append(one)
    text = page(everything, missing)
    sys.stdout.write(text)
    if arguments.write:
        before, after = (PAGE.read_text().split(mark) for mark in MARKS)
        PAGE.write_text(before[0] + MARKS[0] + "\n" + text + MARKS[1] + after[1])


if __name__ == "__main__":
    main()
