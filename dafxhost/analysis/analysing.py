"""From a subject and its observations to figures and pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.analysis import plots
from dafxhost.analysis.canvas import View
from dafxhost.analysis.colours import chosen, colourings
from dafxhost.analysis.extras import umap_missing
from dafxhost.analysis.latents import LatentStatistics, study, traverse
from dafxhost.analysis.probes import FEWEST, Classified, Probe, effect_probes, parameter_probes
from dafxhost.analysis.projections import FEWEST_FOR_UMAP, Projection, pca, umap

if TYPE_CHECKING:
    from dafxhost.analysis.observing import Observations
    from dafxhost.analysis.plots import Colouring
    from dafxhost.analysis.reconstruction import Reconstructor
    from dafxhost.analysis.style import Picture

LATENT_POINTS = 1500
"""Most pictures whose latents are projected."""
Say = Callable[[str, float], None]
"""(what is done, how much of all is done on 0..1)."""


@dataclass(frozen=True)
class Space:
    """Vectors that are looked at.

    Attributes:
        key: "processed", "difference" or "latents". what: in words. vectors: `[M, D]`.
        rows: `[M]`, which example each belongs to; None: one each. projections: of them.
    """

    key: str
    what: str
    vectors: np.ndarray
    rows: np.ndarray | None
    projections: tuple[Projection, ...]


@dataclass
class Analysis:
    """All that was measured and drawn.

    Attributes:
        classified: probes of the effect, from several kinds of embedding. parameters: probes of parameters,
            from differences. latents: None without a posterior. reconstruction: by name; empty without a
            decoder.
        colourings: all there are. spaces: what was projected. pictures: by section ("embeddings", "probes",
            "latents", "reconstruction", "traversals", "training"). notes: what could not be had.
    """

    seen: Observations
    classified: list[Classified] = field(default_factory=list)
    parameters: list[Probe] = field(default_factory=list)
    latents: LatentStatistics | None = None
    reconstruction: dict[str, float] = field(default_factory=dict)
    colourings: list[Colouring] = field(default_factory=list)
    spaces: list[Space] = field(default_factory=list)
    pictures: dict[str, list[Picture]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, section: str, *pictures: Picture | None) -> None:
        self.pictures.setdefault(section, []).extend(p for p in pictures if p is not None)

    def views(self) -> list[View]:
        """What the cloud can show."""
        return [View(f"{s.what}, {p.name}", p.points[3], s.rows) for s in self.spaces for p in s.projections]


def analyse(
    seen: Observations,
    reconstructor: Reconstructor,
    *,
    log: Sequence[dict[str, Any]] = (),
    colours: Sequence[str] = ("effect",),
    with_umap: bool = True,
    seed: int = 0,
    say: Say = lambda what, done: None,
) -> Analysis:
    """Measure and draw everything that this encoder and these examples allow.

    Raises:
        UnknownNameError: a colour that is none of effect, features and parameters.
    """
    found = colourings(seen)
    wanted = chosen(found, list(colours))
    out = Analysis(seen, colourings=list(found.values()), notes=list(seen.notes))
    out.notes += reconstructor.lacks()
    say("projecting", 0.0)
    _project(out, reconstructor, _ways(out, with_umap, seed), say)
    for space in out.spaces:
        for colouring in wanted:
            at = colouring.at(space.rows)
            name = f"{space.key}-{colouring.name}"
            out.add("embeddings", plots.scatter(name, space.what, space.projections, at))
            if colouring is wanted[0]:
                out.add("embeddings", plots.scatter3(f"{name}-3d", space.what, space.projections, at))
    say("probing", 0.45)
    _probe(out, seed)
    say("latents", 0.8)
    _latents(out, reconstructor, seed)
    say("drawing", 0.9)
    _reconstruct(out, reconstructor)
    out.add("training", plots.curves(log))
    return out


def _ways(out: Analysis, with_umap: bool, seed: int) -> list[Callable[[np.ndarray], Projection | None]]:
    ways: list[Callable[[np.ndarray], Projection | None]] = [pca]
    lacking = umap_missing() if with_umap else ""
    if lacking:
        out.notes.append(lacking)
    elif with_umap and len(out.seen) < FEWEST_FOR_UMAP:
        out.notes.append(
            f"UMAP is left out: {len(out.seen)} examples are too few, it takes {FEWEST_FOR_UMAP}"
        )
    elif with_umap:
        ways.append(lambda rows: umap(rows, seed))
    return ways


def _project(
    out: Analysis,
    reconstructor: Reconstructor,
    ways: list[Callable[[np.ndarray], Projection | None]],
    say: Say,
) -> None:
    seen = out.seen
    spaces: list[tuple[str, str, np.ndarray, np.ndarray | None]] = [
        ("processed", "embeddings", seen.processed, None),
        ("difference", "differences, processed minus clean", seen.processed - seen.clean, None),
    ]
    if reconstructor.has_latents and seen.pictures is not None and seen.rows is not None:
        few = np.random.default_rng(5).permutation(len(seen.rows))[:LATENT_POINTS]
        latents = reconstructor.means(seen.pictures[few])
        spaces.append(("latents", "latents, one point a patch", latents, seen.rows[few]))
    for number, (key, what, vectors, rows) in enumerate(spaces):
        good = np.isfinite(vectors).all(axis=1)
        if not good.all():
            out.notes.append(f"{int((~good).sum())} {key} vectors hold NaN and are not drawn")
            vectors, rows = vectors[good], np.flatnonzero(good) if rows is None else rows[good]
        if not len(vectors):
            continue
        made = tuple(p for way in ways if (p := way(vectors)) is not None)
        out.spaces.append(Space(key, what, vectors, rows, made))
        say("projecting", 0.4 * (number + 1) / len(spaces))


def _probe(out: Analysis, seed: int) -> None:
    seen = out.seen
    difference = seen.processed - seen.clean
    # What knows the clean clip only cannot know the effect: it shows what the protocol itself gives away.
    for source, rows in (("processed", seen.processed), ("difference", difference), ("clean", seen.clean)):
        out.classified += effect_probes(rows, seen.index, seen.names, source, seed)
    if not out.classified:
        reason = "one effect only" if len(np.unique(seen.index)) < 2 else "clips of one recording only"
        out.notes.append(f"no probe of the effect: {reason}")
    for number, effect in enumerate(seen.effects):
        rows = seen.of(number)
        if not len(rows):
            continue
        names = [seen.names[i] for i in rows]
        probes = parameter_probes(
            difference[rows], seen.values(number), effect.parameters, names, effect.name, "difference", seed
        )
        out.parameters += probes
        if not probes:
            out.notes.append(
                f"no probe of the parameters of {effect.name}: {len(rows)} examples of {len(set(names))} "
                f"recordings; it takes {FEWEST} examples of 2"
            )
    best = max(
        (c for c in out.classified if c.probe.source == "difference"),
        key=lambda c: c.probe.value,
        default=None,
    )
    if best is not None:
        names = [seen.labels[i] for i in np.unique(seen.index)]
        out.add("probes", plots.confusion(best, names))
    if out.parameters:
        out.add("probes", plots.parameter_probes(out.parameters))


def _latents(out: Analysis, reconstructor: Reconstructor, seed: int) -> None:
    from dafxhost.analysis import latent_plots

    pictures = out.seen.pictures
    if pictures is None or not reconstructor.has_latents:
        return
    found = out.latents = study(reconstructor, pictures, seed=seed)
    out.add("latents", latent_plots.latent_sizes(found))
    if reconstructor.has_decoder:
        mean = reconstructor.means(pictures)
        most = found.order[: latent_plots.SHOWN]
        decoded, deviations = traverse(reconstructor, mean, most, tuple(pictures.shape[1:]))
        out.add("traversals", latent_plots.traversals(decoded, deviations, most))


def _reconstruct(out: Analysis, reconstructor: Reconstructor) -> None:
    from dafxhost.analysis import latent_plots

    pictures = out.seen.pictures
    if pictures is None or not reconstructor.has_reconstruction:
        return
    before = pictures.double().numpy()
    after = reconstructor.reconstruct(pictures).double().numpy()
    error = np.square(after - before).mean()
    # One constant for all; and one a place that does not move with time, the mean spectrum.
    along = (0, -1) if before.ndim == 3 else (0,)
    spectrum = np.square(before - before.mean(axis=along, keepdims=True)).mean()
    out.reconstruction = {
        "explained": float(1 - error / max(before.var(), 1e-12)),
        "explained_beyond_mean": float(1 - error / max(spectrum, 1e-12)),
        "rmse": float(error**0.5),
        "constant_rmse": float(before.std()),
        "mean": float(before.mean()),
        "reconstruction_deviation": float(after.std()),
        "inputs": float(len(before)),
    }
    out.add("reconstruction", latent_plots.histograms(before, after, out.reconstruction["explained"]))
    if before.ndim == 3:
        some = np.linspace(0, len(before) - 1, latent_plots.SHOWN // 2).round().astype(int)
        out.add("reconstruction", latent_plots.side_by_side(before[some], after[some]))
