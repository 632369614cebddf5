"""How the pictures look: two themes, colours that the colour-blind tell apart, and files of them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B58900", "#56B4E9", "#333333", "#882255", "#7A6FDE")
DARK = ("#4DA6E0", "#F2843C", "#2FC79B", "#E3A0C5", "#E6B422", "#8ED1F7", "#E0E0E0", "#C94C86", "#A79EFF")
"""Okabe and Ito (2008) with two more; every class has a marker of its own as well."""
MARKERS = "osD^vPX<>"
CONTINUOUS = "viridis"  # perceptually uniform, and readable without colour
FAINT = {"light": "#C9CCC6", "dark": "#4A505A"}
_DPI = 144


@dataclass(frozen=True)
class Theme:
    """Colours of everything that is not data."""

    name: str
    ink: str
    muted: str
    line: str
    ground: str
    series: tuple[str, ...]

    def colour(self, number: int) -> str:
        return self.series[number % len(self.series)]

    @property
    def faint(self) -> str:
        """Of points that belong to nothing shown."""
        return FAINT[self.name]

    def settings(self) -> dict[str, Any]:
        """Matplotlib's settings."""
        text = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
        return {
            **dict.fromkeys(text, self.ink),
            "axes.edgecolor": self.muted,
            "axes.facecolor": self.ground,
            "figure.facecolor": self.ground,
            "savefig.facecolor": self.ground,
            "grid.color": self.line,
            "axes.grid": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 9.0,
            "axes.titlesize": 10.0,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            "lines.linewidth": 1.6,
            "image.cmap": "magma",
            "svg.hashsalt": "dafxhost",  # the same picture is the same file
            "svg.fonttype": "path",
        }


THEMES = (
    Theme("light", "#1c1f24", "#5a616b", "#d9dcd6", "#ffffff", LIGHT),
    Theme("dark", "#e8eaec", "#a2a9b3", "#353a42", "#1b1e23", DARK),
)
Draw = Callable[["Figure", Theme], None]


def marker(number: int) -> str:
    """Of class `number`: those that share a colour differ in the marker."""
    return MARKERS[(number + number // len(LIGHT)) % len(MARKERS)]


@dataclass(frozen=True)
class Picture:
    """A drawing as files.

    Attributes:
        name: of its files. alt: what it shows. caption: for people. light, dark: PNG. svg: on white.
    """

    name: str
    alt: str
    caption: str
    light: bytes
    dark: bytes
    svg: bytes


def file_name(text: str) -> str:
    """`text` as a file's name."""
    return re.sub(r"[^\w.]+", "-", text).strip("-").lower()


def picture(name: str, alt: str, caption: str, draw: Draw, size: tuple[float, float]) -> Picture:
    """Draw in both themes; `size` in inches. Labels may hold any text: it is never read as formulas."""
    made: dict[tuple[str, str], bytes] = {}
    for theme in THEMES:
        made |= {(theme.name, kind): data for kind, data in _files(draw, size, theme).items()}
    return Picture(
        file_name(name), alt, caption, made["light", "png"], made["dark", "png"], made["light", "svg"]
    )  # fmt: skip


def _files(draw: Draw, size: tuple[float, float], theme: Theme) -> dict[str, bytes]:
    import matplotlib
    from matplotlib.figure import Figure

    out: dict[str, bytes] = {}
    settings: Any = {**theme.settings(), "text.parse_math": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure, theme)
        for kind in ("png", "svg") if theme.name == "light" else ("png",):
            buffer = io.BytesIO()
            # Without the date, the same picture is the same file.
            metadata = {"Date": None} if kind == "svg" else {"Software": None}
            figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
            out[kind] = buffer.getvalue()
    return out


def grid(number: int, columns: int) -> tuple[int, int]:
    """(rows, columns) for so many panels."""
    columns = max(1, min(number, columns))
    return -(-number // columns), columns


def logarithmic(axis: Any) -> None:
    """Make a log axis's labels plain numbers; matplotlib's own are formulas, and those are off here."""
    from matplotlib.ticker import LogFormatter, NullFormatter

    axis.set_major_formatter(lambda value, _: f"{value:g}")
    if isinstance(axis.get_minor_formatter(), LogFormatter):
        axis.set_minor_formatter(NullFormatter())


def reduced(pictures: np.ndarray, most: int = 128) -> np.ndarray:
    """`[..., H, W]` with at most so many rows and columns, neighbours averaged: small panels show no more."""
    for axis in (-2, -1):
        step = -(-pictures.shape[axis] // most)
        if step > 1:
            starts = np.arange(0, pictures.shape[axis], step)
            counts = np.diff([*starts, pictures.shape[axis]])
            shape = (-1, 1) if axis == -2 else (-1,)
            pictures = np.add.reduceat(pictures, starts, axis=axis) / counts.reshape(shape)
    return pictures


def shortened(names: Sequence[str], length: int = 28) -> list[str]:
    """Names short enough for a legend: chains are long."""
    return [name if len(name) <= length else name[: length - 1] + "…" for name in names]
