"""Plugins' own states, by processes of their own: no plugin is loaded but where this is run as a module.

``python -m dafxhost_effects.presets.states JOB ANSWER`` reads a job (JSON) and writes its answer (JSON):

- {"task": "save", "host": "vst3" or "vst2", "target", "plugin_name", "channels", "parameters": [indices],
  "values": [plugin values], "file"}: a fresh plugin gets the values, and its state goes into the file, as a
  .vstpreset or a VST2 bank.
- {"task": "load", ..., "again"}: a fresh plugin loads the file, a .vstpreset, .fxp or .fxb, and its state
  goes into the file `again`, as in "save".

The answer is {"values": [...]}, what the plugin then says it is set to, or {"error": reason}.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import PluginError
from dafxhost.settings import write_whole
from dafxhost_effects.hosts.alone import NoAnswerError, ask

TIMEOUT = 120.0  # seconds for one job
RATE, BLOCK = 44100, 512


def write(
    effect: Effect,
    setting: np.ndarray,
    path: Path,
    plugin: Mapping[str, Any],
    finish: Callable[[bytes], bytes],
) -> None:
    """Write a plugin's state as a file, after a second fresh plugin has loaded it and holds the same values.

    Args:
        plugin: the job's "host", "target", "plugin_name", "channels" and "parameters".
        finish: from what the host gives to what the file holds. Raises PluginError.

    Raises:
        PluginError: the plugin crashed, hung, refused, or does not take its own state again.
        OutputError: the file cannot be written.
    """
    values = effect.plugin_values(setting)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"state{path.suffix.lower()}"
        again = Path(folder) / "again"
        job = {**plugin, "values": values.tolist(), "file": str(file), "again": str(again)}
        held = np.array(run({**job, "task": "save"})["values"], dtype=np.float64)
        data = finish(file.read_bytes())
        file.write_bytes(data)
        back = np.array(run({**job, "task": "load"})["values"], dtype=np.float64)
        same = finish(again.read_bytes()) == data
    off = np.abs(back - held)
    # A plugin may round what it is given while the host still shows what was asked for; then the states tell.
    if not same and off.size and not off.max() <= effect.provider.read_back_tolerance:
        worst = int(off.argmax())
        raise PluginError(
            f"{effect.name} does not take its own state again: {effect.parameters[worst].name} was saved "
            f"at {held[worst]:g} and came back as {back[worst]:g}; its setting can be kept as JSON"
        )
    write_whole(path, data)


def run(job: Mapping[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
    """A job's answer. Raises PluginError: the process died or hung, or the plugin refused."""
    what = f"the state of {job['target']}"
    with tempfile.TemporaryDirectory() as folder:
        question = Path(folder) / "job.json"
        question.write_text(json.dumps(job), encoding="utf-8")
        try:
            said = ask("dafxhost_effects.presets.states", [str(question)], timeout)
        except NoAnswerError as error:
            if error.ended.code is None:
                raise PluginError(f"{what}: the plugin gave no answer within {timeout:g} s") from error
            text = f"{what}: the plugin ended its process by {error.why}: {error.ended.words[:300]}"
            raise PluginError(text) from error
    if "error" in said:
        raise PluginError(f"{what}: {said['error']}")
    return said


def _vst3(job: Mapping[str, Any]) -> dict[str, Any]:
    from dafxhost_effects.hosts.vst3 import load

    plugin = load(job["target"], job["plugin_name"])
    if job["task"] == "load":
        plugin.load_preset(job["file"])
    else:
        handles = plugin._parameters
        for index, value in zip(job["parameters"], job["values"], strict=True):
            handles[index].raw_value = value
    # Values travel to the processor, whose state is the preset, with the next block only.
    plugin.process(np.zeros((job["channels"], BLOCK), np.float32), RATE, buffer_size=BLOCK, reset=False)
    Path(job["file" if job["task"] == "save" else "again"]).write_bytes(plugin.preset_data)
    handles = plugin._parameters
    return {"values": [float(handles[i].raw_value) for i in job["parameters"]]}


def _vst2(job: Mapping[str, Any]) -> dict[str, Any]:
    from dafxhost.processor import RenderSpec
    from dafxhost_effects.hosts.dawdreamer import Graph

    graph = Graph(job["target"], RenderSpec(RATE, block_size=BLOCK))
    if job["task"] == "load":
        if not graph.plugin.load_preset(job["file"]):
            raise PluginError("the plugin does not load it")
    else:
        for index, value in zip(job["parameters"], job["values"], strict=True):
            graph.plugin.set_parameter(index, value)
    graph.render(np.zeros((graph.inputs, BLOCK), np.float32))
    graph.plugin.save_state(job["file" if job["task"] == "save" else "again"])
    return {"values": [float(graph.plugin.get_parameter(i)) for i in job["parameters"]]}


def main(arguments: list[str]) -> None:
    question, answer = map(Path, arguments)
    job = json.loads(question.read_text(encoding="utf-8"))
    try:
        said = {"vst3": _vst3, "vst2": _vst2}[job["host"]](job)
    except (PluginError, RuntimeError, ImportError, ValueError, OSError) as error:
        said = {"error": str(error)}
    answer.write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
