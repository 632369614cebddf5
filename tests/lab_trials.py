"""What is tried besides the rows of the fault table: loading that goes wrong, leaks past the memory limit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

import lab_plugin_build
from dafxhost import Executor
from dafxhost.effects import Effect
from dafxhost.errors import PluginError
from lab_faults import RATE, audio, expected, lab_effect_by, redirected, settings
from lab_faulty import LEAK_BYTES, faulty_effect, watched

LOADS = {  # and what the error says
    "refuse": r"could not be loaded by (lab: RuntimeError: the lab refuses|\w+: PluginError: .*LabFault)",
    "crash": r"could not be loaded by \w+: worker died of signal 11 \(SIGSEGV\)",
    "display": r"could not be loaded by \w+: worker exited with status 1 .*LabFault: cannot open display",
}
SLOW_LOAD, SHORT_DEADLINE = 0.45, 0.35  # s
LEAKS = 60  # renders, of 10 MB each
LIMIT = 200 * 2**20
SLACK = 8 * 2**20  # bytes that a worker may take besides while it renders


def loading(host: str, bundle: Path, folder: Path, **how: object) -> Effect:
    """The effect, described while it still loaded well; `how` as in lab.conf, see LabFault.cpp."""
    if host == "python":
        return faulty_effect(**how)
    return redirected(lab_effect_by(host, bundle), lab_plugin_build.variant(bundle, folder, **how))


def run_load(host: str, load: str, bundle: Path, folder: Path) -> tuple[str, list[str]]:
    """Render by a plugin that does not load: what was said, and what was wrong with it."""
    effect = loading(host, bundle, folder, load=load)
    with Executor(effect, workers=2, failure_dir=folder / "inputs") as executor:
        try:
            executor.render(audio(), settings(effect), RATE, on_error="nan")
        except PluginError as error:
            said = str(error)
        else:
            return "", ["no error"]
    found = [] if re.search(LOADS[load], said) else [f"it says {said!r}"]
    return said, found + ([] if repr(effect.name) in said else ["the effect is not named"])


def run_slow_load(host: str, bundle: Path, folder: Path) -> list[str]:
    """Render by a plugin that takes longer to load than a render may; what was wrong."""
    effect = loading(host, bundle, folder, load="slow", seconds=SLOW_LOAD)
    with Executor(effect, workers=1, deadline=SHORT_DEADLINE, failure_dir=folder) as executor:
        wet = executor.render(audio()[:1], settings(effect)[:1, :1], RATE, on_error="nan")
        found = [failure.reason for failure in executor.failures]
    return found + ([] if np.array_equal(wet, expected(effect)[:1, :1]) else ["other samples"])


def run_leak(host: str, bundle: Path, folder: Path) -> tuple[str, list[str]]:
    """Leak three times the memory limit: what it came to, and what was wrong with it."""
    record = folder / "record"
    effect = watched(lab_effect_by(host, bundle), str(record))
    rows: Any = np.tile(effect.setting(fault="leak"), (1, LEAKS, 1))
    rows[..., 0] = np.linspace(0, 1, LEAKS)
    clip = audio()[:1]
    with Executor(effect, workers=1, memory_limit=LIMIT, failure_dir=folder) as executor:
        wet = executor.render(clip, rows, RATE, on_error="nan")
        stats = executor.stats
    peaks: dict[str, int] = {}
    for pid, peak in (line.split() for line in record.read_text().splitlines()):
        peaks[pid] = max(int(peak), peaks.get(pid, 0))
    found: list[str] = []
    if not np.array_equal(wet, clip[:, None] * rows[:, :, :1, None].astype(np.float32)):
        found.append("other samples")
    highest = max(peaks.values())
    if highest > LIMIT + LEAK_BYTES + SLACK:
        found.append(f"a worker took {highest / 2**20:.0f} MB")
    # 60 leaks of 10 MB do not fit into fewer than four workers of 200 MB.
    if stats.recycled < 3 or stats.recycled != len(peaks) - 1:
        found.append(f"{stats.recycled} workers were recycled, {len(peaks)} had rendered")
    if (stats.renders, stats.retried, stats.replaced) != (LEAKS, 0, 0):
        found.append(f"renders, retried, replaced are {stats.renders}, {stats.retried}, {stats.replaced}")
    return f"{stats.recycled} workers recycled, the largest had {highest / 2**20:.0f} MB", found
