"""Weights & Biases. WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY and the other variables of the service hold."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.errors import UsageError
from dafxhost.trackers.missing import missing
from dafxhost.tracking import TrackedRun, Tracker

STEP = "step"
TIMEOUT = 30  # seconds to wait for the service when the run is opened


class WeightsAndBiases(Tracker):
    """Keeps the service's id of the run in `tracking/wandb/id`, by which a resumed run goes on.

    Nothing is asked at the terminal: without a key, or a mode that needs none, opening the run fails.
    """

    def __init__(self) -> None:
        try:
            import wandb
        except ImportError as error:
            raise missing("wandb", "wandb", error) from error
        self._wandb = wandb
        self._run: Any = None

    def start(self, run: TrackedRun) -> None:
        wandb = self._wandb
        mode = os.environ.get("WANDB_MODE", "online")
        if mode == "online" and not wandb.setup().settings.api_key and not _key_of_netrc():
            raise UsageError("there is no key for the service: run `wandb login`, or set WANDB_MODE=offline")
        kept = run.folder / "id"
        known = kept.read_text(encoding="utf-8").strip() if kept.is_file() else ""
        # The console is not caught: it would be taken from the progress bar, and stdout is for results.
        settings = wandb.Settings(console="off", silent=True, init_timeout=TIMEOUT, save_code=False)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "dafxhost"), name=run.name, id=known or None,
            resume="allow" if known else None, dir=os.environ.get("WANDB_DIR", str(run.folder)),
            config=run.config, settings=settings,
        )  # fmt: skip
        kept.write_text(self._run.id + "\n", encoding="utf-8")
        # A resumed run repeats steps, which the service's own counter would refuse.
        self._run.define_metric(STEP, hidden=True)
        self._run.define_metric("*", step_metric=STEP)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        self._log(step, values)

    def histograms(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        self._log(step, {name: self._wandb.Histogram(value.tolist()) for name, value in values.items()})

    def audio(self, step: int, clips: Mapping[str, np.ndarray], sample_rate: int) -> None:
        audio = {name: self._wandb.Audio(clip.T, sample_rate=sample_rate) for name, clip in clips.items()}
        self._log(step, audio)

    def pictures(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        self._log(step, {name: self._wandb.Image(picture) for name, picture in pictures.items()})

    def end(self, reason: str) -> None:
        self._run.summary["ended"] = reason
        self._run.finish(exit_code=1 if reason == "failed" else 0)
        self._wandb.teardown()  # ends the service's process

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        if values:
            self._run.log({**values, STEP: step})


def _key_of_netrc() -> bool:
    """Whether `wandb login` of older releases left a key in ~/.netrc."""
    import netrc

    try:
        return any("wandb" in host for host in netrc.netrc().hosts)
    except (OSError, netrc.NetrcParseError):
        return False
