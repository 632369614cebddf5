"""What starting costs: processor time of small commands, beside a bare `python -c pass`, taken in turns.

    python benchmarks/startup.py [--rounds 15] [--json]

Also lists the modules that `dafxhost --help` waits for longest (python -X importtime).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TOOL = ["-m", "dafxhost_cli.main"]
COMPLETE = {"COMP_WORDS": "dafxhost train --effect mda-de", "COMP_CWORD": "3"}
COMMANDS: dict[str, tuple[list[str], dict[str, str]]] = {
    "python -c pass": (["-c", "pass"], {}),
    "python -c 'import dafxhost'": (["-c", "import dafxhost"], {}),
    "dafxhost --version": ([*TOOL, "--version"], {}),
    "dafxhost --help": ([*TOOL, "--help"], {}),
    "dafxhost train --help": ([*TOOL, "train", "--help"], {}),
    "dafxhost runs": ([*TOOL, "runs"], {}),
    "Tab after --effect": (TOOL, {"_DAFXHOST_COMPLETE": "complete_bash", **COMPLETE}),
}


def cost(arguments: list[str], environment: dict[str, str], folder: str) -> float:
    """Processor seconds of one run of Python."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments], cwd=folder, env={**os.environ, **environment}, check=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def slowest_imports(count: int) -> list[tuple[str, float]]:
    """Modules whose own code takes longest to import for --help, in ms."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *TOOL, "--help"], capture_output=True, text=True, check=True
    )
    found = []
    for line in done.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if line.startswith("import time:") and parts[0].strip().isdigit():
            found.append((parts[2].strip(), int(parts[0]) / 1000))
    return sorted(found, key=lambda pair: -pair[1])[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "runs").mkdir()
        for arguments, environment in COMMANDS.values():
            cost(arguments, environment, folder)  # so that every file has been read once
        for _ in range(options.rounds):
            for name, (arguments, environment) in COMMANDS.items():
                taken[name].append(cost(arguments, environment, folder))
    bare = statistics.median(taken["python -c pass"])
    rows = {
        name: {"ms": 1e3 * statistics.median(times), "ratio": statistics.median(times) / bare}
        for name, times in taken.items()
    }
    if options.json:
        print(
            json.dumps({"rounds": options.rounds, "commands": rows, "imports": slowest_imports(10)}, indent=2)
        )
        return
    print("| | processor time, median | of a bare `python -c pass` |\n|---|---|---|")
    for name, row in rows.items():
        print(f"| `{name}` | {row['ms']:.0f} ms | {row['ratio']:.1f} |")
    print("\nSlowest imports of `dafxhost --help`:")
    for name, milliseconds in slowest_imports(5):
        print(f"  {milliseconds:.1f} ms  {name}")


if __name__ == "__main__":
    main()
