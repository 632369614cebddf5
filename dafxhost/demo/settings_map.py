"""A map of what an effect can do to a recording: settings that sound alike lie near each other.

Random settings are rendered on one excerpt and embedded by the style-statistics encoder; the embeddings,
every entry at mean 0 and variance 1, are projected on their two first principal components (Pearson, "On
lines and planes of closest fit to systems of points in space", 1901). A place on the map stands for the
setting drawn nearest to it: two numbers in place of all the knobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.data.features import normalise_peak
from dafxhost.errors import PluginError, UsageError
from dafxhost.parameters import Parameter

if TYPE_CHECKING:
    from dafxhost.effects import Effect

COUNT = 200
CHUNK = 16
FEWEST = 3
"""Settings that must have given sound."""
MARGIN = 0.05
_RAMP = ("#440154", "#414487", "#2a788e", "#22a884", "#7ad151", "#fde725")  # viridis (matplotlib, CC0)


@dataclass(frozen=True)
class SettingsMap:
    """Settings and where they lie.

    Attributes:
        effect: its name. settings: `[N, P]` on 0..1. points: `[N, 2]` on 0..1, the second upwards.
        dry: `[2]`, the place of the recording left alone; it may lie off 0..1.
        explained: share of the embeddings' variance along the two axes together.
        left_out: settings that gave silence or failed.
    """

    effect: str
    settings: np.ndarray
    points: np.ndarray
    dry: np.ndarray
    explained: float
    left_out: int = 0

    def nearest(self, x: float, y: float) -> int:
        """Which setting lies nearest to a place."""
        return int(np.square(self.points - (x, y)).sum(axis=1).argmin())


def explore(
    executor: Any,
    effect: Effect,
    excerpt: np.ndarray,
    sample_rate: int,
    *,
    count: int = COUNT,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> SettingsMap:
    """Draw a map.

    Args:
        executor: of the effect. excerpt: `[C, T]` at the level that the effect is to get.
        count: random settings. progress: called with (settings rendered, share of all).

    Raises:
        UsageError: the effect has no parameter. PluginError: nearly all settings gave silence or failed.
    """
    from dafxhost.registry import encoder

    if not effect.parameters:
        raise UsageError(f"{effect.name} has no parameter, so there is nothing to map")
    hear = encoder("style-statistics").eval()
    settings = np.random.default_rng(seed).random((count, len(effect.parameters)))
    heard, kept = [_embed(hear, excerpt[None], sample_rate)], []
    for start in range(0, count, CHUNK):
        some = settings[start : start + CHUNK]
        wet = executor.render(excerpt[None], some[None], sample_rate, on_error="nan")[0]
        good = np.isfinite(wet).all(axis=(1, 2)) & (np.abs(np.nan_to_num(wet)).max(axis=(1, 2)) > 1e-5)
        if good.any():
            heard.append(_embed(hear, normalise_peak(wet[good]), sample_rate))
        kept.append(some[good])
        if progress is not None:
            done = start + len(some)
            progress(done, done / count)
    chosen = np.concatenate(kept)
    if len(chosen) < FEWEST:
        raise PluginError(f"only {len(chosen)} of {count} settings of {effect.name} gave any sound")
    embedded = np.concatenate(heard)
    points, dry, explained = project(embedded[1:], embedded[0])
    return SettingsMap(effect.name, chosen, points, dry, explained, count - len(chosen))


def project(embeddings: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Embeddings `[N, D]` and another one `[D]` -> places `[N, 2]` on 0..1, the other's place `[2]`, and the
    share of the variance that two components hold. Entries that never change do not count.
    """
    mean, scale = embeddings.mean(axis=0), embeddings.std(axis=0)
    varied = scale > 1e-6
    if not varied.any():  # no setting makes a difference
        return np.full((len(embeddings), 2), 0.5), np.full(2, 0.5), 1.0
    standard = (embeddings[:, varied] - mean[varied]) / scale[varied]
    _, spread, axes = np.linalg.svd(standard, full_matrices=False)
    axes = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1, 1)  # SVD leaves the sign open
    places = standard @ axes.T
    dry = ((other[varied] - mean[varied]) / scale[varied]) @ axes.T
    low, width = places.min(axis=0), np.maximum(np.ptp(places, axis=0), 1e-9)
    explained = float(np.square(spread[:2]).sum() / np.square(spread).sum())
    return (places - low) / width, (dry - low) / width, explained


def svg(found: SettingsMap, parameter: Parameter, index: int, chosen: int | None = None) -> str:
    """The map as an SVG picture, coloured by parameter number `index`; the chosen setting has a ring."""
    levels = found.settings[:, index]
    dots = []
    for i in np.argsort(levels):
        x, y = _place(found.points[i])
        text = escape(f"{parameter.name} {parameter.text(float(parameter.to_native(levels[i])))}")
        dots.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="9" fill="{_colour(float(levels[i]))}">'
            f"<title>{text}</title></circle>"
        )
    marks = [_dry(found)]
    if chosen is not None:
        x, y = _place(found.points[chosen])
        marks.append(
            f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="16" fill="none" stroke="currentColor" '
            'stroke-width="4"/>'
        )
    low, high = (escape(parameter.text(float(parameter.to_native(u)))) for u in (0.0, 1.0))
    bar = "".join(f"{colour}," for colour in _RAMP).rstrip(",")
    share = f"{100 * found.explained:.0f} % of what differs between them lies in this plane."
    out = f" {found.left_out} gave silence and are left out." if found.left_out else ""
    return (
        f'<div class="map"><svg viewBox="0 0 1000 620" role="img" aria-label="Map of settings of '
        f'{escape(found.effect)}">{"".join(dots)}{"".join(marks)}</svg>'
        f'<p class="scale"><b>{escape(parameter.name)}</b> <span>{low}</span>'
        f'<i style="background:linear-gradient(to right,{bar})"></i><span>{high}</span></p>'
        f"<p>{len(found.settings)} random settings; near each other is what sounds alike on your input. "
        f"{share}{out} The cross is the input left alone. Click to hear.</p></div>"
    )


def _embed(hear: Any, clips: np.ndarray, sample_rate: int) -> np.ndarray:
    import torch

    with torch.no_grad():
        audio = torch.from_numpy(np.ascontiguousarray(clips, dtype=np.float32))
        return hear(audio, sample_rate).double().numpy()


def _place(point: np.ndarray) -> tuple[float, float]:
    inner = MARGIN + (1 - 2 * MARGIN) * point
    return 1000 * float(inner[0]), 620 * (1 - float(inner[1]))


def unplace(x: float, y: float) -> tuple[float, float]:
    """A place in the picture, as shares of its width and height from the top left -> a place on the map."""
    return (x - MARGIN) / (1 - 2 * MARGIN), (1 - y - MARGIN) / (1 - 2 * MARGIN)


def _dry(found: SettingsMap) -> str:
    x, y = _place(np.clip(found.dry, -0.04, 1.04))
    return (
        f'<path class="dry" d="M{x - 13:.1f} {y - 13:.1f}l26 26m0 -26l-26 26" stroke="currentColor" '
        'stroke-width="5" fill="none"><title>the input left alone</title></path>'
    )


def _colour(share: float) -> str:
    """The colour of a place on 0..1 on the ramp."""
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    i = min(int(place), len(_RAMP) - 2)
    one, two = (np.array([int(c[k : k + 2], 16) for k in (1, 3, 5)]) for c in _RAMP[i : i + 2])
    return "#" + "".join(f"{round(v):02x}" for v in one + (place - i) * (two - one))
