"""trackio: a database on this machine, or what TRACKIO_SPACE_ID or TRACKIO_SERVER_URL name."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.trackers.missing import missing
from dafxhost.tracking import TrackedRun, Tracker


class Trackio(Tracker):
    """Writes to the project TRACKIO_PROJECT ("dafxhost" if not set), under the run's name."""

    def __init__(self) -> None:
        try:
            import trackio
        except ImportError as error:
            raise missing("trackio", "trackio", error) from error
        self._trackio = trackio
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        # It says what it does on stdout, in colours; there only results of a command belong.
        with contextlib.redirect_stdout(io.StringIO()):
            self._run = self._trackio.init(
                project=os.environ.get("TRACKIO_PROJECT", "dafxhost"), name=run.name,
                config=run.config, resume="allow" if run.resumed else "never", embed=False,
                auto_log_gpu=False, auto_log_cpu=False,
            )  # fmt: skip

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        self._run.log({k: self._trackio.Histogram(v) for k, v in values.items()}, step=step)

    def audio(self, step: int, clips: Mapping[str, np.ndarray], sample_rate: int) -> None:
        # Of float clips it would change the level.
        whole = {k: np.round(v.T * 32767.0).astype(np.int16) for k, v in clips.items()}
        clip = {k: self._trackio.Audio(v, sample_rate=sample_rate, format="wav") for k, v in whole.items()}
        self._run.log(clip, step=step)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._run.log({k: self._trackio.Image(v) for k, v in pictures.items()}, step=step)

    def end(self, reason: str) -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()
