"""What `estimator = "auto"` chooses for an effect, and from what: steps, directions, agreement by step.

python benchmarks/estimator_study_choice.py mda-combo [--rate 24000] [--samples 65536]
"""

from __future__ import annotations

import argparse
import time

import torch

from dafxhost.estimators.choice import STEPS, chosen
from dafxhost.execution.executor import Executor
from dafxhost.losses import TransferLoss
from dafxhost.registry import effect


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("effect")
    parser.add_argument("--rate", type=int, default=24000)
    parser.add_argument("--samples", type=int, default=65536)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with Executor(effect(given.effect)) as executor:
        began = time.perf_counter()
        loss = TransferLoss(l1_weight=0.0)
        choice = chosen(executor, loss, sample_rate=given.rate, samples=given.samples)
        seconds = time.perf_counter() - began
    print("| parameter | step | roughness | " + " | ".join(f"{c:g}" for c in STEPS) + " |")
    print("|---" * (3 + len(STEPS)) + "|")
    for row in choice.rows():
        print("| " + " | ".join(row) + " |")
    print(
        f"{choice.estimator}, directions {choice.directions}; {seconds:.1f} s (0 if it was measured before)"
    )


if __name__ == "__main__":
    main()
