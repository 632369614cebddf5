"""Settings that a user keeps: one effect's setting as JSON, and how strongly it is applied.

The file (UTF-8) holds one object. `dafxhost transfer` writes the same keys beside its result, with more::

    {
      "dafxhost": "0.1.0",              version that wrote it
      "format": 1,                      of this file; a newer one than is known here is refused
      "effect": "mda-combo",            name in the registry
      "location": "...",                only for an effect without such a name: its plugin file or URI
      "provider": "lv2",                host that served it
      "identity": "sha256:...",         plugin that served it
      "native": {"drive": 0.7, ...},    native values by name; a choice by its label, a toggle as true, false
      "setting": {"drive": 0.7, ...}    the same on 0..1, to the last bit
    }

Only "effect" and one of "native" and "setting" are needed, so a file can be written by hand. "native" is what
counts; where "setting" says the same (to 1e-9 of the parameter's range), its bits are used. Parameters that
are not named are at the plugin's default; other keys are ignored.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import dafxhost
from dafxhost.effects import Effect, Provider
from dafxhost.errors import DafxhostError, OutputError, ParameterError, ShapeError, UsageError
from dafxhost.parameters import Parameter
from dafxhost.registry import effect as find_effect
from dafxhost.registry import registry

FORMAT = 1
AGREEMENT = 1e-9
"""Largest difference, of a parameter's range, between "setting" and "native" that counts as none."""
Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class KeptSetting:
    """A setting read from a file.

    Attributes:
        path: the file. effect: served by what will render it. setting: `[P]` on 0..1.
        provider, identity: what served the effect when the setting was made; "" where the file does not say.
    """

    path: Path
    effect: Effect
    setting: np.ndarray
    provider: str = ""
    identity: str = ""

    def difference(self) -> str:
        """What is another plugin now than when the setting was made, in words; "" if nothing is."""
        now = self.effect.provider
        if self.provider and self.provider != now.name:
            return f"{self.path} was made with {self.effect.name} by {self.provider}; it is {now.name} here"
        if self.identity and self.identity != now.identity:
            return f"{self.path} was made with another version of {self.effect.name} ({self.identity})"
        return ""


def document(effect: Effect, setting: Any) -> dict[str, Any]:
    """What a setting's file holds. Raises ShapeError, ParameterError: no setting of this effect."""
    setting = checked(effect, setting)
    where = location(effect)
    return {
        "dafxhost": dafxhost.__version__,
        "format": FORMAT,
        "effect": effect.name,
        **({"location": where} if where else {}),
        "provider": effect.provider.name,
        "identity": effect.provider.identity,
        "native": effect.describe(setting),
        "setting": dict(zip(effect.parameter_names, map(float, setting), strict=True)),
    }


def checked(effect: Effect, setting: Any) -> np.ndarray:
    """The setting as `[P]` float64.

    Raises:
        ShapeError: of another length. ParameterError: values that are not on 0..1.
    """
    values = np.asarray(setting, dtype=np.float64)
    if values.shape != (len(effect.parameters),):
        raise ShapeError(
            f"a setting of {effect.name} has shape [{len(effect.parameters)}], not {list(values.shape)}"
        )
    for name, value in zip(effect.parameter_names, values, strict=True):
        if not 0 <= value <= 1:  # also NaN
            raise ParameterError(f"{effect.name}: {name} is {value:g}; settings lie on 0 to 1")
    return values


