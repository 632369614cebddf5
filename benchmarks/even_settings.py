"""How far the sound moves along each continuous parameter of an effect: what `--settings even` draws by.

python benchmarks/even_settings.py mda-combo [--rate 44100]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from dafxhost.data.setting_draws import measure_movement
from dafxhost.execution.executor import Executor
from dafxhost.registry import effect


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("effect")
    parser.add_argument("--rate", type=int, default=44100)
    given = parser.parse_args()
    with Executor(effect(given.effect)) as executor:
        began = time.perf_counter()
        movement = measure_movement(executor, given.rate)
        seconds = time.perf_counter() - began
    for name, steps in movement.items():
        half, total = len(steps) // 2, sum(steps)
        shares = [sum(part) / total if total else np.nan for part in (steps[:half], steps[half:])]
        print(f"| {name} | {total:.1f} dB | {shares[0]:.0%}, {shares[1]:.0%} |")
    print(f"{seconds:.1f} s")


if __name__ == "__main__":
    main()
