"""Every gradient estimator on every effect: its direction, its scatter, and how far it leads a render.

    python benchmarks/estimator_study.py --stage steps --data ../shared/audio/train
    python benchmarks/estimator_study.py --stage quality --data ../shared/audio/train
    python benchmarks/estimator_study.py --stage descent --data ../shared/audio/train
    python benchmarks/estimator_study_page.py

Stages: "steps" takes the loss along each parameter and compares its slopes over several steps with the way to
the true value (as `dafxhost.estimators.choice` does); "quality" compares estimates in loss space and in
signal space with the true gradient; "descent" lets settings descend their losses by each estimator with
equally many renders. Half of the clips are from --data, half from the synthetic corpus; without --data all
are. One worker, one thread. Results are written after every effect to FOLDER/estimators_STAGE.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from estimator_study_cases import SAMPLES, Landscape, PluginLandscape, plugin, starts
from estimator_study_descent import Contestant, race, random_search
from estimator_study_quality import quality, truths
from estimator_study_torch import EFFECTS, torch_effect
from measure import RESULTS

from dafxhost.estimators.block import BlockSPSA
from dafxhost.estimators.choice import agreements, lines
from dafxhost.estimators.finite_difference import CentralDifference, ForwardDifference
from dafxhost.estimators.one_sided import OneSidedSPSA
from dafxhost.estimators.orthogonal import OrthogonalDirections
from dafxhost.estimators.random_coordinates import RandomCoordinates
from dafxhost.estimators.scales import MultiScaleSPSA
from dafxhost.estimators.smoothing import GaussianSmoothing
from dafxhost.estimators.spsa import SPSA

NAMES = ("overdrive", "combo", "ringmod", "dynamics", "ambience", "leslie", "delay", "multiband", "thruzero")
PLUGINS = tuple(f"mda-{name}" for name in NAMES)
STRIDES = (1, 2, 4, 6)
"""Steps of 0.05, 0.1, 0.2 and 0.3."""
QUALITY = (
    *(Contestant(f"SPSA {c:g}, K = 4", lambda c=c: SPSA(c, 2)) for c in (0.01, 0.05, 0.1, 0.2)),
    Contestant("SPSA 0.1, K = 8", lambda: SPSA(0.1, 4)),
    Contestant("several scales 0.07, K = 4", lambda: MultiScaleSPSA(0.07, 2)),
    Contestant("Gaussian 0.1, K = 4", lambda: GaussianSmoothing(0.1, 2)),
    Contestant("orthogonal 0.1, K = 4", lambda: OrthogonalDirections(0.1, 2)),
    Contestant("blocks 0.1, K = 4", lambda: BlockSPSA(0.1, 2)),
    Contestant("one-sided 0.1, K = 4", lambda: OneSidedSPSA(0.1, 3)),
    Contestant("coordinates 0.1, K = 4", lambda: RandomCoordinates(0.1, 2)),
    Contestant("forward 0.1, K = P + 1", lambda: ForwardDifference(0.1)),
    Contestant("central 0.1, K = 2 P", lambda: CentralDifference(0.1)),
)
DESCENT = (
    *(Contestant(f"SPSA {c:g}, K = 4", lambda c=c: SPSA(c, 2)) for c in (0.05, 0.1, 0.2)),
    Contestant("SPSA 0.2 to 0.05, K = 4", lambda: SPSA(0.2, 2), anneal=0.25),
    Contestant("blocks 0.1, K = 4", lambda: BlockSPSA(0.1, 2)),
    Contestant("central 0.1, K = 2 P", lambda: CentralDifference(0.1)),
)


def steps(landscape: Landscape) -> dict[str, Any]:
    scan = lines(landscape.losses, landscape.truth)
    agreement, size = agreements(scan, landscape.truth, STRIDES)
    halves = [
        agreements(scan[:, rows], landscape.truth[rows], STRIDES)[0].tolist()
        for rows in (slice(0, None, 2), slice(1, None, 2))
    ]
    return {"agreement": agreement.tolist(), "rms": size.tolist(), "halves": halves}


def estimates(landscape: Landscape) -> dict[str, Any]:
    at = starts(landscape, 5)
    true = truths(landscape, at)
    gradient = true.pop("gradient")
    if not isinstance(landscape, PluginLandscape):
        gradient = landscape.gradient(at)  # pyright: ignore[reportAttributeAccessIssue]
    slopes = landscape.slopes(at)
    found = {c.name: quality(landscape, at, gradient, slopes, c.make) for c in QUALITY}
    return {"truth": true, "estimators": found}


def descent(landscape: Landscape, budget: int) -> dict[str, Any]:
    start = starts(landscape, 5)
    found = race(landscape, start, DESCENT, budget)
    before = torch.tensor(found["start"], dtype=torch.float64)
    found["ratios"]["random search"] = [(random_search(landscape, start, budget) / before).tolist()]
    return {"budget": budget, **found}


def rounded(value: Any) -> Any:
    """Numbers to five digits: results are kept in the repository."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stage", choices=("steps", "quality", "descent"), required=True)
    parser.add_argument("--effects", nargs="+", default=[*PLUGINS, *EFFECTS], choices=[*PLUGINS, *EFFECTS])
    parser.add_argument("--data", type=Path, help="folder of recordings to train on")
    parser.add_argument("--examples", type=int, default=12)
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--budget", type=int, default=100, help="renders of a descent")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FOLDER")
    o = parser.parse_args(given)
    torch.set_num_threads(1)
    stages: dict[str, Callable[[Landscape], dict[str, Any]]] = {
        "steps": steps,
        "quality": estimates,
        "descent": lambda landscape: descent(landscape, o.budget),
    }
    place = o.json / f"estimators_{o.stage}.json"
    kept = json.loads(place.read_text()) if place.exists() else {"effects": {}}
    kept |= {"examples": o.examples, "samples": o.samples, "seed": o.seed, "data": str(o.data or "")}
    for name in o.effects:
        began = time.process_time()
        if name in EFFECTS:
            landscape: Landscape = torch_effect(name, o.data, o.examples, o.seed, o.samples)
            found = stages[o.stage](landscape)
            found["parameters"] = [f"p{i}" for i in range(landscape.truth.shape[1])]
        else:
            with plugin(name, o.data, o.examples, o.seed, o.samples) as landscape:
                found = {**stages[o.stage](landscape), "parameters": landscape.names}
        found |= {"renders": landscape.renders, "cpu_seconds": round(time.process_time() - began, 1)}
        kept["effects"][name] = found
        place.write_text(json.dumps(rounded(kept)))
        figures = f"{found['renders']} renders, {found['cpu_seconds']} s"
        print(f"{o.stage} {name}: {figures}", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
