"""Which parameters could be found from the sound at all: measured, by moving each and listening.

A parameter that changes nothing (an output gain once levels are matched, the rate of a modulation whose depth
is 0) cannot be recovered by anybody, and its error says nothing about a controller.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor as Threads
from typing import Any

import numpy as np

from dafxhost.data.examples import ExampleBatch
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.parameters import Parameter
from dafxhost.training.protocols import LEVEL_MATCHED
from dafxhost.training.scoring import distances, level_renders

EXAMPLES = 64
"""Examples with the effect that are looked at: the first ones."""
SHIFT = 0.5
"""How far a continuous parameter is moved, on 0..1; a discrete one goes half round its values."""
UNHEARD = 0.05
"""MR-STFT, levels matched, below which a move counts as unheard."""
MARKED = 0.9
"""Share of examples from which a parameter counts as unidentifiable."""


def moved(parameters: Sequence[Parameter], settings: np.ndarray) -> np.ndarray:
    """Settings `[B, P]` -> `[B, P, P]`: in column k parameter k is moved, all others are as they were."""
    many = np.repeat(settings[:, None], len(parameters), axis=1)
    for k, p in enumerate(parameters):
        if p.levels:
            step = max(1, p.levels // 2)
            index = np.round(p.to_native(settings[:, k]) - p.minimum)
            many[:, k, k] = ((index + step) % p.levels + 0.5) / p.levels
        else:
            many[:, k, k] = settings[:, k] + np.where(settings[:, k] < 0.5, SHIFT, -SHIFT)
    return many


def changes(
    made: ExampleBatch, executor: Any, distance: MultiResolutionSTFT, sample_rate: int, threads: Threads
) -> np.ndarray:
    """`[B, P]`: MR-STFT between the target and what comes out with each parameter moved, at the target's RMS;
    NaN where that could not be rendered.
    """
    settings = moved(executor.effect.parameters, made.settings)
    renders = executor.render(made.dry, settings, sample_rate, on_error="nan")

    def one(i: int) -> np.ndarray:
        return distances(level_renders(renders[i], made.target[i], LEVEL_MATCHED), made.target[i], distance)

    return np.stack(list(threads.map(one, range(len(made)))))


def unheard(found: np.ndarray) -> np.ndarray:
    """Share `[P]` of the examples in which moving a parameter was not heard, of `changes` `[N, P]`; NaN where
    none could be rendered.
    """
    rendered = np.isfinite(found).sum(axis=0)
    quiet = (found < UNHEARD).sum(axis=0)  # False for NaN
    return np.where(rendered > 0, quiet / np.maximum(rendered, 1), np.nan)


def marked(parameters: Sequence[Parameter], shares: np.ndarray) -> tuple[str, ...]:
    """Names of those whose share `[P]`, of `unheard`, is high."""
    return tuple(p.name for p, share in zip(parameters, shares, strict=True) if share >= MARKED)


def terms(examples: int) -> dict[str, float]:
    """How it was measured on so many examples: `Evaluation.identification`; empty for none."""
    if not examples:
        return {}
    return {"examples": examples, "shift": SHIFT, "below": UNHEARD, "share": MARKED}
