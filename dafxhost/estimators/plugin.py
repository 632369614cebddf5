"""The gradient estimators that come with dafxhost, registered as anybody's would be."""

from __future__ import annotations

from dafxhost.registry import EstimatorSpec, hookimpl

# The core's own entry point offers the core's trackers, too.
from dafxhost.trackers.plugin import dafxhost_trackers as dafxhost_trackers


@hookimpl
def dafxhost_estimators() -> list[EstimatorSpec]:
    return [
        EstimatorSpec(
            "spsa",
            "dafxhost.estimators.spsa:SPSA",
            "Simultaneous perturbation (Spall 1992): two renders a direction, however many parameters.",
        ),
        EstimatorSpec(
            "spsa-blocks",
            "dafxhost.estimators.block:BlockSPSA",
            "SPSA whose directions divide the parameters among themselves: less noise for the same renders.",
        ),
        EstimatorSpec(
            "spsa-one-sided",
            "dafxhost.estimators.one_sided:OneSidedSPSA",
            "SPSA against the unperturbed render: one render a direction.",
        ),
        EstimatorSpec(
            "spsa-scales",
            "dafxhost.estimators.scales:MultiScaleSPSA",
            "SPSA with a random step for every direction.",
        ),
        EstimatorSpec(
            "orthogonal",
            "dafxhost.estimators.orthogonal:OrthogonalDirections",
            "Pairs along random orthogonal directions (Choromanski et al. 2018).",
        ),
        EstimatorSpec(
            "gaussian-smoothing",
            "dafxhost.estimators.smoothing:GaussianSmoothing",
            "Evolution strategies with mirrored Gaussian pairs (Salimans et al. 2017).",
        ),
        EstimatorSpec(
            "random-coordinates",
            "dafxhost.estimators.random_coordinates:RandomCoordinates",
            "Central differences of a few random parameters an example.",
        ),
        EstimatorSpec(
            "fd-forward",
            "dafxhost.estimators.finite_difference:ForwardDifference",
            "Forward finite differences: one render a parameter, and the unperturbed one.",
        ),
        EstimatorSpec(
            "fd-central",
            "dafxhost.estimators.finite_difference:CentralDifference",
            "Central finite differences: two renders a parameter, the most accurate.",
        ),
    ]
