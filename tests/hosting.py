"""Helpers for the tests of hosts and effects."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import EffectUnavailableError

RATE = 44100


def need(found: object, package: str) -> None:
    """Skip, saying why, where a Debian package is missing; fail instead where CI is set."""
    if not found:
        text = f"the Debian package {package} is not installed"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)


def real_plugin(name: str) -> Effect:
    """The mda effect by its LV2 plugin; skips, saying why, where that is not installed."""
    try:
        return dafxhost.effect(name, provider="lv2")
    except EffectUnavailableError as error:
        pytest.skip(f"the real plugin is not installed: {error}")


def noise(channels: int, seconds: float = 0.5, seed: int = 0) -> np.ndarray:
    """`[1, channels, T]` float32: noise in bursts, so that dynamics and tails have something to do."""
    rng = np.random.default_rng(seed)
    length = round(seconds * RATE)
    gate = (np.arange(length) % 8000) < 4000
    return (0.2 * rng.standard_normal((1, channels, length)) * gate).astype(np.float32)


def render(effect: Effect, audio: np.ndarray, settings: np.ndarray, **options: Any) -> np.ndarray:
    """`[1, C, T]` and `[1, K, P]` -> `[K, C, T]`, by one worker."""
    with dafxhost.Executor(effect, workers=1, **options) as executor:
        return executor.render(audio, settings, RATE)[0]


def python(code: str, **environment: str) -> Any:
    """Run code in a process of its own; what it assigns to `answer` comes back as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport json\nprint('\\n' + json.dumps(answer))"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
        cwd=Path(__file__).parent,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])
