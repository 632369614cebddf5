"""An effect as the parent process sees it: a name, parameters, and the provider that loads it in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dafxhost.errors import ParameterError, ShapeError, UnknownNameError
from dafxhost.parameters import Parameter, plugin_values


@dataclass(frozen=True)
class Provider:
    """Which host and file serve an effect here. No plugin is loaded by holding one.

    Attributes:
        name: "lv2", "vst3" (pedalboard), "dawdreamer", "pedalboard" or "builtin"; others choose theirs.
        processor: "module:attribute" of the `Processor` class that the worker imports.
        options: JSON-able keyword options for it (path, URI, port numbers, ...).
        identity: what identifies the plugin's code, e.g. "sha256 of the file", kept in runs.
        read_back_tolerance: largest difference between a plugin value set and read back that counts as taken.
        cheaper_resets: policies of `RenderSpec.reset` that may be used in place of a new instance for every
            render once they are shown to give the same samples, cheapest first.
        parts: what messages call the plugins it is made of, if those are several (`processor.enter_part`).
    """

    name: str
    processor: str
    options: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""
    read_back_tolerance: float = 1e-4
    cheaper_resets: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Effect:
    """Something with named parameters that turns audio into audio.

    Attributes:
        name: as registered, e.g. "mda-combo".
        parameters: in the order of a setting's entries.
        provider: what will render it.
        summary: one line.
        inputs, outputs: the plugin's own audio channel counts.
    """

    name: str
    parameters: tuple[Parameter, ...]
    provider: Provider
    summary: str = ""
    inputs: int = 2
    outputs: int = 2

    def __post_init__(self) -> None:
        names = [p.name for p in self.parameters]
        if len(set(names)) != len(names):
            double = sorted({n for n in names if names.count(n) > 1})
            raise ParameterError(f"effect {self.name!r} has several parameters named {', '.join(double)}")

    @property
    def parameter_names(self) -> list[str]:
        return [p.name for p in self.parameters]

    def parameter(self, name: str) -> Parameter:
        """The parameter of that name. Raises UnknownNameError."""
        for p in self.parameters:
            if p.name == name:
                return p
        raise UnknownNameError(f"parameter of {self.name}", name, self.parameter_names)

    def default_setting(self) -> np.ndarray:
        """`[P]` on 0..1: the plugin's defaults."""
        return np.array([float(p.to_setting(p.default)) for p in self.parameters])

    def setting(self, **values: float | int | bool | str) -> np.ndarray:
        """Native values by name -> setting `[P]` on 0..1; what is not named stays at its default.

        Raises:
            UnknownNameError: no such parameter. ParameterError: value out of range or of the wrong kind.
        """
        setting = self.default_setting()
        for name, value in values.items():
            parameter = self.parameter(name)
            setting[self.parameter_names.index(name)] = parameter.to_setting(parameter.parse(value))
        return setting

    def describe(self, setting: Any) -> dict[str, Any]:
        """A setting `[P]` on 0..1 -> {name: native value}; a choice gives its label, a toggle a bool."""
        setting = np.asarray(setting, dtype=np.float64)
        if setting.shape != (len(self.parameters),):
            raise ShapeError(
                f"a setting of {self.name} has shape [{len(self.parameters)}], not {list(setting.shape)}"
            )
        out: dict[str, Any] = {}
        for p, u in zip(self.parameters, setting, strict=True):
            native = float(p.to_native(u))
            out[p.name] = (
                p.choices[int(native)]
                if p.kind == "choice"
                else bool(native)
                if p.kind == "toggle"
                else int(native)
                if p.kind == "integer"
                else native
            )
        return out

    def table(self, setting: Any) -> list[tuple[str, str]]:
        """A setting as (name, text) rows for people: [("drive", "0.7 (40 %)"), ...]."""
        return [
            (p.name, p.text(float(p.to_native(u)))) for p, u in zip(self.parameters, setting, strict=True)
        ]

    def plugin_values(self, settings: np.ndarray) -> np.ndarray:
        """Settings `[..., P]` on 0..1 -> plugin values `[..., P]`, float64."""
        return plugin_values(self.parameters, settings)
