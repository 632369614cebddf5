"""Tempo and pitch by Rubber Band, through pedalboard, in a worker. The parent's side is
`dafxhost_effects.stretching`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pedalboard

from dafxhost.errors import PluginError
from dafxhost.processor import Processor, RenderSpec


class TimeStretch(Processor):
    """Plays a clip's beginning at another tempo and pitch. Whole clips only: a second `process` is refused.

    Values are (tempo, semitones): the output, as long as the clip, is `tempo` times as fast and so many
    semitones higher; where the clip ends before it does, silence follows.
    """

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        self._fine, self._rate = bool(options.get("fine", False)), spec.sample_rate
        self._values, self._used = np.array([1.0, 0.0]), False

    def prepare(self, values: np.ndarray) -> None:
        self._values, self._used = np.array(values, dtype=np.float64), False

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        if self._used:
            raise PluginError("a time stretch takes whole clips only: it cannot be streamed")
        self._used = True
        tempo, semitones = (float(v) for v in self._values)
        length = audio.shape[1]
        # Of a clip that is slowed down only the beginning is heard; a little more keeps the end whole.
        needed = min(length, int(length * tempo) + self._rate // 2)
        made = pedalboard.time_stretch(
            np.ascontiguousarray(audio[:, :needed]),
            float(self._rate),
            tempo,
            semitones,
            high_quality=self._fine,
        )
        made = np.atleast_2d(made)[:, :length]
        out[:, : made.shape[1]], out[:, made.shape[1] :] = made, 0

    def read_back(self) -> np.ndarray:
        return self._values
