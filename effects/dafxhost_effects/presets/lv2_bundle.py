"""LV2 presets: a bundle of two Turtle files with the plugin's control values. No plugin is loaded.

After http://lv2plug.in/ns/ext/presets. Hosts find the bundle in a folder of LV2_PATH (~/.lv2 is the user's).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import OutputError, PluginError
from dafxhost_effects.hosts import lv2_info

MANIFEST, PRESET = "manifest.ttl", "preset.ttl"
_PREFIXES = """\
@prefix lv2: <http://lv2plug.in/ns/lv2core#> .
@prefix pset: <http://lv2plug.in/ns/ext/presets#> .
@prefix rdfs: <http://www.w3.org/2000/01/rdf-schema#> .

"""


def write(effect: Effect, setting: np.ndarray, path: Path) -> None:
    """Write the bundle `path`, a folder; its name without ".lv2" is what hosts list.

    A bundle of the same name is replaced if it holds a preset and nothing else.

    Raises:
        EffectUnavailableError: the plugin's own bundle is gone.
        PluginError: a value that counts in sample rates, which a preset cannot hold.
        OutputError: it cannot be written, or something else is there.
    """
    uri = effect.provider.options.get("uri") or effect.provider.options["target"]
    values = port_values(effect, setting, lv2_info.find(uri))
    files = {MANIFEST: manifest(uri), PRESET: preset(uri, path.stem, values)}
    _check(path)
    try:
        # Beside it first, so that a host never sees half of it.
        with tempfile.TemporaryDirectory(prefix=f".{path.stem[:40]}-", dir=path.parent) as folder:
            made = Path(folder) / path.name
            made.mkdir()
            for name, text in files.items():
                (made / name).write_text(text, encoding="utf-8")
            if path.exists():
                path.rename(Path(folder) / "before")
            made.rename(path)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def port_values(effect: Effect, setting: np.ndarray, description: Mapping[str, Any]) -> dict[str, float]:
    """Symbol -> value of every control port that is a parameter, float32 as the port takes it.

    Raises:
        PluginError: as `write`.
    """
    controls = {c["symbol"].lower(): c for c in description["controls"]}
    values = {}
    for i, parameter in enumerate(effect.parameters):
        control = controls[parameter.name]
        if control["rate"]:
            raise PluginError(
                f"{effect.name}: the value of {parameter.name} counts in sample rates, so it has none for a "
                "preset; keep the setting as JSON"
            )
        value = float(parameter.to_plugin(setting[i]))
        if effect.provider.processor != lv2_info.PROCESSOR:  # DawDreamer's 0..1 over the port's range
            value = control["minimum"] + value * (control["maximum"] - control["minimum"])
        values[control["symbol"]] = float(np.float32(value))
    return values


def manifest(uri: str) -> str:
    """Text of manifest.ttl."""
    return (
        f"{_PREFIXES}<{PRESET}>\n\ta pset:Preset ;\n\tlv2:appliesTo <{_iri(uri)}> ;\n"
        f"\trdfs:seeAlso <{PRESET}> .\n"
    )


def preset(uri: str, label: str, values: Mapping[str, float]) -> str:
    """Text of preset.ttl."""
    ports = " , ".join(
        f'[\n\t\tlv2:symbol "{symbol}" ;\n\t\tpset:value {_number(value)}\n\t]'
        for symbol, value in values.items()
    )
    return (
        f"{_PREFIXES}<>\n\ta pset:Preset ;\n\tlv2:appliesTo <{_iri(uri)}> ;\n"
        f'\trdfs:label "{_escaped(label)}"' + (f" ;\n\tlv2:port {ports} .\n" if ports else " .\n")
    )


def _check(path: Path) -> None:
    """Raise OutputError if something stands in the way that is no preset."""
    if not os.path.lexists(path):
        return
    ours = path.is_dir() and not path.is_symlink() and {p.name for p in path.iterdir()} == {MANIFEST, PRESET}
    if not ours:
        raise OutputError(f"{path} is there and is no preset bundle; give the preset another name.")


def _number(value: float) -> str:
    """The shortest decimal that reads back as the same float32.

    Never with an exponent: that makes it a double in Turtle, and hosts such as Ardour take only floats.
    """
    return np.format_float_positional(np.float32(value), unique=True, trim="0")


def _escaped(text: str) -> str:
    """Inside a Turtle string."""
    for plain, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(plain, written)
    return text


def _iri(text: str) -> str:
    """Inside <...>: what may not stand there is percent-encoded."""
    return "".join(c if c > " " and c not in '<>"{}|^`\\' else f"%{ord(c):02X}" for c in text)
