"""What autodiff_gap.py measured: gap closed with intervals, times, and the table of docs/autodiff.md."""

from __future__ import annotations

import argparse
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from autodiff_sets import CHOICES, Set
from autodiff_ways import AUTODIFF, THEIRS, WAYS, Training, held_out
from measure import RESULTS

from dafxhost.losses import TransferLoss

RESULT = RESULTS / "autodiff_gap.json"
PAGE = Path(__file__).resolve().parent.parent / "docs" / "autodiff.md"
PROMISED, COST = 0.80, 1.2
DRAWS = 2000
ASKED = ("steps", "batch", "loss_samples", "rates", "seeds", "their_epsilon", "move", "loss_move",
         "supervised", "hidden")  # fmt: skip
HEAD = (
    "gradient", "renders", "rate", "held-out MR-STFT (95 %)", "gap closed (95 %)", "in autodiff's time",
    "step, CPU ms", "× autodiff, CPU (wall)",
)  # fmt: skip


def gap_closed(theirs: np.ndarray, autodiff: np.ndarray, ours: np.ndarray) -> tuple[float, float, float]:
    """(theirs - ours) / (theirs - autodiff) of mean losses `[N]`, with its 95 % bootstrap interval.

    Examples are drawn with replacement, the same ones for all three.
    """
    rows = np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))
    with np.errstate(divide="ignore", invalid="ignore"):
        share = (theirs[rows] - ours[rows]).mean(1) / (theirs[rows] - autodiff[rows]).mean(1)
        whole = (theirs - ours).mean() / (theirs - autodiff).mean()
    return float(whole), *(float(x) for x in np.quantile(share, [0.025, 0.975]))


def interval(losses: np.ndarray) -> tuple[float, float, float]:
    rows = np.random.default_rng(0).integers(0, len(losses), (DRAWS, len(losses)))
    return float(losses.mean()), *(float(x) for x in np.quantile(losses[rows].mean(1), [0.025, 0.975]))


def chosen(trainings: Sequence[Training], number: int) -> dict[str, list[Training]]:
    """Of each way the trainings (one a seed) at the rate that was best on validation at this step."""
    found: dict[str, list[Training]] = {}
    for name in dict.fromkeys(t.name for t in trainings):
        ready = [t for t in trainings if t.name == name and number in t.validation]
        scores = {
            rate: np.mean([t.validation[number].mean() for t in ready if t.rate == rate])
            for rate in {t.rate for t in ready}
        }
        best = min(scores, key=lambda rate: scores[rate])
        found[name] = [t for t in ready if t.rate == best]
    return found


def report(
    o: argparse.Namespace, sets: Mapping[str, Set], trainings: Sequence[Training], machine: Mapping[str, Any]
) -> dict[str, Any]:
    """JSON-able: rows of the table, curves, and what was asked for."""
    number = max(n for t in trainings for n in t.validation)
    best = chosen(trainings, number)
    last = {name: np.mean([t.test[number] for t in found], axis=0) for name, found in best.items()}
    seconds = {n: statistics.median(s for t in found for s in t.seconds) for n, found in best.items()}
    cpu = {n: statistics.median(s for t in found for s in t.cpu) for n, found in best.items()}
    rows = []
    for name, found in best.items():
        within = [n for n in found[0].test if n * cpu[name] <= number * cpu[AUTODIFF] * 1.001]
        timely = np.mean([t.test[max(within)] for t in found], axis=0) if within else last[name] * np.nan
        rows.append(
            {
                "name": name, "renders": found[0].way.renders, "rate": found[0].rate, "seeds": len(found),
                "loss": interval(last[name]), "gap": gap_closed(last[THEIRS], last[AUTODIFF], last[name]),
                "equal_time_steps": max(within, default=0), "equal_time_loss": float(timely.mean()),
                "equal_time_gap": gap_closed(last[THEIRS], last[AUTODIFF], timely),
                "seconds": seconds[name], "cost": seconds[name] / seconds[AUTODIFF],
                "cpu": cpu[name], "cpu_cost": cpu[name] / cpu[AUTODIFF],
            }
        )  # fmt: skip
    untouched = held_out(None, sets["test"], TransferLoss(l1_weight=0.0))
    asked = {k: getattr(o, k) for k in (*CHOICES, *ASKED)}
    return {
        "machine": dict(machine),
        "options": {k: v.name if isinstance(v, Path) else v for k, v in asked.items()},
        "step": number,
        "untouched": interval(untouched),
        "rows": rows,
        "curves": {
            f"{t.name} {t.rate:g} {i}": {str(n): float(x.mean()) for n, x in t.test.items()}
            for i, t in enumerate(trainings)
        },
    }


