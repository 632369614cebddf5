"""Whether every effect gives the same samples with one worker or several, in any order, after a crash and in
another run.

    python benchmarks/determinism.py [--effect NAME ...] [--provider NAME] [--markdown]

A row is an effect by one provider; a cell is the largest difference from the first run's samples (0: every
bit the same). *twice* is what the executor itself finds by rendering jobs a second time. Exit status 1 if an
effect differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import warnings
from typing import Any

import numpy as np

import dafxhost
from dafxhost.errors import DafxhostError, RepeatabilityWarning
from dafxhost.execution.protocol import RUNNING
from dafxhost.registry import registry

RATE = 44100
ROWS, COLUMNS = 3, 8


def clips(seconds: float) -> np.ndarray:
    """`[ROWS, 1, T]`: noise bursts with silence between, so that tails and gates show."""
    rng = np.random.default_rng(0)
    audio = 0.3 * rng.standard_normal((ROWS, 1, round(seconds * RATE)))
    audio[..., audio.shape[2] // 3 : audio.shape[2] // 2] = 0
    return audio.astype(np.float32)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Largest; 0 also where both are NaN (the render failed both times)."""
    if np.array_equal(a, b, equal_nan=True):
        return 0.0
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(np.abs(a.astype(np.float64) - b)))


def render_killing(executor: dafxhost.Executor, audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
    """Render with SIGKILL to the first worker that is seen in the middle of a render."""
    future = executor.submit(audio, settings, RATE, on_error="nan")
    while not future.done():
        for worker in list(executor._pool._workers):
            if worker.claim().phase == RUNNING:
                os.kill(worker.pid, signal.SIGKILL)
                return future.result()
    return future.result()


def measure(effect: dafxhost.Effect, audio: np.ndarray) -> dict[str, Any]:
    """Differences by name, and what the executor said."""
    settings = np.random.default_rng(1).random((ROWS, COLUMNS, len(effect.parameters)))

    def render(
        executor: dafxhost.Executor, rows: np.ndarray = settings, clip: np.ndarray = audio
    ) -> np.ndarray:
        return executor.render(clip, rows, RATE, on_error="nan")

    with dafxhost.Executor(effect, workers=1) as executor:
        first = render(executor)
        failures = len(executor.failures)
        backwards = render(executor, settings[::-1, ::-1], audio[::-1])[::-1, ::-1]
        said = executor.unrepeatable
    with dafxhost.Executor(effect, workers=2) as executor:
        two = render(executor)
        crashed = render_killing(executor, audio, settings)
        replaced = executor.stats.replaced
    return {
        "two workers": difference(first, two),
        "backwards": difference(first, backwards),
        "worker killed": difference(first, crashed) if replaced else None,
        "twice": said.difference if said else 0.0,
        "failed": failures,
    }


def candidates(names: list[str], provider: str | None) -> list[tuple[str, str]]:
    """(effect, provider) pairs that can be used here."""
    made = []
    for name in names or registry().names("effect"):
        try:
            made.append((name, dafxhost.effect(name, provider).provider.name))
        except DafxhostError as error:
            print(f"{name} left out: {error}", file=sys.stderr)
    return made


def text(value: float | None) -> str:
    return "-" if value is None else "0" if value == 0 else f"{value:.1e}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Repeatability of every effect.")
    parser.add_argument("--effect", action="append", default=[], help="all by default")
    parser.add_argument("--provider", help="instead of the preferred one")
    parser.add_argument("--seconds", type=float, default=0.5, help="length of a clip")
    parser.add_argument("--markdown", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", RepeatabilityWarning)
    audio = clips(options.seconds)
    columns = ["two workers", "backwards", "worker killed", "twice", "failed"]
    bar = " | " if options.markdown else "  "
    print(bar.join(["| effect" if options.markdown else f"{'effect':22}", "by        ", *columns]))
    if options.markdown:
        print("|---" * (len(columns) + 2) + "|")
    different = 0
    for name, provider in candidates(options.effect, options.provider):
        found = measure(dafxhost.effect(name, provider), audio)
        cells = [text(found[c]).rjust(len(c)) for c in columns[:-1]] + [str(found["failed"])]
        print(
            bar.join([f"| {name}" if options.markdown else f"{name:22}", f"{provider:10}", *cells]),
            flush=True,
        )
        different += any(found[c] for c in columns[:4])
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
