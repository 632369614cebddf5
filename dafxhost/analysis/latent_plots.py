"""Drawings of a variational encoder's latents and of what it reconstructs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.analysis.latents import ACTIVE, ENOUGH, LatentStatistics
from dafxhost.analysis.plots import bars
from dafxhost.analysis.style import Picture, Theme, logarithmic, picture, reduced

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8
"""Latents traversed, and pictures put side by side with their reconstructions (half as many)."""


def latent_sizes(found: LatentStatistics) -> Picture:
    """Divergence and variance of every latent, and what is explained with few of them."""

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots(1, 3 if found.kept else 2)
        if found.divergence is None:
            axes[0].set_visible(False)
        else:
            bars(axes[0], np.sort(found.divergence)[::-1], theme)
            axes[0].set(title="divergence from the prior", xlabel="latent, largest first", ylabel="nats")
        axes[1].plot(np.sort(found.spread)[::-1], color=theme.colour(1), label="of the latent's mean")
        if found.output is not None:
            share = np.sort(found.output)[::-1]
            axes[1].plot(
                np.where(share > 0, share, np.nan), color=theme.colour(2), label="of the output (share)"
            )
        axes[1].axhline(ACTIVE, color=theme.muted, linestyle="--", label=f"active above {ACTIVE:g}")
        axes[1].set(title="variance along each latent", xlabel="latent, largest first", yscale="log")
        logarithmic(axes[1].yaxis)
        axes[1].legend(fontsize=7.5)
        if found.kept:
            axes[2].plot(found.kept, found.explained, color=theme.colour(0), marker="o", markersize=3)
            axes[2].axhline(ENOUGH * found.explained[-1], color=theme.muted, linestyle="--",
                            label=f"{100 * ENOUGH:.0f} % of all")  # fmt: skip
            if found.recommended is not None:
                axes[2].axvline(
                    found.recommended, color=theme.colour(1), label=f"{found.recommended} latents"
                )
            axes[2].set(title="variance explained", xlabel="latents kept, others at their mean")
            axes[2].set_xscale("symlog", base=2, linthresh=1)
            axes[2].set_xlim(left=0)
            axes[2].xaxis.set_major_formatter(lambda x, _: f"{x:g}")
            axes[2].legend(fontsize=7.5, loc="lower right")

    alt = f"divergence and variance of {found.size} latents, {found.active} of them active"
    return picture("latents", alt, found.advice(), draw, (10.2, 3.1))


def histograms(before: np.ndarray, after: np.ndarray, explained: float) -> Picture:
    """Values of the inputs against those of their reconstructions, on a logarithmic count."""

    def draw(figure: Figure, theme: Theme) -> None:
        ax = figure.subplots()
        low, high = (float(x) for x in (min(before.min(), after.min()), max(before.max(), after.max())))
        edges = np.linspace(low, high if high > low else low + 1, 81).tolist()
        for number, (values, label) in enumerate(((before, "input"), (after, "reconstruction"))):
            text = f"{label}: mean {values.mean():.3g}, deviation {values.std():.3g}"
            ax.hist(
                values.ravel(), edges, histtype="step", linewidth=1.6, color=theme.colour(number), label=text
            )
        ax.set(yscale="log", xlabel="value", ylabel="count")
        logarithmic(ax.yaxis)
        ax.legend()

    alt = "histograms of the inputs' and the reconstructions' values"
    rmse = float(np.sqrt(np.square(after - before).mean()))
    caption = (
        f"Input against reconstruction, {before.size} values: RMSE {rmse:.3g} where the input's mean is "
        f"{before.mean():.3g}; {100 * explained:.1f} % of the variance explained."
    )
    return picture("histograms", alt, caption, draw, (6.4, 3.2))


def side_by_side(before: np.ndarray, after: np.ndarray) -> Picture:
    """A few inputs `[K, H, W]` above their reconstructions, on one scale."""
    before, after = reduced(before), reduced(after)

    def draw(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots(2, len(before), squeeze=False)
        low, high = float(before.min()), float(np.percentile(before, 99.9))
        for column in range(len(before)):
            for row, values in enumerate((before, after)):
                image = axes[row, column].imshow(
                    values[column], origin="lower", aspect="auto", vmin=low, vmax=high
                )
                _bare(axes[row, column])
        axes[0, 0].set_ylabel("input")
        axes[1, 0].set_ylabel("reconstruction")
        figure.colorbar(image, ax=axes, shrink=0.8)  # pyright: ignore[reportPossiblyUnboundVariable]

    alt = f"{len(before)} inputs and their reconstructions, one above the other"
    caption = "Inputs and their reconstructions on one scale; time to the right, frequency upwards."
    return picture("reconstructions", alt, caption, draw, (9.6, 3.8))


def traversals(decoded: np.ndarray, deviations: np.ndarray, latents: np.ndarray) -> Picture:
    """A row for each latent of `[L, steps, H, W]` or `[L, steps, F]`.

    Its middle is shown as it is, the others as what differs from it, because differences are small.
    """
    middle = len(deviations) // 2
    decoded = decoded if decoded.ndim == 3 else reduced(decoded, 64)
    change = decoded - decoded[:, middle : middle + 1]
    flat = decoded.ndim == 3

    def draw(figure: Figure, theme: Theme) -> None:
        rows = len(latents)
        axes = figure.subplots(
            rows, len(deviations), squeeze=False, sharex=flat, sharey="row" if flat else False
        )
        for i in range(rows):
            limit = max(float(np.percentile(np.abs(change[i]), 99.5)), 1e-9)
            for j in range(len(deviations)):
                ax, image = axes[i, j], decoded[i, j] if j == middle else change[i, j]
                if flat:
                    ax.plot(
                        change[i, j] if j != middle else 0 * change[i, j],
                        color=theme.colour(0),
                        linewidth=0.8,
                    )
                elif j == middle:
                    ax.imshow(image, origin="lower", aspect="auto")
                else:
                    ax.imshow(image, origin="lower", aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
                _bare(ax)
                if i == 0:
                    ax.set_title("mean" if j == middle else f"{deviations[j]:+.2g} dev.", fontsize=8.5)
            axes[i, 0].set_ylabel(f"latent {latents[i]}", fontsize=8.5)

    alt = f"what changes in the output along {len(latents)} latents in {len(deviations)} steps"
    caption = (
        "Traversals of the latents that matter most: each moved through its own distribution, the others "
        "at their mean. The middle column is the decoded mean, the others what differs from it (red more, "
        "blue less)."
    )
    return picture("traversals", alt, caption, draw, (9.6, 0.5 + 0.95 * len(latents)))


def _bare(ax: Any) -> None:
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(False)
