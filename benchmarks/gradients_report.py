"""What the page needs of pytest-benchmark's report of bench_gradients.py. Light: imports no torch."""

from __future__ import annotations

from typing import Any


def distilled(report: dict[str, Any]) -> dict[str, Any]:
    """By estimator the renders a clip and the ratio to an autograd step in each space; ratios to auraloss."""
    estimators: dict[str, dict[str, Any]] = {}
    losses: dict[str, Any] = {}
    for one in report["benchmarks"]:
        extra = one["extra_info"]
        if "steps of autograd" in extra:
            own = estimators.setdefault(one["params"]["name"], {"renders": extra["renders per clip"]})
            own[one["params"]["space"]] = extra["steps of autograd"]
        elif "of auraloss" in extra:
            whose = (one["params"] or {}).get("whose")
            losses[f"loss, {whose}" if whose else "loss and its gradient"] = extra["of auraloss"]
    return {"estimators": estimators, "losses": losses}
