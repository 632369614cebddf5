"""VST3 and VST2 plugins as the parent sees them: described once by a process of their own, kept on disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dafxhost.effects import Effect, Provider
from dafxhost.errors import EffectUnavailableError, PluginError
from dafxhost.parameters import Parameter, Port
from dafxhost_effects.hosts.alone import NoAnswerError, ask
from dafxhost_effects.hosts.store import cached, file_identity, key, vst3_binary

VST3 = "dafxhost_effects.hosts.vst3:Vst3Processor"
DAWDREAMER = "dafxhost_effects.hosts.dawdreamer:DawDreamerProcessor"
CHEAPER_RESETS = {VST3: ("reset", "state"), DAWDREAMER: ("reset",)}
TIMEOUT = 120.0  # seconds for describing one plugin
# What hosts add (program, bypass), what reports the host's own state, and meters that plugins list as inputs.
_NOT_FOR_USERS = re.compile(
    r"(current )?program|bypass|buffer size|sample rate|latency|gain reduction( \d+)?|midi cc .*",
    re.IGNORECASE,
)
MOST_WORDS = 64  # values of a parameter whose texts are words
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*([^\d]*?)\s*")


class SeveralPluginsError(PluginError):
    """The file holds several plugins (`names`), and none was named."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.names = list(names)
        super().__init__(
            f"{path} holds several plugins ({', '.join(names)}); name one, as in {path}#{self.names[0]}"
        )


class InstrumentError(PluginError):
    """The plugin takes no audio, and its host renders only what does."""


def folders() -> list[Path]:
    """Where VST3 bundles are looked for: VST3_PATH if it is set, else the usual folders."""
    text = os.environ.get("VST3_PATH")
    if text is None:
        text = "~/.vst3:/usr/local/lib/vst3:/usr/lib/vst3:/usr/lib/x86_64-linux-gnu/vst3"
    return [Path(p).expanduser() for p in text.split(os.pathsep) if p]


def find(file_name: str) -> Path | None:
    """The bundle of that file name, or None."""
    return next((folder / file_name for folder in folders() if (folder / file_name).exists()), None)


def describe(host: str, path: Path, plugin_name: str = "", timeout: float = TIMEOUT) -> dict[str, Any]:
    """What `hosts.describe` says of a plugin file, from the cache where the file is as it was.

    Args:
        host: "vst3" (pedalboard) or "dawdreamer".

    Raises:
        EffectUnavailableError: no such file.
        SeveralPluginsError: it holds several, and none was named.
        PluginError: it cannot be loaded (with the loader's reason), crashed or hung.
    """
    binary = vst3_binary(path)
    if not path.exists():
        raise EffectUnavailableError(f"there is no plugin {path}")
    if binary is None:
        raise PluginError(f"{path} holds no shared library for this machine")
    suffix = re.sub(r"\W", "", plugin_name)
    description = cached(
        f"{host}{suffix}", key(binary), lambda: _in_a_process(host, str(path), plugin_name, timeout)
    )
    if "several" in description:
        raise SeveralPluginsError(path, description["several"])
    return description


def _in_a_process(host: str, target: str, plugin_name: str, timeout: float) -> dict[str, Any]:
    try:
        answer = ask("dafxhost_effects.hosts.describe", [host, target, plugin_name], timeout)
    except NoAnswerError as error:
        if error.ended.code is None:
            raise PluginError(f"{target} did not describe itself within {timeout:g} s") from error
        text = f"{target} ended its process by {error.why} when loaded: {error.ended.words[:300]}"
        raise PluginError(text) from error
    if "error" in answer:
        raise PluginError(answer["error"])
    return answer


