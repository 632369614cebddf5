"""Differentiable effects in torch, whose true gradient autograd knows, for the estimator study."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from estimator_study_cases import RATE, SAMPLES
from torch import Tensor

from dafxhost.data.corpus import SyntheticCorpus
from dafxhost.data.sources import AudioSource, open_source
from dafxhost.losses import TransferLoss, peak_normalise

Function = Callable[[Tensor, Tensor], Tensor]
"""Dry `[B, 1, C, T]`, settings `[B, K, P]` on 0..1 -> wet `[B, K, C, T]`."""


def _parts(settings: Tensor) -> list[Tensor]:
    return [s[..., None, None] for s in settings.unbind(-1)]


def distortion(dry: Tensor, settings: Tensor) -> Tensor:
    """tanh of an offset signal with 0 to 40 dB of drive, its offset taken away, mixed with the dry signal."""
    drive, offset, mix = _parts(settings)
    gain, bias = 10.0 ** (2.0 * drive), offset - 0.5
    wet = torch.tanh(gain * dry + bias) - torch.tanh(bias)
    return mix * wet + (1.0 - mix) * gain * dry


def low_pass(dry: Tensor, settings: Tensor) -> Tensor:
    """Second-order low-pass, 100 Hz to 10 kHz, Q of 0.5 to 8: its analogue response on the FFT's grid."""
    cutoff, q, mix = _parts(settings)
    n = dry.shape[-1]
    ratio = torch.fft.rfftfreq(2 * n, 1 / RATE) / (100.0 * 100.0**cutoff)
    response = 1.0 / torch.complex(1.0 - ratio**2, ratio / (0.5 * 16.0**q))
    wet = torch.fft.irfft(torch.fft.rfft(dry, 2 * n) * response, 2 * n)[..., :n]
    return mix * wet + (1.0 - mix) * dry


def echo(dry: Tensor, settings: Tensor) -> Tensor:
    """A comb: delay of 5 to 250 ms, feedback of up to 0.8, wet level; the delay is not rounded to samples."""
    delay, feedback, mix = _parts(settings)
    n = dry.shape[-1]
    angle = 2 * torch.pi * torch.fft.rfftfreq(2 * n, 1 / RATE) * (0.005 + 0.245 * delay)
    turn = torch.polar(torch.ones_like(angle), -angle)
    response = turn / (1.0 - 0.8 * feedback * turn)
    wet = torch.fft.irfft(torch.fft.rfft(dry, 2 * n) * response, 2 * n)[..., :n]
    return dry + mix * wet


def compressor(dry: Tensor, settings: Tensor) -> Tensor:
    """Soft knee (Giannoulis, Massberg and Reiss 2012, eq. 4) of 12 dB on the power smoothed over 2 to 200 ms.

    Parameters: threshold -50 to -10 dB, ratio 1 to 20, smoothing.
    """
    threshold, ratio, time = _parts(settings)
    n = dry.shape[-1]
    pole = torch.exp(-1.0 / (RATE * 0.002 * 100.0**time))
    angle = 2 * torch.pi * torch.fft.rfftfreq(2 * n)
    smooth = (1.0 - pole) / (1.0 - pole * torch.polar(torch.ones_like(angle), -angle))
    power = torch.fft.irfft(torch.fft.rfft(dry.square(), 2 * n) * smooth, 2 * n)[..., :n]
    over = 10.0 * torch.log10(power.clamp(min=1e-9)) - (-50.0 + 40.0 * threshold)
    knee = 12.0
    amount = torch.where(over > knee / 2, over, (over + knee / 2).clamp(min=0.0).square() / (2 * knee))
    return dry * 10.0 ** (amount * (1.0 / (1.0 + 19.0 * ratio) - 1.0) / 20.0)


EFFECTS: dict[str, tuple[Function, int]] = {
    "torch-distortion": (distortion, 3),
    "torch-low-pass": (low_pass, 3),
    "torch-echo": (echo, 3),
    "torch-compressor": (compressor, 3),
}


class TorchLandscape:
    """Losses through a function in torch, and their gradient by autograd."""

    def __init__(self, function: Function, dry: Tensor, truth: Tensor) -> None:
        self.function, self.dry, self.truth, self.renders = function, dry[:, None], truth, 0
        self.loss = TransferLoss(l1_weight=0.0)
        with torch.no_grad():
            self.prepared = self.loss.prepare(self.render(truth[:, None])[:, 0])

    def render(self, settings: Tensor) -> Tensor:
        self.renders += settings.shape[0] * settings.shape[1]
        return self.function(self.dry, settings.float())

    @torch.no_grad()
    def losses(self, settings: Tensor) -> Tensor:
        return self.loss.distance(self.render(settings), self.prepared).double()

    @torch.no_grad()
    def both(self, settings: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
        """As `PluginLandscape.both`."""
        wet = self.render(settings)
        products = torch.einsum("bkct,bct->bk", wet.double(), slopes.double())
        return self.loss.distance(wet, self.prepared).double(), products

    def slopes(self, at: Tensor) -> Tensor:
        """Gradient of the loss to the waveform, `[B, C, T]`."""
        wet = self.render(at[:, None]).detach().requires_grad_()
        return torch.autograd.grad(self.loss.distance(wet, self.prepared).sum(), wet)[0][:, 0]

    def gradient(self, at: Tensor) -> Tensor:
        """The true gradient `[B, P]`, by autograd."""
        at = at.clone().requires_grad_()
        wet = self.function(self.dry, at.float()[:, None])
        return torch.autograd.grad(self.loss.distance(wet, self.prepared).sum(), at)[0]


def torch_effect(
    name: str, folder: Path | None, count: int, seed: int, samples: int = SAMPLES
) -> TorchLandscape:
    """`count` examples, half of them from the folder's recordings (if there is one)."""
    function, parameters = EFFECTS[name]
    sources: list[AudioSource] = [SyntheticCorpus(RATE, split="train", bank=6)]
    if folder is not None:
        sources.insert(0, open_source(str(folder), RATE, "train"))
    rng = np.random.default_rng(seed)
    clips = [sources[i * len(sources) // count].draw(rng, samples, RATE)[0] for i in range(count)]
    dry = torch.from_numpy(np.stack(clips)).float().reshape(count, 1, samples)
    truth = torch.from_numpy(rng.random((count, parameters)))
    return TorchLandscape(function, peak_normalise(dry), truth)
