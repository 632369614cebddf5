"""TensorBoard: event files in the run's folder, which `tensorboard --logdir runs` shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.trackers.missing import missing
from dafxhost.tracking import TrackedRun, Tracker


class TensorBoard(Tracker):
    """Writes `tracking/tensorboard/events.*`; a resumed run adds a file, and what it repeats replaces."""

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise missing("tensorboard", "tensorboard", error) from error
        self._make = SummaryWriter
        self._writer: Any = None

    def start(self, run: TrackedRun) -> None:
        self._writer = self._make(str(run.folder), purge_step=run.step if run.resumed else None)
        text = json.dumps(run.config, indent=2, ensure_ascii=False)
        self._writer.add_text("config", "```\n" + text + "\n```", run.step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        for name, value in values.items():
            self._writer.add_histogram(name, value, step)
        self._writer.flush()

    def audio(self, step: int, clips: Mapping[str, np.ndarray], sample_rate: int) -> None:
        for name, clip in clips.items():
            self._writer.add_audio(name, clip[0], step, sample_rate)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def end(self, reason: str) -> None:
        self._writer.close()
