"""How losses behave along each parameter away from the true setting, for effects that act through time.

    python benchmarks/loss_landscapes.py --examples 12 --json benchmarks/results/loss_landscapes.json

For each example a clip and a uniformly random setting; the clip at that setting is the target. Then each
continuous parameter in turn is put on an even grid over its whole range, the others staying true, and every
loss is taken. Two figures, for each side of the true value by itself and averaged over sides and examples:

- rank: Spearman's correlation of the distance to the true value and the loss (1: the farther, the larger);
- rising: the share of steps away from the true value by which the loss rises (1: monotone).

A parameter whose whole range changes the target, at one peak, by less than -60 dB is left out for that
example: it does nothing but level, and no level-matched loss could tell. Sides with fewer than three steps
are left out too. The default audio is the synthetic corpus' training half; nothing here has been trained on
any of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import machine, say
from scipy.stats import spearmanr

import dafxhost
from dafxhost.data.features import fade, normalise_peak
from dafxhost.data.setting_draws import UniformDraw
from dafxhost.data.sources import FolderSource
from dafxhost.objectives import make_loss

RATE = 24000
EFFECTS = ("mda-delay", "mda-thruzero", "mda-leslie", "mda-ambience")
LOSSES = {
    "mr-stft": "mr-stft",
    "magnitude": "magnitude",
    "modulation": "modulation",
    "echo": "echo",
    "embedding": "embedding",
    "embedding:pretrained": "embedding:pretrained",
    "sum": "mr-stft + 0.5 modulation + 0.5 echo",
}
UNHEARD = -60.0  # dB


def sides(grid: np.ndarray, true: float, losses: np.ndarray) -> list[tuple[float, float]]:
    """(rank, rising) of each side of the true value that has at least three steps.

    `losses` `[N + 1, ...]`: on the grid, and at the true value last.
    """
    found = []
    for side in (grid < true - 1e-3, grid > true + 1e-3):
        places = np.flatnonzero(side)
        places = places[np.argsort(np.abs(grid[places] - true))]
        if len(places) < 3:
            continue
        values = np.concatenate([losses[-1:], losses[places]])
        rank = spearmanr(np.arange(len(values)), values).statistic if np.ptp(values) > 0 else 0.0
        found.append((float(rank), float((np.diff(values) > 0).mean())))
    return found


def measure_effect(name: str, arguments: argparse.Namespace, source: Any) -> dict[str, Any]:
    """Parameter -> loss -> figures, and seconds a render."""
    effect = dafxhost.effect(name)
    losses = {key: make_loss(text, sample_rate=RATE) for key, text in LOSSES.items()}
    figures: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, float] = defaultdict(float)
    draws, rng = UniformDraw(effect), np.random.default_rng(arguments.seed)
    grid = np.linspace(0, 1, arguments.grid)
    renders = 0
    with dafxhost.Executor(effect, workers=1) as executor:
        for _ in range(arguments.examples):
            clip, _ = source.draw(rng, arguments.samples, RATE)
            dry = normalise_peak(fade(clip.reshape(1, 1, -1), RATE))
            true = draws.draw(rng)
            for p, parameter in enumerate(effect.parameters):
                if parameter.levels:
                    continue
                settings = np.repeat(true[None], len(grid) + 1, axis=0)
                settings[:-1, p] = grid
                rendered = np.asarray(executor.render(dry, settings[None], RATE))
                wet = torch.from_numpy(normalise_peak(rendered))
                target = wet[:, -1]
                change = (wet - target[:, None]).square().mean(dim=(2, 3)).max() / target.square().mean()
                if not change > 10 ** (UNHEARD / 10):
                    continue
                renders += len(settings)
                for key, loss in losses.items():
                    start = time.perf_counter()
                    with torch.no_grad():
                        values = loss.distance(wet, loss.prepare(target))[0].numpy()
                    seconds[key] += time.perf_counter() - start
                    figures[parameter.name][key] += sides(grid, true[p], values)
    table = {
        parameter: {
            key: {
                "rank": float(np.mean([r for r, _ in found])),
                "rising": float(np.mean([m for _, m in found])),
                "sides": len(found),
            }
            for key, found in by_loss.items()
        }
        for parameter, by_loss in figures.items()
    }
    cost = {key: 1000 * spent / max(renders, 1) for key, spent in seconds.items()}
    return {"parameters": table, "milliseconds_a_render": cost}


def markdown(results: dict[str, Any]) -> str:
    lines = []
    for figure in ("rank", "rising"):
        lines += [f"{figure}:", "", "| effect | parameter | " + " | ".join(LOSSES) + " |"]
        lines += ["|---|---|" + "---|" * len(LOSSES)]
        for effect, found in results.items():
            for parameter, row in found["parameters"].items():
                cells = [f"{row[key][figure]:.2f}" for key in LOSSES]
                lines.append(f"| {effect} | {parameter} | " + " | ".join(cells) + " |")
            means = [np.mean([row[key][figure] for row in found["parameters"].values()]) for key in LOSSES]
            lines.append(f"| {effect} | **mean** | " + " | ".join(f"{m:.2f}" for m in means) + " |")
        lines.append("")
    cost = {k: np.mean([f["milliseconds_a_render"][k] for f in results.values()]) for k in LOSSES}
    lines += ["Milliseconds a render: " + ", ".join(f"{k} {v:.0f}" for k, v in cost.items())]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--effects", nargs="+", default=EFFECTS)
    parser.add_argument("--data", type=Path, help="folder of audio instead of the synthetic corpus")
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--grid", type=int, default=13, help="values of each parameter")
    parser.add_argument("--samples", type=int, default=65536, help="of a clip, at 24 kHz")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    source: Any
    if arguments.data:
        source = FolderSource(arguments.data, RATE, "all")
    else:
        from dafxhost.data.corpus import SyntheticCorpus

        source = SyntheticCorpus(RATE, bank=20)
    results = {}
    for name in arguments.effects:
        say(f"{name} ...")
        results[name] = measure_effect(name, arguments, source)
    print(markdown(results))
    if arguments.json:
        about = {"examples": arguments.examples, "grid": arguments.grid, "samples": arguments.samples}
        arguments.json.write_text(
            json.dumps(
                {"about": {**about, "losses": LOSSES, "machine": machine()}, "results": results}, indent=1
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
