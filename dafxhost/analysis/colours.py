"""What points can be coloured by: the effect, any parameter of any effect, any feature."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dafxhost.analysis.plots import Colouring
from dafxhost.analysis.sound import UNITS
from dafxhost.errors import UnknownNameError

if TYPE_CHECKING:
    from dafxhost.analysis.observing import Observations
    from dafxhost.parameters import Parameter

MOST_CLASSES = 9
"""Values of a discrete parameter that get a colour each; more are shown on a scale."""


def colourings(seen: Observations) -> dict[str, Colouring]:
    """By name: "effect", the features, and "effect.parameter" of every one, in this order."""
    out = {"effect": Colouring("effect", seen.index.astype(np.float64), tuple(seen.labels))}
    out |= {name: Colouring(name, values, unit=UNITS[name]) for name, values in seen.features.items()}
    for number, effect in enumerate(seen.effects):
        rows = seen.of(number)
        if not len(rows):
            continue
        settings = seen.values(number)
        for i, parameter in enumerate(effect.parameters):
            name = f"{effect.name}.{parameter.name}"
            values = np.full(len(seen), np.nan)
            values[rows] = _shown(parameter, settings[:, i])
            out[name] = Colouring(name, values, _classes(parameter), parameter.unit)
    return out


def chosen(found: dict[str, Colouring], names: list[str]) -> list[Colouring]:
    """Those of these names; of a parameter's name without its effect, every effect's of that name.

    Raises:
        UnknownNameError: there is none.
    """
    out: dict[str, Colouring] = {}
    for name in names:
        hits = [key for key in found if key == name] or [
            key for key in found if key.rpartition(".")[2] == name
        ]
        if not hits:
            raise UnknownNameError("colour", name, found)
        out |= {key: found[key] for key in hits}
    return list(out.values())


def _classes(parameter: Parameter) -> tuple[str, ...]:
    if not 0 < parameter.levels <= MOST_CLASSES:
        return ()
    if parameter.kind == "toggle":
        return ("off", "on")
    return parameter.choices or tuple(str(round(parameter.minimum) + i) for i in range(parameter.levels))


def _shown(parameter: Parameter, settings: np.ndarray) -> np.ndarray:
    """Native values, or numbers of classes from 0."""
    native = np.asarray(parameter.to_native(settings), np.float64)
    return np.round(native - parameter.minimum) if _classes(parameter) else native
