"""A light effect for the tests of training, and audio to train it on. Workers import this without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec

MODES = ("soft", "hard", "folded")
TAPS = 128  # SciPy has a filter, and takes a second to import into every worker


def shaper_effect(name: str = "test-shaper", **options: Any) -> Effect:
    """A one-pole low-pass (`tone`: the darker, the higher), then one of three distortions (`mode`)."""
    return Effect(
        name,
        (
            Parameter("tone", default=0.5, port=Port(0)),
            Parameter("mode", "choice", 0, 2, 0, choices=MODES, port=Port(1, values=(0.0, 1.0, 2.0))),
        ),
        Provider("test", "training_effects:Shaper", options),
        inputs=1,
        outputs=1,
    )


class Shaper(Processor):
    """Option `broken`: a mode whose output is NaN."""

    def __init__(self, options: dict[str, Any], spec: RenderSpec) -> None:
        self.broken = options.get("broken", -1)
        self.values, self.past = np.zeros(2), np.zeros((spec.channels, TAPS - 1))

    def prepare(self, values: np.ndarray) -> None:
        self.values = values.copy()
        self.past[:] = 0

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        pole = 0.9 * self.values[0]
        taps = (1 - pole) * pole ** np.arange(TAPS)
        known = np.concatenate([self.past, audio], axis=1)
        self.past = known[:, known.shape[1] - TAPS + 1 :]
        x = np.stack([np.convolve(channel, taps, "valid") for channel in known])
        mode = int(self.values[1])
        x = 6 * x
        out[:] = np.tanh(x) if mode == 0 else np.clip(x, -0.5, 0.5) if mode == 1 else np.sin(x)
        if mode == self.broken:
            out[:] = np.nan

    def read_back(self) -> np.ndarray | None:
        return self.values


def write_audio(folder: Path, files: int = 4, seconds: float = 1.5, seed: int = 0) -> Path:
    """Files of plucks and noise bursts at 16 kHz."""
    import soundfile

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for i in range(files):
        n = int(seconds * 16000)
        audio = 0.002 * rng.standard_normal(n)
        for start in range(0, n - 3000, 2500):
            t = np.arange(3000) / 16000
            f = 80 * 2 ** rng.uniform(0, 4)
            tone = sum(np.sin(2 * np.pi * f * k * t) / k for k in range(1, 9))
            hit = rng.standard_normal(3000) * np.exp(-t * 120)
            audio[start : start + 3000] += (0.3 * tone * np.exp(-t * 15) + 0.5 * hit) * rng.uniform(0.3, 1)
        soundfile.write(folder / f"clip{i}.flac", (0.5 * audio / np.abs(audio).max()), 16000)
    return folder
