"""How bands move: the distance of modulation spectra.

An LFO, a sweeping comb or a rotating speaker moves the levels of bands at a rate and by a depth. Two renders
that differ in the phase of that movement are far apart moment by moment, and near by this.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dafxhost.errors import ShapeError, UsageError
from dafxhost.objectives.frames import Descriptive, bump_bands, mean_over, power_spectra

WINDOW, HOP = 0.043, 0.0107
"""Seconds of a frame and between frames: bands move at up to 47 Hz."""
BANDS, LOWEST = 20, 80.0
"""Bands, and the centre of the lowest in Hz; the highest lies at 0.45 times the sample rate."""
RATES, SLOWEST = 16, 0.4
"""Ranges of modulation frequency, and the centre of the lowest in Hz."""
FLOOR = 1e-6
"""Power of a band over the clip's mean band power below which it counts as silent (-60 dB)."""
STILL = 0.03
"""Movement in nepers below which a band counts as still."""


class ModulationDistance(Descriptive):
    """L1 distance of log modulation spectra, plus that of the bands' mean levels.

    Power in 20 bands every 10.7 ms, over the clip's mean, as a natural logarithm (so that a filter that moves
    adds its movement to the content's, and level does not count); less its mean over time, Hann-tapered,
    Fourier transform along time; root mean square in 16 overlapping ranges of modulation frequency; its
    logarithm, not below `STILL`. The mean of |difference| over bands and ranges, and half of that of the mean
    levels. Spectra of envelopes by band are those of Houtgast and Steeneken (1985, "A review of the MTF
    concept"); their logarithm is the homomorphic view of Oppenheim, Schafer and Stockham (1968).

    Channels are described one by one. Clips of at least four frames (76 ms).

    Args:
        sample_rate: of the audio, Hz.
    """

    window: Tensor
    bands: Tensor

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        if sample_rate < 4000:
            raise UsageError(f"modulation spectra need a sample rate of at least 4000 Hz, not {sample_rate}")
        self.sample_rate = sample_rate
        self.size, self.hop = 2 * round(WINDOW * sample_rate / 2), round(HOP * sample_rate)
        self.register_buffer("window", torch.hann_window(self.size), persistent=False)
        bands = bump_bands(LOWEST, 0.45 * sample_rate, BANDS, self.size // 2 + 1, sample_rate / self.size)
        self.register_buffer("bands", bands, persistent=False)
        self._rates: dict[int, Tensor] = {}

    def describe(self, audio: Tensor) -> tuple[Tensor, ...]:
        clips, channels, samples = audio.shape
        frames = 1 + (samples - self.size) // self.hop
        if frames < 4:
            least = self.size + 3 * self.hop
            raise ShapeError(f"a clip of {samples} samples is too short for modulation; {least} are needed")
        power = self.bands @ power_spectra(audio.flatten(0, 1), self.window, self.hop)
        mean = power.mean(dim=(1, 2), keepdim=True)
        levels = (power / mean.clamp(min=1e-14) + FLOOR).log() * 0.5
        moving = (levels - levels.mean(dim=2, keepdim=True)) * torch.hann_window(frames).to(levels)
        # Twice as long: with few frames the lowest ranges would otherwise share their bins.
        spectrum = torch.view_as_real(torch.fft.rfft(moving, 2 * frames)).square().sum(dim=-1)
        rows = self._ranges(frames).to(spectrum)
        # 8/3: the taper's loss of power; a sine of amplitude a gives about a, if it fills one range alone.
        rms = (spectrum @ rows.T * (8 / 3 / frames) + STILL**2).sqrt()
        shape = (clips, channels)
        return rms.log().unflatten(0, shape), levels.mean(dim=2).unflatten(0, shape)

    def compare(self, ours: tuple[Tensor, ...], theirs: tuple[Tensor, ...]) -> Tensor:
        movement, level = ((a - b).abs() for a, b in zip(ours, theirs, strict=True))
        return mean_over(movement) + 0.5 * mean_over(level)

    def _ranges(self, frames: int) -> Tensor:
        """`[RATES, bins]` for that many frames; threads may make it twice, which does no harm."""
        if frames not in self._rates:
            rate = self.sample_rate / self.hop
            spacing = rate / (2 * frames)
            lowest = max(SLOWEST, 2 * spacing)
            self._rates[frames] = bump_bands(lowest, 0.45 * rate, RATES, frames + 1, spacing)
        return self._rates[frames]
