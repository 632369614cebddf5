"""How the plots look: SVG, no background and middle greys, for light and for dark pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "plots"
# About 4:1 against white and against GitHub's dark grey; hues that a colour-blind reader tells apart too.
COLOURS = ("#2f80c8", "#d2691e", "#2e9e6b", "#a667c4")
GREY, FAINT = "#7a7f87", "#7a7f8740"


def _style() -> dict[str, Any]:
    return {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "dafxhost",  # the same ids in every run
        "font.family": "sans-serif",
        "font.size": 10,
        "text.color": GREY,
        "axes.labelcolor": GREY,
        "axes.edgecolor": GREY,
        "axes.titlecolor": GREY,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": FAINT,
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "legend.frameon": False,
        "savefig.transparent": True,
    }


def draw(path: Path, fill: Callable[[Any], None], size: tuple[float, float] = (6.2, 3.4)) -> None:
    """Make one figure of one pair of axes, which `fill` gets, and write it. Needs matplotlib (extra "bench").

    Files are the same to the byte for the same data.
    """
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    with plt.rc_context(_style()):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        fill(axes)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def curves(
    axes: Any,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    x: str,
    y: str,
    *,
    logs: str = "",
) -> None:
    """Lines with markers, named at the side; `logs` holds "x" or "y" for logarithmic axes (base 2 for x)."""
    for colour, (name, (across, up)) in zip(COLOURS, series.items(), strict=False):
        axes.plot(across, up, marker="o", color=colour, label=name)
    axes.set(xlabel=x, ylabel=y)
    if "x" in logs:
        axes.set_xscale("log", base=2)
        ticks = sorted({v for across, _ in series.values() for v in across})
        axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
    if "y" in logs:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    if len(series) > 1:
        axes.legend()


def bars(
    axes: Any,
    groups: Sequence[str],
    series: Mapping[str, Sequence[float | None]],
    x: str,
    *,
    line: float | None,
) -> None:
    """Horizontal bars, a group for each name, first on top; `line` is a mark to compare with."""
    height = 0.8 / len(series)
    for k, (colour, (name, values)) in enumerate(zip(COLOURS, series.items(), strict=False)):
        at = [g + (k - (len(series) - 1) / 2) * height for g in range(len(groups))]
        axes.barh(at, [v or 0.0 for v in values], height * 0.92, color=colour, label=name)
    axes.set_yticks(range(len(groups)), groups)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(x)
    if line is not None:
        axes.axvline(line, color=GREY, linestyle="--", linewidth=1)
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(series), borderaxespad=0.2)
