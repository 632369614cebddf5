"""The report of a training: curves, what it was trained on, and a few validation examples to listen to."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dafxhost.errors import RunError
from dafxhost.report import plot
from dafxhost.report.examples import Listening, add_examples
from dafxhost.report.page import Page
from dafxhost.report.provenance import add_reproduction, weights_file

EXAMPLES = 3
"""Validation examples to listen to: the first ones that have the effect, whatever they sound like."""


def training_report(path: str | Path, *, command: str = "") -> Page:
    """The page of a run, as far as it has come: of its folder alone.

    Args:
        path: the run folder. command: how it was made.

    Raises:
        RunError: no run, or no controller in it yet. EffectUnavailableError: nothing here hosts its effect.
    """
    from dafxhost.registry import effect as find_effect
    from dafxhost.training import runs
    from dafxhost.training.config import TrainConfig
    from dafxhost.training.session import make_source, mix

    run = runs.load_run(path)
    config = TrainConfig.from_toml(run.path / runs.CONFIG)
    effect = find_effect(run.where, run.card["provider"]["name"])
    run.check_effect(effect)
    log = read_log(run.path / runs.LOG)
    page = Page(f"How {run.path.name} was trained", lead=_lead(run.card, log))
    _outcome(page, log)
    _curves(page, log)
    page.heading("Listen")
    page.paragraph(
        "Validation examples, which training never learned from: the first ones drawn that have the effect, "
        "not chosen by how they sound."
    )
    source = make_source(config, "validation")
    with Listening(run, effect, source, mix(config.seed, 9), config.apply_probability) as listening:
        heard = listening.first(EXAMPLES)
    titles = [(f"Example {i}: {h.ratio:.2f} of the input's distance", h) for i, h in enumerate(heard, 1)]
    add_examples(page, effect, run.sample_rate, titles)
    _figures(page, run.card, config)
    weights = weights_file(run.path)
    files = {} if weights is None else {"controller": weights}
    facts = [
        ("Run", str(run.path)),
        ("Seed", str(config.seed)),
        ("Plugin", f"{effect.name} by {effect.provider.name}, {effect.provider.identity}"),
    ]
    add_reproduction(page, command, facts, {**files, "configuration": run.path / runs.CONFIG})
    page.raw("<details><summary>Configuration</summary>")
    page.code(config.to_toml())
    page.raw("</details>")
    return page


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log. Raises RunError: it is missing or damaged."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        return []  # stopped within its first epoch
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read as the log of a run: {error}") from error
    return [line for line in lines if isinstance(line, dict)]


def _lead(card: dict[str, Any], log: Sequence[dict[str, Any]]) -> str:
    steps = next((e["step"] for e in reversed(log) if e["phase"] == "end-to-end"), 0)
    return (
        f"A controller for {card['effect']} ({card['provider']['name']}), hearing by "
        f"{card['encoder']['name']}; {steps} steps end to end."
    )


def _outcome(page: Page, log: Sequence[dict[str, Any]]) -> None:
    if not log:
        page.paragraph("No epoch was finished; there is nothing to draw yet.")
        return
    last = log[-1]
    rows = [("input left alone", last["untouched"])]
    rows += [("after the supervised phase", e["validation"]) for e in log if e["phase"] == "supervised"][-1:]
    rows.append(("best controller", last["best"]))
    page.table(
        ("validation MR-STFT", "mean", "of input alone"),
        [
            (name, f"{value:.3f}", f"{value / last['untouched']:.2f}" if last["untouched"] else "")
            for name, value in rows
            if value is not None
        ],
        align="lrr",
    )


def _curves(page: Page, log: Sequence[dict[str, Any]]) -> None:
    if not log:
        return
    page.heading("How it went")
    page.style(plot.style())
    # What the supervised phase left is where the end-to-end phase begins: its step 0.
    steps = [0 if e["phase"] == "supervised" else e["step"] for e in log]
    found = [(float(s), e["validation"]) for s, e in zip(steps, log, strict=True)]
    untouched = log[-1]["untouched"]
    curves = [plot.Curve("controller on validation examples", found, 3, dotted=len(found) < 60)]
    if untouched is not None:
        curves.append(plot.Curve("input left alone", [(0, untouched), (max([*steps, 1]), untouched)], 2))
    _plot(
        page,
        curves,
        "MR-STFT",
        steps,
        "Lower is better; step 0 is what the supervised phase left.",
        zero=True,
    )
    ends = [(s, e) for s, e in zip(steps, log, strict=True) if e["phase"] == "end-to-end"]
    named = (("loss", "training loss", 5), ("renders_per_second", "renders a second", 4))
    for key, name, series in named:
        points = [(float(s), float(e[key])) for s, e in ends if e.get(key) is not None]
        if len(points) > 1:
            _plot(page, [plot.Curve(name, points, series, dotted=len(points) < 60)], name, steps)


def _plot(
    page: Page, curves: Sequence[plot.Curve], title: str, steps: Sequence[int], caption: str = "",
    *, zero: bool = False,
) -> None:  # fmt: skip
    values = [v for c in curves for _, v in c.points if math.isfinite(v)]
    if not values:
        return
    low, high = min(values), max(values)
    room = 0.08 * (high - low)
    x = plot.linear_axis(0, max([*steps, 1]), "end-to-end steps")
    y = plot.linear_axis(0 if zero else low - room, high + room, title)
    names = " and ".join(c.name for c in curves)
    page.raw(
        plot.lines(
            x, y, curves, rem=13, caption=caption,
            alt=f"{names} over end-to-end steps, between {low:.3g} and {high:.3g}",
        )
    )  # fmt: skip


def _figures(page: Page, card: dict[str, Any], config: Any) -> None:
    figures = card.get("figures", {})
    page.heading("What it was trained on")
    facts = [
        ("Recordings", str(card.get("data", config.data or "the synthetic corpus"))),
        ("Clips", f"{card['samples']} samples at {card['sample_rate']} Hz, mono"),
        ("Supervised examples", str(figures.get("pool", "not kept"))),
        ("Supervised steps", str(figures.get("supervised_steps", "not kept"))),
        ("Gradient estimator", f"{config.estimator}, in {config.space} space"),
        ("Time given", f"{config.max_minutes:g} min on {config.device}"),
        ("Failed renders", str(figures.get("failures", 0))),
    ]
    page.facts(facts)
