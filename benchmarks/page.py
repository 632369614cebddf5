"""Writes the tables of docs/benchmarks.md from benchmarks/results/*.json, or measures everything first.

    python benchmarks/page.py            tables and plots from the results that are there
    python benchmarks/page.py --run      all benchmarks (some 20 minutes on a calm machine), then the page
    python benchmarks/page.py --check    exit status 1 if the page is not what the results say

What stands between `<!-- begin NAME -->` and `<!-- end NAME -->` is written here, all else by hand. `--run`
refuses while others use the machine (`--anyway` overrides), and the page tells how much they did meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import plots
import psutil
import scaling
import soak
from gradients_report import distilled
from measure import CALM, RESULTS, busy_cores, cores, machine, save, say
from page_tables import SECTIONS

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
STEPS: dict[str, list[str]] = {
    "throughput": ["throughput.py", "--overhead", "--startup"],
    "throughput_8": ["throughput.py", "--settings", "8", "--batch", "16", "--turns", "5"],
    "throughput_default": [
        *("throughput.py", "--allocator", "default", "--turns", "5", "--layouts", "loop", "pipes"),
        *("--effect", "mda-combo (LV2)", "--effect", "zam-comp (pedalboard)", "--effect", "lab 2 ms"),
    ],
    "scaling": ["scaling.py"],
    "gradients": ["-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / "bench_gradients.py")],
    "soak": ["soak.py"],
}


def load(folder: Path) -> dict[str, Any]:
    """Results by name, those that are there."""
    return {p.stem: json.loads(p.read_text()) for p in sorted(folder.glob("*.json"))}


def written(text: str, results: dict[str, Any], plot_folder: Path) -> str:
    """The page with its tables made anew.

    Raises:
        ValueError: a section's marks are missing.
    """
    for name, make in SECTIONS.items():
        between = re.compile(f"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.S)
        if not between.search(text):
            raise ValueError(
                f"the page has no section {name!r}: <!-- begin {name} --> ... <!-- end {name} -->"
            )
        body = make(results, plot_folder)
        text = between.sub(lambda m, body=body: f"{m[1]}\n{body}\n\n{m[2]}", text)
    return text


def draw(results: dict[str, Any], folder: Path) -> None:
    """All plots for which there are results."""
    if "scaling" in results:
        scaling.plot(results["scaling"], folder)
    if "soak" in results:
        soak.plot(results["soak"], folder)
    if "throughput" in results:
        found = results["throughput"]["rows"]
        series = {
            "clips copied in": [r["share_of_ideal"]["median"] for r in found],
            "clips in executor.empty()": [r["share_of_ideal_no_copy"]["median"] for r in found],
        }
        names = [f"{r['name']}, {r['plugin_ms']['median']:.1f} ms" for r in found]

        def fill(axes: Any) -> None:
            plots.bars(axes, names, series, "share of ideal throughput (one setting a clip)", line=1.0)

        plots.draw(folder / "throughput.svg", fill)


def _others(before: Any, after: Any, own: float, wall: float) -> float:
    """Cores that others used on average, time stolen by the hypervisor among it."""
    idle = ("idle", "iowait", "guest", "guest_nice")
    busy = sum(getattr(after, k) - getattr(before, k) for k in after._fields if k not in idle)
    return max(0.0, (busy - own) / wall)


def run_step(name: str, arguments: list[str], folder: Path, extra: list[str]) -> tuple[int, dict[str, float]]:
    """Run one benchmark; its exit status, and how it went."""
    say(f"page: {name}")
    target = folder / f"{name}.json"
    first, *rest = arguments
    command = [sys.executable, *([first] if first.startswith("-") else [str(HERE / first)]), *rest, *extra]
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw.json"
        command += [f"--benchmark-json={raw}"] if name == "gradients" else ["--json", str(target)]
        usage, times, began = resource.getrusage(resource.RUSAGE_CHILDREN), psutil.cpu_times(), time.time()
        status = subprocess.run(
            command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=sys.stderr
        ).returncode
        wall = time.time() - began
        spent = resource.getrusage(resource.RUSAGE_CHILDREN)
        if name == "gradients" and raw.exists():
            save(target, {"machine": machine(), **distilled(json.loads(raw.read_text()))})
    own = spent.ru_utime + spent.ru_stime - usage.ru_utime - usage.ru_stime
    return status, {"minutes": wall / 60, "others_cores": _others(times, psutil.cpu_times(), own, wall)}


def run(names: list[str], folder: Path) -> int:
    """Run the steps; the largest exit status."""
    worst = 0
    path = folder / "run.json"
    steps: dict[str, Any] = json.loads(path.read_text())["steps"] if path.exists() else {}
    for name in names:
        status, steps[name] = run_step(name, STEPS[name], folder, [])
        if status:
            say(f"page: {name} ended with status {status}")
        worst = max(worst, abs(status))
        save(path, {"steps": {n: steps[n] for n in STEPS if n in steps}})
    return worst


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tables and plots of docs/benchmarks.md.")
    parser.add_argument("--run", action="store_true", help="measure first")
    parser.add_argument("--only", nargs="+", choices=STEPS, default=list(STEPS), help="with --run: these")
    parser.add_argument("--anyway", action="store_true", help="measure even if the machine is not calm")
    parser.add_argument("--check", action="store_true", help="write nothing; is the page up to date?")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--plots", type=Path, default=plots.FOLDER)
    o = parser.parse_args(given)
    status = 0
    before = o.page.read_text(encoding="utf-8")
    written(before, {}, o.plots)  # a page that lacks a section is told before, not after the measurements
    if o.run:
        busy = busy_cores(3.0)
        if busy > CALM * cores() and not o.anyway:
            print(
                f"page.py: others use {busy:.1f} of {cores()} cores; figures taken now would mean nothing. "
                "Wait, or say --anyway.",
                file=sys.stderr,
            )
            return 2
        status = run(o.only, o.results)
    results = load(o.results)
    if not o.check:
        draw(results, o.plots)
    after = written(before, results, o.plots)
    if o.check:
        if after != before:
            print(
                f"page.py: {o.page} is not what the results say; run python benchmarks/page.py",
                file=sys.stderr,
            )
        return int(after != before)
    o.page.write_text(after, encoding="utf-8")
    return status


if __name__ == "__main__":
    sys.exit(main())
