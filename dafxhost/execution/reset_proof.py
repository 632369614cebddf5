"""Which cheap way of resetting a plugin gives the very samples of a new instance, if any does.

Loading a VST3 anew costs 0.1 to 50 ms a render; the host's own reset costs next to nothing, but leaks state
in many plugins (delay lines, filters, random numbers). So each cheap policy is tried in a worker of its own:
a kept instance is driven with loud noise at a random setting, long enough to fill delay lines, reset, and
must then give, bit for bit, what a new instance gives at another random setting; several times over. What
cannot be shown within the time allowed is not used. Trust goes on being checked: one render in some hundred
is made a second time by a new instance (`Instance.render`).

Imported by workers: numpy and the light parts of dafxhost only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from dafxhost.execution.instance import FloatingPoint, Instance, largest_difference, text_of

TRIALS = 8
DIRTY, CLEAN = 12.0, 2.0  # s of noise before the reset and of audio after it
BUDGET = 4.0  # s for a policy, and as much again as LOADS new instances take
LOADS = 20
WORTHWHILE = 0.03  # share of a render of 5 s by which a policy must be quicker


@dataclass(frozen=True)
class ResetProof:
    """What the trials showed.

    Attributes:
        policy: the cheapest policy whose samples are those of a new instance; "fresh" if there is none.
        fresh_seconds, seconds: what resetting costs by a new instance and by that policy (s).
        reasons: why the other policies are not used, by name.
    """

    policy: str
    fresh_seconds: float = 0.0
    seconds: float = 0.0
    reasons: dict[str, str] | None = None


def prove(
    description: dict[str, Any], candidates: list[str], values: np.ndarray, floating_point: FloatingPoint
) -> ResetProof:
    """Try the candidates in order with plugin values `[TRIALS, 2, P]`. Runs in a worker."""
    rate, channels = description["spec"]["sample_rate"], description["spec"]["channels"]
    rng = np.random.default_rng(0)
    # Noise as loud as a peak of 0 dBFS allows, then bursts and silence: tails show where nothing covers them.
    dirty = rng.uniform(-1, 1, (channels, round(DIRTY * rate))).astype(np.float32)
    clean = 0.3 * rng.standard_normal((channels, round(CLEAN * rate))).astype(np.float32)
    clean[:, : len(clean[0]) // 4] = 0
    clean[:, len(clean[0]) // 2 :] = 0
    new = _instance(description, "fresh", floating_point)
    expected, fresh, processing = [], [], []
    for _, wanted in values:
        expected.append(_render(new, wanted, clean))
        fresh.append(new.reset_seconds)
        processing.append(new.seconds - new.reset_seconds)
    new.close()
    fresh_seconds = float(np.median(fresh))
    render = fresh_seconds + float(np.median(processing)) * 5 / CLEAN
    reasons: dict[str, str] = {}
    for policy in candidates:
        if fresh_seconds < WORTHWHILE * render:
            reasons[policy] = "a new instance costs next to nothing"
            continue
        try:
            kept = _instance(description, policy, floating_point)
            seconds, reason = _try(kept, values, dirty, clean, expected, BUDGET + LOADS * fresh_seconds)
            kept.close()
        except Exception as error:  # noqa: BLE001  (whatever it is, the policy is not to be trusted)
            reason, seconds = text_of(error), 0.0
        if not reason and fresh_seconds - seconds >= WORTHWHILE * render:
            return ResetProof(policy, fresh_seconds, seconds, reasons)
        reasons[policy] = reason or "no quicker than a new instance"
    return ResetProof("fresh", fresh_seconds, fresh_seconds, reasons)


def _instance(description: dict[str, Any], policy: str, floating_point: FloatingPoint) -> Instance:
    spec = {**description["spec"], "reset": policy}
    return Instance({**description, "spec": spec, "verify": "values"}, floating_point)


def _render(instance: Instance, values: np.ndarray, audio: np.ndarray) -> np.ndarray:
    out = np.empty_like(audio)
    instance.render(values, audio, out)
    return out


def _try(
    kept: Instance,
    values: np.ndarray,
    dirty: np.ndarray,
    clean: np.ndarray,
    expected: list[np.ndarray],
    budget: float,
) -> tuple[float, str]:
    """(seconds that a reset takes, why the policy cannot be used or "")."""
    spent, began = [], time.perf_counter()
    waste = np.empty_like(dirty)
    for (first, wanted), right in zip(values, expected, strict=True):
        kept.prepare(first)
        kept.processor.process(dirty, waste)
        got = _render(kept, wanted, clean)
        spent.append(kept.reset_seconds)
        if (difference := largest_difference(got, right)) is not None:
            return 0.0, f"leaves state behind: samples differ by up to {difference:.2g}"
        if time.perf_counter() - began > budget:
            return 0.0, f"not shown within {budget:.1f} s"
    return float(np.median(spent)), ""
