"""A short-lived process of its own that loads a plugin only to say what parameters it has.

`python -m dafxhost_effects.hosts.describe HOST TARGET PLUGIN_NAME RESULT` writes a JSON file RESULT: a
description, or {"error": reason}. Loading a plugin can change a process's floating-point mode for good and
can crash, so the caller never does it itself.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dafxhost.errors import PluginError

SAMPLES = 11  # raw values at which a continuous parameter's text is read
MOST_STEPS = 128  # a parameter of more steps than that counts as continuous
FINE_SAMPLES = 257  # where the texts look like those of a list


def _raws(steps: int) -> list[float]:
    count = steps if 2 <= steps <= MOST_STEPS else SAMPLES
    return [i / (count - 1) for i in range(count)]


def _row(index: int, facts: dict[str, Any], text: Callable[[float], str]) -> dict[str, Any]:
    texts = [[raw, text(raw)] for raw in _raws(facts["steps"])]
    row = {"index": index, **facts, "texts": texts}
    words = {t.strip() for _, t in texts if not any(c.isdigit() for c in t)}
    if facts["steps"] > MOST_STEPS and len(words) > 1:
        # VST2 knows no lists; its texts give them away.
        row["fine"] = [[i / (FINE_SAMPLES - 1), text(i / (FINE_SAMPLES - 1))] for i in range(FINE_SAMPLES)]
    return row


def by_pedalboard(path: str, plugin_name: str | None) -> dict[str, Any]:
    """Description of a VST3 plugin: name, instrument, channels, latency (samples at 44.1 kHz), parameters;
    or {"several": names} of a file that holds more than one, where none is named."""
    import numpy as np
    from pedalboard import VST3Plugin

    from dafxhost_effects.hosts.vst3 import load

    try:
        plugin = load(path, plugin_name)
    except PluginError:
        names = [] if plugin_name else _names(VST3Plugin, path)
        if len(names) > 1:
            return {"several": names}
        raise
    rows = []
    for index, p in enumerate(plugin._parameters):
        facts = {
            "name": p.name,
            "unit": (p.label or "").strip(),
            "default": float(p.raw_value),
            "steps": int(p.num_steps),
            "automatable": bool(p.is_automatable),
        }
        rows.append(_row(index, facts, p.get_text_for_raw_value))
    channels = 0
    for count in (2, 1):
        try:
            plugin.process(np.zeros((count, 512), dtype=np.float32), 44100, buffer_size=512, reset=False)
        except ValueError:
            continue
        channels = count
        break
    return {
        "name": plugin.name,
        "instrument": bool(plugin.is_instrument),
        "inputs": channels,
        "outputs": channels,
        "latency": int(plugin.reported_latency_samples),
        "parameters": rows,
    }


def _names(vst3_plugin: Any, path: str) -> list[str]:
    """The plugins in a file; none if it cannot be loaded."""
    try:
        return list(vst3_plugin.get_plugin_names_for_file(path))
    except (ImportError, RuntimeError, ValueError, OSError):
        return []


def by_dawdreamer(target: str, plugin_name: str | None) -> dict[str, Any]:
    """The same of what DawDreamer loads; it reads texts by setting the parameter, since it has no other
    way."""
    import dawdreamer as library

    del plugin_name
    dawdreamer: Any = library  # its own type information lacks its classes
    engine = dawdreamer.RenderEngine(44100, 512)  # its plugins die with it
    plugin = engine.make_plugin_processor("plugin", target)
    rows = []
    for index, d in enumerate(plugin.get_parameters_description()):
        default = float(plugin.get_parameter(index))

        def text(raw: float, index: int = index) -> str:
            plugin.set_parameter(index, raw)
            return str(plugin.get_parameter_text(index))

        facts = {
            "name": d["name"],
            "unit": str(d["label"]).strip(),
            "default": default,
            "steps": int(d["numSteps"]),
            "automatable": bool(d["isAutomatable"]),
        }
        rows.append(_row(index, facts, text))
        plugin.set_parameter(index, default)
    return {
        "name": Path(target).stem if target.endswith((".so", ".vst3")) else target,
        "instrument": int(plugin.get_num_input_channels()) == 0,
        "inputs": int(plugin.get_num_input_channels()),
        "outputs": int(plugin.get_num_output_channels()),
        "latency": int(plugin.get_latency_samples()),
        "parameters": rows,
    }


def main(arguments: list[str]) -> None:
    host, target, plugin_name, result = arguments
    describe = {"vst3": by_pedalboard, "dawdreamer": by_dawdreamer}[host]
    try:
        answer = describe(target, plugin_name or None)
    except (PluginError, RuntimeError, ImportError, ValueError) as error:
        answer = {"error": str(error)}
    Path(result).write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
