"""The report of a transfer: listen, look, take the setting home, make it again."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dafxhost.report import plot
from dafxhost.report.page import Page, table_html
from dafxhost.report.pictures import add_spectra, add_spectrograms
from dafxhost.report.provenance import add_reproduction, training_seed, weights_file
from dafxhost.report.sound import Version, add_player, version

if TYPE_CHECKING:
    from dafxhost.style_transfer import TransferResult

Path_ = str | os.PathLike[str]
KEY = "listen"


def transfer_report(result: TransferResult, input: Path_, reference: Path_, *, command: str = "") -> Page:
    """The page of a transfer.

    Args:
        result: of `dafxhost.transfer`; its output file must still be there.
        input, reference: the recordings it was made from.
        command: how it was made, for the section on that.

    Raises:
        AudioFileError: one of the three recordings is gone. OutputError: it cannot be read for its hash.
    """
    source, target = Path(input), Path(reference)
    page = Page(
        f"{source.name} made to sound like {target.name}",
        lead=f"{result.effect} ({result.provider}), set by the controller of {result.run.name}.",
    )
    ours = version(source, "Input", series=1)
    versions = [
        ours,
        version(target, "Reference", series=2),
        version(result.output, "Output", series=3, start=ours.start),
    ]
    page.heading("Listen")
    played = add_player(page, versions, label="Input, reference and output", key=KEY)
    _distances(page, result)
    _setting(page, result)
    page.heading("Look")
    add_spectrograms(page, played, key=KEY)
    page.heading("Long-term spectra", 3)
    add_spectra(page, played, caption=_spectra_words(played))
    _search(page, result)
    _reproduction(page, result, source, target, command)
    return page


def _distances(page: Page, result: TransferResult) -> None:
    before, after = result.distance_before, result.distance_after
    page.heading("How near it came")
    if not math.isfinite(after):
        page.paragraph("The effect gave silence at this setting: there is nothing to compare.")
        return
    page.raw(bars([("Input", before, 1), ("Output", after, 3)], "dB from the reference"))
    change = "nearer to" if after < before else "farther from" if after > before else "as far from"
    by = f"{abs(before - after):.2f} dB {change}" if after != before else change
    page.paragraph(
        f"The output is {by} the reference than the input was. The distance is that of log-mel means and "
        "deviations at one level: how energy is spread over frequency and how it moves, which can be "
        "compared where two recordings play different things. Ears judge better."
    )


def bars(rows: Sequence[tuple[str, float, int]], unit: str) -> str:
    """Horizontal bars from 0 with their numbers: (name, value, series colour)."""
    most = max([value for _, value, _ in rows if math.isfinite(value)] or [1.0]) or 1.0
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td><i style="width:{100 * value / most:.1f}%;'
        f'background:var(--series-{series})"></i></td><td class="right">{value:.2f}</td></tr>'
        for name, value, series in rows
    )
    return f'<table class="bars"><caption>{escape(unit)}</caption><tbody>{lines}</tbody></table>'


def _setting(page: Page, result: TransferResult) -> None:
    from dafxhost.registry import effect as find_effect
    from dafxhost.registry import registry
    from dafxhost.settings import neutral_setting

    effect = find_effect(result.location or result.effect, result.provider)
    neutral = neutral_setting(effect, result.setting)
    known = registry().neutral(effect) is not None or bool(effect.provider.options.get("links"))
    name = "neutral" if known else "default"
    page.heading("The setting")
    rows = []
    for (label, now), (_, calm), here, there in zip(
        result.table, effect.table(neutral), result.setting, neutral, strict=True
    ):
        rows.append([escape(label), escape(now), escape(calm), _slider(float(here), float(there))])
    page.raw(table_html(("parameter", "value", name, "on its range"), rows))
    words = {
        "neutral": "Neutral is where this effect leaves audio alone, or as nearly as it can.",
        "default": "Where this effect leaves audio alone is not known; its default stands beside it.",
    }[name]
    if result.strength != 1:
        words += f" The match is applied at strength {result.strength:g}."
    words += f" The ring marks {'neutral' if known else 'the default'}, the dot the setting."
    page.paragraph(words)
    files = [("Setting as JSON", str(result.json_path)), ("Level", result.level_text)]
    if result.preset is not None:
        files.append(("Preset for a DAW", str(result.preset)))
    if result.clipped:
        files.append(
            ("Clipped", f"{result.clipped} samples lie beyond full scale; --level match-input avoids it")
        )
    page.facts(files)


def _slider(here: float, there: float) -> str:
    low, high = sorted((here, there))
    return (
        f'<span class="slider" role="img" aria-label="at {100 * here:.0f} % of its range, neutral at '
        f'{100 * there:.0f} %"><i style="left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%"></i>'
        f'<u style="left:{100 * there:.1f}%"></u><b style="left:{100 * here:.1f}%"></b></span>'
    )


def _spectra_words(played: Sequence[Version]) -> str:
    found = {v.name: v.sample_rate for v in played}
    low = [name for name, rate in found.items() if rate < max(found.values())]
    ends = "".join(f" The {name.lower()} ends at {found[name] / 2000:g} kHz." for name in low)
    return f"Of what the player plays, at the same loudness.{ends}"


def _search(page: Page, result: TransferResult) -> None:
    page.heading("How the setting was found")
    page.paragraph(
        f"The controller heard {result.excerpts} pair{'s' if result.excerpts != 1 else ''} of excerpts, of "
        "the input and of the reference, and answered with one setting, without rendering anything."
    )
    found = result.refined
    if found is None:
        page.paragraph(
            "No search was asked for; --refine 200 would try as many settings around this one and keep the "
            "one that sounds nearest to the reference."
        )
        return
    history = [(n, score) for n, score in result.history if math.isfinite(score)]
    ended = " It was ended by Ctrl-C." if found["interrupted"] else ""
    page.paragraph(
        f"A search (CMA-ES) then tried {found['settings_tried']} settings around it. Its score went from "
        f"{_score(found['score_before'])} to {_score(found['score_after'])}, where 1 is as far from the "
        f"reference as the input alone, and 0 the same statistics.{ended}"
    )
    if len(history) < 2:
        return
    low, high = min(s for _, s in history), max(s for _, s in history)
    room = 0.08 * (high - low) or 0.05
    x = plot.linear_axis(0, history[-1][0], "settings tried")
    y = plot.linear_axis(low - room, high + room, "score of the best so far")
    page.raw(
        plot.lines(
            x, y, [plot.Curve("best so far", history, 3, stepped=True)], rem=12,
            alt=f"The score fell from {high:.3f} to {low:.3f} within {history[-1][0]} settings",
        )
    )  # fmt: skip


def _score(value: float | None) -> str:
    return "no score" if value is None else f"{value:.3f}"


def _reproduction(page: Page, result: TransferResult, source: Path, target: Path, command: str) -> None:
    spec: dict[str, Any] = result.render_spec
    facts = [
        ("Run", str(result.run)),
        ("Seed of its training", training_seed(result.run)),
        ("Plugin", f"{result.effect} by {result.provider}, {result.identity}"),
        (
            "Rendered",
            f"{spec.get('sample_rate')} Hz, blocks of {spec.get('block_size')}, seed {spec.get('seed')}",
        ),
        ("Render specification", str(spec.get("fingerprint", ""))),
        ("Gains", f"{result.input_gain_db:+.2f} dB before the effect, {result.output_gain_db:+.2f} dB after"),
    ]
    if result.refined is not None:
        facts.append(("Search", f"{result.refined['settings_tried']} settings, seed 0"))
    files = {"input": source, "reference": target, "output": result.output}
    weights = weights_file(result.run)
    if weights is not None:
        files["controller"] = weights
    add_reproduction(page, command, facts, files)
