"""The trackers that come with dafxhost, registered as anybody's would be."""

from __future__ import annotations

from dafxhost.registry import TrackerSpec, hookimpl


@hookimpl
def dafxhost_trackers() -> list[TrackerSpec]:
    return [
        TrackerSpec(
            "tensorboard",
            "dafxhost.trackers.tensorboard:TensorBoard",
            "TensorBoard event files in the run's folder.",
        ),
        TrackerSpec(
            "wandb",
            "dafxhost.trackers.wandb:WeightsAndBiases",
            "Weights & Biases; with WANDB_MODE=offline, files in the run's folder.",
        ),
        TrackerSpec(
            "trackio",
            "dafxhost.trackers.trackio:Trackio",
            "trackio: a local database with a page of its own; TRACKIO_SPACE_ID for a Space.",
        ),
    ]
