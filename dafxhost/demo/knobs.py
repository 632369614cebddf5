"""What a parameter looks like as a knob, and the way between the knob's value and the setting.

Continuous parameters on a linear scale turn in their native unit. On a logarithmic one an even slider would
crowd all that matters into its first tenth: there the knob turns the place on the scale, 0 to 1, and the
native value stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from dafxhost.effects import Effect
from dafxhost.parameters import Parameter

Kind = Literal["slider", "choice", "toggle"]
STEPS = 1000
"""Of a continuous slider."""


@dataclass(frozen=True)
class Knob:
    """One control.

    Attributes:
        kind: of control. label: its name, with the unit that the control's own numbers have.
        value: float, index of a choice, or bool.
        note: the value in native units where the control does not show it, else "".
        minimum, maximum, step: of a slider. choices: (label, index) of a choice.
    """

    kind: Kind
    label: str
    value: Any
    note: str = ""
    minimum: float = 0.0
    maximum: float = 1.0
    step: float = 1.0
    choices: tuple[tuple[str, int], ...] = ()


def knob(parameter: Parameter, setting: float) -> Knob:
    """The control of a parameter whose setting on 0..1 is given."""
    value = knob_value(parameter, setting)
    label = parameter.name.replace("_", " ")
    if parameter.kind == "toggle":
        return Knob("toggle", label, value)
    if parameter.kind == "choice":
        return Knob("choice", label, value, choices=tuple((c, i) for i, c in enumerate(parameter.choices)))
    if parameter.kind == "integer":
        return Knob("slider", _named(label, parameter), value, "", parameter.minimum, parameter.maximum, 1.0)
    if _on_scale(parameter):
        low, high = parameter.minimum, parameter.maximum
        text = note(parameter, setting)
        return Knob("slider", _named(label, parameter), value, text, low, high, (high - low) / STEPS)
    return Knob("slider", label, value, note(parameter, setting), 0.0, 1.0, 1 / STEPS)


def note(parameter: Parameter, setting: float) -> str:
    """The value in words, where the knob's own number is not it."""
    if parameter.levels or (_on_scale(parameter) and parameter.reading is None):
        return ""
    return parameter.text(float(parameter.to_native(setting)))


def knob_value(parameter: Parameter, setting: float) -> float | int | bool:
    """Where the control of a parameter stands: rounded to what people read."""
    native = float(parameter.to_native(setting))
    if parameter.kind == "toggle":
        return bool(native)
    if parameter.kind == "choice":
        return int(native)
    if parameter.kind == "integer":
        return native
    low, high, value = 0.0, 1.0, float(setting)
    if _on_scale(parameter):
        low, high, value = parameter.minimum, parameter.maximum, native
    return min(high, max(low, float(f"{value:.4g}")))


def turned(effect: Effect, setting: np.ndarray, values: Sequence[Any]) -> np.ndarray:
    """The setting `[P]` after the knobs were turned to `values`; what was not turned stays to the last bit.

    Raises:
        ParameterError: a value that its knob does not have.
    """
    new = np.array(setting, dtype=np.float64)
    for i, (parameter, value) in enumerate(zip(effect.parameters, values, strict=True)):
        if value == knob_value(parameter, new[i]):
            continue
        if parameter.kind == "continuous" and not _on_scale(parameter):
            new[i] = min(1.0, max(0.0, float(value)))
        else:
            native = parameter.choices[int(value)] if parameter.kind == "choice" else value
            new[i] = float(parameter.to_setting(parameter.parse(native)))
    return new


def _on_scale(parameter: Parameter) -> bool:
    return parameter.scale == "linear" and parameter.maximum > parameter.minimum


def _named(label: str, parameter: Parameter) -> str:
    return f"{label} ({parameter.unit})" if parameter.unit else label
