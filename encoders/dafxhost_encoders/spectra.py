"""Spectrograms that the encoders share, and the way back from them."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torchaudio.functional import griffinlim, melscale_fbanks

from dafxhost.encoders import check_option
from dafxhost.errors import UsageError

BANDS = ("stft", "mel")
COMPRESSIONS = ("power", "log")
FLOOR = 1e-4
"""Magnitude (-74 dB below a full-scale sine) below which logarithmic compression becomes linear."""
_GRIFFIN_LIM_STEPS = 60


class Magnitude(nn.Module):
    """Magnitude spectrogram: `[B, T]` -> `[B, n_fft / 2 + 1, 1 + T / hop]`; a full-scale sine reads 0.5.

    Args:
        n_fft: window and transform length, even. T must be more than half of it (the ends are mirrored).
        hop: samples between frames.
    """

    window: Tensor

    def __init__(self, n_fft: int, hop: int) -> None:
        super().__init__()
        check_option("n_fft", n_fft, 16, 65536)
        check_option("hop", hop, 1, n_fft)
        self.n_fft, self.hop = n_fft, hop
        window = torch.hann_window(n_fft)
        self.register_buffer("window", window / window.sum(), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        return self.spectrum(audio).abs()

    def spectrum(self, audio: Tensor) -> Tensor:
        """`[B, T]` -> the complex spectrum, same shape as the magnitudes."""
        return torch.stft(audio, self.n_fft, self.hop, window=self.window, return_complex=True)

    def audio(self, magnitude: Tensor, like: Tensor | None = None, samples: int | None = None) -> Tensor:
        """Magnitudes `[B, n_fft / 2 + 1, frames]` -> audio `[B, samples]`.

        Args:
            like: complex spectrum of the same shape whose phase is taken; without it the phase is found by
                the algorithm of Griffin and Lim (1984), in torchaudio's fast version (Perraudin 2013).
            samples: by default (frames - 1) * hop.

        Raises:
            UsageError: the hop is above half the window: then some samples are in no window's middle.
        """
        if self.hop > self.n_fft // 2:
            raise UsageError(
                f"no audio comes back from windows of {self.n_fft} samples every {self.hop}: "
                f"the hop may be {self.n_fft // 2} at most"
            )
        if samples is None:
            samples = max(1, (magnitude.shape[-1] - 1) * self.hop)
        if like is not None:
            spectrum = torch.polar(magnitude, like.angle())
            return torch.istft(spectrum, self.n_fft, self.hop, window=self.window, length=samples)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)  # it starts from random phases; the same ones each time
            return griffinlim(
                magnitude,
                window=self.window,
                n_fft=self.n_fft,
                hop_length=self.hop,
                win_length=self.n_fft,
                power=1.0,
                n_iter=_GRIFFIN_LIM_STEPS,
                momentum=0.99,
                length=samples,
                rand_init=True,
            )


class CompressedSpectrogram(nn.Module):
    """Compressed magnitudes of STFT bins or of mel bands: `[B, T]` -> `[B, bands, frames]`, and back.

    Args:
        sample_rate: of the audio, Hz. n_fft, hop: as `Magnitude` takes them.
        bands: "stft": n_fft / 2 + 1 linear bins; "mel": `mels` bands from 20 Hz to half the sample rate, each
            the root of its summed power.
        compression: "power": magnitude ** `power` (Grant 2023 has 0.3); "log": log10(1 + magnitude / FLOOR)
            / 4, which is about 0..1.
    """

    filters: Tensor

    def __init__(
        self,
        sample_rate: int,
        n_fft: int,
        hop: int,
        bands: str = "stft",
        mels: int = 64,
        compression: str = "power",
        power: float = 0.3,
    ) -> None:
        super().__init__()
        self.magnitude = Magnitude(n_fft, hop)  # checks both
        if bands not in BANDS:
            raise UsageError(f"encoder option input must be {' or '.join(BANDS)}, not {bands!r}")
        if compression not in COMPRESSIONS:
            raise UsageError(
                f"encoder option compression must be {' or '.join(COMPRESSIONS)}, not {compression!r}"
            )
        if not 0 < power <= 1:
            raise UsageError(f"encoder option power must be above 0 and at most 1, not {power!r}")
        check_option("mels", mels, 1, n_fft)
        self.kind, self.mels, self.compression, self.power = bands, mels, compression, float(power)
        self.bands = mels if bands == "mel" else n_fft // 2 + 1
        filters = mel_filters(n_fft, mels, sample_rate) if bands == "mel" else torch.zeros(0, 0)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        magnitude = self.magnitude(audio)
        if self.kind == "mel":
            magnitude = torch.einsum("bft,fm->bmt", magnitude.square(), self.filters).clamp(min=1e-18).sqrt()
        if self.compression == "log":
            return torch.log10(1.0 + magnitude / FLOOR) / 4.0
        # The root's slope at 0 is infinite; below -180 dBFS nothing is audible.
        return magnitude.clamp(min=1e-9) ** self.power

    def magnitudes(self, spectrogram: Tensor) -> Tensor:
        """Compressed `[B, bands, frames]` -> magnitudes of the bins `[B, n_fft / 2 + 1, frames]`, 0 or above.

        Mel bands are spread over their bins so that they sum up to what they were (least squares of least
        norm, negative powers set to 0).
        """
        spectrogram = spectrogram.clamp(min=0.0)
        if self.compression == "log":
            magnitude = FLOOR * (10.0 ** (4.0 * spectrogram) - 1.0)
        else:
            magnitude = spectrogram ** (1.0 / self.power)
        if self.kind == "stft":
            return magnitude
        back = torch.linalg.pinv(self.filters)  # [mels, bins]
        return torch.einsum("bmt,mf->bft", magnitude.square(), back).clamp(min=0.0).sqrt()


def mel_filters(n_fft: int, mels: int, sample_rate: int) -> Tensor:
    """Triangular mel filters `[n_fft / 2 + 1, mels]`. Raises UsageError if a band would hold no bin."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchaudio warns of empty bands; below they are an error
        filters = melscale_fbanks(n_fft // 2 + 1, 20.0, sample_rate / 2, mels, sample_rate)
    if bool((filters.amax(dim=0) <= 0).any()):
        raise UsageError(
            f"{mels} mel bands are too many for n_fft {n_fft} at {sample_rate} Hz: some hold no bin"
        )
    return filters
