"""Files that a DAW loads, by what serves the effect.

=====================================  ========================================
VST3 (pedalboard, DawDreamer)          .vstpreset
LV2 (our own host, DawDreamer)         .lv2, a bundle
VST2 (DawDreamer)                      .fxp, .fxb
dafxhost's own, pedalboard's built-in  none: there is no plugin that a DAW has
=====================================  ========================================
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from dafxhost.effects import Effect
from dafxhost_effects.hosts import lv2_info, plugin_info

Write = Callable[[Effect, np.ndarray, Path], None]


def writers(effect: Effect) -> dict[str, Write]:
    """Suffix -> what writes such a preset; empty for an effect that is no plugin of ours."""
    from dafxhost_effects.presets import lv2_bundle, vst2_program, vst3_preset

    options = effect.provider.options
    target = str(options.get("target", ""))
    if effect.provider.processor == plugin_info.VST3:
        return {".vstpreset": vst3_preset.write}
    if effect.provider.processor == lv2_info.PROCESSOR:
        return {".lv2": lv2_bundle.write}
    if effect.provider.processor == plugin_info.DAWDREAMER:
        if options.get("names"):
            return {".lv2": lv2_bundle.write}
        if target.endswith(".vst3"):
            return {".vstpreset": vst3_preset.write}
        return {".fxp": vst2_program.write, ".fxb": vst2_program.write}
    return {}
