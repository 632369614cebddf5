"""What plugins are installed, and what each is worth: found in folders, tried in a process of its own.

Nothing is loaded here. A plugin that crashes, hangs or is no plugin at all costs its own process and is
remembered as broken, with the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import DafxhostError
from dafxhost_effects import files
from dafxhost_effects.hosts import lv2_info, plugin_info
from dafxhost_effects.hosts.alone import Ended, run_alone
from dafxhost_effects.hosts.store import key, recall, remember, vst3_binary

TIMEOUT = 60.0  # seconds a plugin has to describe itself, and again for its trials
DEAD_SECONDS = 15.0  # of that for its parameters
VST2_FOLDERS = "~/.vst:~/.lxvst:/usr/local/lib/vst:/usr/local/lib/lxvst:/usr/lib/vst:/usr/lib/lxvst"


@dataclass(frozen=True)
class Candidate:
    """Something that may be a plugin.

    Attributes:
        format: "VST3", "LV2" or "VST2".
        location: what `--effect` takes.
        path: its file or bundle.
        reason: why it cannot be one, or "".
    """

    format: str
    location: str
    path: Path
    reason: str = ""


@dataclass
class Found:
    """A plugin as it was found.

    Attributes:
        status: "ok"; "instrument" (no audio comes in: not tried); "failed" (renders, but a check of --verify
            does not hold); or "broken" (cannot be used).
        reason: why it is not ok.
        parameters: how many of each kind.
        latency: samples at 44.1 kHz. load_seconds: to make one more instance.
        checks: of --verify: not_applied, dead and untried (parameters), repeatable, silent (gives silence for
            noise at its defaults), rates (Hz -> "" or why it is refused); empty without it.
    """

    format: str
    location: str
    name: str = ""
    identity: str = ""
    provider: str = ""
    inputs: int = 0
    outputs: int = 0
    parameters: dict[str, int] = field(default_factory=dict)
    latency: int | None = None
    load_seconds: float | None = None
    status: str = "ok"
    reason: str = ""
    checks: dict[str, Any] = field(default_factory=dict)


def vst2_folders() -> list[Path]:
    """Where VST2 plugins are looked for: VST_PATH if it is set, else the usual folders."""
    text = os.environ.get("VST_PATH", VST2_FOLDERS)
    return [Path(p).expanduser() for p in text.split(os.pathsep) if p]


def candidates(folders: Sequence[Path] = ()) -> list[Candidate]:
    """All that may be a plugin in these folders and below, or else in the system's usual ones."""
    found: list[Candidate] = []
    for folder in folders or plugin_info.folders():
        found += (Candidate("VST3", str(p), p) for p in _below(folder, ".vst3"))
    bundles = [b for f in folders for b in _below(f, ".lv2")] if folders else lv2_info.bundles()
    for bundle in bundles:
        found += _in_bundle(bundle)
    for folder in folders or vst2_folders():
        found += (Candidate("VST2", str(p), p) for p in _below(folder, ".so") if _is_vst2(p))
    return list({c.location: c for c in found}.values())


def _below(folder: Path, suffix: str) -> Iterator[Path]:
    """Files and bundles of that suffix, not looking into bundles; the folder itself may be one."""
    if folder.suffix == suffix and folder.exists():
        yield folder
        return
    for here, subfolders, names in os.walk(folder):
        subfolders.sort()
        for name in sorted([*names, *subfolders]):
            if name.endswith(suffix):
                yield Path(here) / name
        subfolders[:] = [s for s in subfolders if not s.endswith((".vst3", ".lv2"))]


def _in_bundle(bundle: Path) -> list[Candidate]:
    try:
        plugins = lv2_info.describe_bundle(bundle)
    except (DafxhostError, OSError, ValueError) as error:
        return [Candidate("LV2", str(bundle), bundle, str(error))]
    # A URI is found in LV2_PATH only; elsewhere the bundle says where it is.
    usual = bundle.parent in lv2_info.folders()
    return [
        Candidate("LV2", d["uri"] if usual else f"{bundle}#{d['uri']}", Path(d["binary"])) for d in plugins
    ]


def _is_vst2(path: Path) -> bool:
    """Whether the library has a VST2 plugin's entry: others lie beside plugins, and are none of ours."""
    try:
        content = path.read_bytes()
    except OSError:
        return True  # so that it is reported
    entries = (b"\0VSTPluginMain\0", b"\0main\0")  # as they stand in a library's table of names
    return any(e in content for e in entries) or not content.startswith(b"\x7fELF")


def scan(
    folders: Sequence[Path] = (),
    *,
    verify: bool = False,
    fresh: bool = False,
    timeout: float = TIMEOUT,
    dead_seconds: float = DEAD_SECONDS,
) -> Iterator[Found]:
    """Each plugin as soon as it is known; from the last scan where its file is as it was then.

    Args:
        verify: set values and read them back, look for parameters without effect, render twice, silence, and
            at other sample rates.
        fresh: trust no earlier scan.
        timeout: seconds that a plugin may take to describe itself, and as many again for the trials.
        dead_seconds: how long to look for parameters without effect.
    """
    for candidate in candidates(folders):
        yield from _look_at(candidate, verify, fresh, timeout, dead_seconds)


def remembered(folders: Sequence[Path] = ()) -> list[Found]:
    """What earlier scans found out about the plugins that are there now; nothing is tried."""
    found: list[Found] = []
    for candidate in candidates(folders):
        name = _memory_name(candidate, False)
        known = recall("scan", name) if name is not None else None
        if candidate.reason:
            found.append(
                Found(candidate.format, candidate.location, status="broken", reason=candidate.reason)
            )
        elif isinstance(known, dict):
            with contextlib.suppress(TypeError):  # of another version
                found.append(Found(**known))
    return found


