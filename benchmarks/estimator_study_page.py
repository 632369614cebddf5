"""Tables and plots of docs/estimators.md from the results of estimator_study.py.

python benchmarks/estimator_study_page.py [--results benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import plots
from measure import RESULTS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "estimators.md"
SHOWN = (
    ("mda-delay", "l_delay"),
    ("mda-delay", "fx_mix"),
    ("mda-thruzero", "depth"),
    ("mda-overdrive", "muffle"),
)
"""Parameters whose curves are plotted."""
STEPS = (0.05, 0.1, 0.2, 0.3)
NOT_YET = "(not measured yet)"
Found = dict[str, Any]


def mean(values: Iterable[float]) -> float:
    kept = [v for v in values if math.isfinite(v)]
    return statistics.fmean(kept) if kept else math.nan


def geometric(values: Iterable[float]) -> float:
    return math.exp(mean(math.log(max(v, 1e-9)) for v in values if math.isfinite(v)))


def table(head: Sequence[str], body: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def number(value: float, digits: int = 2) -> str:
    return "–" if not math.isfinite(value) else f"{value:.{digits}f}"


def plugins(found: Found) -> list[str]:
    return [name for name in found["effects"] if not name.startswith("torch-")]


def torches(found: Found) -> list[str]:
    return [name for name in found["effects"] if name.startswith("torch-")]


def matters(one: Found) -> list[bool]:
    """Which parameters the loss hears at all, as `dafxhost.estimators.choice` decides it."""
    largest = max(row[0] for row in one["rms"])
    return [row[0] >= 1e-3 * largest for row in one["rms"]]


def steps_table(found: Found) -> str:
    """Agreement of each effect's slopes with the way to the truth, mean over what matters, by step."""
    body = []
    for name in plugins(found):
        one = found["effects"][name]
        kept = [row for row, good in zip(one["agreement"], matters(one), strict=True) if good]
        means = [mean(row[k] for row in kept) for k in range(len(STEPS))]
        rough = [row[0] / row[-1] for row, good in zip(one["rms"], matters(one), strict=True) if good]
        triples = zip(one["parameters"], one["agreement"], matters(one), strict=True)
        small = [parameter for parameter, row, good in triples if good and max(row) == row[0]]
        figures = [*(number(m) for m in means), number(max(rough), 1)]
        body.append([name, *figures, ", ".join(small) or "–"])
    head = [
        "effect",
        *(f"c = {c:g}" for c in STEPS),
        "roughest parameter",
        "parameters whose best step is 0.05",
    ]
    return table(head, body)


def quality_rows(found: Found, names: Sequence[str]) -> list[list[str]]:
    rows = []
    for estimator in found["effects"][names[0]]["estimators"]:
        of = [found["effects"][n]["estimators"][estimator] for n in names]

        def over(space: str, key: str, how: Callable[[Iterable[float]], float] = mean, of: Any = of) -> float:
            return how(v for one in of for v in one[space][key] if math.isfinite(v))

        variance = statistics.median(v for one in of for v in one["loss"]["variance"] if math.isfinite(v))
        bias = statistics.median(v for one in of for v in one["loss"]["bias2"] if math.isfinite(v))
        rows.append(
            [
                estimator,
                number(mean(one["renders"] for one in of), 1),
                number(over("loss", "cosine")),
                number(over("signal", "cosine")),
                number(over("loss", "way")),
                number(over("signal", "way")),
                number(bias),
                number(variance),
                number(variance * mean(one["renders"] for one in of), 1),
            ]
        )
    return rows


def quality_table(found: Found, names: Sequence[str]) -> str:
    if not names:
        return NOT_YET
    head = ["estimator", "renders", "cosine, loss space", "signal space", "way, loss space", "signal space"]
    head += ["bias²", "variance", "variance × renders"]
    return table(head, quality_rows(found, names))


