"""What a plugin's own panel shows for a native value: decibels, hertz, milliseconds, or a word such as "off".

Many plugins take 0..1 and only display a unit. A `Reading` is a table of (native, shown) points with straight
lines between them, so that it can be compared, pickled and printed; 100 points and more follow any smooth law
to the three digits that are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

# Larger units, in which people read large numbers; and how much of the smaller one they are.
_LARGER = {"Hz": ("kHz", 1000.0), "ms": ("s", 1000.0), "µs": ("ms", 1000.0)}
_IN_BASE = {
    "hz": ("f", 1.0),
    "khz": ("f", 1e3),
    "µs": ("t", 1e-6),
    "μs": ("t", 1e-6),  # the Greek letter, for the micro sign above
    "us": ("t", 1e-6),
    "ms": ("t", 1e-3),
    "s": ("t", 1.0),
    "sec": ("t", 1.0),
}
_NUMBER = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(\S*)", re.IGNORECASE)
ROUNDING = 5e-3  # shown numbers have three digits, so what is read may lie this much (relative) beyond an end


@dataclass(frozen=True)
class Reading:
    """A panel's reading of a parameter.

    Attributes:
        unit: "dB", "Hz", "ms", ":1", ... or "".
        points: (native value, shown number), native values rising from the parameter's minimum to its
            maximum.
        words: (from, to, text): native values, both included, where the panel shows a text, e.g. "off".
    """

    unit: str
    points: tuple[tuple[float, float], ...]
    words: tuple[tuple[float, float, str], ...] = ()

    def word(self, native: float) -> str | None:
        """The text shown instead of a number, if there is one."""
        return next((text for low, high, text in self.words if low <= native <= high), None)

    def shown(self, native: float) -> float:
        """The number that is shown; the ends' beyond the ends."""
        before = self.points[0]
        for point in self.points:
            if native <= point[0]:
                span = point[0] - before[0]
                return before[1] + ((native - before[0]) / span * (point[1] - before[1]) if span else 0.0)
            before = point
        return before[1]

    def text(self, native: float) -> str:
        """As people read it: "-6 dB", "1.2 kHz", "off"."""
        word = self.word(native)
        return self._number(self.shown(native)) if word is None else word

    def _number(self, number: float) -> str:
        unit = self.unit
        if unit in _LARGER and abs(number) >= 999.5:
            unit, size = _LARGER[unit]
            number /= size
        number = round(number, 2 if unit == "dB" else 5) + 0.0  # neither 1e-17 nor -0 for 0
        digits = f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
        return digits + unit if unit == ":1" else f"{digits} {unit}".rstrip()

    def range_text(self) -> str:
        """From the first shown number to the last, or from the lowest to the highest: "-20 to 20 dB"."""
        shown = [y for _, y in self.points]
        ends = shown[0], shown[-1]
        if {min(shown), max(shown)} != set(ends):
            ends = min(shown), max(shown)
        low, high = (self._number(y) for y in ends)
        same = self.unit and self.unit != ":1" and low.split()[-1] == high.split()[-1]
        words = dict.fromkeys(text for _, _, text in self.words if not _NUMBER.fullmatch(text))
        return " or ".join([f"{low.split()[0] if same else low} to {high}", *words])

    def native(self, text: str) -> float | None:
        """A word of the panel, or a number with its unit -> native value; None if `text` is neither.

        A number that several values show within one stretch gives the stretch's middle.

        Raises:
            ValueError: it is a number that no value, or values in several places, would show; says which.
        """
        squeezed = "".join(text.split()).lower()
        for low, high, word in self.words:
            if squeezed == "".join(word.split()).lower():
                first = min(self.points[0][0], *(w[0] for w in self.words))
                last = max(self.points[-1][0], *(w[1] for w in self.words))
                return low if low == first else high if high == last else (low + high) / 2
        match = _NUMBER.fullmatch(text.strip())
        size = self._size(match.group(2)) if match else None
        if match is None or size is None:
            return None
        return self._inverse(float(match.group(1)) * size)

    def _size(self, unit: str) -> float | None:
        """How many of our unit one of the other is; None where it is another kind of unit, or none."""
        if unit.lower() == self.unit.lower():
            return 1.0 if unit else None
        ours, theirs = _IN_BASE.get(self.unit.lower()), _IN_BASE.get(unit.lower())
        return theirs[1] / ours[1] if ours and theirs and ours[0] == theirs[0] else None

    def _inverse(self, number: float) -> float:
        shown = [y for _, y in self.points]
        nearest = min(max(number, min(shown)), max(shown))
        if abs(nearest - number) > ROUNDING * abs(number):
            raise ValueError("out of range")
        found: list[tuple[float, float]] = []
        for low, high in self._stretches(nearest):
            if found and low - found[-1][1] <= 1e-9:
                found[-1] = (found[-1][0], high)
            else:
                found.append((low, high))
        if not found:
            raise ValueError("out of range")
        if len(found) > 1:
            places = " and ".join(f"{(low + high) / 2:.4g}" for low, high in found)
            raise ValueError(f"shown at {places} alike; give one of these instead")
        return sum(found[0]) / 2

    def _stretches(self, number: float) -> Iterator[tuple[float, float]]:
        """Native values that show the number, as intervals, rising."""
        for (x0, y0), (x1, y1) in pairwise(self.points):
            if not min(y0, y1) <= number <= max(y0, y1) or self.word((x0 + x1) / 2) is not None:
                continue
            if y0 == y1:
                yield x0, x1
            else:
                x = x0 + (number - y0) / (y1 - y0) * (x1 - x0)
                if self.word(x) is None:
                    yield x, x

    def to_dict(self) -> dict[str, Any]:
        """JSON-able summary: unit, the numbers at both ends, and the words."""
        ends = {"minimum": self.points[0][1], "maximum": self.points[-1][1]}
        return {"unit": self.unit, **ends, "words": [list(word) for word in self.words]}
