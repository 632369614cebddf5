"""What LV2 bundles say about their plugins, read from their Turtle files. Parent side: loads no plugin.

A *description* is a JSON-able dict: uri, name, comment, bundle, binary, instrument, required (feature URIs),
controls (one dict a parameter: index, symbol, label, minimum, maximum, default, kind, log, unit, points,
rate), and port numbers by role (audio_in, audio_out, side_in, extra_out, control_out, atom_in, atom_out,
fixed, latency).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from dafxhost.effects import Effect, Provider
from dafxhost.errors import EffectUnavailableError, PluginError
from dafxhost.parameters import Parameter, Port
from dafxhost_effects.hosts.store import cached, file_identity, key

PROCESSOR = "dafxhost_effects.hosts.lv2:Lv2Processor"
_LV2 = "http://lv2plug.in/ns/lv2core#"
_UNITS = "http://lv2plug.in/ns/extensions/units#"
_PROPS = "http://lv2plug.in/ns/ext/port-props#"
_ATOM = "http://lv2plug.in/ns/ext/atom#"
_UNIT_TEXT = {
    "db": "dB",
    "hz": "Hz",
    "khz": "kHz",
    "mhz": "MHz",
    "ms": "ms",
    "s": "s",
    "min": "min",
    "pc": "%",
    "coef": "",
    "cent": "ct",
    "semitone12TET": "semitones",
    "oct": "octaves",
    "bpm": "BPM",
    "degree": "°",
    "m": "m",
    "cm": "cm",
    "mm": "mm",
}


def folders() -> list[Path]:
    """Where LV2 bundles are looked for: LV2_PATH if it is set, else the usual folders."""
    text = os.environ.get("LV2_PATH")
    if text is None:
        text = "~/.lv2:/usr/local/lib/lv2:/usr/lib/lv2:/usr/lib/x86_64-linux-gnu/lv2:/usr/lib64/lv2"
    return [Path(p).expanduser() for p in text.split(os.pathsep) if p]


def bundles() -> list[Path]:
    """All bundle folders with a manifest, the first of each name winning."""
    found: dict[str, Path] = {}
    for folder in folders():
        if folder.is_dir():
            for manifest in sorted(folder.glob("*/manifest.ttl")):
                found.setdefault(manifest.parent.name, manifest.parent)
    return list(found.values())


def describe_bundle(bundle: Path) -> list[dict[str, Any]]:
    """Descriptions of all plugins of a bundle; kept on disk, keyed by the files' paths, times and sizes.

    Raises:
        PluginError: a Turtle file that cannot be parsed.
    """
    files = sorted(bundle.glob("*.ttl"))
    return cached("lv2", key(*files), lambda: _parse_bundle(bundle))


def find(uri: str) -> dict[str, Any]:
    """The description of the plugin of that URI.

    Raises:
        EffectUnavailableError: no installed bundle has it; lists where it was looked for.
    """
    broken = []
    # Likely ones first: parsing takes a while where a bundle has not been seen before.
    for bundle in sorted(bundles(), key=lambda b: uri not in _manifest_text(b)):
        try:
            for description in describe_bundle(bundle):
                if description["uri"] == uri:
                    return description
        except PluginError as error:
            broken.append(str(error))
    where = ", ".join(map(str, folders())) or "no folder"
    raise EffectUnavailableError(f"no LV2 plugin {uri} found in {where}" + "".join(f"; {b}" for b in broken))


def _manifest_text(bundle: Path) -> str:
    """The manifest, with prefixed names spelt out well enough to look for a URI in it."""
    text = (bundle / "manifest.ttl").read_text(encoding="utf-8", errors="replace")
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and words[0] == "@prefix" and words[1] != ":":
            text = text.replace(words[1], words[2].strip("<>."))
    return text


def _parse_bundle(bundle: Path) -> list[dict[str, Any]]:
    import rdflib  # heavy, and needed only for a bundle not seen before

    lv2, rdfs = rdflib.Namespace(_LV2), rdflib.RDFS
    graph = rdflib.Graph()
    try:
        graph.parse(bundle / "manifest.ttl", format="turtle")
        plugins = sorted(set(graph.subjects(rdflib.RDF.type, lv2.Plugin)), key=str)
        for also in {o for p in plugins for o in graph.objects(p, rdfs.seeAlso)}:
            path = Path(unquote(urlparse(str(also)).path))
            if path.is_file():
                graph.parse(path, format="turtle")
    except Exception as error:
        # rdflib's parsers raise many kinds, none with a common base.
        raise PluginError(f"{bundle} cannot be read: {type(error).__name__}: {error}") from error
    return [d for p in plugins if (d := _Reader(graph, bundle).plugin(p)) is not None]


class _Reader:
    def __init__(self, graph: Any, bundle: Path) -> None:
        import rdflib

        self._g, self._bundle = graph, bundle
        self._lv2, self._rdf = rdflib.Namespace(_LV2), rdflib

    def _text(self, subject: Any, predicate: str) -> str:
        value = self._g.value(subject, self._rdf.URIRef(predicate))
        return "" if value is None else str(value)

    def _number(self, subject: Any, predicate: str, otherwise: float) -> float:
        text = self._text(subject, predicate)
        return float(text) if text else otherwise

    def _set(self, subject: Any, predicate: str) -> set[str]:
        return {str(o) for o in self._g.objects(subject, self._rdf.URIRef(predicate))}

    def plugin(self, plugin: Any) -> dict[str, Any] | None:
        binary = self._text(plugin, _LV2 + "binary")
        ports = sorted(
            self._g.objects(plugin, self._lv2.port), key=lambda p: int(self._text(p, _LV2 + "index"))
        )
        if not binary or not ports:
            return None
        types = self._set(plugin, str(self._rdf.RDF.type))
        description: dict[str, Any] = {
            "uri": str(plugin),
            "name": self._text(plugin, "http://usefulinc.com/ns/doap#name"),
            "comment": self._text(plugin, "http://usefulinc.com/ns/doap#shortdesc"),
            "bundle": str(self._bundle),
            "binary": unquote(urlparse(binary).path),
            "instrument": _LV2 + "InstrumentPlugin" in types,
            "required": sorted(self._set(plugin, _LV2 + "requiredFeature")),
            "controls": [],
            "latency": None,
        }
        roles = (
            "audio_in",
            "audio_out",
            "side_in",
            "extra_out",
            "control_out",
            "atom_in",
            "atom_out",
            "fixed",
        )
        description.update({role: [] for role in roles})
        for port in ports:
            self._port(port, description)
        return description

    def _port(self, port: Any, d: dict[str, Any]) -> None:
        types = self._set(port, str(self._rdf.RDF.type))
        properties = self._set(port, _LV2 + "portProperty")
        index, incoming = int(self._text(port, _LV2 + "index")), _LV2 + "InputPort" in types
        designation = self._text(port, _LV2 + "designation")
        if _LV2 + "ControlPort" in types:
            if not incoming:
                d["control_out"].append(index)
                if _LV2 + "reportsLatency" in properties or designation == _LV2 + "latency":
                    d["latency"] = index
            elif designation in (_LV2 + "enabled", _LV2 + "freeWheeling"):
                d["fixed"].append([index, float(designation.endswith("enabled"))])
            else:
                d["controls"].append(self._control(port, index, properties))
        elif _LV2 + "AudioPort" in types:
            side = incoming and _LV2 + "isSideChain" in properties
            d["side_in" if side else "audio_in" if incoming else "audio_out"].append(index)
        elif _LV2 + "CVPort" in types:
            d["side_in" if incoming else "extra_out"].append(index)
        elif _ATOM + "AtomPort" in types or any(t.endswith("EventPort") for t in types):
            d["atom_in" if incoming else "atom_out"].append(index)
        else:
            raise PluginError(f"{d['uri']} has a port of unknown kind, number {index}")

    def _control(self, port: Any, index: int, properties: set[str]) -> dict[str, Any]:
        points = sorted(
            (float(self._text(p, str(self._rdf.RDF.value))), self._text(p, str(self._rdf.RDFS.label)))
            for p in self._g.objects(port, self._lv2.scalePoint)
        )
        if _LV2 + "toggled" in properties:
            kind = "toggle"
        elif _LV2 + "enumeration" in properties and points:
            kind = "choice"
        elif _LV2 + "integer" in properties:
            kind = "integer"
        else:
            kind = "continuous"
        default = self._number(port, _LV2 + "default", 0.0)
        low = self._number(port, _LV2 + "minimum", 0.0)
        high = self._number(port, _LV2 + "maximum", max(1.0, default))
        return {
            "index": index,
            "symbol": self._text(port, _LV2 + "symbol"),
            "label": self._text(port, _LV2 + "name"),
            "minimum": low,
            "maximum": high,
            "default": min(max(default, low), high),
            "kind": kind,
            "log": kind == "continuous" and low > 0 and _PROPS + "logarithmic" in properties,
            "unit": self._unit(port),
            "points": [[label, value] for value, label in points] if kind == "choice" else [],
            "rate": _LV2 + "sampleRate" in properties,
        }

    def _unit(self, port: Any) -> str:
        unit = self._g.value(port, self._rdf.URIRef(_UNITS + "unit"))
        if unit is None:
            return ""
        if isinstance(unit, self._rdf.BNode):
            return self._text(unit, _UNITS + "symbol")
        return _UNIT_TEXT.get(str(unit).rsplit("#", 1)[-1], "")


def parameter(control: Mapping[str, Any], display: Any = None) -> Parameter:
    """A description's control -> Parameter, named by its LV2 symbol in lower case."""
    name, label = control["symbol"].lower(), control["label"]
    low, high, default = control["minimum"], control["maximum"], control["default"]
    if control["kind"] == "choice":
        values = tuple(value for _, value in control["points"])
        return Parameter(
            name=name,
            kind="choice",
            minimum=0,
            maximum=len(values) - 1,
            default=min(range(len(values)), key=lambda i: abs(values[i] - default)),
            choices=tuple(text for text, _ in control["points"]),
            port=Port(control["index"], values=values),
            label=label,
        )
    if control["kind"] == "toggle":
        on = default > (low + high) / 2
        port = Port(control["index"], low, high)
        return Parameter(name, "toggle", 0, 1, float(on), port=port, label=label)
    if control["kind"] == "integer":
        default = round(default)
    return Parameter(
        name=name,
        kind=control["kind"],
        minimum=low,
        maximum=high,
        default=default,
        unit=control["unit"],
        scale="log" if control["log"] else "linear",
        port=Port(control["index"], low, high, space="native"),
        label=label,
        display=display,
    )