def table(found: Mapping[str, Any]) -> str:
    """The Markdown between the marks of the page."""
    o, m = found["options"], found["machine"]
    lines = ["| " + " | ".join(HEAD) + " |", "|---" + "|--:" * (len(HEAD) - 1) + "|"]
    for row in found["rows"]:
        lines.append(
            f"| {WAYS[row['name']]} | {row['renders'] or '–'} | {row['rate']:g} | {_three(row['loss'])} | "
            f"{_share(row['gap'])} | {_timely(row)} | {1000 * row['cpu']:.0f} | "
            f"{row['cpu_cost']:.2f} ({row['cost']:.2f}) |"
        )
    lines.append(f"| input left alone | | | {_three(found['untouched'])} | | | | |")
    held = [r for r in found["rows"] if _holds(r)]
    said = ", ".join(f"“{WAYS[r['name']]}”" for r in held)
    verdict = (
        f"At least {PROMISED:.0%} of the gap within {COST} times autodiff's step (CPU): {said}."
        if held
        else f"**Nothing here closes {PROMISED:.0%} of the gap within {COST} times autodiff's step.**"
    )
    facts = (
        f"{found['step']} of {o['steps']} steps of {o['batch']} examples, "
        f"{found['rows'][0]['seeds']} seed(s), rates {', '.join(f'{r:g}' for r in o['rates'])}; halves of "
        f"{o['samples']} samples at 24 kHz, in training the first {o['loss_samples']} of them; "
        f"{o['examples']} training examples ({o['corpus_share']:.0%} synthetic), {o['validation']} for "
        f"validation, {o['held_out']} held out. One thread; {m['cores']} cores ({m['processor']}), of which "
        f"others used {m['busy_cores_before']} when it began."
    )
    return "\n".join([*lines, "", verdict, "", facts])


def written(page: str, found: Mapping[str, Any]) -> str:
    """The page with its table made anew. Raises ValueError where the marks are missing."""
    between = re.compile("(<!-- begin gap -->\n).*?(<!-- end gap -->)", re.S)
    if not between.search(page):
        raise ValueError("the page has no <!-- begin gap --> ... <!-- end gap -->")
    return between.sub(lambda m: f"{m[1]}\n{table(found)}\n\n{m[2]}", page)


def _holds(row: Mapping[str, Any]) -> bool:
    ours = row["name"] not in (AUTODIFF, THEIRS) and not row["name"].startswith("supervised")
    return ours and (row["gap"][0] or 0.0) >= PROMISED and row["cpu_cost"] <= COST


def _three(x: Sequence[float]) -> str:
    return f"{x[0]:.3f} ({x[1]:.3f} to {x[2]:.3f})"


def _share(x: Sequence[float | None]) -> str:
    return "–" if None in x else f"{x[0]:.2f} ({x[1]:.2f} to {x[2]:.2f})"


def _timely(row: Mapping[str, Any]) -> str:
    loss, share = row["equal_time_loss"], row["equal_time_gap"][0]
    if loss is None or share is None:
        return "–"
    return f"{loss:.3f}, {share:.2f} ({row['equal_time_steps']} steps)"
