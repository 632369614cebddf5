"""All eight features of a batch of clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np

from dafxhost.errors import ShapeError, UnknownNameError, UsageError
from dafxhost.timbre.bark import boominess, sharpness
from dafxhost.timbre.brightness import brightness
from dafxhost.timbre.clip import Clip
from dafxhost.timbre.depth import depth
from dafxhost.timbre.hardness import hardness
from dafxhost.timbre.reverb import reverb
from dafxhost.timbre.roughness import roughness
from dafxhost.timbre.undefined import Undefined
from dafxhost.timbre.warmth import warmth

MODELS: dict[str, Callable[[Clip], float]] = {
    "hardness": hardness,
    "depth": depth,
    "brightness": brightness,
    "roughness": roughness,
    "warmth": warmth,
    "sharpness": sharpness,
    "boominess": boominess,
    "reverb": reverb,
}
FEATURES = tuple(MODELS)
"""Names, in the order of the reference package's extractor."""

RATES = (1_000, 768_000)
"""Sample rates accepted, Hz."""


@dataclass(frozen=True)
class TimbralFeatures:
    """Features of B clips.

    Attributes:
        names: F features. values: `[B, F]` float64, NaN where undefined; about 0 to 100 in the middle of
            listeners' ratings, not clipped to it; reverb is 0 or 1.
        reasons: B dictionaries, feature -> why it is undefined for that clip.
    """

    names: tuple[str, ...]
    values: np.ndarray
    reasons: list[dict[str, str]]


def timbral_features(
    audio: np.ndarray, sample_rate: int, features: Sequence[str] = FEATURES
) -> TimbralFeatures:
    """Audio Commons timbral features of clips: the models of Pearce, Brookes and Mason, version 0.4.

    Each model's docstring names its source. All but reverb are independent of the clip's level, which is
    brought to -24 LUFS first. What cannot be computed for a clip is NaN with a reason; no clip raises.

    Args:
        audio: `[B, C, T]`, floating point; channels are summed (of more than three, the first three),
        reverb looks
            at the first two. A torch tensor on the CPU will do. A clip takes about 60 MB a minute while it is
            looked at.
        sample_rate: Hz; below 44.1 kHz audio is resampled to it.
        features: which, by name, in the order wanted.

    Raises:
        ShapeError: not three axes, or an empty one. UsageError: not floating point, or a sample rate outside
            `RATES`. UnknownNameError: no such feature.
    """
    names = checked_names(features)
    clips = _checked(audio, sample_rate)
    values = np.full((len(clips), len(names)), np.nan)
    reasons: list[dict[str, str]] = [{} for _ in range(len(clips))]
    for row, channels in enumerate(clips):
        if not np.isfinite(channels).all():
            reasons[row] = dict.fromkeys(names, "the clip holds NaN or infinite samples")
            continue
        clip = Clip(channels, int(sample_rate))
        for column, name in enumerate(names):
            try:
                values[row, column] = MODELS[name](clip)
            except Undefined as why:
                reasons[row][name] = str(why)
    return TimbralFeatures(names, values, reasons)


def checked_names(features: Sequence[str]) -> tuple[str, ...]:
    """`features`, if all are known and none comes twice. Raises UnknownNameError or UsageError."""
    for name in features:
        if name not in MODELS:
            raise UnknownNameError("feature", name, FEATURES)
    if not features or len(set(features)) < len(features):
        raise UsageError("features are named once each, and at least one")
    return tuple(features)


def _checked(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    audio = np.asarray(audio)
    if audio.ndim != 3 or audio.size == 0:
        raise ShapeError(
            f"features are taken of audio [B, C, T] with at least one sample, not {list(audio.shape)}"
        )
    if not np.issubdtype(audio.dtype, np.floating):
        raise UsageError(f"features are taken of floating-point audio on -1..1, not of {audio.dtype}")
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, Integral):
        raise UsageError(f"a sample rate is a whole number of Hz, not {sample_rate!r}")
    if not RATES[0] <= sample_rate <= RATES[1]:
        raise UsageError(f"sample rate {sample_rate} Hz lies outside {RATES[0]}..{RATES[1]} Hz")
    return audio
