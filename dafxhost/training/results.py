"""What an evaluation found: its rows, its parameters, and how they are written."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from dafxhost.errors import UsageError
from dafxhost.training.scoring import Details

MEASURES = ("mae", "pearson", "spearman", "accuracy", "unheard")
"""Of parameters, in the order in which they are shown; see `Evaluation.parameters`."""
MISSING = "-"
"""Shown for a figure that there is not."""


@dataclass(frozen=True)
class Figure:
    """One metric of one way, over the examples in which it has an answer for every way.

    Attributes:
        mean, median. low, high: bootstrap 95 % interval of the mean.
        relative, relative_low, relative_high: against the input left alone, with the interval, in which both
            means are of the same resampled examples. For a metric of which less is better the ratio of the
            means, None where the input's mean is 0; else their difference (positive: better).
        examples: how many.
    """

    mean: float
    median: float
    low: float
    high: float
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    examples: int

    def text(self, digits: int) -> str:
        """ "1.23 (1.10 to 1.36)"."""
        return f"{self.mean:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"

    def relative_text(self, digits: int) -> str:
        """The same of the comparison with the input left alone."""
        if self.relative is None or self.relative_low is None or self.relative_high is None:
            return MISSING
        low, high = self.relative_low, self.relative_high
        return f"{self.relative:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


@dataclass(frozen=True)
class Row:
    """One way of choosing settings.

    Attributes:
        name: "controller", "supervised only", "controller and N renders", "N renders alone", "random
            setting", "constant setting", "true setting" (the oracle), "input left alone".
        mean, median: of MR-STFT. low, high: bootstrap 95 % interval of the mean.
        ratio, ratio_low, ratio_high: of its mean to that of the input left alone, with the interval, in which
            both means are of the same resampled examples.
        metrics: a figure a metric, by name, MR-STFT among them.
    """

    name: str
    mean: float
    median: float
    low: float
    high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    metrics: dict[str, Figure] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Attributes:
        rows: the ways compared.
        parameters: by name, over the examples that had the effect. Continuous ones: "mae", mean absolute
            error on 0..1 (a constant 0.5 gives about 0.25), "pearson" and "spearman", correlation of the
            controller's with the true values (None where either never changes). Discrete ones: "accuracy",
            share of right values. All: "unheard", see `identification`.
        unidentifiable: parameters of which nobody could hear where they stand: "unheard" is high.
        identification: how that was found: "examples" looked at, "shift" on 0..1 of a continuous parameter,
            "below", the MR-STFT that counts as no change, "share" of examples from which one is marked.
        constant: the constant setting in native units.
        protocol, pairs: as given. metrics: what was measured (name, title, unit, better, source).
        skipped: metrics that were not, and why.
        examples, applied, failed: counted; a failed render leaves its example out of every row.
        counts: of `Examples`, summed: what was drawn and refused.
        seconds: an example, by part of the work, on the thread that did it; not compared.
        details: example by example; not part of the JSON.
    """

    effect: str
    provider: str
    run: str
    data: str
    sample_rate: int
    samples: int
    seed: int
    examples: int
    applied: int
    failed: int
    rows: tuple[Row, ...]
    parameters: dict[str, dict[str, float | None]]
    constant: dict[str, Any]
    counts: dict[str, int]
    protocol: str = "grant"
    pairs: str = "ab"
    metrics: tuple[dict[str, Any], ...] = ()
    skipped: dict[str, str] = field(default_factory=dict)
    unidentifiable: tuple[str, ...] = ()
    identification: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
    details: Details | None = field(default=None, repr=False, compare=False)

    def row(self, name: str) -> Row:
        """The row of that name. Raises UsageError."""
        for row in self.rows:
            if row.name == name:
                return row
        raise UsageError(f"no row {name!r}; there are {', '.join(r.name for r in self.rows)}")

    def to_json(self) -> str:
        """Everything but the details; docs/evaluation.md says what the fields are."""
        values = asdict(replace(self, details=None))
        del values["details"]
        return json.dumps(values, indent=2, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """What `to_json` wrote. Raises UsageError: it is something else."""
        try:
            values = json.loads(text)
            rows = [
                Row(**{**row, "metrics": {name: Figure(**f) for name, f in row["metrics"].items()}})
                for row in values["rows"]
            ]
            for name in ("metrics", "unidentifiable"):
                values[name] = tuple(values[name])
            return cls(**{**values, "rows": tuple(rows)})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            names = ", ".join(f.name for f in fields(cls) if f.name != "details")
            raise UsageError(f"this is not the JSON of an evaluation, which has {names}: {error}") from error

    def to_markdown(self) -> str:
        """Tables of the ways by MR-STFT and by every other metric, and of the parameters."""
        return "\n".join([*self._heading(), *self._rows(), *self._metrics(), *self._parameters()]) + "\n"

    def _heading(self) -> list[str]:
        return [
            f"{self.effect} ({self.provider}), {self.examples} examples of {self.samples} samples at "
            f"{self.sample_rate} Hz, seed {self.seed}; {self.data}; run {self.run}; protocol "
            f"{self.protocol}, pairs {self.pairs}; {self.applied} with the effect, {self.failed} failed",
            "",
        ]

    def _rows(self) -> list[str]:
        lines = ["| | MR-STFT mean (95 %) | median | ratio to input left alone (95 %) |", "|---|---|---|---|"]
        for r in self.rows:
            interval = f"{r.mean:.3f} ({r.low:.3f} to {r.high:.3f})"
            ratio = f"{r.ratio:.3f} ({r.ratio_low:.3f} to {r.ratio_high:.3f})"
            lines.append(f"| {r.name} | {interval} | {r.median:.3f} | {ratio} |")
        return lines

    def _metrics(self) -> list[str]:
        lines = []
        for metric in self.metrics:
            name = metric["name"]
            if name == "mr-stft" or not all(name in r.metrics for r in self.rows):
                continue
            digits, than = digits_of(metric["unit"]), relation_of(metric["better"])
            lines += [
                "",
                f"| {heading_of(metric)} | mean (95 %) | median | {than} (95 %) |",
                "|---|---|---|---|",
            ]
            for r in self.rows:
                f = r.metrics[name]
                relative = f.relative_text(3 if metric["better"] == "lower" else digits)
                lines.append(f"| {r.name} | {f.text(digits)} | {f.median:.{digits}f} | {relative} |")
        if self.skipped:
            lines += [
                "",
                "Not measured: " + "; ".join(f"{n}: {why}" for n, why in self.skipped.items()) + ".",
            ]
        return lines

    def _parameters(self) -> list[str]:
        if not self.parameters:
            return []
        lines = ["", f"| parameter | {' | '.join(MEASURES)} | |", "|---" * (len(MEASURES) + 2) + "|"]
        for name, measures in self.parameters.items():
            mark = "unidentifiable" if name in self.unidentifiable else ""
            values = " | ".join(number(measures[m]) if m in measures else "" for m in MEASURES)
            lines.append(f"| {name} | {values} | {mark} |")
        return [*lines, "", self.identification_text()]

    def identification_text(self) -> str:
        """What "unheard" and "unidentifiable" mean here, in a sentence."""
        how = self.identification
        if not how:
            return "No parameter was moved to hear whether it matters."
        return (
            f"unheard: share of {how['examples']:.0f} examples in which moving the parameter from its true "
            f"value (by {how['shift']:g} of its range; a discrete one to another value) changes the "
            f"level-matched output by an MR-STFT below {how['below']:g}; from {how['share']:g} on it counts "
            "as unidentifiable, and its error says nothing."
        )


def heading_of(metric: dict[str, Any]) -> str:
    """A metric's title with unit and direction."""
    unit = f", {metric['unit']}" if metric["unit"] else ""
    return f"{metric['title']}{unit}; {metric['better']} is better"


def relation_of(better: str) -> str:
    """What stands beside a metric of that direction."""
    return "ratio to input left alone" if better == "lower" else "more than input left alone"


def digits_of(unit: str) -> int:
    """Decimal places of values in that unit."""
    return {"Hz": 1, "dB": 2, "LU": 2, "MOS": 2}.get(unit, 3)


def number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"