def save_setting(path: Path_, effect: Effect, setting: Any) -> Path:
    """Write a setting `[P]` on 0..1 as JSON. Raises ShapeError, ParameterError, OutputError."""
    text = json.dumps(document(effect, setting), indent=2, ensure_ascii=False) + "\n"
    return write_whole(Path(path), text.encode())


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file at once: whatever happens, it is there whole or as it was. Raises OutputError."""
    beside = ""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:40]}-", delete=False) as file:
            beside = file.name
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)  # temporary files are for the user alone
        os.replace(beside, path)
    except OSError as error:
        if beside:
            Path(beside).unlink(missing_ok=True)
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    return path


def load_setting(path: Path_, effect: Effect | None = None, *, provider: str | None = None) -> KeptSetting:
    """Read a setting, and find its effect.

    Args:
        effect: to be used instead of looking for it by the file's words.
        provider: which host is to serve it; by default the one that the file names.

    Raises:
        UsageError: the file is missing, corrupt, no setting, of a newer format, or for another effect.
        UnknownNameError: no such effect, provider, or parameter of it.
        ParameterError: a value out of range or of the wrong kind.
        EffectUnavailableError: nothing here hosts the effect.
    """
    path = Path(path)
    kept = _read(path)
    name = _text(path, kept, "effect")
    if effect is None:
        effect = _find(path, kept, name, provider)
    elif effect.name != name:
        raise UsageError(f"{path} is a setting of {name}, not of {effect.name}")
    try:
        setting = _setting(path, kept, effect)
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from error
    return KeptSetting(
        path,
        effect,
        setting,
        _text(path, kept, "provider", ""),
        _text(path, kept, "identity", ""),
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is no setting: it is not JSON, or was cut off ({error}).") from error
    if not isinstance(kept, dict) or not ("native" in kept or "setting" in kept):
        raise UsageError(
            f'{path} is no setting: a JSON object with "effect" and "native" is needed, as transfer writes it'
        )
    form = kept.get("format", FORMAT)
    if not isinstance(form, int) or isinstance(form, bool) or form < 1:
        raise UsageError(f"{path}: format {form!r} is no number of a format; dafxhost writes {FORMAT}")
    if form > FORMAT:
        raise UsageError(
            f"{path} is of format {form}, written by dafxhost {kept.get('dafxhost', '?')}; this is dafxhost "
            f"{dafxhost.__version__}, which reads formats up to {FORMAT}: install a newer one"
        )
    return kept


def _text(path: Path, kept: Mapping[str, Any], key: str, otherwise: str | None = None) -> str:
    value = kept.get(key, otherwise)
    if not isinstance(value, str):
        problem = "is missing" if value is None else f"is {value!r}, not a text"
        raise UsageError(f'{path}: "{key}" {problem}; a setting names its effect, as transfer writes it')
    return value


def _find(path: Path, kept: Mapping[str, Any], name: str, provider: str | None) -> Effect:
    """By name or place, served by the provider asked for, else by the one in the file."""
    place = _text(path, kept, "location", "") or name
    if provider is not None:
        return find_effect(place, provider)
    wanted = _text(path, kept, "provider", "")
    try:
        found = find_effect(place)
        return found if wanted in ("", found.provider.name) else find_effect(place, wanted)
    except DafxhostError as error:
        hint = f" (the provider in {path}; --provider asks for another)" if wanted else f" (in {path})"
        error.args = (f"{error}{hint}",)
        raise


def _setting(path: Path, kept: Mapping[str, Any], effect: Effect) -> np.ndarray:
    native, exact = kept.get("native", {}), kept.get("setting", {})
    for key, values in (("native", native), ("setting", exact)):
        if not isinstance(values, dict):
            raise UsageError(f'{path}: "{key}" is {type(values).__name__}, not an object of values by name')
        for name in values:
            effect.parameter(name)
    setting = effect.default_setting()
    for i, p in enumerate(effect.parameters):
        if p.name in native:
            setting[i] = p.to_setting(p.parse(_plain(p, native[p.name])))
        if p.name in exact:
            u = _unit(p, exact[p.name])
            if p.name not in native or _same(p, u, setting[i]):
                setting[i] = u
    return setting


def _plain(parameter: Parameter, value: Any) -> float | bool | str:
    if isinstance(value, (bool, int, float, str)):
        return value
    raise ParameterError(f"{parameter.name}: {value!r} is no value; {parameter.range_text()}")


def _unit(parameter: Parameter, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ParameterError(f'{parameter.name}: {value!r} in "setting" is no number on 0 to 1')
    return float(value)


def _same(parameter: Parameter, one: float, other: float) -> bool:
    if parameter.levels:
        return float(parameter.to_native(one)) == float(parameter.to_native(other))
    return abs(one - other) <= AGREEMENT


def location(effect: Effect) -> str:
    """Where an effect is that has no name in the registry: a plugin file or URI; "" if it has a name, or can
    be found nowhere."""
    if effect.name in registry().names("effect"):
        return ""
    for value in effect.provider.options.values():
        if not isinstance(value, str) or not value:
            continue
        try:
            found = registry().effect_at(value, effect.provider.name)
        except DafxhostError:
            continue
        if isinstance(found, Effect) and found.name == effect.name:
            return value
    return ""


def neutral_setting(effect: Effect, setting: Any) -> np.ndarray:
    """The setting `[P]` from which `at_strength` starts.

    Where it is known which values make the effect leave audio alone, or as much alone as it can (the hook
    `dafxhost_neutral`), those parameters have them and the others are as in `setting`: a delay's mix is 0 and
    its time stays. Otherwise the plugin's default. In a chain each link has its own; one without, that has a
    bypass, is bypassed. Raises like `checked`.
    """
    setting = checked(effect, setting)
    if not effect.provider.options.get("links"):
        return _neutral(effect, setting)
    parts, start = [], 0
    for link in effect.provider.options["links"]:
        count, bypass = len(link["free"]), bool(link["bypass"])
        named = effect.parameters[start : start + count]
        parameters = tuple(replace(p, name=p.name.partition(".")[2]) for p in named)
        provider = Provider(link["provider"], link["processor"], link["options"])
        one = Effect(link["effect"], parameters, provider)
        parts.append(_neutral(one, setting[start : start + count]))
        if bypass:
            switch = effect.parameters[start + count]
            known = registry().neutral(one) is not None
            parts.append(setting[start + count : start + count + 1] if known else [switch.to_setting(1)])
        start += count + bypass
    return np.concatenate(parts)


def _neutral(effect: Effect, setting: np.ndarray) -> np.ndarray:
    values = registry().neutral(effect)
    if values is None:
        return effect.default_setting()
    neutral = setting.copy()
    for i, parameter in enumerate(effect.parameters):
        if parameter.name in values:  # a chain may have fixed it
            neutral[i] = parameter.to_setting(parameter.parse(values[parameter.name]))
    return neutral


def at_strength(effect: Effect, setting: Any, strength: float) -> np.ndarray:
    """A setting `[P]` applied more weakly.

    Continuous parameters go in a straight line on 0..1 (so a frequency moves by equal ratios) from
    `neutral_setting` to `setting`; integers, choices and toggles are neutral below 0.5 and the setting's from
    0.5 on. At 0 the neutral setting and at 1 the setting, both to the last bit.

    Args:
        strength: 0 to 1.

    Raises:
        UsageError: another strength. ShapeError, ParameterError: no setting of this effect.
    """
    check_strength(strength)
    setting = checked(effect, setting)
    if strength == 1:
        return setting.copy()
    neutral = neutral_setting(effect, setting)
    discrete = np.array([p.levels > 0 for p in effect.parameters], dtype=bool)
    between = neutral + strength * (setting - neutral)
    return np.where(discrete, setting if strength >= 0.5 else neutral, between)


def check_strength(strength: float) -> None:
    """Raise UsageError unless it lies on 0..1."""
    if not 0 <= strength <= 1:  # also NaN
        raise UsageError(f"strength {strength:g} is out of range; it goes from 0 (neutral) to 1 (the match)")
