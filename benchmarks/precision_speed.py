"""What bfloat16 and torch.compile are worth in the supervised phase: milliseconds a step.

    python benchmarks/precision_speed.py --device cpu

The default controller on random embeddings of the default encoder's size, batch 64, forward, backward and
optimiser, each way in turn; the first steps (compilation) apart. End to end, renders and losses take most of
a step and neither option touches them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import torch
from measure import machine

import dafxhost
from dafxhost.training import precision
from dafxhost.training.config import TrainConfig
from dafxhost.training.controller import Controller

WAYS = (("float32", False), ("float32", True), ("bfloat16", False), ("bfloat16", True), ("float16", False))


def measure(kind: str, compiled: bool, device: torch.device, steps: int) -> dict[str, float]:
    """First step in seconds, and the median of the others in milliseconds."""
    config = TrainConfig()
    torch.manual_seed(0)
    controller = Controller(
        dafxhost.encoder(config.encoder), dafxhost.effect("mda-combo").parameters,
        hidden=config.hidden, depth=config.depth, dropout=config.dropout, bins=config.bins,
    ).to(device)  # fmt: skip
    scaler = precision.prepare(controller, kind, compiled, device)
    optimiser = torch.optim.AdamW(controller.parameters(), lr=1e-3)
    shape = (2, config.supervised_batch, controller.encoder.embedding_size)
    dry, reference = torch.randn(shape, device=device)
    settings = torch.rand(shape[1], len(controller.values), device=device)
    taken = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        optimiser.zero_grad()
        loss = controller.supervised_loss(controller(dry, reference), settings)
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        float(loss.detach())
        taken.append(time.perf_counter() - start)
    return {"first_seconds": taken[0], "milliseconds": 1000 * statistics.median(taken[1:])}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    device, rows = torch.device(arguments.device), {}
    print("| precision | compile | ms a step | first step, s |\n|---|---|---|---|")
    for kind, compiled in WAYS:
        if kind == "float16" and device.type != "cuda":
            continue
        found = measure(kind, compiled, device, arguments.steps)
        rows[f"{kind}{', compiled' if compiled else ''}"] = found
        print(
            f"| {kind} | {compiled} | {found['milliseconds']:.1f} | {found['first_seconds']:.1f} |",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
