"""The 36 mda plugins by Paul Kellett, by name, on whatever hosts them here.

`mda.json` holds what the Turtle files of the LV2 port (mda-lv2 1.2.10) say, so that naming an mda effect
needs neither its files nor an RDF parser; a test compares the two. All ports run 0..1: the units in those
files belong to the values that a panel would display, and are left out. `mda_displays` has those, and the
steps of ports that the files tell wrongly or not at all.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from dafxhost import __version__
from dafxhost.effects import Effect, Provider
from dafxhost.errors import EffectUnavailableError, PluginError, UnknownNameError
from dafxhost.parameters import Parameter
from dafxhost_effects.factories import Factories
from dafxhost_effects.hosts import lv2_info, plugin_info
from dafxhost_effects.hosts.store import file_identity, vst3_binary

VST3_BUNDLE = "mda-vst3.vst3"
BUILTIN = {
    "mda-ambience": "dafxhost_effects.builtin.ambience:AmbienceProcessor",
    "mda-combo": "dafxhost_effects.builtin.combo:ComboProcessor",
    "mda-delay": "dafxhost_effects.builtin.delay:DelayProcessor",
    "mda-dynamics": "dafxhost_effects.builtin.dynamics:DynamicsProcessor",
    "mda-leslie": "dafxhost_effects.builtin.leslie:LeslieProcessor",
    "mda-limiter": "dafxhost_effects.builtin.limiter:LimiterProcessor",
    "mda-multiband": "dafxhost_effects.builtin.multiband:MultiBandProcessor",
    "mda-overdrive": "dafxhost_effects.builtin.overdrive:OverdriveProcessor",
    "mda-ringmod": "dafxhost_effects.builtin.ringmod:RingModProcessor",
    "mda-subsynth": "dafxhost_effects.builtin.subsynth:SubSynthProcessor",
    "mda-thruzero": "dafxhost_effects.builtin.thruzero:ThruZeroProcessor",
}


@cache
def table() -> dict[str, dict[str, Any]]:
    """Name -> facts of each plugin: stem, uri, label, comment, instrument, port numbers, controls."""
    return json.loads(resources.files("dafxhost_effects").joinpath("mda.json").read_text(encoding="utf-8"))


def summary(name: str) -> str:
    facts = table()[name]
    text = facts["comment"] or facts["label"].removeprefix("MDA ")
    return f"{text} (instrument: silent without MIDI)" if facts["instrument"] else text


def description(name: str, bundle: Path) -> dict[str, Any]:
    """The table's facts as a description that `lv2_info` understands."""
    facts = table()[name]
    controls = [
        {
            "index": i,
            "minimum": 0.0,
            "maximum": 1.0,
            "log": False,
            "rate": False,
            "unit": "",
            "points": [],
            **c,
        }
        for i, c in enumerate(facts["controls"])
    ]
    empty = {"side_in": [], "extra_out": [], "control_out": [], "atom_out": [], "fixed": [], "latency": None}
    return {
        **{k: facts[k] for k in ("uri", "comment", "required", "audio_in", "audio_out", "atom_in")},
        **empty,
        "name": facts["label"],
        "bundle": str(bundle),
        "binary": str(bundle / f"{facts['stem']}.so"),
        "controls": controls,
    }


def bundle(name: str) -> Path | None:
    """The LV2 bundle that holds the plugin, or None."""
    for folder in lv2_info.folders():
        if (folder / "mda.lv2" / f"{table()[name]['stem']}.so").is_file():
            return folder / "mda.lv2"
    return None


def parameters(name: str) -> tuple[Parameter, ...]:
    """What an mda effect's parameters are, whichever provider serves it."""
    from dafxhost_effects.mda_displays import displays, stepped  # computes tables: not for who only lists

    return stepped(name, lv2_info.parameters(description(name, Path())["controls"], displays(name)))


def _lv2(name: str) -> Effect | None:
    found = bundle(name)
    if found is None:
        return None
    effect = lv2_info.effect(name, description(name, found), summary=summary(name))
    return replace(effect, parameters=parameters(name))


def _builtin(name: str) -> Effect | None:
    if name not in BUILTIN:
        return None
    # dafxhost's own code: its version says which.
    provider = Provider("builtin", BUILTIN[name], {}, f"dafxhost {__version__}")
    return Effect(name, parameters(name), provider, summary(name), 2, 2)


def _vst3(name: str) -> Effect | None:
    """Steinberg's build of the same plugins in one bundle: the same parameters in the same order, over
    0..1."""
    path = plugin_info.find(VST3_BUNDLE)
    if path is None:
        return None
    label = f"mda {table()[name]['stem']}"
    d = plugin_info.describe("vst3", path, label)
    rows = plugin_info.usable(d["parameters"])
    ours = parameters(name)
    if len(rows) != len(ours):
        raise PluginError(f"{label!r} of {path} has {len(rows)} parameters, not {len(ours)}")
    mapped = tuple(
        replace(p, port=replace(p.port, index=row["index"])) for p, row in zip(ours, rows, strict=True)
    )
    options = {
        "path": str(path),
        "plugin_name": label,
        "parameters": [row["index"] for row in rows],
        "channels": d["outputs"],
    }
    identity = file_identity(vst3_binary(path) or path)
    resets = plugin_info.CHEAPER_RESETS[plugin_info.VST3]
    provider = Provider("vst3", plugin_info.VST3, options, identity, cheaper_resets=resets)
    return Effect(name, mapped, provider, summary(name), d["inputs"], d["outputs"])


def _dawdreamer(name: str) -> Effect | None:
    found, effect = bundle(name), _lv2(name)
    if found is None or effect is None:
        return None
    return lv2_info.by_dawdreamer(effect, description(name, found))


# In the order of preference; DawDreamer serves only who asks for it, since it loads a plugin 1000 times
# slower.
_PROVIDERS = {"lv2": _lv2, "vst3": _vst3, "builtin": _builtin, "dawdreamer": _dawdreamer}


def make(name: str, provider: str | None = None) -> Effect:
    """An mda effect from the best provider here (lv2, vst3, builtin), or from the one asked for.

    Raises:
        UnknownNameError: no provider of that name serves it anywhere.
        EffectUnavailableError: the plugin is not installed; says what to install.
    """
    known = [p for p in _PROVIDERS if p != "builtin" or name in BUILTIN]
    if provider is not None and provider not in known:
        raise UnknownNameError(f"provider of {name}", provider, known)
    for candidate in [provider] if provider else [p for p in known if p != "dawdreamer"]:
        effect = _PROVIDERS[candidate](name)
        if effect is not None:
            return effect
    if provider == "vst3":
        where = ", ".join(map(str, plugin_info.folders())) or "no folder"
        raise EffectUnavailableError(
            f"{name}: there is no {VST3_BUNDLE} in {where}; VST3_PATH says where to look"
        )
    where = ", ".join(map(str, lv2_info.folders())) or "no folder"
    asked = f" for provider {provider!r}" if provider else ""
    raise EffectUnavailableError(
        f"{name} is not installed{asked} (looked in {where}); install the Debian package mda-lv2, "
        "or set LV2_PATH to the folder that holds mda.lv2"
    )


def provider_of(name: str) -> str:
    """Cheap: what would serve it here, or "not installed"."""
    if bundle(name) is not None:
        return "lv2"
    if plugin_info.find(VST3_BUNDLE) is not None:
        return "vst3"
    return "builtin" if name in BUILTIN else "not installed"


factories = Factories(lambda name: functools.partial(make, name), table)
