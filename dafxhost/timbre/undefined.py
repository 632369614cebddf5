"""What a model says when it has no value for a clip."""

from __future__ import annotations

import math
from collections.abc import Mapping


class Undefined(Exception):
    """The feature has no value for this clip; the message says why. Never leaves `dafxhost.timbre`."""


def regression(parts: Mapping[str, float], coefficients: Mapping[str, float], constant: float) -> float:
    """constant + sum of coefficient * part, as every model but two ends.

    Raises:
        Undefined: a part is not finite (the logarithm of nothing), or the sum is not.
    """
    lacking = [name for name in coefficients if not math.isfinite(parts[name])]
    if lacking:
        raise Undefined(f"its {lacking[0]} is undefined (the logarithm of nothing)")
    value = constant + math.fsum(coefficients[name] * parts[name] for name in coefficients)
    if not math.isfinite(value):
        raise Undefined("its value is not a finite number")
    return value


def log10(value: float) -> float:
    """Logarithm to base 10; minus infinity of 0 and NaN below it, without a warning."""
    if value > 0:
        return math.log10(value)
    return -math.inf if value == 0 else math.nan