def truth_table(found: Found) -> str:
    """How stable the "true" gradient is, and whether it leads to the true setting."""
    body = []
    for name in found["effects"]:
        one = found["effects"][name]
        true, estimators = one["truth"], one["estimators"]
        sig = [mean(estimators["SPSA 0.05, K = 4"][space]["cosine"]) for space in ("loss", "signal")]
        body.append(
            [
                name,
                number(mean(true["agreement"]["0.001"])),
                number(mean(true["agreement"]["0.01"])),
                number(mean(true["agreement"]["0.1"])),
                *(number(mean(true["way"][c])) for c in ("0.003", "0.1")),
                *(number(v) for v in sig),
            ]
        )
    head = ["effect", "0.001 with 0.003", "0.01 with 0.003", "0.1 with 0.003", "way, 0.003", "way, 0.1"]
    head += ["SPSA 0.05 in loss space", "in signal space"]
    return table(head, body)


def descent_table(found: Found) -> str:
    names = list(found["effects"])
    contestants = list(found["effects"][names[0]]["ratios"])
    body = []
    for name in names:
        ratios = found["effects"][name]["ratios"]
        body.append([name, *(number(min(geometric(rate) for rate in ratios[c])) for c in contestants)])
    body.append(
        [
            "geometric mean",
            *(
                number(geometric(min(geometric(r) for r in found["effects"][n]["ratios"][c]) for n in names))
                for c in contestants
            ),
        ]
    )
    return table(["effect", *contestants], body)


def draw(results: dict[str, Found], folder: Path) -> None:
    """The plots for which there are results."""
    if "steps" in results:
        effects = results["steps"]["effects"]
        series = {
            f"{effect} {parameter}": (
                STEPS,
                effects[effect]["agreement"][effects[effect]["parameters"].index(parameter)],
            )
            for effect, parameter in SHOWN
            if effect in effects
        }

        def agreement(axes: Any) -> None:
            plots.curves(axes, series, "step", "agreement with the way to the true value", logs="x")
            axes.set_ylim(-0.3, 1.0)

        plots.draw(folder / "estimators_steps.svg", agreement)
    if "quality" in results and plugins(results["quality"]):
        rows = quality_rows(results["quality"], plugins(results["quality"]))
        bars = {
            "loss space": [float(row[2]) for row in rows],
            "signal space": [float(row[3]) for row in rows],
        }

        def cosines(axes: Any) -> None:
            names = [row[0] for row in rows]
            plots.bars(axes, names, bars, "cosine with the gradient, mean over plugins", line=None)

        plots.draw(folder / "estimators_cosine.svg", cosines, (6.2, 4.6))


SECTIONS: dict[str, tuple[str, Callable[[Found], str]]] = {
    "steps": ("steps", steps_table),
    "truth": ("quality", truth_table),
    "plugins": ("quality", lambda found: quality_table(found, plugins(found))),
    "torch": ("quality", lambda found: quality_table(found, torches(found))),
    "descent": ("descent", descent_table),
}


def written(text: str, results: dict[str, Found]) -> str:
    """The page with its tables made anew. Raises ValueError: a section's marks are missing."""
    for name, (stage, make) in SECTIONS.items():
        between = re.compile(f"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)", re.S)
        if not between.search(text):
            raise ValueError(f"the page has no section {name!r}")
        body = make(results[stage]) if stage in results else NOT_YET
        text = between.sub(lambda m, body=body: f"{m[1]}\n{body}\n\n{m[2]}", text)
    return text


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--plots", type=Path, default=plots.FOLDER)
    o = parser.parse_args(given)
    found = {
        stage: json.loads((o.results / f"estimators_{stage}.json").read_text())
        for stage in ("steps", "quality", "descent")
        if (o.results / f"estimators_{stage}.json").exists()
    }
    draw(found, o.plots)
    o.page.write_text(written(o.page.read_text(encoding="utf-8"), found), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
