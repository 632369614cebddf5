"""Loudness after ITU-R BS.1770-4, in one pass over blocks. The K-weighting filters are pyloudnorm's."""

from __future__ import annotations

from typing import Any

import numpy as np

from dafxhost.errors import UsageError

ABSOLUTE_GATE = -70.0
RELATIVE_GATE = -10.0
_OFFSET = -0.691
# Left, right, centre, and the two surround channels (BS.1770-4, table 3); further ones count as 1 here.
_WEIGHTS = (1.0, 1.0, 1.0, 1.41, 1.41)


def has_loudness() -> bool:
    """Whether pyloudnorm is installed."""
    from importlib.util import find_spec

    return find_spec("pyloudnorm") is not None


def _k_filters(rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(b, a) of the high shelf and the high pass at this rate. Raises UsageError without pyloudnorm."""
    try:
        from pyloudnorm import IIRfilter
    except ImportError:
        raise UsageError(
            'loudness needs the package pyloudnorm: pip install "dafxhost[data]"; or use a peak level.'
        ) from None
    # BS.1770-4's two stages, as pyloudnorm's own meter makes them for any rate.
    stages: list[Any] = [
        IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, rate, "high_shelf"),
        IIRfilter(0.0, 0.5, 38.0, rate, "high_pass"),
    ]
    return [(np.asarray(stage.b), np.asarray(stage.a)) for stage in stages]


class LoudnessMeter:
    """Integrated loudness of audio given in blocks.

    Powers of 100 ms steps are kept (10 numbers a second and channel); blocks of 400 ms overlapping by three
    quarters, and the two gates, are made of them at the end (BS.1770-4, equations 1 to 7).

    Args:
        sample_rate: Hz. channels: count; a mono file counts once (it is not doubled to stereo).
    """

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._filters = _k_filters(sample_rate)
        self._states = [np.zeros((channels, 2)) for _ in self._filters]
        self._step = max(1, round(0.1 * sample_rate))
        self._rest = np.zeros((channels, 0))
        self._powers: list[np.ndarray] = []
        self._weights = np.array([_WEIGHTS[c] if c < 5 else 1.0 for c in range(channels)])

    def add(self, block: np.ndarray) -> None:
        """Take in `[C, N]`."""
        from scipy.signal import lfilter

        weighted = block.astype(np.float64)
        for k, (b, a) in enumerate(self._filters):
            weighted, self._states[k] = lfilter(b, a, weighted, axis=1, zi=self._states[k])
        weighted = np.concatenate([self._rest, weighted], axis=1)
        steps = weighted.shape[1] // self._step
        whole, self._rest = weighted[:, : steps * self._step], weighted[:, steps * self._step :]
        if steps:
            power = np.square(whole).reshape(len(whole), steps, self._step).mean(axis=2)
            self._powers.append(self._weights @ power)

    def integrated(self) -> float:
        """LUFS; minus infinity where nothing passes the gates, or for less than 0.4 s."""
        steps = np.concatenate([np.zeros(0), *self._powers])
        if len(steps) < 4:
            return -np.inf
        blocks = np.convolve(steps, np.full(4, 0.25), "valid")
        gated = blocks[_lufs(blocks) > ABSOLUTE_GATE]
        if not len(gated):
            return -np.inf
        gated = gated[_lufs(gated) > float(_lufs(gated.mean())) + RELATIVE_GATE]
        return float(_lufs(gated.mean())) if len(gated) else -np.inf


def _lufs(power: np.ndarray) -> np.ndarray:
    return _OFFSET + 10 * np.log10(np.maximum(power, 1e-30))


def loudness(audio: np.ndarray, sample_rate: int) -> float:
    """Integrated loudness of `[C, T]` in LUFS; minus infinity for silence or less than 0.4 s."""
    meter = LoudnessMeter(sample_rate, len(audio))
    meter.add(audio)
    return meter.integrated()
