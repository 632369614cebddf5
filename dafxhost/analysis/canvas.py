"""The 3-D embeddings as a cloud that can be turned in the page, coloured by anything known of its points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.analysis.plots import Colouring
from dafxhost.analysis.style import DARK, LIGHT, marker

if TYPE_CHECKING:
    from dafxhost.report.page import Page

_STYLE = """
#cloud canvas { width: 100%; height: min(70vh, 30rem); display: block; touch-action: pan-y; cursor: grab;
  background: var(--plate); border: 1px solid var(--line); border-radius: 8px; }
#cloud .controls { display: flex; flex-wrap: wrap; gap: .6rem 1rem; margin: 0 0 .7rem; align-items: end; }
#cloud label { display: grid; font-size: .84rem; color: var(--muted); min-width: 0; max-width: 100%; }
#cloud select, #cloud button { font: inherit; font-size: .93rem; color: var(--ink); background: var(--plate);
  border: 1px solid var(--line); border-radius: 6px; padding: .35rem .6rem; max-width: 100%; }
#cloud-legend { display: flex; flex-wrap: wrap; gap: .3rem 1rem; font-size: .86rem; margin: .6rem 0 1.5rem; }
#cloud-legend i { display: inline-block; width: .75em; height: .75em; border-radius: 50%;
  margin-right: .4em; }
"""
_BODY = """<div id="cloud"><div class="controls"><label>Points<select id="cloud-view"></select></label>
<label>Colour<select id="cloud-colour"></select></label>
<button type="button" id="cloud-turn">Stop</button></div>
<canvas tabindex="0" role="img"
 aria-label="three-dimensional cloud of the embeddings; drag it, or use the arrow keys"></canvas>
<div id="cloud-legend"></div></div>"""
_STOPS = 16


@dataclass(frozen=True)
class View:
    """Points to look at: `[M, 3]`, and of which example each is (`[M]`; None: one each)."""

    name: str
    points: np.ndarray
    rows: np.ndarray | None = None


def add_cloud(page: Page, views: Sequence[View], colourings: Sequence[Colouring]) -> None:
    """Put the cloud into a page.

    Args:
        views: to choose from. colourings: of the N examples, to choose from.
    """
    page.style(_STYLE)
    page.raw(_BODY)
    page.data(
        "cloud-data",
        {
            "views": [
                {
                    "name": view.name,
                    "points": _scaled(view.points),
                    "rows": None if view.rows is None else view.rows.tolist(),
                }
                for view in views
            ],
            "colours": [_colour(colouring) for colouring in colourings],
            "light": LIGHT,
            "dark": DARK,
            "markers": [marker(i) for i in range(max([len(c.classes) for c in colourings], default=0))],
            "ramp": _ramp(),
        },
    )
    page.script(files("dafxhost.analysis").joinpath("rotating.js").read_text(encoding="utf-8"))


def _scaled(points: np.ndarray) -> list[list[float]]:
    """Centred, with nearly all points within 1 of the middle."""
    centred = points - np.median(points, axis=0)
    reach = float(np.percentile(np.linalg.norm(centred, axis=1), 98)) or 1.0
    return np.round(centred / reach, 3).tolist()


def _colour(colouring: Colouring) -> dict[str, Any]:
    known = colouring.values[np.isfinite(colouring.values)]
    low, high = (float(x) for x in np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)
    values = [
        None if not np.isfinite(v) else int(v) if colouring.classes else float(f"{v:.4g}")
        for v in colouring.values
    ]
    return {
        "name": colouring.name,
        "values": values,
        "classes": list(colouring.classes),
        "unit": colouring.unit,
        "low": low,
        "high": high if high > low else low + 1.0,
    }


def _ramp() -> list[list[int]]:
    """viridis, as stops."""
    import matplotlib

    from dafxhost.analysis.style import CONTINUOUS

    colours = matplotlib.colormaps[CONTINUOUS](np.linspace(0, 1, _STOPS))
    return [[round(255 * float(c)) for c in row[:3]] for row in colours]
