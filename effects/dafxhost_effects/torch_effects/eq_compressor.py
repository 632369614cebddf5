"""`eq-compressor` in torch: the equaliser and the compressor's smoother in the frequency domain.

`dafxhost_effects.eq_compressor` names the formulas and their sources. Two things keep the frequency domain,
which is circular, to what a recursion over samples would give:

- the equaliser runs over as many zeros behind the clip as its slowest filter rings (`RING` seconds);
- the smoother is one pole, whose whole past is one number. Run circularly, it begins with what it ends with,
  y[-1] = y[N - 1], instead of 0, so a^(n + 1) y[N - 1] is too much and is taken away; no zeros are needed.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor, nn

from dafxhost.errors import ShapeError
from dafxhost_effects.eq_compressor import BANDS, HIGHEST, PARAMETERS, QUIETEST

RING = 0.5
"""Seconds of zeros behind the clip: the slowest filter (the low shelf at 40 Hz, Q 3, +12 dB, whose poles
decay by w0 / (2 Q sqrt A), a time constant of 34 ms) has died away by 128 dB then."""


def spectrum(dry: Tensor, sample_rate: int) -> Tensor:
    """Spectrum of dry audio `[..., T]`, as `eq_compressor` wants it; one serves any number of settings."""
    return torch.fft.rfft(dry, n=_fast(dry.shape[-1] + round(RING * sample_rate)))


def eq_compressor(
    dry: Tensor, settings: Tensor, sample_rate: int, dry_spectrum: Tensor | None = None
) -> Tensor:
    """Dry audio `[..., C, T]` and settings `[..., 24]` on 0..1 -> wet audio `[..., C, T]`.

    Leading dimensions broadcast: `[B, 1, C, T]` and `[B, K, 24]` give `[B, K, C, T]`. Differentiable in both;
    settings outside 0..1 are taken at the nearest bound, without gradient. Computed in the audio's dtype,
    float32 or float64.

    Args:
        sample_rate: Hz.
        dry_spectrum: `spectrum(dry, sample_rate)`, where it is at hand.

    Raises:
        ShapeError: settings are not `[..., 24]`, or the audio not `[..., C, T]`.
    """
    if settings.shape[-1:] != (len(PARAMETERS),) or dry.ndim < 2:
        raise ShapeError(
            f"eq-compressor takes audio [..., C, T] and settings [..., {len(PARAMETERS)}], "
            f"not {list(dry.shape)} and {list(settings.shape)}"
        )
    native = native_values(settings.to(dry.device)).to(torch.float64)
    samples = dry.shape[-1]
    if dry_spectrum is None:
        dry_spectrum = spectrum(dry, sample_rate)
    response = eq_response(native[..., :-6], dry_spectrum.shape[-1], sample_rate, dry.dtype)
    padded = _fast(samples + round(RING * sample_rate))
    equalised = torch.fft.irfft(dry_spectrum * response.unsqueeze(-2), n=padded)[..., :samples]
    threshold, ratio, attack, release, knee, makeup = native[..., -6:].to(dry.dtype).unsqueeze(-2).unbind(-1)
    # Both channels get one gain, from the louder of them.
    level = 20.0 * equalised.abs().amax(dim=-2).clamp(min=QUIETEST).log10()
    gain = _smooth(_gain_decibels(level, threshold, ratio, knee), attack, release, sample_rate)
    return equalised * torch.exp((gain + makeup) * (math.log(10.0) / 20.0)).unsqueeze(-2)


def native_values(settings: Tensor) -> Tensor:
    """Settings `[..., 24]` on 0..1 -> native values, with gradient."""
    low, span, log = (x.to(settings) for x in _ranges())
    u = settings.clamp(0.0, 1.0)
    return torch.where(log > 0, low * torch.exp(u * span), low + u * span)


@cache
def _ranges() -> tuple[Tensor, Tensor, Tensor]:
    """Minima, spans (of the logarithm on a logarithmic scale), and 1 where the scale is logarithmic."""
    log = [p.scale == "log" for p in PARAMETERS]
    span = [
        math.log(p.maximum / p.minimum) if is_log else p.maximum - p.minimum
        for p, is_log in zip(PARAMETERS, log, strict=True)
    ]
    low = [p.minimum for p in PARAMETERS]
    return (
        torch.tensor(low, dtype=torch.float64),
        torch.tensor(span, dtype=torch.float64),
        torch.tensor([float(x) for x in log]),
    )


def biquads(bands: Tensor, sample_rate: int) -> tuple[Tensor, Tensor]:
    """Native values `[..., 18]` -> coefficients b and a, `[..., 6, 3]` each; a0 is not 1."""
    gain, hertz, q = bands.unflatten(-1, (len(BANDS), 3)).unbind(-1)
    amplitude = torch.exp(gain * (math.log(10.0) / 40.0))
    w = 2.0 * math.pi * (hertz / sample_rate).clamp(max=HIGHEST)
    cosine, alpha = w.cos(), w.sin() / (2.0 * q)
    up, down = alpha * amplitude, alpha / amplitude
    b = torch.stack([1.0 + up, -2.0 * cosine, 1.0 - up], dim=-1)
    a = torch.stack([1.0 + down, -2.0 * cosine, 1.0 - down], dim=-1)
    low = _shelf(amplitude[..., 0], cosine[..., 0], alpha[..., 0], 1.0)
    high = _shelf(amplitude[..., -1], cosine[..., -1], alpha[..., -1], -1.0)
    whole = [torch.stack([x, y], dim=-2) for x, y in zip(low, high, strict=True)]
    return tuple(  # pyright: ignore[reportReturnType]
        torch.cat([shelves[..., :1, :], peaks[..., 1:-1, :], shelves[..., 1:, :]], dim=-2)
        for shelves, peaks in zip(whole, (b, a), strict=True)
    )


def _shelf(amplitude: Tensor, cosine: Tensor, alpha: Tensor, side: float) -> tuple[Tensor, Tensor]:
    """b and a `[..., 3]`; `side` 1: the low shelf; -1: the high one, its mirror image."""
    plus, minus, cosine = amplitude + 1.0, amplitude - 1.0, side * cosine
    width = 2.0 * amplitude.sqrt() * alpha
    b = [
        amplitude * (plus - minus * cosine + width),
        2.0 * side * amplitude * (minus - plus * cosine),
        amplitude * (plus - minus * cosine - width),
    ]
    a = [plus + minus * cosine + width, -2.0 * side * (minus + plus * cosine), plus + minus * cosine - width]
    return torch.stack(b, dim=-1), torch.stack(a, dim=-1)


def eq_response(bands: Tensor, bins: int, sample_rate: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Native values `[..., 18]` -> complex response `[..., bins]` of all bands, from 0 Hz to half the rate.

    With y = sin^2(w / 2), a biquad's numerator is, but for a factor e^-jw that the denominator has too,

        (b0 + b1 + b2) - 2 (b0 + b2) y + j (b0 - b2) sin w.

    Since sin^2 w = 4 y (1 - y), the product over all bands is P(y) + j sin w Q(y) with two polynomials of
    degrees 6 and 5, which are evaluated in float64; the rest is done in the precision asked for.
    """
    powers, sine = _circle(bins, bands.device)
    b, a = (_values(*_polynomials(c), powers, sine.to(dtype)) for c in biquads(bands, sample_rate))
    return b / a


