"""More sounds for the built-in corpus: what rings, what is bowed or blown, what hisses. `[N]` float32 each.

Lengths are in samples, frequencies in Hz; every random choice comes from the generator given.
"""

from __future__ import annotations

import numpy as np

from dafxhost.data import instruments as ins

MEMBRANE = np.array([1.0, 1.594, 2.136, 2.296, 2.653, 2.918, 3.156, 3.501, 3.6, 4.06])
"""Modes of an ideal circular membrane, of the lowest (zeros of Bessel functions)."""
BAR = np.array([1.0, 2.756, 5.404, 8.933, 13.34])
"""Modes of a free bar, of the lowest (Fletcher and Rossing, The Physics of Musical Instruments, 2.16)."""
TABLA = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.1])
"""A loaded membrane is nearly harmonic (Raman 1934)."""


def modes(
    frequency: np.ndarray,
    seconds: np.ndarray,
    amplitude: np.ndarray,
    n: int,
    sample_rate: int,
    phase: np.ndarray | None = None,
) -> np.ndarray:
    """A sum of decaying sines.

    Time is cut into rows of about sqrt(n) samples: z^(row + column) = z^row z^column, so the sum over modes
    is one product of two small matrices instead of a sine for every sample.

    Args:
        frequency, seconds, amplitude, phase: of each mode `[K]`; it falls by 60 dB in `seconds`. Modes above
            0.47 of the rate are left out.
    """
    keep = frequency < 0.47 * sample_rate
    if not keep.any() or n < 1:
        return np.zeros(n, np.float32)
    turn = np.zeros(len(frequency)) if phase is None else phase
    exponent = (2j * np.pi * frequency - 6.9078 / seconds)[keep, None] / sample_rate
    columns = int(np.sqrt(n)) + 1
    rows = -(-n // columns)
    along = np.exp(exponent * np.arange(columns)).astype(np.complex64)
    scale = (amplitude * np.exp(1j * turn))[keep, None]
    down = (scale * np.exp(exponent * (np.arange(rows) * columns))).astype(np.complex64)
    return (down.imag.T @ along.real + down.real.T @ along.imag).ravel()[:n]


def struck(
    rng: np.random.Generator, frequency: float, n: int, sample_rate: int, *, kind: str, bright: float
) -> np.ndarray:
    """A struck string ("piano"), bar ("bar"), bell ("bell") or skin ("skin", "tabla"), peak 1.

    Args:
        bright: 0..1, how hard it is struck.
    """
    k = np.arange(1, 25, dtype=float)
    if kind == "piano":  # stiff strings, doubled, the higher partials shorter (Fletcher 1964)
        ratio = k * np.sqrt(1 + 10 ** rng.uniform(-4.3, -3.2) * k * k)
        ratio = np.concatenate([ratio, ratio * 2 ** (rng.uniform(0.5, 3.0) / 1200)])
        k = np.concatenate([k, k])
        length, fall = 8.0 * (130 / frequency) ** 0.6, 0.35
    elif kind == "bar":
        ratio, length, fall = BAR * rng.normal(1, 0.01, 5), rng.uniform(0.4, 3.0), 1.2
    elif kind == "bell":
        ratio = np.concatenate([[0.5, 1, 1.2, 1.5, 2, 2.7, 3, 4.1, 5.4], rng.uniform(2, 16, 12)])
        ratio = ratio * rng.normal(1, 0.01, ratio.size)
        length, fall = rng.uniform(1.5, 9.0), 0.7
    else:
        ratio = (TABLA if kind == "tabla" else MEMBRANE) * 1.0
        length, fall = rng.uniform(0.15, 1.2), 0.5
    k = ratio / ratio.min() if kind != "piano" else k
    amplitude = np.exp(-(k - 1) * (0.45 - 0.42 * bright)) * rng.uniform(0.2, 1.0, k.size)
    if kind == "piano":
        amplitude *= np.abs(np.sin(np.pi * k / rng.uniform(6.5, 9.0))) + 0.02
    out = modes(frequency * ratio, length / k**fall, amplitude, n, sample_rate)
    m = min(n, int(rng.uniform(0.005, 0.05) * sample_rate))
    knock = ins.lowpass(ins.noise(rng, m), 300 + 6000 * bright, sample_rate) * ins.decay(m, 0.04, sample_rate)
    out[:m] += rng.uniform(0.0, 1.0) * np.abs(out).max() * knock / (np.abs(knock).max() + 1e-9)
    return out / (np.abs(out).max() + 1e-9)


def cymbal(rng: np.random.Generator, n: int, sample_rate: int) -> np.ndarray:
    """Many modes that lie ever closer: rides, crashes, gongs, triangles; peak 1."""
    low = 10 ** rng.uniform(2.0, 3.5)
    count = int(rng.integers(12, 120))
    frequency = low * (11000 / low) ** np.sort(rng.random(count))
    length = rng.uniform(0.5, 8.0) * (1000 / frequency) ** rng.uniform(0.0, 0.5)
    amplitude = rng.exponential(1.0, count) * (frequency / low) ** rng.uniform(-0.8, 0.2)
    ring = modes(frequency, length, amplitude, n, sample_rate, rng.uniform(0, 6.28, count))
    hiss = ins.highpass(ins.noise(rng, n), 2 * low, sample_rate) * ins.decay(
        n, rng.uniform(0.3, 2.0), sample_rate
    )
    out = ring / np.abs(ring).max() + rng.uniform(0.0, 0.25) * hiss
    return out / np.abs(out).max()


def table(
    rng: np.random.Generator, frequency: float, sample_rate: int, *, slope: float, body: np.ndarray
) -> np.ndarray:
    """One cycle `[2048]` of a tone that falls by `slope` dB an octave, through resonances of a body.

    Args:
        body: (Hz, octaves, dB) of each resonance, `[R, 3]`.
    """
    h = np.arange(1, ins.TABLE // 2)
    hz = h * frequency
    gain = -slope * np.log2(h)
    for centre, width, high in body:
        gain = gain + high * np.exp(-((np.log2(hz / centre) / width) ** 2))
    amplitude = 10 ** (gain / 20) * (hz < 0.45 * sample_rate)
    spectrum = np.zeros(ins.TABLE // 2 + 1, np.complex64)
    spectrum[1:-1] = amplitude * np.exp(1j * rng.uniform(0, 6.28, h.size))
    cycle = np.fft.irfft(spectrum)
    return (cycle / (np.abs(cycle).max() + 1e-12)).astype(np.float32)


def sustained(
    rng: np.random.Generator,
    tables: tuple[np.ndarray, np.ndarray],
    frequency: float,
    n: int,
    sample_rate: int,
    *,
    attack: float,
    vibrato: float,
    breath: float,
) -> np.ndarray:
    """A bowed or blown note between two tables (soft, loud): brightness follows the level. Peak about 1.

    Args:
        attack: seconds. vibrato: semitones. breath: level of the bow's or breath's noise.
    """
    coarse = max(4, n // 256)  # slow curves are drawn coarsely and joined
    time = np.linspace(0, n / sample_rate, coarse)
    swell = np.minimum(1, time / attack) * (
        0.75 + 0.25 * np.sin(rng.uniform(0.5, 6) * time + rng.uniform(0, 6))
    )
    sway = vibrato * np.sin(2 * np.pi * rng.uniform(4.5, 6.5) * time) * np.minimum(1, time / 0.5)
    cents = sway + 0.05 * np.cumsum(rng.normal(size=coarse)) / np.sqrt(coarse)
    speed = np.interp(np.arange(n), np.linspace(0, n, coarse), frequency * 2 ** (cents / 12))
    index = ((np.cumsum(speed) / sample_rate + rng.random()) * ins.TABLE).astype(np.int64) & (ins.TABLE - 1)
    level = np.interp(np.arange(n), np.linspace(0, n, coarse), swell).astype(np.float32)
    soft, loud = (t[index] for t in tables)
    out = level * (soft + (loud - soft) * level)
    if breath > 0:
        hiss = ins.lowpass(ins.noise(rng, n), min(4 * frequency, 8000), sample_rate)
        out += np.float32(breath) * level * hiss
    return (out * ins.envelope(n, 0.005, min(0.15, attack + 0.03), sample_rate)).astype(np.float32)


def coloured(rng: np.random.Generator, n: int, sample_rate: int, *, peaks: int) -> np.ndarray:
    """Stationary noise with a random smooth spectrum: air, sea, hum, hiss, machines; RMS 0.2.

    A slope of 0 to -9 dB an octave, band edges, and `peaks` resonances of a tenth to two octaves.
    """
    size = 1 << 17  # made once, then repeated
    hz = np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 10.0)
    octave = np.log2(hz / 500)
    gain = -rng.uniform(0.0, 9.0) * octave
    for _ in range(peaks):
        centre, width = rng.uniform(-3.5, 4.0), 10 ** rng.uniform(-1.3, 0.3)
        gain += rng.uniform(5, 30) * np.exp(-(((octave - centre) / width) ** 2))
    gain -= 24 * np.maximum(0, octave - rng.uniform(1.5, 5)) + 24 * np.maximum(
        0, rng.uniform(-5, -1) - octave
    )
    noise = np.fft.rfft(ins.noise(rng, size)) * 10 ** (gain / 20)
    period = np.fft.irfft(noise, size)
    period = (period * (0.2 / np.sqrt(np.mean(period**2)))).astype(np.float32)  # periodic: no seams at all
    return np.tile(period, -(-n // size))[:n]


def crackle(rng: np.random.Generator, n: int, sample_rate: int, rate: float) -> np.ndarray:
    """Clicks of very different strengths, `rate` a second: vinyl, rain, fire. Peak 1."""
    out = np.zeros(n, np.float32)
    count = max(1, int(rng.poisson(rate * n / sample_rate)))
    out[rng.integers(n, size=count)] = rng.choice([-1, 1], count) * rng.exponential(1.0, count) ** 2
    out = ins.highpass(ins.lowpass(out, rng.uniform(800, 8000), sample_rate), 100, sample_rate)
    return out / (np.abs(out).max() + 1e-9)
