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