def _polynomials(c: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients `[..., 6, 3]` of biquads -> those of P `[..., 7]` and Q `[..., 6]`, lowest power first."""
    constant, slope, odd = c.sum(-1), -2.0 * (c[..., 0] + c[..., 2]), c[..., 0] - c[..., 2]
    p, q = torch.stack([constant[..., 0], slope[..., 0]], dim=-1), odd[..., :1]
    for i in range(1, c.shape[-2]):
        k, m, d = (x[..., i : i + 1] for x in (constant, slope, odd))
        up_q = _raised(q)
        p, q = (
            k * _lengthened(p) + m * _raised(p) - 4.0 * d * (_lengthened(up_q) - _raised(up_q)),
            k * _lengthened(q) + m * up_q + d * p,
        )
    return p, q


def _raised(polynomial: Tensor) -> Tensor:
    """Times y."""
    return nn.functional.pad(polynomial, (1, 0))


def _lengthened(polynomial: Tensor) -> Tensor:
    return nn.functional.pad(polynomial, (0, 1))


def _values(p: Tensor, q: Tensor, powers: Tensor, sine: Tensor) -> Tensor:
    real, odd = (p @ powers).to(sine.dtype), (q @ powers[:-1]).to(sine.dtype)
    return torch.complex(real, odd * sine)


@cache
def _circle(bins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Powers 0 to 6 of sin^2(w / 2), `[7, bins]`, and sin w, `[bins]`."""
    w = torch.linspace(0.0, math.pi, bins, dtype=torch.float64, device=device)
    y = (w / 2.0).sin().square()
    powers = torch.stack([y**k for k in range(len(BANDS) + 1)])
    return powers, w.sin()


def _gain_decibels(level: Tensor, threshold: Tensor, ratio: Tensor, knee: Tensor) -> Tensor:
    """Level `[..., T]` in decibels -> gain in decibels (0 or below), with a soft knee."""
    over = level - threshold
    inside = torch.minimum((over + knee / 2.0).clamp(min=0.0), knee)
    return (1.0 / ratio - 1.0) * (inside.square() / (2.0 * knee) + (over - knee / 2.0).clamp(min=0.0))


def _smooth(gain: Tensor, attack: Tensor, release: Tensor, sample_rate: int) -> Tensor:
    """One pole over `[..., T]`; times `[..., 1]` in ms. Its past is 0."""
    samples = gain.shape[-1]
    size = _fast(samples)
    rate = -1000.0 / (sample_rate * (attack * release).sqrt())  # ln a
    pole = rate.exp()
    bins = torch.arange(size // 2 + 1, device=gain.device, dtype=gain.dtype) * (2.0 * math.pi / size)
    # |1 - a e^-jw|^2 written so that nothing cancels where a is near 1.
    real = -rate.expm1() + pole * 2.0 * (bins / 2.0).sin().square()
    response = -rate.expm1() / torch.complex(real, pole * bins.sin())
    circular = torch.fft.irfft(torch.fft.rfft(gain, n=size) * response, n=size)
    ages = torch.arange(1, samples + 1, device=gain.device, dtype=gain.dtype)
    return circular[..., :samples] - (rate * ages).exp() * circular[..., -1:]


@cache
def _fast(samples: int) -> int:
    """The next even length that has no prime factor above 5: transforms of it are quick."""
    size = samples + samples % 2
    while True:
        rest = size
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return size
        size += 2
