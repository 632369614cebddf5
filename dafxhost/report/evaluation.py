"""The report of an evaluation: how good a run is, in tables, in plots and to listen to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.report import plot
from dafxhost.report.examples import Listening, add_examples
from dafxhost.report.page import Page
from dafxhost.report.provenance import add_reproduction, training_seed, weights_file
from dafxhost.training.results import MEASURES, digits_of, heading_of, number, relation_of

if TYPE_CHECKING:
    from dafxhost.data.sources import AudioSource
    from dafxhost.effects import Effect
    from dafxhost.training.evaluation import Evaluation
    from dafxhost.training.runs import Run
    from dafxhost.training.scoring import Details

ALONE, ORACLE = "input left alone", "true setting"
CHANCE = 0.25
"""Mean absolute error of a constant 0.5 where settings are uniform on 0..1."""
WIDEST = 8.0
"""Ratios beyond 1/8 and 8 are drawn at the ends."""


def evaluation_report(done: Evaluation, run: Run, source: AudioSource, *, command: str = "") -> Page:
    """The page of an evaluation.

    Args:
        done: of `evaluate(run, source, ...)`, with its details. run, source: the same.
        command: how it was made.

    Raises:
        EffectUnavailableError, AudioFileError: the examples to listen to could not be made again.
    """
    from dafxhost.registry import effect as find_effect
    from dafxhost.training.protocols import find_protocol

    effect = find_effect(run.where, done.provider)
    page = Page(
        f"How well {Path(done.run).name} matches",
        lead=f"{done.effect} ({done.provider}) on {done.examples} examples from {done.data}.",
    )
    _headline(page, done)
    page.heading("Beside simpler ways")
    _rows(page, done)
    _metrics(page, done)
    if done.details is not None:
        _spread(page, done.details)
        _listen(page, done, done.details, run, source, effect)
    _parameters(page, done, effect)
    _data(page, done)
    facts = [
        ("Run", done.run),
        ("Seed of its training", training_seed(run.path)),
        ("Seed of the examples", str(done.seed)),
        (
            "Examples",
            f"{done.examples} of {done.samples} samples at {done.sample_rate} Hz, pairs {done.pairs}",
        ),
        ("Protocol", f"{done.protocol}: {find_protocol(done.protocol).summary}"),
        ("Plugin", f"{done.effect} by {done.provider}, {effect.provider.identity}"),
    ]
    weights = weights_file(run.path)
    add_reproduction(page, command, facts, {} if weights is None else {"controller": weights})
    return page


def _headline(page: Page, done: Evaluation) -> None:
    row = done.row("controller")
    page.paragraph(
        f"With the controller's settings, the distance from the target is {row.ratio:.2f} of that of the "
        f"input left alone (95 % interval {row.ratio_low:.2f} to {row.ratio_high:.2f}; MR-STFT, lower is "
        "better)."
    )


def _rows(page: Page, done: Evaluation) -> None:
    page.table(
        ("way of choosing", "MR-STFT", "95 %", "median", "of input alone", "95 %"),
        [
            (
                r.name, f"{r.mean:.3f}", f"{r.low:.3f} to {r.high:.3f}", f"{r.median:.3f}", f"{r.ratio:.3f}",
                f"{r.ratio_low:.3f} to {r.ratio_high:.3f}",
            )
            for r in done.rows
        ],
        align="lrrrrr",
    )  # fmt: skip
    high = max(r.high for r in done.rows)
    rows = [(r.name, r.mean, r.low, r.high, _series(r.name)) for r in done.rows]
    page.style(plot.style())
    page.raw(
        plot.intervals(
            rows, plot.linear_axis(0, 1.05 * high, "MR-STFT"), mark=done.row(ALONE).mean,
            alt="Means of MR-STFT with their 95 % intervals, as in the table above",
            caption="Means and their 95 % intervals (bootstrap); the dashed line is the input left alone.",
        )
    )  # fmt: skip


def _metrics(page: Page, done: Evaluation) -> None:
    """A table a metric beyond MR-STFT, folded away, and what was not measured."""
    others = [m for m in done.metrics if m["name"] != "mr-stft" and m["name"] in done.rows[0].metrics]
    if others:
        page.heading("By other measures", 3)
        page.table(
            ("way of choosing", *(_short(m) for m in others)),
            [
                (r.name, *(f"{r.metrics[m['name']].mean:.{digits_of(m['unit'])}f}" for m in others))
                for r in done.rows
            ],
            align="l" + "r" * len(others), caption="Means; an arrow up: more is better.",
        )  # fmt: skip
        page.raw("<details><summary>With medians, 95 % intervals and the input left alone</summary>")
        for m in others:
            _metric(page, done, m)
        page.raw("</details>")
    for name, why in done.skipped.items():
        page.paragraph(f"{name} was not measured: {why}.")


def _short(metric: dict[str, Any]) -> str:
    unit = f", {metric['unit']}" if metric["unit"] else ""
    return metric["title"] + unit + (" ↑" if metric["better"] == "higher" else "")


def _metric(page: Page, done: Evaluation, metric: dict[str, Any]) -> None:
    digits, lower = digits_of(metric["unit"]), metric["better"] == "lower"
    rows = []
    for r in done.rows:
        f = r.metrics[metric["name"]]
        relative = f.relative_text(3 if lower else digits)
        rows.append((r.name, f.text(digits), f"{f.median:.{digits}f}", relative))
    page.table(
        ("way of choosing", "mean (95 %)", "median", f"{relation_of(metric['better'])} (95 %)"), rows,
        align="lrrr", caption=f"{heading_of(metric)}. {metric['source']}.",
    )  # fmt: skip


def _series(name: str) -> int:
    known = {"controller": 3, "supervised only": 5, "random setting": 6, "constant setting": 2, ALONE: 1}
    return known.get(name, 4)


def _ratios(details: Details) -> tuple[np.ndarray, np.ndarray]:
    """(places of the examples with the effect, their scores over the input's `[M, ways]`)."""
    usable = np.isfinite(details.scores).all(axis=1) & details.applied & (details.scores[:, -1] > 0)
    places = np.flatnonzero(usable)
    return places, details.scores[places] / details.scores[places, -1:]


def _spread(page: Page, details: Details) -> None:
    places, ratios = _ratios(details)
    ways = [i for i, name in enumerate(details.ways) if name not in (ALONE, ORACLE)]
    if not len(places):
        return
    page.heading("Example by example", 3)
    ratios = ratios[:, ways]
    ends = np.clip(ratios, 1 / WIDEST, WIDEST)
    low, high = float(ends.min()), float(ends.max())
    x = plot.ratio_axis(min(low, 0.5), max(high, 2.0), "distance over that of the input left alone")
    names = [details.ways[i] for i in ways]
    rows = [(name, ends[:, i].tolist(), _series(name)) for i, name in enumerate(names)]
    better = ", ".join(f"{name} in {100 * np.mean(ratios[:, i] < 1):.0f} %" for i, name in enumerate(names))
    beyond = int((ratios != ends).sum())
    outside = f" {beyond} ratios beyond 1/8 or 8 stand at the edges." if beyond else ""
    page.raw(
        plot.spread(
            rows, x, mark=1.0, alt=f"Spread of ratios over {len(places)} examples; below 1: {better}",
            caption=f"Each stroke is one of the {len(places)} examples that had the effect, the box the "
            f"middle half, the bar the median. Nearer to the target than the input left alone: {better}."
            + outside,
        )
    )  # fmt: skip


def _listen(
    page: Page, done: Evaluation, details: Details, run: Run, source: AudioSource, effect: Effect
) -> None:
    places, ratios = _ratios(details)
    if not len(places):
        return
    order = places[np.argsort(ratios[:, 0], kind="stable")]
    value = dict(zip(places.tolist(), ratios[:, 0].tolist(), strict=True))
    chosen: dict[int, str] = {}
    for name, place in (("Best", order[0]), ("Worst", order[-1]), ("Median", order[len(order) // 2])):
        chosen.setdefault(int(place), name)  # of one or two examples they are the same
    found = []
    again = (details.apply_probability, details.pairs, details.protocol)
    with Listening(run, effect, source, done.seed, *again) as listening:
        for place in sorted(chosen, key=lambda p: value[p]):
            heard = listening.hear(place)
            if heard is not None:
                found.append((f"{chosen[place]}: {value[place]:.2f} of the input's distance", heard))
    page.heading("Listen")
    page.paragraph("Of the examples with the effect, by the controller's ratio to the input left alone.")
    add_examples(page, effect, run.sample_rate, found)


def _parameters(page: Page, done: Evaluation, effect: Effect) -> None:
    if not done.parameters:
        return
    page.heading("Parameter by parameter")
    rows = []
    for name, measures in done.parameters.items():
        levels = effect.parameter(name).levels
        guess = 1 / levels if levels else CHANCE
        values = (number(measures[m]) if m in measures else "" for m in MEASURES)
        rows.append((name, *values, f"{guess:.3f}", "yes" if name in done.unidentifiable else ""))
    page.table(
        ("parameter", *MEASURES, "guessing", "unidentifiable"), rows,
        align="l" + "r" * (len(MEASURES) + 1) + "l",
        caption=f"Over the {done.applied} examples that had the effect: mae, mean absolute error on 0 to 1; "
        "pearson and spearman, correlation with the true values; accuracy, share of right values of discrete "
        "ones; guessing, the mae or accuracy of that. Settings that sound alike may lie far apart, so a low "
        "distance does not need right parameters.",
    )  # fmt: skip
    page.paragraph(done.identification_text())


def _data(page: Page, done: Evaluation) -> None:
    page.heading("The examples")
    facts = [
        ("Recordings", done.data),
        ("With the effect", f"{done.applied} of {done.examples}"),
        ("Failed", f"{done.failed}"),
        ("Constant setting", ", ".join(f"{k} {_text(v)}" for k, v in done.constant.items())),
    ]
    facts += [
        (f"Counted: {key.replace('_', ' ')}", str(value)) for key, value in done.counts.items() if value
    ]
    page.facts(facts)
    page.paragraph(
        "The constant setting is the best, on the run's own training data, of the effect's defaults and of "
        "random settings; nothing was chosen on the recordings measured here."
    )


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
