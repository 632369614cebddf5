"""Settings as files that a DAW loads.

Which kinds there are depends on what serves the effect: the package that brought a host writes them, by the
hook `dafxhost_presets`. What has no plugin behind it (dafxhost's own effects, pedalboard's) has none, nor
has a chain of several: their settings are kept as JSON (`dafxhost.settings`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import OutputError, UsageError
from dafxhost.registry import registry
from dafxhost.settings import checked

Writer = Callable[[Effect, np.ndarray, Path], None]
Path_ = str | os.PathLike[str]


def suffixes(effect: Effect) -> list[str]:
    """How names of this effect's presets may end, e.g. [".vstpreset"]; empty where a DAW can load none."""
    return sorted(registry().presets(effect))


def writer(effect: Effect, path: Path_) -> Callable[[Any], Path]:
    """`write(setting [P] on 0..1) -> path`; all that can be checked beforehand is.

    Raises:
        UsageError: no preset of that kind is written for what serves the effect. OutputError: no such folder.
    The writer raises ShapeError, ParameterError: no setting of this effect. PluginError: the plugin did not
    give its state, or did not take it again. OutputError: the file cannot be written.
    """
    path = Path(path)
    known = registry().presets(effect)
    by = f"{effect.name} by {effect.provider.name}"
    if not known:
        several = effect.provider.options.get("links")
        raise UsageError(
            f"{by} has no preset that a DAW loads, only JSON"
            + ("" if several else "; where it is installed as a plugin, --provider lv2 or vst3 asks for that")
        )
    if path.suffix.lower() not in known:
        raise UsageError(f"{path}: presets of {by} end in {' or '.join(sorted(known))}")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.")
    write: Writer = known[path.suffix.lower()]

    def finish(setting: Any) -> Path:
        write(effect, checked(effect, setting), path)
        return path

    return finish


def save_preset(path: Path_, effect: Effect, setting: Any) -> Path:
    """Write a setting `[P]` on 0..1 as a preset. Raises as `writer` and what it gives."""
    return writer(effect, path)(setting)
