"""How much of the effect and of its settings can be read from embeddings: a linear probe and a random forest.

Cross-validated by recording: clips of one recording are never on both sides, so that what is measured is
recognition on unseen recordings. Everything is beside chance, measured in the same folds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from dafxhost.parameters import Parameter

FOLDS = 5
TREES = 100
_FEW_TREES = 40  # of parameters: there are dozens of them
BOOTSTRAPS = 200
FEWEST = 12
"""Examples of an effect below which its parameters are not probed."""
REGULARISATION = 0.1
"""Of the linear probe: C of scikit-learn's LogisticRegression on standardised columns."""


@dataclass(frozen=True)
class Probe:
    """One target read from one kind of embedding by one probe.

    Attributes:
        target: "effect", or "effect.parameter". source: "processed", "difference", "clean". probe: "linear"
            or "forest". measure: "accuracy", or "R2" (of a continuous parameter: 1 is perfect, 0 the mean).
        value: over all examples, each predicted by a probe that never met its recording. low, high: bootstrap
            95 % interval over recordings. chance: what the most frequent value, or the mean, of the training
            folds reaches. examples, recordings: counts.
    """

    target: str
    source: str
    probe: str
    measure: str
    value: float
    low: float
    high: float
    chance: float
    examples: int
    recordings: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Classified:
    """A probe of classes and the confusions behind it: `[C, C]` counts, true classes in rows."""

    probe: Probe
    confusion: np.ndarray


def folds(names: Sequence[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(training rows, test rows) of each fold; empty with fewer than two recordings."""
    from sklearn.model_selection import GroupKFold

    _, groups = np.unique(np.asarray(names), return_inverse=True)
    count = int(groups.max()) + 1
    if count < 2:
        return []
    return list(GroupKFold(min(FOLDS, count)).split(np.zeros(len(groups)), groups=groups))


def effect_probes(
    rows: np.ndarray, labels: np.ndarray, names: Sequence[str], source: str, seed: int = 0
) -> list[Classified]:
    """Both probes of the effect from `rows` `[N, D]`; none with fewer than two effects or recordings."""
    parts = folds(names)
    if len(np.unique(labels)) < 2 or not parts:
        return []
    return [
        _classified(rows, labels, names, parts, ("effect", source, kind), seed)
        for kind in ("linear", "forest")
    ]


def parameter_probes(
    rows: np.ndarray,
    settings: np.ndarray,
    parameters: Sequence[Parameter],
    names: Sequence[str],
    effect: str,
    source: str,
    seed: int = 0,
) -> list[Probe]:
    """Both probes of every parameter of one effect, from its examples' `rows` `[n, D]`, `settings` `[n, P]`.

    None with fewer than 12 examples or two recordings, or of a parameter that never varied.
    """
    parts = folds(names)
    if len(rows) < FEWEST or not parts:
        return []
    out: list[Probe] = []
    continuous = [i for i, p in enumerate(parameters) if not p.levels and settings[:, i].std() > 0]
    if continuous:
        about = [f"{effect}.{parameters[i].name}" for i in continuous]
        out += _regressed(rows, settings[:, continuous], names, parts, about, source, seed)
    for i, p in enumerate(parameters):
        values = np.asarray(p.to_native(settings[:, i])).round().astype(int)
        if p.levels and len(np.unique(values)) > 1:
            about = f"{effect}.{p.name}"
            out += [
                _classified(rows, values, names, parts, (about, source, kind), seed).probe
                for kind in ("linear", "forest")
            ]
    return out


def _classifier(kind: str, seed: int, trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "forest":
        return RandomForestClassifier(trees, random_state=seed, n_jobs=1)
    return make_pipeline(StandardScaler(), LogisticRegression(C=REGULARISATION, max_iter=2000))


def _regressor(kind: str, seed: int) -> Any:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if kind == "forest":
        some: Any = "sqrt"  # of the columns; scikit-learn's own annotation knows numbers only
        return RandomForestRegressor(_FEW_TREES, max_features=some, random_state=seed, n_jobs=1)
    return make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13)))


def _predicted(
    make: Callable[[], Any], rows: np.ndarray, truth: np.ndarray, parts: Sequence[Any]
) -> np.ndarray:
    """Every row's prediction by a model that was fitted without its fold."""
    out = np.zeros(truth.shape, truth.dtype)
    for train, test in parts:
        if truth.ndim == 1 and len(np.unique(truth[train])) < 2:
            out[test] = truth[train][0]
            continue
        with warnings.catch_warnings():
            # Few examples of many columns: that the solver stopped early, or a class is rare, is no news.
            warnings.simplefilter("ignore")
            out[test] = make().fit(rows[train], truth[train]).predict(rows[test]).reshape(truth[test].shape)
    return out


def _classified(
    rows: np.ndarray,
    truth: np.ndarray,
    names: Sequence[str],
    parts: Sequence[Any],
    about: tuple[str, str, str],
    seed: int,
) -> Classified:
    target, source, kind = about
    trees = TREES if target == "effect" else _FEW_TREES
    guess = _predicted(lambda: _classifier(kind, seed, trees), rows, truth, parts)
    chance = np.zeros(len(truth))
    for train, test in parts:
        found, counts = np.unique(truth[train], return_counts=True)
        chance[test] = truth[test] == found[counts.argmax()]
    right = (guess == truth).astype(float)
    low, high = _interval(names, lambda chosen: float(right[chosen].mean()))
    classes = np.unique(truth)
    confusion = np.zeros((len(classes), len(classes)), int)
    np.add.at(confusion, (np.searchsorted(classes, truth), np.searchsorted(classes, guess)), 1)
    probe = Probe(
        target, source, kind, "accuracy", float(right.mean()), low, high, float(chance.mean()), len(truth),
        len(set(names)),
    )  # fmt: skip
    return Classified(probe, confusion)


def _regressed(
    rows: np.ndarray, truth: np.ndarray, names: Sequence[str], parts: Sequence[Any], about: Sequence[str],
    source: str, seed: int,
) -> list[Probe]:  # fmt: skip
    base = np.zeros(truth.shape)
    for train, test in parts:
        base[test] = truth[train].mean(axis=0)
    out = []
    for kind in ("linear", "forest"):
        guess = _predicted(lambda kind=kind: _regressor(kind, seed), rows, truth, parts)
        for i, target in enumerate(about):

            def r2(chosen: np.ndarray, guess: np.ndarray = guess, i: int = i) -> float:
                t = truth[chosen, i]
                return 1 - float(
                    np.square(guess[chosen, i] - t).sum() / max(np.square(t - t.mean()).sum(), 1e-12)
                )

            every = np.arange(len(truth))
            low, high = _interval(names, r2)
            out.append(
                Probe(target, source, kind, "R2", r2(every), low, high, r2(every, base, i), len(truth),
                      len(set(names)))
            )  # fmt: skip
    return out


def _interval(names: Sequence[str], measure: Callable[[np.ndarray], float]) -> tuple[float, float]:
    """Bootstrap 95 % interval of a measure of rows, recordings being drawn whole."""
    _, groups = np.unique(np.asarray(names), return_inverse=True)
    members = [np.flatnonzero(groups == g) for g in range(int(groups.max()) + 1)]
    rng = np.random.default_rng(17)
    values = [
        measure(np.concatenate([members[g] for g in rng.integers(0, len(members), len(members))]))
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)
