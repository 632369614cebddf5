"""The drawings. Each function returns a `Picture`; what is measured comes from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.analysis.style import CONTINUOUS, Picture, Theme, grid, logarithmic, marker, picture, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dafxhost.analysis.probes import Classified, Probe
    from dafxhost.analysis.projections import Projection


@dataclass(frozen=True)
class Colouring:
    """What points are coloured by.

    Attributes:
        name: e.g. "effect", "mda-combo.drive", "centroid". values: `[N]` class numbers or numbers; NaN where
            it does not apply. classes: names of the classes; empty for numbers. unit: of numbers.
    """

    name: str
    values: np.ndarray
    classes: tuple[str, ...] = ()
    unit: str = ""

    def at(self, rows: np.ndarray | None) -> Colouring:
        """That of points which belong to these examples; itself for None."""
        return self if rows is None else replace(self, values=self.values[rows])

    @property
    def title(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


def scatter(name: str, what: str, projections: Sequence[Projection], colouring: Colouring) -> Picture:
    """A panel for each projection to two dimensions."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots(1, len(projections), squeeze=False)[0]
        for ax, projection in zip(axes, projections, strict=True):
            _points(ax, projection.points[2], colouring, theme)
            _axes_of(ax, projection, 2)
        _legend(figure, list(axes), colouring, theme)

    ways = " and ".join(p.name for p in projections)
    alt = f"{ways} of {what} in two dimensions, {len(colouring.values)} points coloured by {colouring.name}"
    size = (max(4.6 * len(projections) + 1.4, 6.0), 4.2)
    return picture(name, alt, f"{ways} of {what}, by {colouring.title}.", draw, size)


def scatter3(name: str, what: str, projections: Sequence[Projection], colouring: Colouring) -> Picture:
    """A row for each projection to three dimensions, from two angles 90 degrees apart."""
    angles = (-60, 30)

    def draw(figure: Figure, theme: Theme) -> None:
        axes = []
        for row, projection in enumerate(projections):
            for column, angle in enumerate(angles):
                place = row * len(angles) + column + 1
                ax: Any = figure.add_subplot(len(projections), len(angles), place, projection="3d")
                _points(ax, projection.points[3], colouring, theme)
                ax.view_init(elev=22, azim=angle)
                _axes_of(ax, projection, 3)
                for axis in (ax.xaxis, ax.yaxis, ax.zaxis):
                    axis.set_pane_color((0, 0, 0, 0))
                axes.append(ax)
        _legend(figure, axes, colouring, theme)

    ways = " and ".join(p.name for p in projections)
    alt = f"{ways} of {what} in three dimensions from two angles, coloured by {colouring.name}"
    size = (9.6, 4.0 * len(projections))
    return picture(name, alt, f"{ways} of {what} in 3-D from two angles, by {colouring.title}.", draw, size)


def _points(ax: Any, points: np.ndarray, colouring: Colouring, theme: Theme) -> None:
    style = {"s": 15, "linewidths": 0.0, "alpha": 0.85}
    known = np.isfinite(colouring.values)
    if not known.all():
        ax.scatter(*points[~known].T, color=theme.faint, **{**style, "s": 8})
    if colouring.classes:
        for number in range(len(colouring.classes)):
            chosen = colouring.values == number
            ax.scatter(*points[chosen].T, color=theme.colour(number), marker=marker(number), **style)
        return
    low, high = _limits(colouring.values)
    ax.scatter(*points[known].T, c=colouring.values[known], cmap=CONTINUOUS, vmin=low, vmax=high, **style)


def _limits(values: np.ndarray) -> tuple[float, float]:
    """Of the colour scale: without the outermost hundredth on both sides, which would take all of it."""
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(x) for x in np.percentile(known, (1, 99)))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _axes_of(ax: Any, projection: Projection, dimensions: int) -> None:
    ax.set_title(projection.name)
    names = [f"{projection.name} {i + 1}" for i in range(dimensions)]
    for i, share in enumerate(projection.explained[:dimensions]):
        names[i] = f"component {i + 1} ({100 * share:.0f} %)"
    for axis, text in zip("xyz", names, strict=False):
        getattr(ax, f"set_{axis}label")(text, labelpad=-12 if dimensions == 3 else 4)
        getattr(ax, f"set_{axis}ticks")([])


def _legend(figure: Figure, axes: list[Any], colouring: Colouring, theme: Theme) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.lines import Line2D

    if not colouring.classes:
        scale = ScalarMappable(Normalize(*_limits(colouring.values)), CONTINUOUS)
        figure.colorbar(scale, ax=axes, label=colouring.title, shrink=0.8)
        return
    handles = [
        Line2D([], [], linestyle="", marker=marker(i), color=theme.colour(i), markersize=6, label=text)
        for i, text in enumerate(shortened(colouring.classes))
    ]
    figure.legend(handles=handles, loc="outside right center", title=colouring.title)


def confusion(classified: Classified, labels: Sequence[str]) -> Picture:
    """Which effect is taken for which, as shares of the true one."""
    counts = classified.confusion
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = shortened(labels, 18)

    def draw(figure: Figure, theme: Theme) -> None:
        ax = figure.subplots()
        image = ax.imshow(shares, cmap=CONTINUOUS, vmin=0, vmax=1)
        for i, j in np.ndindex(*shares.shape):
            if shares[i, j] >= 0.005:
                ax.text(j, i, f"{100 * shares[i, j]:.0f}", ha="center", va="center", fontsize=8,
                        color="white" if shares[i, j] < 0.6 else "black")  # fmt: skip
        ax.set_xticks(range(len(names)), names, rotation=40, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(len(names)), names)
        ax.set(xlabel="predicted", ylabel="true")
        ax.spines[:].set_visible(False)
        figure.colorbar(image, ax=ax, label="share of the true effect")

    p = classified.probe
    kind = "linear probe" if p.probe == "linear" else "random forest"
    alt = f"confusion matrix of {len(names)} effects: {100 * p.value:.0f} % right"
    caption = (
        f"Effects recognised on recordings that the {kind} never met, percent of the true one ({p.source})."
    )
    side = 3.4 + 0.36 * len(names)
    return picture(f"confusion-{p.source}", alt, caption, draw, (side + 1.2, side))


