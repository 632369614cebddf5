"""What the benchmarks share: clips, the machine and its load, times taken in turn, ratios and spreads."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil

RATE = 44100
RESULTS = Path(__file__).resolve().parent / "results"
CALM = 0.10  # of all cores in use by others; above it figures are not to be published


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def noise(clips: int, seconds: float, channels: int = 1, rate: int = RATE) -> np.ndarray:
    """`[clips, channels, T]` float32, white, RMS 0.1 of full scale."""
    shape = (clips, channels, max(1, round(seconds * rate)))
    return (0.1 * np.random.default_rng(0).standard_normal(shape, np.float32)).astype(np.float32)


def random_settings(clips: int, columns: int, parameters: int) -> np.ndarray:
    """`[clips, columns, parameters]` on 0..1; the same for everybody."""
    return np.random.default_rng(1).random((clips, columns, parameters))


def busy_cores(seconds: float = 1.0) -> float:
    """Cores that anything is using now, this process idle."""
    return psutil.cpu_percent(seconds) / 100.0 * (psutil.cpu_count() or 1)


def machine() -> dict[str, Any]:
    """What figures have to be read with."""
    model = "unknown"
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((li.partition(":")[2].strip() for li in lines if li.startswith("model name")), model)
    packages = ("numpy", "pedalboard", "dawdreamer", "joblib", "torch")
    versions = {}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return {
        "processor": model,
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "busy_cores_before": round(busy_cores(), 2),
    }


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles; with fewer than four values the least and the largest."""
    values = [v for v in values if not math.isnan(v)]
    if not values:
        return {"median": math.nan, "low": math.nan, "high": math.nan}
    if len(values) < 4:
        low, high = min(values), max(values)
    else:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": statistics.median(values), "low": low, "high": high}


def ratios(above: Sequence[float], below: Sequence[float]) -> dict[str, float]:
    """Summary of the quotients of what was measured in the same turn."""
    return summary([a / b for a, b in zip(above, below, strict=True)])


def in_turn(
    actions: Mapping[str, Callable[[], Any]], turns: int, budget: float = math.inf, least: int = 3
) -> dict[str, list[Any]]:
    """Call all actions one after the other, again and again: A B C A B C ..., so that a machine that slows
    down does so for all.

    Args:
        turns: rounds. budget: seconds after which no new round begins, once there were `least`.
    """
    seen: dict[str, list[Any]] = {name: [] for name in actions}
    began = time.perf_counter()
    for turn in range(turns):
        if turn >= least and time.perf_counter() - began > budget:
            break
        for name, action in actions.items():
            seen[name].append(action())
    return seen


def timed(action: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def say(text: str) -> None:
    """Progress goes to stderr; stdout is for results."""
    print(text, file=sys.stderr, flush=True)


def finite_json(value: Any) -> Any:
    """The same without NaN, which JSON does not know, and with numbers to five digits."""
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): finite_json(v) for k, v in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [finite_json(v) for v in value]
    return value


def save(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(finite_json(report), indent=1) + "\n")
