"""Whether what an effect made of a clip can be learned from: the redraw rules, cheaper than the render.

The rules are Grant's (2023, see `examples.py`). Computing the MFCCs of a clip of 5 s takes as long as many
plugins take to render it, so the cosine is first taken on one frame in sixteen, then on one in four, which
decides where the answer is clear (`MARGIN`), and on all frames only where it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dafxhost.data.features import cosine, mean_square, mfcc, peak_of

INAUDIBLE = 1e-5
SENSELESS = 0.75
SILENT = 1e-5
QUIETEST_PEAK = 1e-4
"""A wet clip without any higher peak cannot be normalised."""
EVERY = (16, 4)
MARGIN = (0.02, 3.0)
"""How far from the threshold one frame in `EVERY` decides: so much, and so many standard errors of their
mean."""


@dataclass
class DryFeatures:
    """MFCCs of an example's dry clips `[R, 1, T]`, made when first needed."""

    dry: np.ndarray
    sample_rate: int
    kept: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def of(self, row: int, every: int) -> np.ndarray:
        """`[frames, 30]` of one clip."""
        if (row, every) not in self.kept:
            self.kept[row, every] = mfcc(self.dry[row, 0], self.sample_rate, every)
        return self.kept[row, every]


@dataclass(frozen=True)
class Judge:
    """Refuses settings.

    Attributes:
        sample_rate: Hz.
        inaudible: mean square of (wet - dry) below which a setting is refused.
        senseless: mean cosine of the MFCCs, frame by frame, below which it is.
        silent: mean square of the wet clips below which it is.
    """

    sample_rate: int
    inaudible: float = INAUDIBLE
    senseless: float = SENSELESS
    silent: float = SILENT

    def fault(self, wet: Sequence[np.ndarray], features: DryFeatures, *, audible: bool = True) -> str | None:
        """Why the setting is refused, or None.

        Args:
            wet: R clips `[1, T]` as they came out of the effect, one for each of the dry ones.
            audible: whether it must differ from them.

        Returns:
            "failed" (not finite), "silent", "inaudible", "senseless", or None.
        """
        power = float(np.mean([mean_square(clip) for clip in wet]))
        if not np.isfinite(power):
            return "failed"
        if power < self.silent or min(peak_of(clip) for clip in wet) < QUIETEST_PEAK:
            return "silent"
        if audible and self.alike(wet, list(features.dry)):
            return "inaudible"
        return None if self.sensible(wet, features) else "senseless"

    def alike(self, one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> bool:
        """Whether no difference is to be heard between two lists of clips."""
        return float(np.mean([mean_square(a - b) for a, b in zip(one, other, strict=True)])) < self.inaudible

    def sensible(self, wet: Sequence[np.ndarray], features: DryFeatures) -> bool:
        """Whether the clips are still like the dry ones, by the cosine of their MFCCs."""
        for every in EVERY:
            some = self.cosines(wet, features, every)
            mean, error = float(some.mean()), float(some.std()) / np.sqrt(len(some))
            if abs(mean - self.senseless) > MARGIN[0] + MARGIN[1] * error:
                return mean >= self.senseless
        return float(self.cosines(wet, features, 1).mean()) >= self.senseless

    def cosines(self, wet: Sequence[np.ndarray], features: DryFeatures, every: int) -> np.ndarray:
        """Of one frame in `every` of all clips, `[frames]`."""
        return np.concatenate(
            [
                cosine(features.of(row, every), mfcc(clip[0], self.sample_rate, every))
                for row, clip in enumerate(wet)
            ]
        )