def parameter_probes(probes: Sequence[Probe]) -> Picture:
    """A row for each parameter: what each probe reads of it, beside chance."""
    targets = list(dict.fromkeys(p.target for p in probes))

    def draw(figure: Figure, theme: Theme) -> None:
        ax = figure.subplots()
        for number, kind in enumerate(("linear", "forest")):
            chosen = {p.target: p for p in probes if p.probe == kind}
            rows = [i for i, target in enumerate(targets) if target in chosen]
            found = [chosen[targets[i]] for i in rows]
            label = "linear probe" if kind == "linear" else "random forest"
            ax.scatter([max(p.value, -0.2) for p in found], np.array(rows) + 0.12 * (2 * number - 1), s=26,
                       color=theme.colour(number), marker=marker(number), label=label, zorder=3)  # fmt: skip
            if number == 0:
                ax.scatter(
                    [p.chance for p in found], rows, s=60, color=theme.muted, marker="|", label="chance"
                )
        short = shortened(targets, 34)
        kinds = {p.target: p.measure for p in probes}
        ax.set_yticks(
            range(len(targets)), [f"{s}  {_measure(kinds[t])}" for s, t in zip(short, targets, strict=True)]
        )
        ax.set_ylim(len(targets) - 0.4, -0.6)
        ax.set(
            xlim=(-0.25, 1.05), xlabel="R² (from 0, the mean, to 1) or accuracy; below -0.2 is drawn there"
        )
        ax.grid(axis="both", linewidth=0.5)
        ax.set_axisbelow(True)
        figure.legend(loc="outside upper center", ncols=3)

    alt = f"{len(targets)} parameters, each with what two probes read of it and chance"
    caption = "Parameters read from the difference of the embeddings, on unseen recordings."
    return picture("parameter-probes", alt, caption, draw, (7.6, 1.2 + 0.21 * len(targets)))


def _measure(name: str) -> str:
    return "R²" if name == "R2" else "acc."


def curves(log: Sequence[dict[str, Any]]) -> Picture | None:
    """What a training's log holds over its steps, a panel a phase and quantity; None if it holds nothing."""
    panels = _panels(log)
    if not panels:
        return None
    rows, columns = grid(len(panels), 3)

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for ax, (title, lines) in zip(axes, panels, strict=False):
            for number, (label, x, y) in enumerate(lines):
                ax.plot(x, y, color=theme.colour(number), label=label, marker="o" if len(x) < 3 else None,
                        linestyle="--" if number == 2 else "-")  # fmt: skip
            values = np.concatenate([y for _, _, y in lines])
            if values.size and values.min() > 0 and values.max() > 50 * values.min():
                ax.set_yscale("log")
                logarithmic(ax.yaxis)
            ax.set(title=title, xlabel="step")
            ax.grid(linewidth=0.5)
            if len(lines) > 1:
                ax.legend()
        for ax in axes[len(panels) :]:
            ax.set_visible(False)

    alt = f"training curves: {', '.join(title for title, _ in panels)}"
    return picture("training-curves", alt, "Training, from the run's log.", draw, (3.4 * columns, 2.6 * rows))


TOGETHER = (
    ("validation", "best", "untouched"),
    ("loss", "total", "train_loss"),
    ("reconstruction", "error", "mse"),
    ("divergence", "kl", "nats"),
    ("explained",),
    ("accuracy",),
    ("beta", "kl_weight"),
    ("rate", "learning_rate", "lr"),
    ("renders_per_second",),
)
"""Quantities of a log that share a panel, as far as they are there."""
_WORDS = {"untouched": "input left alone", "validation": "validation MR-STFT", "rate": "learning rate",
          "renders_per_second": "renders a second"}  # fmt: skip
Lines = list[tuple[str, np.ndarray, np.ndarray]]


def _panels(log: Sequence[dict[str, Any]]) -> list[tuple[str, Lines]]:
    phases = list(dict.fromkeys(str(entry.get("phase", "")) for entry in log))
    out: list[tuple[str, Lines]] = []
    for phase in phases:
        entries = [entry for entry in log if str(entry.get("phase", "")) == phase]
        for group in TOGETHER:
            lines = [line for key in group if (line := _line(entries, key)) is not None]
            if lines:
                out.append((f"{lines[0][0]}, {phase}" if phase else lines[0][0], lines))
    return out


def _line(entries: Sequence[dict[str, Any]], key: str) -> tuple[str, np.ndarray, np.ndarray] | None:
    pairs = [
        (entry.get("step", entry.get("epoch", i)), entry[key])
        for i, entry in enumerate(entries)
        if isinstance(entry.get(key), int | float) and np.isfinite(entry[key])
    ]
    if not pairs:
        return None
    x, y = np.array(pairs, dtype=np.float64).T
    return _WORDS.get(key, key.replace("_", " ")), x, y


def bars(ax: Axes, values: np.ndarray, theme: Theme, number: int = 0) -> None:
    """Values in their order, as steps: hundreds of bars would be a grey mass."""
    ax.bar(np.arange(len(values)), values, width=1.0, color=theme.colour(number), linewidth=0)
