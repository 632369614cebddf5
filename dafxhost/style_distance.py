"""How far apart two recordings of different content sound: the distance that a transfer reports.

Multi-resolution STFT compares two recordings moment by moment, which means nothing when one is a guitar and
the other a drum loop. What can be compared is how their energy is spread over frequency and how it moves.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse
import soxr

from dafxhost.errors import AudioFileError

RATE = 24000
"""Hz at which the bands are taken."""
FRAME, HOP, BANDS = 2048, 1024, 64
LOWEST, HIGHEST = 40.0, 11500.0
FLOOR = -60.0
"""dB below the recording's mean band energy; pauses and noise floors below it count as equal."""


class LogMel:
    """Collects a recording block by block: 21 MB an hour, whatever its rate and channel count.

    Args:
        sample_rate: of the blocks, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self.sample_rate = sample_rate
        self._resampler = soxr.ResampleStream(sample_rate, RATE, 1, "float32", "HQ")
        self._rest = np.zeros(0, np.float32)
        self._frames: list[np.ndarray] = []
        self._statistics: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, block: np.ndarray) -> None:
        """Append `[C, N]`; channels are averaged."""
        self._take(self._resampler.resample_chunk(block.mean(axis=0, dtype=np.float32)))

    def statistics(self) -> tuple[np.ndarray, np.ndarray]:
        """End the recording. Returns mean and standard deviation over time of every band, in dB, `[64]` each.

        Levels are relative to the mean band energy over the whole recording, so loudness does not count.

        Raises:
            AudioFileError: the recording is silent.
        """
        if self._statistics is None:
            self._statistics = self._finish()
        return self._statistics

    def _finish(self) -> tuple[np.ndarray, np.ndarray]:
        self._take(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        if self._rest.size > FRAME - HOP or not self._frames:  # else the last frame reached the end
            self._take(np.zeros(FRAME - self._rest.size, np.float32))
        power = np.concatenate(self._frames)
        reference = float(power.mean())
        if reference < 1e-20:
            raise AudioFileError("the recording is silent: there is no style to compare.")
        decibels = 10 * np.log10(np.maximum(power / reference, 10 ** (FLOOR / 10)))
        return decibels.mean(axis=0), decibels.std(axis=0)

    def _take(self, samples: np.ndarray) -> None:
        audio = np.concatenate([self._rest, samples.ravel()])
        count = max(0, (audio.size - FRAME) // HOP + 1)
        if count:
            view = np.lib.stride_tricks.sliding_window_view(audio, FRAME)[: count * HOP : HOP]
            for start in range(0, count, 256):
                spectrum = np.fft.rfft(view[start : start + 256] * _WINDOW, axis=-1)
                power = spectrum.real**2 + spectrum.imag**2
                self._frames.append(np.asarray(_FILTERS @ power.T).T.astype(np.float32))
        self._rest = audio[count * HOP :]


def logmel_distance(a: LogMel, b: LogMel) -> float:
    """Mean absolute difference, in dB, of the two recordings' band means and band standard deviations.

    Half of the weight is on each band's level over time (the mean), half on how much it moves (the standard
    deviation). Level-matched; 0 for equal recordings; only bands that both sample rates hold are compared.
    """
    (mean_a, std_a), (mean_b, std_b) = a.statistics(), b.statistics()
    both = np.flatnonzero(_EDGES[2:] <= 0.47 * min(a.sample_rate, b.sample_rate))
    return float(0.5 * np.abs(mean_a - mean_b)[both].mean() + 0.5 * np.abs(std_a - std_b)[both].mean())


def _mel_filters() -> tuple[scipy.sparse.csr_matrix, np.ndarray]:
    """Triangles `[bands, bins]` even in mel (2595 log10(1 + f / 700), O'Shaughnessy 1987), and edges in Hz.

    Sums over the bins are 1, so a band's value is a mean over its bins.
    """
    low, high = (2595 * np.log10(1 + f / 700) for f in (LOWEST, HIGHEST))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(FRAME, 1 / RATE)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    # The lowest triangles may be narrower than a bin; every band gets at least its nearest one.
    nearest = np.abs(bins - edges[1:-1]).argmin(axis=0)
    filters[nearest, np.arange(BANDS)] = np.maximum(filters[nearest, np.arange(BANDS)], 1e-3)
    # Sparse: a dense product goes to BLAS, whose threads spin and cost twenty times as much on busy cores.
    return scipy.sparse.csr_matrix((filters / filters.sum(axis=0)).T.astype(np.float32)), edges


_FILTERS, _EDGES = _mel_filters()
_WINDOW = (np.hanning(FRAME + 1)[:-1] / (FRAME / 2)).astype(np.float32)
