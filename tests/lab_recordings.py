"""Recordings for tests: signals whose every place can be told from any other."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, sosfilt


def place_signal(frames: int, channels: int = 1, rate: int = 44100, seed: int = 0) -> np.ndarray:
    """`[T, C]` of noise below 4 kHz, which lossy formats keep, and which is like itself nowhere else."""
    rng = np.random.default_rng(seed)
    low = butter(4, 4000, fs=rate, output="sos")
    return sosfilt(low, rng.normal(0, 0.1, (frames, channels)), axis=0).astype(np.float32)


def place_of(clip: np.ndarray, whole: np.ndarray, near: int, within: int = 3000) -> int:
    """Where `[T]` lies best in `[N]`, looked for around `near`, to the sample."""
    first = max(0, near - within)
    stretch = whole[first : near + len(clip) + within]
    return first + int(np.correlate(stretch, clip, "valid").argmax())


def by_ffmpeg(source: Path, target: Path, *options: str) -> Path:
    """Encode with ffmpeg, or skip the test where it is not installed."""
    if not shutil.which("ffmpeg"):
        pytest.skip("ffmpeg is not installed")
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-i", source, *options, target], check=True)
    return target


def write_tone(path: Path, seconds: float = 0.3, rate: int = 8000, channels: int = 1, seed: int = 0) -> Path:
    """A file of noise, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed + len(path.name) + sum(map(ord, str(path.name))))
    soundfile.write(path, rng.uniform(-0.3, 0.3, (int(seconds * rate), channels)), rate)
    return path
