"""Presets that come with a plugin, read from the Turtle files of LV2 bundles. Parent side: loads no plugin.

VST3 and VST2 keep theirs in the plugin's code, and no host that we use lists them (pedalboard and
DawDreamer load preset files, but do not say which there are).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from dafxhost.effects import Effect
from dafxhost.parameters import Parameter
from dafxhost_effects.hosts import lv2_info
from dafxhost_effects.hosts.store import cached, key

_PSET = "http://lv2plug.in/ns/ext/presets#"
_LV2 = "http://lv2plug.in/ns/lv2core#"


def of(effect: Effect) -> dict[str, dict[str, float]] | None:
    """{preset: {parameter: native value}} of an LV2 plugin's own presets; {} if it has none, None for what
    is not LV2. Parameters that a preset does not name are left out."""
    uri = effect.provider.options.get("uri")
    if effect.provider.name != "lv2" or not uri:
        return None
    found: dict[str, dict[str, float]] = {}
    for bundle in lv2_info.bundles():
        files = sorted(bundle.glob("*.ttl"))
        for preset in cached("lv2-presets", key(*files), lambda bundle=bundle: _read(bundle)):
            if preset["plugin"] == uri:
                found[preset["name"]] = {
                    p.name: _native(p, preset["values"][p.name])
                    for p in effect.parameters
                    if p.name in preset["values"]
                }
    return found


def _native(parameter: Parameter, value: float) -> float:
    """A port's value -> native value."""
    values = parameter.port.values
    if values:
        return float(parameter.minimum + min(range(len(values)), key=lambda i: abs(values[i] - value)))
    if parameter.kind == "toggle":
        return float(value > (parameter.port.low + parameter.port.high) / 2)
    value = round(value) if parameter.levels else value
    return float(min(max(value, parameter.minimum), parameter.maximum))


def _read(bundle: Path) -> list[dict[str, Any]]:
    """The presets of a bundle: dicts of name, plugin (URI) and values by symbol in lower case."""
    text = (bundle / "manifest.ttl").read_text(encoding="utf-8", errors="replace")
    if _PSET not in text:
        return []
    import rdflib  # heavy

    lv2, pset, rdfs = rdflib.Namespace(_LV2), rdflib.Namespace(_PSET), rdflib.RDFS
    graph = rdflib.Graph()
    try:
        graph.parse(bundle / "manifest.ttl", format="turtle")
        subjects = sorted(set(graph.subjects(rdflib.RDF.type, pset.Preset)), key=str)
        for also in {o for p in subjects for o in graph.objects(p, rdfs.seeAlso)}:
            path = Path(unquote(urlparse(str(also)).path))
            if path.is_file():
                graph.parse(path, format="turtle")
    except Exception:  # noqa: BLE001
        return []  # rdflib's parsers raise many kinds; a broken bundle has no presets
    presets = []
    for subject in subjects:
        ports = list(graph.objects(subject, lv2.port))
        values = {str(graph.value(p, lv2.symbol)).lower(): graph.value(p, pset.value) for p in ports}
        presets.append(
            {
                "name": str(graph.value(subject, rdfs.label) or subject),
                "plugin": str(graph.value(subject, lv2.appliesTo)),
                "values": {k: float(str(v)) for k, v in values.items() if v is not None},
            }
        )
    return presets
