"""Distances between recordings, and the levels at which they are taken.

`MultiResolutionSTFT` is the distance, `TransferLoss` adds the L1 of the waveforms and brings prediction and
target to one level first. Both work on a batch of examples that each have several renders (the perturbations
of one setting): what depends on the target alone is computed once, by `prepare`, and shared by all renders::

    loss = TransferLoss()
    target = loss.prepare(wet)              # [B, C, T]
    values = loss.distance(renders, target)  # [B, K, C, T] -> [B, K]

A render that failed (NaN) gives NaN in its own place and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dafxhost.errors import ShapeError, UsageError

GRANT_FFT_SIZES = (32, 128, 512, 2048, 8192, 32768)
"""FFT sizes of Grant 2023 and of DeepAFx-ST (Steinmetz 2022)."""

EPSILON = 1e-8
"""Smallest power of a bin (magnitude 1e-4), as in auraloss: keeps the logarithm of silence finite."""

# Samples worked on at a time when no gradient is wanted. One clip of Grant's length makes spectra of about
# 1 MiB, which stay in the cache between the steps from audio to distance; larger pieces are slower.
CPU_CHUNK = 1 << 17
GPU_CHUNK = 1 << 24

SILENCE = 1e-9
"""Peak or RMS below which audio counts as silent and its level is left alone."""

Level = Literal["peak", "rms", "none"]


def peak_normalise(audio: Tensor, dbfs: float = -12.0) -> Tensor:
    """Audio `[..., C, T]` scaled so that its peak over channels and time is `dbfs` decibels re 1.

    Silence stays silence. Differentiable; the gain counts as a function of the audio.
    """
    peak = audio.abs().amax(dim=(-2, -1), keepdim=True)
    return audio * _gain(10.0 ** (dbfs / 20.0), peak)


def match_level(prediction: Tensor, target: Tensor) -> Tensor:
    """`prediction` `[..., C, T]` scaled to the RMS that `target` `[..., C, T]` has over channels and time.

    Where one of both is silent, the prediction is returned as it is. Differentiable in both.
    """
    wanted = _rms(target)
    return prediction * torch.where(
        wanted < SILENCE, torch.ones_like(wanted), _gain(wanted, _rms(prediction))
    )


def _rms(audio: Tensor) -> Tensor:
    # vector_norm, unlike sqrt(mean(x^2)), has a finite gradient at silence.
    samples = audio.shape[-1] * audio.shape[-2]
    return torch.linalg.vector_norm(audio, dim=(-2, -1), keepdim=True) / math.sqrt(samples)


def _gain(wanted: Tensor | float, level: Tensor) -> Tensor:
    silent = level < SILENCE  # False for NaN, which must stay visible
    ones = torch.ones_like(level)
    return torch.where(silent, ones, wanted / torch.where(silent, ones, level))


@dataclass(frozen=True)
class Spectra:
    """What `MultiResolutionSTFT.prepare` keeps of a target: one entry a resolution.

    Attributes:
        shape: of the audio, (B, C, T).
        sizes: FFT sizes used.
        magnitudes: `[B, 1, C, frames, bins]` each.
        logs: natural logarithm of the power (twice the log magnitude), same shapes.
    """

    shape: tuple[int, int, int]
    sizes: tuple[int, ...]
    magnitudes: tuple[Tensor, ...]
    logs: tuple[Tensor, ...]


class MultiResolutionSTFT(nn.Module):
    """L1 distance of linear and log magnitudes over several FFT sizes, as in Grant 2023 and DeepAFx-ST.

    For each FFT size n: hop n/2, periodic Hann window of length n, frames centred on the samples by
    reflection; ``mean |A - B| + mean |ln A - ln B|`` over channels, frames and bins, magnitudes not below
    1e-4; then the mean over the sizes. The mean over a batch equals that of auraloss (Steinmetz and Reiss
    2020): ``MultiResolutionSTFTLoss(fft_sizes, hop_sizes, win_lengths, w_sc=0, w_log_mag=1, w_lin_mag=1)``.

    The reflection needs more than n/2 samples, so sizes n with n/2 >= T are left out (auraloss raises an
    error there); a clip too short for every size is a ShapeError. The cost beside auraloss is measured by
    benchmarks/bench_gradients.py.

    Args:
        fft_sizes: even numbers of at least 4.
    """

    def __init__(self, fft_sizes: Sequence[int] = GRANT_FFT_SIZES) -> None:
        super().__init__()
        if not fft_sizes or any(n < 4 or n % 2 for n in fft_sizes):
            raise UsageError(f"FFT sizes must be even numbers of at least 4, not {list(fft_sizes)}")
        self.fft_sizes = tuple(fft_sizes)
        for n in self.fft_sizes:
            self.register_buffer(f"window_{n}", torch.hann_window(n), persistent=False)

    def prepare(self, target: Tensor) -> Spectra:
        """Spectra of the targets `[B, C, T]`, without gradient, to be shared by all their renders."""
        if target.ndim != 3:
            raise ShapeError(f"the target has shape [B, C, T], not {list(target.shape)}")
        batch, channels, samples = target.shape
        sizes = self._sizes(samples)
        magnitudes, logs = [], []
        with torch.no_grad():
            for n in sizes:
                magnitude, log = self.magnitude_and_log(target, n)
                magnitudes.append(magnitude.unsqueeze(1))
                logs.append(log.unsqueeze(1))
        return Spectra((batch, channels, samples), sizes, tuple(magnitudes), tuple(logs))

    def distance(self, prediction: Tensor, target: Spectra) -> Tensor:
        """Distance of every render `[B, K, C, T]` from its example's target -> `[B, K]`.

        Differentiable in the prediction; several times cheaper where no gradient is wanted.
        """
        _check_renders(prediction, target.shape)
        if torch.is_grad_enabled() and prediction.requires_grad:
            return self._distance(prediction, target, slice(None))
        batch, renders, channels, samples = prediction.shape
        out = prediction.new_empty(batch, renders)
        chunk = CPU_CHUNK if prediction.device.type == "cpu" else GPU_CHUNK
        examples = max(1, chunk // (renders * channels * samples)) if renders else 1
        columns = max(1, min(renders, chunk // (channels * samples)))
        with torch.no_grad():
            for b in range(0, batch, examples):
                rows = slice(b, b + examples)
                for k in range(0, renders, columns):
                    part = prediction[rows, k : k + columns]
                    out[rows, k : k + columns] = self._distance(part, target, rows)
        return out

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Distance of predictions `[B, C, T]` from targets `[B, C, T]` -> `[B]`, constant in the targets."""
        return self.distance(prediction.unsqueeze(1), self.prepare(target)).squeeze(1)

    def _sizes(self, samples: int) -> tuple[int, ...]:
        sizes = tuple(n for n in self.fft_sizes if n // 2 < samples)
        if not sizes:
            raise ShapeError(
                f"a clip of {samples} samples is too short for an FFT size of {min(self.fft_sizes)}; "
                f"it needs at least {min(self.fft_sizes) // 2 + 1} samples"
            )
        return sizes

    def _distance(self, prediction: Tensor, target: Spectra, rows: slice) -> Tensor:
        total = prediction.new_zeros(prediction.shape[:2])
        in_place = not (torch.is_grad_enabled() and prediction.requires_grad)
        for n, magnitudes, logs in zip(target.sizes, target.magnitudes, target.logs, strict=True):
            magnitude, log = self.magnitude_and_log(prediction, n)
            total = total + _mean_l1(magnitude, magnitudes[rows], in_place)
            total = total + 0.5 * _mean_l1(log, logs[rows], in_place)
        return total / len(target.sizes)

    def magnitude_and_log(self, audio: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """`[..., C, T]` -> magnitude and log power, `[..., C, frames, bins]`, with the FFT size n."""
        hop = n // 2
        flat = audio.reshape(1, -1, audio.shape[-1])
        padded = nn.functional.pad(flat, (hop, hop), mode="reflect").reshape(*audio.shape[:-1], -1)
        window: Tensor = getattr(self, f"window_{n}")
        # On the CPU, plain frames and rfft are a little faster than torch.stft, and the result is contiguous.
        spectrum = torch.fft.rfft(padded.unfold(-1, n, hop) * window.to(audio))
        parts = torch.view_as_real(spectrum)
        if torch.is_grad_enabled() and audio.requires_grad:
            squares = parts.square()
            power = (squares[..., 0] + squares[..., 1]).clamp(
                min=EPSILON
            )  # sum(-1) over two takes far longer
            return power.sqrt(), power.log()
        parts.mul_(parts)  # in place throughout: fresh memory costs as much as the arithmetic
        power = torch.add(parts[..., 0], parts[..., 1]).clamp_(min=EPSILON)
        return power.sqrt(), power.log_()


def spectral_difference(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> Tensor:
    """The part of the distance that two spectra of one FFT size add, each `magnitude_and_log`: a scalar.

    Not for gradients.
    """
    magnitude, log = ((a - b).abs_().mean() for a, b in zip(one, other, strict=True))
    return magnitude + 0.5 * log


@dataclass(frozen=True)
class PreparedTarget:
    """What `TransferLoss.prepare` keeps of a target: its level-matched audio `[B, C, T]` and its spectra."""

    audio: Tensor
    spectra: Spectra


class TransferLoss(nn.Module):
    """Multi-resolution STFT distance + `l1_weight` times the L1 of the waveforms, both at one level.

    Prediction and target are brought to the same level first, because an effect's output gain could otherwise
    not be told from the level of the target (Grant 2023 normalised the target alone).

    Args:
        fft_sizes: see `MultiResolutionSTFT`.
        l1_weight: Grant 2023 uses 100 with audio at -12 dBFS. 0 leaves the waveforms out, which is right for
            effects that move the phase (delay, flanger, ring modulator).
        level: "peak": both to a peak of `dbfs`; "rms": the target to a peak of `dbfs`, the prediction to the
            target's RMS; "none": both as they are.
        dbfs: peak in decibels relative to full scale.
    """

    def __init__(
        self,
        fft_sizes: Sequence[int] = GRANT_FFT_SIZES,
        l1_weight: float = 100.0,
        level: Level = "peak",
        dbfs: float = -12.0,
    ) -> None:
        super().__init__()
        if level not in ("peak", "rms", "none"):
            raise UsageError(f'level must be "peak", "rms" or "none", not {level!r}')
        if not (math.isfinite(l1_weight) and l1_weight >= 0):
            raise UsageError(f"the weight of the L1 distance must be a number of at least 0, not {l1_weight}")
        self.stft = MultiResolutionSTFT(fft_sizes)
        self.l1_weight = float(l1_weight)
        self.level = level
        self.dbfs = float(dbfs)

    def prepare(self, target: Tensor) -> PreparedTarget:
        """Levelled audio and spectra of the targets `[B, C, T]`, without gradient, for all their renders."""
        if target.ndim != 3:
            raise ShapeError(f"the target has shape [B, C, T], not {list(target.shape)}")
        audio = target.detach()
        if self.level != "none":
            audio = peak_normalise(audio, self.dbfs)
        return PreparedTarget(audio, self.stft.prepare(audio))

    def distance(self, prediction: Tensor, target: PreparedTarget) -> Tensor:
        """Loss of every render `[B, K, C, T]` against its example's target -> `[B, K]`."""
        _check_renders(prediction, target.spectra.shape)
        audio = target.audio.unsqueeze(1)
        if self.level == "peak":
            prediction = peak_normalise(prediction, self.dbfs)
        elif self.level == "rms":
            prediction = match_level(prediction, audio)
        value = self.stft.distance(prediction, target.spectra)
        if self.l1_weight:
            value = value + self.l1_weight * _mean_l1(prediction, audio, in_place=False)
        return value

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Loss of predictions `[B, C, T]` against targets `[B, C, T]` -> `[B]`; no gradient to the target."""
        return self.distance(prediction.unsqueeze(1), self.prepare(target)).squeeze(1)


def _check_renders(prediction: Tensor, shape: tuple[int, int, int]) -> None:
    batch, channels, samples = shape
    if prediction.ndim != 4 or (prediction.shape[0], *prediction.shape[2:]) != shape:
        raise ShapeError(
            f"the prediction has shape {list(prediction.shape)}, which does not fit a target of shape "
            f"[{batch}, {channels}, {samples}]: expected [{batch}, K, {channels}, {samples}]"
        )


def _mean_l1(a: Tensor, b: Tensor, in_place: bool) -> Tensor:
    """Mean over all but the first two dimensions of |a - b|; `in_place` overwrites `a`."""
    difference = a.sub_(b).abs_() if in_place else (a - b).abs()
    return difference.flatten(2).mean(-1)