def _look_at(
    candidate: Candidate, verify: bool, fresh: bool, timeout: float, dead_seconds: float
) -> Iterator[Found]:
    if candidate.reason:
        yield Found(
            candidate.format, candidate.location, status="broken", reason=" ".join(candidate.reason.split())
        )
        return
    name = _memory_name(candidate, verify)
    known = None if fresh or name is None else recall("scan", name)
    if isinstance(known, dict):
        with contextlib.suppress(TypeError):  # of another version
            yield Found(**known)
            return
    found = Found(candidate.format, candidate.location)
    try:
        effect = files.from_location(candidate.location, timeout=timeout)
    except plugin_info.SeveralPluginsError as error:
        for plugin in error.names:
            one = Candidate(candidate.format, f"{candidate.location}#{plugin}", candidate.path)
            yield from _look_at(one, verify, fresh, timeout, dead_seconds)
        return
    except plugin_info.InstrumentError:
        found.status, found.reason = "instrument", "takes no audio"
    except DafxhostError as error:
        found.status, found.reason = "broken", _short(error, candidate.path)
    else:
        _fill(found, effect)
        if not effect.inputs:
            found.status, found.reason = "instrument", "takes no audio"
        else:
            _judge(found, _tried(effect, verify, timeout, dead_seconds), verify)
    if name is not None:
        remember("scan", name, asdict(found))
    yield found


def _memory_name(candidate: Candidate, verify: bool) -> str | None:
    """A name for this plugin as its file is now; None where there is no file."""
    binary = vst3_binary(candidate.path) if candidate.format == "VST3" else candidate.path
    try:
        facts = [key(binary) if binary else "", candidate.location, verify]
    except OSError:
        return None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32] if binary else None


def _short(error: Exception, path: Path) -> str:
    """The reason without what the table's other columns say, on one line."""
    text = " ".join(str(error).split())
    return re.sub(rf"^cannot load the VST3 plugin {re.escape(str(path))}: ", "", text)


def _fill(found: Found, effect: Effect) -> None:
    found.name = effect.name if found.format == "LV2" else effect.summary or effect.name
    found.provider, found.identity = effect.provider.name, effect.provider.identity
    found.inputs, found.outputs = effect.inputs, effect.outputs
    for p in effect.parameters:
        found.parameters[p.kind] = found.parameters.get(p.kind, 0) + 1


def _judge(found: Found, facts: dict[str, Any], verify: bool) -> None:
    found.latency, found.load_seconds = facts.get("latency"), facts.get("load_seconds")
    names = ("not_applied", "dead", "untried", "repeatable", "silent", "rates")
    if verify:
        found.checks = {k: facts[k] for k in names if k in facts}
    if "error" in facts:
        # What has rendered once can be used, if with care.
        found.status = "failed" if "silent" in facts else "broken"
        found.reason = f"{facts['stage']}: {facts['error']}"
        return
    if not verify:
        return
    refused = {rate: why for rate, why in facts["rates"].items() if why}
    problems = [
        f"values do not read back: {_some(facts['not_applied'])}" if facts["not_applied"] else "",
        "" if facts["repeatable"] else "two renders of one setting differ",
        "; ".join(f"{rate} Hz: {why}" for rate, why in refused.items()),
    ]
    found.reason = "; ".join(p for p in problems if p)
    found.status = "failed" if found.reason else "ok"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _tries(effect: Effect) -> list[list[float]]:
    """Plugin values to try of each parameter: both ends and the middle."""
    ends = np.array([0.0, 0.5, 1.0])
    return [list(dict.fromkeys(np.atleast_1d(p.to_plugin(ends)).tolist())) for p in effect.parameters]


def _tried(effect: Effect, verify: bool, timeout: float, dead_seconds: float) -> dict[str, Any]:
    """What `hosts.probe` says; its "error" also tells of crashes and of running out of time."""
    count = len(effect.parameters)
    other = np.random.default_rng(0).uniform(0.2, 0.8, count)
    job = {
        "processor": effect.provider.processor,
        "options": dict(effect.provider.options),
        "tolerance": effect.provider.read_back_tolerance,
        "channels": 1 if max(effect.inputs, effect.outputs) == 1 else 2,
        "names": effect.parameter_names,
        "default": effect.plugin_values(effect.default_setting()).tolist(),
        "other": effect.plugin_values(other).tolist(),
        "tries": _tries(effect),
        "verify": verify,
        "seconds": dead_seconds,
    }
    with tempfile.TemporaryDirectory() as folder:
        text, result = (Path(folder) / name for name in ("job.json", "result.json"))
        text.write_text(json.dumps(job), encoding="utf-8")
        patience = timeout + dead_seconds
        ended = run_alone("dafxhost_effects.hosts.probe", [str(text), str(result)], patience)
        try:
            facts = json.loads(result.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            facts = {"stage": "starting"}
        if facts["stage"] != "done" and "error" not in facts:
            facts["error"] = _in_words(ended, patience)
        return facts


def _in_words(ended: Ended, timeout: float) -> str:
    if ended.code is None:
        return f"took more than {timeout:g} s"
    if ended.code < 0:
        return f"crashed by {signal.Signals(-ended.code).name}"
    words = f": {ended.words[:200]}" if ended.words else ""
    return f"ended its process with exit code {ended.code}{words}"