def options(description: Mapping[str, Any]) -> dict[str, Any]:
    """A description -> the options of `Lv2Processor`."""
    roles = ("audio_in", "audio_out", "side_in", "extra_out", "control_out", "atom_in", "atom_out", "fixed")
    return {
        **{k: description[k] for k in ("uri", "bundle", "binary", "required", "latency", *roles)},
        "parameters": [c["index"] for c in description["controls"]],
        "rate_ports": [c["index"] for c in description["controls"] if c["rate"]],
    }


def effect(
    name: str,
    description: Mapping[str, Any],
    *,
    summary: str = "",
    displays: Mapping[str, Any] | None = None,
) -> Effect:
    """A description -> an Effect served by LV2.

    Raises:
        EffectUnavailableError: the plugin has no audio output.
        PluginError: its shared library is missing.
    """
    if not description["audio_out"]:
        raise EffectUnavailableError(f"the LV2 plugin {description['uri']} has no audio output")
    # Ports are float32: 5843.7412 of 8000 ms reads back as 5843.7412109375.
    largest = max((max(abs(c["minimum"]), abs(c["maximum"])) for c in description["controls"]), default=0)
    identity, tolerance = file_identity(Path(description["binary"])), max(1e-5, 1e-7 * largest)
    provider = Provider("lv2", PROCESSOR, options(description), identity, tolerance)
    return Effect(
        name,
        parameters(description["controls"], displays or {}),
        provider,
        summary or description["comment"] or description["name"],
        len(description["audio_in"]),
        len(description["audio_out"]),
    )


def parameters(controls: Iterable[Mapping[str, Any]], displays: Mapping[str, Any]) -> tuple[Parameter, ...]:
    return tuple(parameter(c, displays.get(c["symbol"].lower())) for c in controls)


def by_dawdreamer(lv2: Effect, description: Mapping[str, Any]) -> Effect:
    """The same effect served by DawDreamer, which takes every LV2 parameter as 0..1 over its range."""
    made = []
    for p, c in zip(lv2.parameters, description["controls"], strict=True):
        span = (c["maximum"] - c["minimum"]) or 1.0
        values = tuple((v - c["minimum"]) / span for v in p.port.values)
        made.append(replace(p, port=Port(p.port.index, 0.0, 1.0, values, space="native")))
    provider = Provider(
        "dawdreamer",
        "dafxhost_effects.hosts.dawdreamer:DawDreamerProcessor",
        {
            "target": description["uri"],
            "names": [c["label"] for c in description["controls"]],
            "lv2_path": str(Path(description["bundle"]).parent),
        },
        lv2.provider.identity,
        cheaper_resets=("reset",),
    )
    return replace(lv2, parameters=tuple(made), provider=provider)
