"""When things come again: the distance of cepstra.

A filter, an echo too, adds its cepstrum to that of what goes through it (Bogert, Healy and Tukey 1963, "The
quefrency alanysis of time series for echoes"): an echo after t seconds stands out at t, 2 t, ... whatever was
played.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dafxhost.errors import ShapeError, UsageError
from dafxhost.objectives.frames import Descriptive, bump_bands, mean_over

SHORTEST = 0.0005
"""Seconds: echoes closer than that are timbre."""
LAGS, RUNNING = 64, 0.125
SCALE = 10.0
"""Brings the distance to the size of the other terms: about 1 for a strong echo."""
FLOOR = 1e-6
"""Power over the clip's mean power of a bin below which it counts no further (-60 dB)."""


class EchoDistance(Descriptive):
    """L1 distance of cepstra pooled over quefrency, and of their sums from the left.

    The real cepstrum of the whole clip (tapered by the root of a Hann window), from 0.5 ms to a half of the
    clip; its 4-norm in 64 overlapping ranges, evenly spaced on a logarithmic axis: the exponent lets the few
    values of an echo stand out from the many that content leaves. Of two such profiles: |difference|, which
    sees how strong echoes are, and an eighth of |difference of the running sums|, the earth mover's distance
    on a line, which goes on growing as echoes move apart that no longer overlap. Level does not count.

    Args:
        sample_rate: of the audio, Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        if sample_rate < 4000:
            raise UsageError(f"echoes need a sample rate of at least 4000 Hz, not {sample_rate}")
        self.sample_rate = sample_rate
        self._lags: dict[int, tuple[Tensor, int]] = {}

    def describe(self, audio: Tensor) -> tuple[Tensor, ...]:
        clips, channels, samples = audio.shape
        if samples < 2048:
            raise ShapeError(f"a clip of {samples} samples is too short for echoes; 2048 are needed")
        taper = torch.hann_window(samples).to(audio).sqrt()
        spectrum = torch.view_as_real(torch.fft.rfft(audio.flatten(0, 1) * taper, 2 * samples)).square()
        power = spectrum[..., 0] + spectrum[..., 1]
        mean = power.mean(dim=1, keepdim=True)
        logs = 0.5 * (power / mean.clamp(min=1e-14) + FLOOR).log()
        rows, length = self._ranges(samples)
        cepstrum = torch.fft.irfft(logs, 2 * samples)[:, :length]
        profile = (cepstrum.square().square() @ rows.to(cepstrum).T + 1e-12) ** 0.25
        return (profile.unflatten(0, (clips, channels)),)

    def compare(self, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> Tensor:
        difference = ours[0] - theirs[0]
        return SCALE * (mean_over(difference.abs()) + RUNNING * mean_over(difference.cumsum(dim=-1).abs()))

    def _ranges(self, samples: int) -> tuple[Tensor, int]:
        if samples not in self._lags:
            length = samples // 2
            low, high = SHORTEST, 0.9 * length / self.sample_rate
            rows = bump_bands(low, high, LAGS, length, 1 / self.sample_rate)
            self._lags[samples] = rows / rows.amax(dim=1, keepdim=True), length
        return self._lags[samples]
