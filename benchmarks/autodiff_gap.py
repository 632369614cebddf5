"""How near does training by estimated gradients come to training by automatic ones? On `eq-compressor`.

    python benchmarks/autodiff_gap.py --train ../shared/audio/train --test ../shared/audio/test --write
    python benchmarks/autodiff_gap.py --write           (the page again, from what was measured before)

One small controller is trained several times: same start, same examples in the same order, same optimiser,
same number of steps. Only the gradient of the loss with respect to the 24 settings differs (autodiff_ways):
backward through the torch effect; DeepAFx-ST's SPSA (one direction, signal space); ours. All take their steps
in turn, so that whatever else the machine does meanwhile falls on all of them alike; a step's time is the
median over the run. What is compared is the loss on recordings that no training saw.

The learning rate of each way is chosen on validation recordings, taken from --train. Results are written
after every --every steps: a run that is cut short has said what it knew.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from autodiff_report import PAGE, RESULT, report, written
from autodiff_sets import Set, cached_sets, make_sets
from autodiff_ways import AUTODIFF, SUPERVISED, THEIRS, WAYS, Training, held_out, new_way, start, step
from measure import machine, save, say

from dafxhost.losses import TransferLoss

RATES = (3e-4, 1e-3)


def train(o: argparse.Namespace, sets: dict[str, Set], seed: int, earlier: list[Training]) -> list[Training]:
    """All ways at all rates, a step of each in turn, on the same rows."""
    loss = TransferLoss(l1_weight=0.0)
    trainings = [
        start(new_way(name, loss, o), name, rate, sets["train"], o, seed)
        for name in o.ways
        for rate in o.rates
    ]
    order = np.random.default_rng(seed)
    rows: list[int] = []
    for number in range(1, o.steps + 1):
        while len(rows) < o.batch:
            rows += order.permutation(len(sets["train"])).tolist()
        chosen, rows = torch.tensor(rows[: o.batch]), rows[o.batch :]
        for training in trainings:
            step(training, sets["train"], chosen, o.loss_samples)
        if number % o.every == 0 or number == o.steps:
            for training in trainings:
                training.validation[number] = held_out(training.controller, sets["validation"], loss)
                training.test[number] = held_out(training.controller, sets["test"], loss)
            said = (f"{t.name} {t.rate:g}: {t.validation[number].mean():.3f}" for t in trainings)
            say(f"seed {seed}, step {number}, validation: " + "; ".join(said))
            save(o.json, report(o, sets, [*earlier, *trainings], machine_facts(o)))
    return trainings


def machine_facts(o: argparse.Namespace) -> dict[str, object]:
    if not hasattr(o, "facts"):
        o.facts = machine()
    return o.facts


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--train", type=Path, help="recordings to train on; a part of them validates")
    parser.add_argument("--test", type=Path, help="recordings to measure on")
    parser.add_argument(
        "--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY", help=", ".join(WAYS)
    )
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES), help="learning rates to try")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--every", type=int, default=50, help="steps between measurements")
    parser.add_argument("--samples", type=int, default=32768, help="of a half, which the held-out loss is of")
    parser.add_argument("--loss-samples", type=int, default=16384, help="of a half's start, in training")
    parser.add_argument("--examples", type=int, default=1024)
    parser.add_argument("--validation", type=int, default=64)
    parser.add_argument("--held-out", type=int, default=160)
    parser.add_argument(
        "--corpus-share", type=float, default=0.4, help="synthetic clips among the training ones"
    )
    parser.add_argument("--bank", type=int, default=60, help="songs of the synthetic corpus")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--supervised", type=int, default=300, help=f"steps of the start of {SUPERVISED!r}")
    parser.add_argument("--their-epsilon", type=float, default=0.001, help="DeepAFx-ST's default")
    parser.add_argument(
        "--move", type=float, default=0.01, help="how far ours moves a parameter in signal space"
    )
    parser.add_argument("--loss-move", type=float, default=0.03, help="and in loss space")
    parser.add_argument("--cache", type=Path, help="file that keeps the examples for the next run")
    parser.add_argument("--json", type=Path, default=RESULT)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--write", action="store_true", help="write the table into the page")
    return parser


def main(given: Sequence[str] | None = None) -> int:
    parser = options()
    o = parser.parse_args(given)
    torch.set_num_threads(1)
    if (o.train is None) != (o.test is None):
        parser.error("--train and --test go together")
    if o.train is not None:
        if AUTODIFF not in o.ways or THEIRS not in o.ways:
            parser.error(f"--ways needs {AUTODIFF!r} and {THEIRS!r}: between them lies the gap")
        sets = cached_sets(o.cache, lambda: make_sets(o), o)
        trainings: list[Training] = []
        for seed in range(o.seeds):
            trainings += train(o, sets, seed, trainings)
    elif not o.json.exists():
        parser.error(f"nothing was measured yet ({o.json}); give --train and --test")
    found = json.loads(o.json.read_text())
    if o.write:
        o.page.write_text(written(o.page.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(json.dumps(found["rows"], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
