"""What a training tells its trackers (see `dafxhost.tracking`): numbers, settings, some examples."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dafxhost.data.examples import ExampleBatch
from dafxhost.data.features import normalise_peak
from dafxhost.parameters import Parameter
from dafxhost.tracking import Tracking, make_trackers
from dafxhost.training.config import TrainConfig
from dafxhost.training.pictures import spectrograms

EXAMPLES = 3
"""Validation examples that trackers get to hear and see."""
LONGEST = 6.0
"""Seconds of each."""
_STEP = {
    "loss": "train/loss",
    "rate": "train/rate",
    "gradient_norm": "train/gradient_norm",
    "gradient_cosine": "train/gradient_cosine",
    "renders_per_second": "throughput/renders_per_second",
    "audio_seconds_per_second": "throughput/audio_seconds_per_second",
}
_EPOCH = {
    "validation": "validation/mrstft",
    "best": "validation/best",
    "untouched": "validation/input_left_alone",
    "cores_busy": "throughput/cores_busy",
    "cores_rendering": "throughput/cores_rendering",
    "failures": "train/failed_renders",
    "seconds": "throughput/epoch_seconds",
}


class Recorder:
    """Follows a training's events. Makes its trackers at once, so that what is missing is said at once.

    Args:
        config: names the trackers. path: the run's folder.
        tell: sends an event of the training: a tracker that failed is one.
    """

    def __init__(self, config: TrainConfig, path: Path, tell: Any) -> None:
        self._config, self._path, self._tell = config, path, tell
        self._trackers = make_trackers(config.track)
        self._tracking: Tracking | None = None
        self._heard = False  # whether the inputs of the examples were recorded

    @property
    def active(self) -> bool:
        """Whether anybody follows."""
        return self._tracking is not None and self._tracking.active

    def start(self, step: int, resumed: bool) -> None:
        """Open the trackers' runs; `step` is the first that follows."""
        self._tracking = Tracking(
            self._trackers, self._path, dataclasses.asdict(self._config), step=step, resumed=resumed,
            on_problem=lambda name, problem: self._tell("tracker", name=name, problem=problem),
        )  # fmt: skip

    def step(self, step: int, values: dict[str, Any]) -> None:
        if self._tracking is not None and self._tracking.active:
            self._tracking.scalars(step, {name: values.get(key) for key, name in _STEP.items()})

    def epoch(self, step: int, values: dict[str, Any]) -> None:
        if self._tracking is None or not self._tracking.active:
            return
        scalars = {name: values.get(key) for key, name in _EPOCH.items()}
        if values.get("untouched"):
            scalars["validation/of_input_left_alone"] = values["validation"] / values["untouched"]
        self._tracking.scalars(step, scalars)

    def validation(
        self, step: int, made: ExampleBatch, settings: np.ndarray, parameters: tuple[Parameter, ...],
        executor: Any,
    ) -> None:  # fmt: skip
        """Distributions of the settings `[N, P]` found for the validation examples, and of the true ones; a
        few of the examples.
        """
        if self._tracking is None or not self._tracking.active:
            return
        found = {f"settings/{p.name}": settings[:, i] for i, p in enumerate(parameters)}
        true = {f"settings_true/{p.name}": made.settings[made.applied, i] for i, p in enumerate(parameters)}
        self._tracking.histograms(step, found if self._heard else found | true)
        rows = np.flatnonzero(made.applied)[:EXAMPLES]
        if len(rows) == 0:
            return
        rate = self._config.sample_rate
        renders = executor.render(made.dry[rows], settings[rows][:, None], rate, on_error="nan")[:, 0]
        outputs = normalise_peak(np.nan_to_num(np.array(renders)))
        longest = round(LONGEST * rate)
        clips, pictures = {}, {}
        for number, (row, output) in enumerate(zip(rows, outputs, strict=True)):
            parts = {"input": made.dry[row], "reference": made.reference[row], "target": made.target[row]}
            heard = {"output": output} if self._heard else {**parts, "output": output}
            clips |= {f"example_{number}/{name}": clip[:, :longest] for name, clip in heard.items()}
            below = (made.dry[row], output, made.target[row])
            pictures[f"example_{number}/input_output_target"] = spectrograms(
                [clip[:, :longest] for clip in below], rate
            )
        self._tracking.audio(step, clips, rate)
        self._tracking.pictures(step, pictures)
        self._heard = True

    def end(self, reason: str) -> None:
        """Close the trackers' runs; later calls do nothing."""
        if self._tracking is not None:
            self._tracking.end(reason)


class GradientWatch:
    """Norm of each step's gradient, and its cosine with the step's before."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._last: list[Tensor] = []
        self._square = torch.zeros(())  # of the last gradient's norm
        self.cosine: float | None = None
        self._cosines: list[float] = []

    @torch.no_grad()
    def look(self) -> None:
        """After `backward`, before the gradients change. The first step has no cosine."""
        now = [p.grad.detach().flatten() for p in self._module.parameters() if p.grad is not None]
        square = torch.stack([torch.dot(g, g) for g in now]).sum()
        self.cosine = None
        if [g.shape for g in now] == [g.shape for g in self._last]:
            product = torch.stack([torch.dot(g, h) for g, h in zip(now, self._last, strict=True)]).sum()
            value = float(product / (square * self._square).sqrt())
            if np.isfinite(value):
                self.cosine = value
                self._cosines.append(value)
            for kept, gradient in zip(self._last, now, strict=True):
                kept.copy_(gradient)  # into memory that is there: it is megabytes, every step
        else:
            self._last = [g.clone() for g in now]
        self._square = square

    def take(self) -> float | None:
        """Mean cosine since the last call."""
        cosines, self._cosines = self._cosines, []
        return float(np.mean(cosines)) if cosines else None


def quantiles(settings: np.ndarray, parameters: tuple[Parameter, ...]) -> dict[str, list[float]]:
    """Least, lower quartile, median, upper quartile and greatest value of each parameter of `[N, P]`."""
    values = np.quantile(settings, (0, 0.25, 0.5, 0.75, 1), axis=0).T
    return {p.name: [round(float(v), 4) for v in row] for p, row in zip(parameters, values, strict=True)}