def usable(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of a description that are parameters for people: automatable, no meter, program or bypass."""
    return [r for r in rows if r["automatable"] and not _NOT_FOR_USERS.fullmatch(r["name"].strip())]


def parameters(rows: Iterable[Mapping[str, Any]]) -> tuple[Parameter, ...]:
    """Rows of a description -> parameters, with native ranges read from the plugin's texts where they
    tell."""
    made: list[Parameter] = []
    for row in rows:
        name = re.sub(r"[^a-z0-9]+", "_", row["name"].lower()).strip("_") or f"parameter_{row['index']}"
        taken = {p.name for p in made}
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name}_{number}", number + 1
        row = _as_list(row)
        made.append(_discrete(unique, row) if _is_discrete(row) else _continuous(unique, row))
    return tuple(made)


def _as_list(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A parameter whose texts are words, each over one stretch of 0..1, -> the same with a value for each;
    others as they are."""
    runs: list[tuple[str, list[float]]] = []
    for raw, text in row.get("fine", ()):
        if not runs or runs[-1][0] != text.strip():
            runs.append((text.strip(), []))
        runs[-1][1].append(raw)
    words = [text for text, _ in runs]
    widest = max((len(raws) for _, raws in runs), default=0)
    if not 2 <= len(runs) <= MOST_WORDS or len(set(words)) < len(words) or "" in words:
        return row
    # Numbers among the words are those of a continuous parameter with a word at an end, e.g. "off".
    if widest < 2 or any(_read(text) for text in words):
        return row
    middles = [raws[len(raws) // 2] for _, raws in runs]
    middles[0], middles[-1] = 0.0, 1.0
    default = next((i for i, (_, raws) in enumerate(runs) if row["default"] <= raws[-1]), len(runs) - 1)
    texts = [[raw, text] for raw, text in zip(middles, words, strict=True)]
    return {**row, "steps": len(runs), "texts": texts, "default": middles[default]}


def _is_discrete(row: Mapping[str, Any]) -> bool:
    return 2 <= row["steps"] == len(row["texts"])


def _read(text: str) -> tuple[float, str] | None:
    """ "4.5 dB" -> (4.5, "dB"); None if it is no number."""
    match = _NUMBER.fullmatch(text)
    return (float(match.group(1)), match.group(2)) if match else None


def _discrete(name: str, row: Mapping[str, Any]) -> Parameter:
    raws, labels = [r for r, _ in row["texts"]], [t.strip() for _, t in row["texts"]]
    nearest = min(range(len(raws)), key=lambda i: abs(raws[i] - row["default"]))
    numbers = [_read(t) for t in labels]
    values = [n[0] for n in numbers if n is not None]
    port = Port(row["index"])
    if len(raws) == 2 and (
        values == [0, 1] or [t.lower() for t in labels] in (["off", "on"], ["no", "yes"], ["false", "true"])
    ):
        return Parameter(name, "toggle", 0, 1, float(nearest), port=port, label=row["name"])
    counts_up = len(values) == len(labels) and values == [round(values[0]) + i for i in range(len(values))]
    if counts_up and len(raws) > 2:
        return Parameter(
            name, "integer", values[0], values[-1], values[nearest], row["unit"], port=port, label=row["name"]
        )
    if len(set(labels)) < len(labels):
        labels = [f"{t} ({i})" for i, t in enumerate(labels)]
    return Parameter(
        name,
        "choice",
        0,
        len(raws) - 1,
        nearest,
        choices=tuple(labels),
        port=Port(row["index"], values=tuple(raws)),
        label=row["name"],
    )


def _tidy(number: float) -> float:
    return float(f"{number:.6g}")


def _continuous(name: str, row: Mapping[str, Any]) -> Parameter:
    """Affine or logarithmic in the texts' numbers, either way round; else the raw 0..1 itself."""
    raws = [r for r, _ in row["texts"]]
    read = [_read(t) for _, t in row["texts"]]
    plain = Parameter(name, default=_tidy(row["default"]), port=Port(row["index"]), label=row["name"])
    values = [r[0] for r in read if r is not None]
    units = {r[1] for r in read if r is not None}
    if len(values) != len(read) or len(units) != 1 or values[0] == values[-1]:
        return plain
    scale = "linear" if _affine(raws, values) else "log" if _logarithmic(raws, values) else None
    if scale is None:
        return plain
    falling = values[0] > values[-1]
    low, high = min(values[0], values[-1]), max(values[0], values[-1])
    port = Port(row["index"], 1.0, 0.0) if falling else Port(row["index"])
    shape = Parameter(name, "continuous", low, high, low, row["unit"] or units.pop(), scale, port=port)
    setting = 1.0 - row["default"] if falling else row["default"]
    default = float(shape.to_native(setting))
    default = _tidy(round(default / (high - low), 7) * (high - low))  # no 1e-6 dB for 0 dB
    default = min(max(default, low), high)
    return Parameter(name, "continuous", low, high, default, shape.unit, scale, port=port, label=row["name"])


def _affine(raws: Sequence[float], values: Sequence[float], tolerance: float = 2e-3) -> bool:
    span = values[-1] - values[0]
    return all(
        abs(v - values[0] - r * span) <= tolerance * abs(span) for r, v in zip(raws, values, strict=True)
    )


def _logarithmic(raws: Sequence[float], values: Sequence[float]) -> bool:
    if min(values) <= 0:
        return False
    ratio = values[-1] / values[0]
    return all(abs(v / (values[0] * ratio**r) - 1) <= 0.02 for r, v in zip(raws, values, strict=True))


def effect(
    name: str,
    path: Path,
    provider: str,
    *,
    summary: str = "",
    plugin_name: str = "",
    timeout: float = TIMEOUT,
) -> Effect:
    """A plugin file -> an Effect served by "vst3" (pedalboard; .vst3 only) or "dawdreamer".

    Args:
        plugin_name: which one of a file that holds several; only by "vst3".
        timeout: seconds it may take to describe itself.

    Raises:
        EffectUnavailableError: no such file.
        PluginError: it cannot be loaded; or (`SeveralPluginsError`) it holds several and none was named.
    """
    if plugin_name and provider != "vst3":
        raise PluginError(
            f"{path}: of a file with several plugins, DawDreamer loads only the first; use vst3"
        )
    is_vst3 = path.suffix == ".vst3"
    d = describe("vst3" if is_vst3 else "dawdreamer", path, plugin_name, timeout)
    rows = usable(d["parameters"])
    indices = [r["index"] for r in rows]
    if provider == "vst3":
        if d["instrument"]:
            raise InstrumentError(f"{path} is an instrument: it takes no audio")
        if not d["outputs"]:
            raise PluginError(f"{path} takes neither one nor two channels, as pedalboard needs it to")
        options: dict[str, Any] = {"path": str(path), "parameters": indices, "channels": d["outputs"]}
        if plugin_name:
            options["plugin_name"] = plugin_name
        target = VST3
    else:
        options, target = {"target": str(path), "parameters": indices}, DAWDREAMER
    identity = file_identity(vst3_binary(path) or path)
    return Effect(
        name,
        parameters(rows),
        Provider(provider, target, options, identity, cheaper_resets=CHEAPER_RESETS[target]),
        summary or d["name"],
        d["inputs"],
        d["outputs"],
    )
