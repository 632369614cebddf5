"""Embeddings brought down to two or three dimensions: PCA and UMAP."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

FEWEST_FOR_UMAP = 12
"""Rows; with fewer a neighbourhood graph has nothing to show."""
NEIGHBOURS = 15
_BEFORE_UMAP = 50


@dataclass(frozen=True)
class Projection:
    """One way of looking at N rows.

    Attributes:
        name: "PCA" or "UMAP". points: by number of dimensions (2, 3), `[N, dimensions]`.
        explained: share of the variance along each axis; empty where that has no meaning.
    """

    name: str
    points: dict[int, np.ndarray]
    explained: tuple[float, ...] = ()


def standardised(rows: np.ndarray) -> np.ndarray:
    """`[N, D]` with every column's mean 0 and deviation 1; a constant column becomes 0."""
    spread = rows.std(axis=0)
    return (rows - rows.mean(axis=0)) / np.where(
        spread > 1e-9 * np.abs(rows).max(initial=1e-9), spread, np.inf
    )


def pca(rows: np.ndarray) -> Projection:
    """The first three principal components of the standardised rows `[N, D]`; missing ones are 0.

    The sign of each is chosen so that its largest entry is positive, which makes pictures repeatable.
    """
    scaled = standardised(rows)
    u, s, v = np.linalg.svd(scaled, full_matrices=False)
    signs = np.sign(v[np.arange(len(v)), np.abs(v).argmax(axis=1)]) if v.size else np.ones(0)
    points = np.zeros((len(rows), 3))
    few = min(3, len(s))
    points[:, :few] = (u * s * np.where(signs == 0, 1, signs))[:, :few]
    total = float(np.square(s).sum())
    shares = tuple(float(x) for x in np.square(s[:3]) / total) if total > 0 else ()
    return Projection("PCA", {2: points[:, :2], 3: points}, shares)


def umap(rows: np.ndarray, seed: int = 0) -> Projection | None:
    """UMAP (McInnes et al. 2018) of the standardised rows to 2 and to 3 dimensions; None with too few rows.

    More than 50 columns are first brought to 50 principal components. The same seed gives the same picture,
    for which it runs on one thread.
    """
    if len(rows) < FEWEST_FOR_UMAP:
        return None
    with warnings.catch_warnings():
        # It warns of what the library itself chose (its own threads, numba's deprecations).
        warnings.simplefilter("ignore")
        UMAP: Any = import_module("umap").UMAP  # untyped: pyright would take minutes to infer it

        scaled = standardised(rows)
        if scaled.shape[1] > _BEFORE_UMAP:
            u, s, _ = np.linalg.svd(scaled, full_matrices=False)
            scaled = (u * s)[:, :_BEFORE_UMAP]
        neighbours = min(NEIGHBOURS, len(rows) - 1)
        # The spectral start needs more rows than twice the dimensions, and some variance.
        start = "spectral" if len(rows) > 3 * NEIGHBOURS and scaled.std() > 0 else "random"
        points = {
            n: np.asarray(
                UMAP(n_components=n, n_neighbors=neighbours, init=start, random_state=seed, n_jobs=1)
                .fit_transform(scaled), np.float64,
            )
            for n in (2, 3)
        }  # fmt: skip
    return Projection("UMAP", points)
