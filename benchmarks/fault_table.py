"""Prints the fault table of docs/faults.md: what plugins may do wrong, and what came of it on this machine.

`python benchmarks/fault_table.py` takes some minutes; it builds the VST3 of tests/lab_plugin first (g++ and
Debian's dpf-source). The exit status is 1 if any row was not survived. The rows, and what survived means,
are those of tests/test_fault_table.py.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import lab_endings as endings
import lab_faults as lab
import lab_plugin_build
import lab_trials as trials
from lab_surroundings import Surroundings

CLEAN_BATCHES = 3  # whose median the seconds lost are counted from
Verdict = Callable[[list[str]], str]


def table(head: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Print Markdown, each row as soon as it is there."""
    print(f"\n| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(
            "| " + " | ".join(cell.replace("|", r"\|").replace("\n", " ") for cell in row) + " |", flush=True
        )


def shortened(text: str, length: int = 110) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def fault_rows(bundle: Path, folder: Path, hosts: list[str], verdict: Verdict) -> Iterator[Sequence[str]]:
    for row in lab.FAILING + lab.KEPT:
        for host in (host for host in row.hosts if host in hosts):
            lab.lab_effect_by(host, bundle)
            around = Surroundings(f"{row.fault}-{host}")
            with lab.open_executor(host, bundle, folder) as executor:
                outcome = lab.run_row(executor, row)
                found = lab.problems(executor, row, outcome)
                identical = lab.others_identical(executor, outcome)
                clean = [lab.run_row(executor, lab.Row("none", "")).seconds for _ in range(CLEAN_BATCHES)]
            complete, said = outcome.wet is not None, outcome.said
            lost = outcome.seconds - statistics.median(clean)
            del executor, outcome
            yield (
                row.title,
                host,
                "yes" if complete else "**no**",
                shortened(said) or "nothing",
                "yes" if identical else "**no**",
                f"{lost:.2f}",
                verdict(found + around.problems()),
            )


def load_rows(bundle: Path, folder: Path, hosts: list[str], verdict: Verdict) -> Iterator[Sequence[str]]:
    titles = {"refuse": "refuses", "crash": "crashes", "display": "exits without a display"}
    for load, title in titles.items():
        for host in hosts:
            lab.lab_effect_by(host, bundle)
            around = Surroundings(f"{load}-{host}")
            with tempfile.TemporaryDirectory(dir=folder) as own:
                began = time.monotonic()
                said, found = trials.run_load(host, load, bundle, Path(own))
                seconds = time.monotonic() - began
            yield title, host, shortened(said), f"{seconds:.2f}", verdict(found + around.problems())
    for host in hosts:
        lab.lab_effect_by(host, bundle)
        around = Surroundings(f"slow-{host}")
        with tempfile.TemporaryDirectory(dir=folder) as own:
            began = time.monotonic()
            found = trials.run_slow_load(host, bundle, Path(own))
            seconds = time.monotonic() - began
        title = f"takes {trials.SLOW_LOAD:g} s, longer than the deadline of {trials.SHORT_DEADLINE:g} s"
        yield title, host, "nothing", f"{seconds:.2f}", verdict(found + around.problems())


def memory_rows(bundle: Path, folder: Path, hosts: list[str], verdict: Verdict) -> Iterator[Sequence[str]]:
    for host in hosts:
        lab.lab_effect_by(host, bundle)
        around = Surroundings(f"memory-{host}")
        with tempfile.TemporaryDirectory(dir=folder) as own:
            said, found = trials.run_leak(host, bundle, Path(own))
        yield host, said, verdict(found + around.problems())


def ending_rows(bundle: Path, folder: Path, verdict: Verdict) -> Iterator[Sequence[str]]:
    for kind, title in endings.KINDS.items():
        for ending in endings.ENDINGS:
            yield title, ending, verdict(endings.run_ending(kind, ending, bundle, folder))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hosts", nargs="+", choices=lab.HOSTS, default=list(lab.HOSTS))
    hosts = parser.parse_args().hosts
    if missing := lab_plugin_build.missing():
        print(f"the Debian package {missing} is not installed", file=sys.stderr)
        return 2
    os.environ.pop("DISPLAY", None)
    lost: list[str] = []

    def verdict(found: list[str]) -> str:
        lost.extend(found)
        return "yes" if not found else f"**no**: {shortened('; '.join(found), 300)}"

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DAFXHOST_CACHE"] = str(folder / "cache")
        bundle = lab_plugin_build.build(folder)
        head = [
            "a render",
            "by",
            "batch completes",
            "report",
            "others bit-identical",
            "seconds lost",
            "survived",
        ]
        table(head, fault_rows(bundle, folder, hosts, verdict))
        table(["loading", "by", "error", "seconds", "survived"], load_rows(bundle, folder, hosts, verdict))
        leaks = f"{trials.LEAKS} renders leak 10 MB each, limit {trials.LIMIT >> 20} MB, by"
        table([leaks, "what it came to", "survived"], memory_rows(bundle, folder, hosts, verdict))
        if set(hosts) == set(lab.HOSTS):
            head = ["workers are busy with", "the program ends by", "nothing is left"]
            table(head, ending_rows(bundle, folder, verdict))
    print(f"\n{'Every row was survived.' if not lost else f'{len(lost)} things went wrong.'}")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
