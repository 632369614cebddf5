"""Parameters of an effect, and the way between a setting on 0..1, native values and plugin values.

Three spaces, always written with these words:

- *setting*: a vector on 0..1, one entry a parameter. What networks and estimators see.
- *native value*: in the parameter's own unit (dB, Hz, ms; the index of a choice; 0 or 1 of a toggle).
  What people see and type.
- *plugin value*: what the host hands to the plugin (an LV2 port's float, a VST3 parameter's raw 0..1).
  Only hosts see it. The way there is the parameter's `port`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from dafxhost.errors import ParameterError
from dafxhost.readings import Reading

Kind = Literal["continuous", "integer", "choice", "toggle"]
Scale = Literal["linear", "log"]
KINDS: tuple[Kind, ...] = ("continuous", "integer", "choice", "toggle")


@dataclass(frozen=True)
class Port:
    """Where and how a host hands a parameter to the plugin.

    Attributes:
        index: the port or parameter index in the plugin.
        low, high: plugin value at the native minimum and maximum (continuous, integer, toggle).
        values: plugin value of each choice, or of each value of an integer; may be empty for an integer, and
            is for other kinds.
        space: "native" if the plugin value is affine in the native value, "unit" if it is affine in the
            setting (VST3's normalised values, whatever the native scale).
    """

    index: int
    low: float = 0.0
    high: float = 1.0
    values: tuple[float, ...] = ()
    space: Literal["native", "unit"] = "unit"


@dataclass(frozen=True)
class Parameter:
    """One named parameter of an effect.

    Attributes:
        name: lower-case key, unique in its effect, e.g. "hpf_freq".
        kind: "continuous", "integer", "choice" or "toggle".
        minimum, maximum: native range. For a choice 0 and the number of choices - 1; for a toggle 0 and 1.
        default: native default.
        unit: "dB", "Hz", "ms", "%", ... or "" when it has none.
        scale: how the setting maps to the native value of a continuous parameter: "linear", or "log"
            (native = minimum * (maximum / minimum) ** setting).
        choices: labels of a choice, in order.
        port: how the provider hands it to the plugin.
        label: what the plugin itself calls it.
        display: how the plugin's own panel shows the native value, where it does so in other numbers: a
            `Reading`, or for an affine one (at minimum, at maximum, unit), e.g. (-20, 20, "dB") for a plugin
            whose port runs 0..1. Only for continuous parameters.
    """

    name: str
    kind: Kind = "continuous"
    minimum: float = 0.0
    maximum: float = 1.0
    default: float = 0.5
    unit: str = ""
    scale: Scale = "linear"
    choices: tuple[str, ...] = ()
    port: Port = field(default_factory=lambda: Port(0))
    label: str = ""
    display: Reading | tuple[float, float, str] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ParameterError(f"parameter {self.name!r}: kind {self.kind!r} is none of {', '.join(KINDS)}")
        if self.kind == "choice" and not self.choices:
            raise ParameterError(f"parameter {self.name!r}: a choice needs its labels")
        if self.kind == "choice" and (self.minimum, self.maximum) != (0, len(self.choices) - 1):
            raise ParameterError(
                f"parameter {self.name!r}: a choice of {len(self.choices)} ranges over "
                f"0..{len(self.choices) - 1}, not {self.minimum}..{self.maximum}"
            )
        if not (math.isfinite(self.minimum) and math.isfinite(self.maximum) and self.minimum <= self.maximum):
            raise ParameterError(f"parameter {self.name!r}: {self._range()} is not a range")
        if self.kind == "toggle" and (self.minimum, self.maximum) != (0, 1):
            raise ParameterError(f"parameter {self.name!r}: a toggle ranges over 0..1, not {self._range()}")
        if self.kind == "integer" and not (
            float(self.minimum).is_integer() and float(self.maximum).is_integer()
        ):
            raise ParameterError(
                f"parameter {self.name!r}: an integer ranges over whole numbers, not {self._range()}"
            )
        if self.port.values and len(self.port.values) != self.levels:
            raise ParameterError(
                f"parameter {self.name!r}: {len(self.port.values)} plugin values for {self.levels} values"
            )
        if not self.minimum <= self.default <= self.maximum:
            raise ParameterError(
                f"parameter {self.name!r}: default {self.default} lies outside {self._range()}"
            )
        if self.scale == "log" and self.minimum <= 0:
            raise ParameterError(f"parameter {self.name!r}: a logarithmic scale needs a positive minimum")

    @property
    def reading(self) -> Reading | None:
        """`display` as a `Reading`; None if there is none."""
        if not isinstance(self.display, tuple) or self.maximum == self.minimum:
            return self.display if isinstance(self.display, Reading) else None
        low, high, unit = self.display
        return Reading(unit, ((self.minimum, low), (self.maximum, high)))

    def _range(self) -> str:
        return f"{self.minimum}..{self.maximum}"

    @property
    def levels(self) -> int:
        """Number of distinct values; 0 for a continuous parameter."""
        return 0 if self.kind == "continuous" else round(self.maximum - self.minimum) + 1

    def to_native(self, setting: np.ndarray | float) -> np.ndarray:
        """Settings on 0..1 -> native values, any shape.

        A discrete parameter of n values cuts 0..1 into n equal bins, so that a uniform draw of settings is a
        uniform draw of values.
        """
        u = np.clip(np.asarray(setting, dtype=np.float64), 0.0, 1.0)
        if self.levels:
            return self.minimum + np.minimum(np.floor(u * self.levels), self.levels - 1)
        if self.scale == "log":
            return self.minimum * (self.maximum / self.minimum) ** u
        return self.minimum + u * (self.maximum - self.minimum)

    def to_setting(self, native: np.ndarray | float) -> np.ndarray:
        """Native values -> settings on 0..1, any shape; a discrete value goes to the middle of its bin."""
        x = np.clip(np.asarray(native, dtype=np.float64), self.minimum, self.maximum)
        if self.levels:
            return (np.round(x - self.minimum) + 0.5) / self.levels
        if self.maximum == self.minimum:
            return np.zeros_like(x)
        if self.scale == "log":
            return np.log(x / self.minimum) / math.log(self.maximum / self.minimum)
        return (x - self.minimum) / (self.maximum - self.minimum)

    def quantise(self, setting: np.ndarray | float) -> np.ndarray:
        """Settings -> the settings of the values they stand for (identity for a continuous parameter)."""
        return self.to_setting(self.to_native(setting)) if self.levels else np.clip(setting, 0.0, 1.0)

    def to_plugin(self, setting: np.ndarray | float) -> np.ndarray:
        """Settings on 0..1 -> plugin values, any shape."""
        if self.port.values:
            step = np.round(self.to_native(setting) - self.minimum).astype(np.intp)
            return np.asarray(self.port.values, dtype=np.float64)[step]
        span = self.maximum - self.minimum
        if self.levels or self.port.space == "native":
            fraction = (self.to_native(setting) - self.minimum) / span if span else np.zeros_like(setting)
        else:
            fraction = np.clip(np.asarray(setting, dtype=np.float64), 0.0, 1.0)
        return self.port.low + fraction * (self.port.high - self.port.low)

    def parse(self, value: float | int | bool | str) -> float:
        """A value as a person gives it -> native value.

        Accepts numbers in the native unit, with or without that unit behind them; numbers in the unit of
        the display, with that unit, and the display's words ("-6 dB", "1.2 kHz", "off"); a choice's label,
        its index, or any unambiguous beginning of its label, in this order (labels may begin with digits);
        and on/off/true/false for a toggle.

        Raises:
            ParameterError: not a value of this parameter, with the range or the labels.
        """
        text = str(value).strip()
        if self.kind == "choice":
            index = self._choice_index(text)
            if index is not None:
                return float(index)
        if self.kind == "toggle" and text.lower() in ("on", "true", "yes", "off", "false", "no"):
            return float(text.lower() in ("on", "true", "yes"))
        if self.unit and text.lower().endswith(self.unit.lower()):
            text = text[: -len(self.unit)].rstrip()
        try:
            number = float(text)
        except ValueError:
            number = self._displayed(text)
        if not self.minimum <= number <= self.maximum:  # also refuses NaN
            raise ParameterError(f"{self.name}={text}: out of range; {self.range_text()}")
        if self.levels and number != round(number):
            raise ParameterError(f"{self.name}={text}: takes whole numbers only; {self.range_text()}")
        return number

    def _displayed(self, text: str) -> float:
        """The native value of what the plugin's panel would show as `text`."""
        try:
            number = self.reading.native(text) if self.reading else None
        except ValueError as error:
            raise ParameterError(f"{self.name}={text}: {error}; {self.range_text()}") from None
        if number is None:
            raise ParameterError(f"{self.name}={text}: not a value of this parameter; {self.range_text()}")
        return number

    def _choice_index(self, text: str) -> int | None:
        """Which choice `text` names; None if none or several."""
        labels = [c.strip() for c in self.choices]
        lowered = [c.lower() for c in labels]
        for hits in (
            [i for i, c in enumerate(labels) if c == text],
            [i for i, c in enumerate(lowered) if c == text.lower()],
            [i for i in range(len(labels)) if str(i) == text],
            [i for i, c in enumerate(lowered) if text and c.startswith(text.lower())],
        ):
            if hits:
                return hits[0] if len(hits) == 1 else None
        return None

    def range_text(self) -> str:
        """The range in words: "0 to 1, default 0.5, shown as -20 to 20 dB"."""
        if self.kind == "choice":
            return "one of " + ", ".join(f"{i} ({c})" for i, c in enumerate(self.choices))
        if self.kind == "toggle":
            return "on or off"
        unit = f" {self.unit}" if self.unit else ""
        shown = f", shown as {self.reading.range_text()}" if self.reading else ""
        return f"{self.minimum:g} to {self.maximum:g}{unit}, default {self.default:g}{shown}"

    def text(self, native: float) -> str:
        """A native value as the user reads it: "0.7 (+8 dB)", "Small radio speaker", "on"."""
        if self.kind == "choice":
            return self.choices[int(native)]
        if self.kind == "toggle":
            return "on" if native else "off"
        plain = _number(native, 4) + (f" {self.unit}" if self.unit else "")
        return f"{plain} ({self.reading.text(native)})" if self.reading else plain

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary, without the port: what a run stores and compares."""
        return {
            "name": self.name,
            "kind": self.kind,
            "minimum": self.minimum,
            "maximum": self.maximum,
            "default": self.default,
            "unit": self.unit,
            "scale": self.scale,
            "choices": list(self.choices),
        }


def _number(value: float, digits: int) -> str:
    """Significant digits, but never "1.2e+04": frequencies and times are read in plain numbers."""
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e15 else f"{value:.{digits}g}"


def plugin_values(parameters: Sequence[Parameter], settings: np.ndarray) -> np.ndarray:
    """Settings `[..., P]` on 0..1 -> plugin values `[..., P]` (float64), for all parameters of an effect."""
    if not parameters:
        return np.zeros(np.shape(settings), dtype=np.float64)
    return np.stack([p.to_plugin(settings[..., i]) for i, p in enumerate(parameters)], axis=-1)
