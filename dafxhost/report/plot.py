"""Plots as HTML: curves in SVG that stretch with the page, and words around them that do not.

A drawing with its text inside shrinks on a phone until nobody can read it. Here the axes' words are HTML,
placed in per cent of the drawing, and lines keep their width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from dafxhost.report.page import packaged

DASHES = ("", "6 3", "", "2 2.5", "8 3 2 3", "4 2")
"""Of `--series-1` to `--series-6`: colours alone do not tell curves apart for everybody."""


@dataclass(frozen=True)
class Axis:
    """From `low` to `high`, in a straight line or by ratios.

    Attributes:
        ticks: (value, its text); one that starts with "·" is left out on a phone.
        title: what it measures.
    """

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    title: str = ""
    log: bool = False

    def place(self, value: float) -> float:
        """Where a value lies, 0 to 1; beyond the ends at the ends."""
        return min(1.0, max(0.0, self.at(value)))

    def at(self, value: float) -> float:
        """Where a value lies, below 0 or above 1 beyond the ends."""
        if self.log:
            value, low, high = (math.log(max(v, 1e-30)) for v in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return (value - low) / ((high - low) or 1.0)


@dataclass(frozen=True)
class Curve:
    """A line: name, points (x, y), and which of the page's series colours (1 to 6).

    Attributes:
        stepped: values hold until the next point. dotted: the points are shown, too.
    """

    name: str
    points: Sequence[tuple[float, float]]
    series: int = 1
    stepped: bool = False
    dotted: bool = False


def frequency_axis(low: float, high: float) -> Axis:
    """Hz, by ratios."""
    values = [(50, "50"), (100, "100"), (200, "·200"), (500, "·500"), (1000, "1k"), (2000, "·2k")]
    values += [(5000, "·5k"), (10000, "10k"), (20000, "·20k")]
    return Axis(low, high, tuple((v, t) for v, t in values if low <= v <= high), "Hz", log=True)


def linear_axis(low: float, high: float, title: str = "", most: int = 6) -> Axis:
    """Round ticks between two values; equal ones are moved apart."""
    if not high > low:
        low, high = low - 0.5 * abs(low) - 0.5, high + 0.5 * abs(high) + 0.5
    rough = (high - low) / most
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough * 0.999)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    ticks = [(i * step, f"{i * step + 0.0:.{digits}f}") for i in range(first, last + 1)]
    return Axis(low, high, tuple((v, t if i % 2 == 0 else "·" + t) for i, (v, t) in enumerate(ticks)), title)


def ratio_axis(low: float, high: float, title: str = "") -> Axis:
    """Powers of two from `low` to `high`, widened to whole ones."""
    first, last = math.floor(math.log2(low) + 1e-9), math.ceil(math.log2(high) - 1e-9)
    last = max(last, first + 1)
    step = max(1, math.ceil((last - first) / 8))
    ticks = tuple((2.0**i, f"{2.0**i:g}") for i in range(first, last + 1, step))
    return Axis(2.0**first, 2.0**last, ticks, title, log=True)


def lines(x: Axis, y: Axis, curves: Sequence[Curve], *, alt: str, caption: str = "", rem: float = 17) -> str:
    """A figure with curves and a legend.

    Args:
        alt: what it shows, for those who do not see it. caption: under it. rem: height of the drawing, in the
            page's letter heights.
    """
    drawn = "".join(_line(curve, x, y) for curve in curves)
    key = ""
    if len(curves) > 1:
        key = "".join(
            f'<li><svg viewBox="0 0 30 4" aria-hidden="true"><path d="M0 2H30"{_stroke(c.series)}/></svg>'
            f"{escape(c.name)}</li>"
            for c in curves
        )
        key = f'<ul class="key">{key}</ul>'
    return _figure(key + framed(svg(grid(x, y) + drawn), x, y, rem=rem, alt=alt), caption)


def spread(
    rows: Sequence[tuple[str, Sequence[float], int]], x: Axis, *, alt: str, caption: str, mark: float | None
) -> str:
    """How values are spread: a row a name, a stroke a value, a box over the middle half, a bar at the median.

    Args:
        rows: (name, values, series colour). mark: a value to draw a line at through all rows.
    """
    import numpy as np

    parts = []
    for name, values, series in rows:
        low, middle, high = (1000 * x.place(v) for v in np.percentile(values, (25, 50, 75)))
        strokes = "".join(f"M{1000 * x.place(v):.0f} 240V760" for v in values)
        colour = f"var(--series-{series})"
        faint = min(0.8, max(0.08, 40 / max(len(values), 1)))
        line = 0 if mark is None else 1000 * x.place(mark)
        across = "" if mark is None else f'<path d="M{line:.1f} 0V1000" class="mark"/>'
        inner = (
            f'{across}<path d="{strokes}" style="stroke:{colour};opacity:{faint:.2f}"/>'
            f'<rect x="{low:.1f}" y="150" width="{max(high - low, 1):.1f}" height="700" '
            f'style="fill:{colour};opacity:.22"/>'
            f'<path d="M{middle:.1f} 60V940" style="stroke:{colour};stroke-width:3"/>'
        )
        parts.append(_strip(name, svg(grid(x, None) + inner), 2.6))
    return _strips(parts, x, alt, caption)


def intervals(
    rows: Sequence[tuple[str, float, float, float, int]],
    x: Axis,
    *,
    alt: str,
    caption: str = "",
    mark: float | None,
) -> str:
    """Values with their intervals: rows (name, value, low, high, series colour); `mark`: as of `spread`."""
    parts = []
    for name, value, low, high, series in rows:
        middle, left, right = (1000 * x.place(v) for v in (value, low, high))
        colour = f"var(--series-{series})"
        across = "" if mark is None else f'<path d="M{1000 * x.place(mark):.1f} 0V1000" class="mark"/>'
        inner = (
            f'{across}<rect x="{left:.1f}" y="350" width="{max(right - left, 1):.1f}" height="300" '
            f'style="fill:{colour};opacity:.35"/><path d="M{middle:.1f} 150V850" '
            f'style="stroke:{colour};stroke-width:3"/>'
        )
        parts.append(_strip(name, svg(grid(x, None) + inner), 1.9))
    return _strips(parts, x, alt, caption)


def _strips(strips: Sequence[str], x: Axis, alt: str, caption: str) -> str:
    """One strip over the other, above one axis."""
    body = (
        f'<div class="plot spreads" role="img" aria-label="{escape(alt)}">{"".join(strips)}{_under(x)}</div>'
    )
    return _figure(body, caption)


def framed(
    inner: str, x: Axis, y: Axis, *, rem: float, alt: str, attributes: str = "", bottom: bool = True
) -> str:
    """Axes around HTML that fills the area between them (`inner`)."""
    left = "".join(
        f'<span style="bottom:{100 * y.place(v):.2f}%">{escape(t.lstrip("·"))}</span>' for v, t in y.ticks
    )
    title = f'<div class="ytitle">{escape(y.title)}</div>' if y.title else ""
    return (
        f'<div class="plot">{title}<div class="beside"><div class="y" aria-hidden="true">{left}</div>'
        f'<div class="area" role="img" aria-label="{escape(alt)}" style="height:{rem}rem"{attributes}>{inner}'
        f"</div></div>{_under(x) if bottom else ''}</div>"
    )


def svg(inner: str) -> str:
    """A drawing on 1000 x 1000, stretched to the area around it; y runs downwards."""
    return f'<svg viewBox="0 0 1000 1000" preserveAspectRatio="none" aria-hidden="true">{inner}</svg>'


def grid(x: Axis, y: Axis | None) -> str:
    """Lines at the ticks."""
    path = "".join(f"M{1000 * x.place(v):.1f} 0V1000" for v, _ in x.ticks)
    if y is not None:
        path += "".join(f"M0 {1000 - 1000 * y.place(v):.1f}H1000" for v, _ in y.ticks)
    return f'<path d="{path}" class="grid"/>'


def style() -> str:
    """CSS that pages with plots need."""
    return packaged("plot.css")


def _line(curve: Curve, x: Axis, y: Axis) -> str:
    path, dots, down = "", "", False
    for at, value in curve.points:
        if not math.isfinite(value):
            down = False
            continue
        px, py = 1000 * x.at(at), 1000 - 1000 * y.at(value)
        if not down:
            path += f"M{px:.1f} {py:.1f}"
        elif curve.stepped:
            path += f"H{px:.1f}V{py:.1f}"
        else:
            path += f"L{px:.1f} {py:.1f}"
        dots += f"M{px:.1f} {py:.1f}h0"
        down = True
    marks = (
        f'<path d="{dots}" class="dots" style="stroke:var(--series-{curve.series})"/>' if curve.dotted else ""
    )
    return f'<path d="{path}"{_stroke(curve.series)}/>{marks}'


def _strip(name: str, drawing: str, rem: float) -> str:
    area = f'<div class="area" style="height:{rem}rem">{drawing}</div>'
    return f'<div class="spread"><span>{escape(name)}</span>{area}</div>'


def _stroke(series: int) -> str:
    dash = DASHES[series - 1]
    dashed = f";stroke-dasharray:{dash}" if dash else ""
    return f' class="curve" style="stroke:var(--series-{series}){dashed}"'


def _under(x: Axis) -> str:
    marks = "".join(
        f'<span{" class=wideonly" if t.startswith("·") else ""} style="left:{100 * x.place(v):.2f}%">'
        f"{escape(t.lstrip('·'))}</span>"
        for v, t in x.ticks
    )
    return f'<div class="x" aria-hidden="true">{marks}</div><div class="xtitle">{escape(x.title)}</div>'


def _figure(body: str, caption: str) -> str:
    under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f"<figure>{body}{under}</figure>"
