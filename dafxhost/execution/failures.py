"""What is said of renders that failed twice, and keeping their input, so that somebody can look at it."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import ParameterNotAppliedError
from dafxhost.processor import RenderSpec

SAVED_INPUTS = 16  # a batch; a plugin that always fails must not fill the disk
HOPELESS = 8  # renders of a batch, of two clips or more, that failed with none done: the rest is not tried
UNTRIED = f"not tried: the first {HOPELESS} renders of this batch all failed"
LONGEST_STEM = 100  # the name of a chain is as long as the chain

_counter = 0


def not_loaded(effect: Effect, reason: str) -> str:
    return f"effect {effect.name!r} could not be loaded by {effect.provider.name}: {reason}"


def in_part(effect: Effect, reason: str, part: int) -> str:
    """The reason, and in which of the effect's parts (from 1; 0: it has none, or none was at work)."""
    parts = effect.provider.parts
    return f"{reason} in {parts[part - 1]}" if 0 < part <= len(parts) else reason


def not_taken(effect: Effect, error: ParameterNotAppliedError) -> str:
    """The error as the reason of a single render, of which the effect is told anyway."""
    return str(error).removeprefix(f"effect {effect.name!r} ")


def default_folder() -> Path:
    return Path(tempfile.gettempdir()) / "dafxhost-failures"


def save_input(
    folder: Path, effect: Effect, spec: RenderSpec, audio: np.ndarray, setting: np.ndarray, reason: str
) -> tuple[str, str]:
    """Write clip `[C, T]`, setting `[P]` and specification to a .npz in `folder`, made if need be.

    Returns:
        (path, "") or ("", why it could not be written): a full disk must not hide the plugin's failure.
    """
    global _counter
    _counter += 1
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", effect.name)[:LONGEST_STEM]
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = folder / f"{stem}-{stamp}-{os.getpid()}-{_counter}.npz"
    partial = path.with_suffix(".partial")
    about = {
        "effect": effect.name,
        "parameters": effect.parameter_names,
        "provider": effect.provider.name,
        "processor": effect.provider.processor,
        "options": dict(effect.provider.options),
        "identity": effect.provider.identity,
        "spec": asdict(spec),
        "reason": reason,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            np.savez(
                file,
                audio=audio,
                setting=setting,
                values=effect.plugin_values(setting),
                about=np.array(json.dumps(about)),
            )
        partial.replace(path)
    except OSError as error:
        return "", f"its input could not be saved in {folder}: {error}"
    return str(path), ""
