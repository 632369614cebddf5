"""The 17 zam-plugins by name, as VST3 through pedalboard or DawDreamer."""

from __future__ import annotations

import functools

from dafxhost.effects import Effect
from dafxhost.errors import EffectUnavailableError, UnknownNameError
from dafxhost_effects.factories import Factories
from dafxhost_effects.hosts import plugin_info

# Name -> bundle and what it is, from Debian's zam-plugins 4.1.
TABLE = {
    "zam-autosat": ("ZamAutoSat", "Automatic saturation, mono"),
    "zam-comp": ("ZamComp", "Compressor, mono"),
    "zam-comp-x2": ("ZamCompX2", "Compressor, stereo"),
    "zam-delay": ("ZamDelay", "Delay, mono"),
    "zam-dynamic-eq": ("ZamDynamicEQ", "Dynamic equaliser, mono"),
    "zam-eq2": ("ZamEQ2", "Two-band parametric equaliser with shelves, mono"),
    "zam-gate": ("ZamGate", "Gate, mono"),
    "zam-gate-x2": ("ZamGateX2", "Gate, stereo"),
    "zam-geq31": ("ZamGEQ31", "31-band graphic equaliser, mono"),
    "zam-grains": ("ZamGrains", "Granular loop, mono"),
    "zam-head-x2": ("ZamHeadX2", "Head-related transfer functions, stereo"),
    "zam-maxim-x2": ("ZaMaximX2", "Maximiser, stereo"),
    "zam-multi-comp": ("ZaMultiComp", "Three-band compressor, mono"),
    "zam-multi-comp-x2": ("ZaMultiCompX2", "Three-band compressor, stereo"),
    "zam-phono": ("ZamPhono", "Phono equalisation filters, mono"),
    "zam-tube": ("ZamTube", "Tube amplifier with tone stacks, mono"),
    "zam-verb": ("ZamVerb", "Convolution reverb, stereo"),
}
PROVIDERS = ("vst3", "dawdreamer")


def table() -> dict[str, tuple[str, str]]:
    return TABLE


def summary(name: str) -> str:
    return TABLE[name][1]


def make(name: str, provider: str | None = None) -> Effect:
    """A zam effect. The first time, its bundle is loaded in a process of its own to read its parameters.

    Raises:
        UnknownNameError: no such provider.
        EffectUnavailableError: the bundle is not installed; says what to install.
        PluginError: it is installed and cannot be loaded; says why.
    """
    if provider is not None and provider not in PROVIDERS:
        raise UnknownNameError(f"provider of {name}", provider, PROVIDERS)
    bundle, text = TABLE[name]
    path = plugin_info.find(f"{bundle}.vst3")
    if path is None:
        where = ", ".join(map(str, plugin_info.folders())) or "no folder"
        raise EffectUnavailableError(
            f"{name} is not installed (looked for {bundle}.vst3 in {where}); install the Debian package "
            "zam-plugins, or set VST3_PATH to the folder that holds it"
        )
    return plugin_info.effect(name, path, provider or "vst3", summary=text)


def provider_of(name: str) -> str:
    """Cheap: what would serve it here, or "not installed"."""
    return "vst3" if plugin_info.find(f"{TABLE[name][0]}.vst3") else "not installed"


factories = Factories(lambda name: functools.partial(make, name), table)
