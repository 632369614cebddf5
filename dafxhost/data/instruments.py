"""Synthetic instruments for the built-in corpus: each function makes one note or hit, `[N]` float32.

They are built for variety and broad spectra, not for beauty: band-limited wavetables with moving brightness,
frequency modulation, plucked strings, drums of noise and pitch sweeps, a voice of pulses through formants.
Lengths are in samples, frequencies in Hz; every random choice comes from the generator given.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

TABLE = 2048


def decay(n: int, seconds: float, sample_rate: int) -> np.ndarray:
    """Exponential decay by 60 dB in `seconds`."""
    return np.exp(np.arange(n, dtype=np.float32) * np.float32(-6.9078 / (seconds * sample_rate)))


def envelope(n: int, attack: float, release: float, sample_rate: int) -> np.ndarray:
    """Linear attack and release in seconds, 1 in between; both shrink to fit n."""
    out = np.ones(n, dtype=np.float32)
    a, r = (max(1, min(int(t * sample_rate), n // 2)) for t in (attack, release))
    out[:a] *= np.linspace(0.0, 1.0, a, dtype=np.float32)
    out[-r:] *= np.linspace(1.0, 0.0, r, dtype=np.float32)
    return out


def noise(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal(n, dtype=np.float32)


def highpass(x: np.ndarray, frequency: float, sample_rate: int) -> np.ndarray:
    """First order."""
    c = float(np.exp(-2 * np.pi * min(frequency, 0.49 * sample_rate) / sample_rate))
    return np.asarray(lfilter([(1 + c) / 2, -(1 + c) / 2], [1.0, -c], x)).astype(np.float32)


def lowpass(x: np.ndarray, frequency: float, sample_rate: int) -> np.ndarray:
    """First order."""
    c = float(np.exp(-2 * np.pi * min(frequency, 0.49 * sample_rate) / sample_rate))
    return np.asarray(lfilter([1 - c], [1.0, -c], x)).astype(np.float32)


def resonate(x: np.ndarray, frequency: float, bandwidth: float, sample_rate: int) -> np.ndarray:
    """A two-pole resonator of unit gain at its centre, about."""
    r = np.exp(-np.pi * bandwidth / sample_rate)
    w = 2 * np.pi * frequency / sample_rate
    gain = (1 - r) * np.sqrt(1 - 2 * r * np.cos(2 * w) + r * r)
    return np.asarray(lfilter([gain], [1.0, -2 * r * np.cos(w), r * r], x)).astype(np.float32)


def wavetable(shape: str, frequency: float, cutoff: float, resonance: float, sample_rate: int) -> np.ndarray:
    """One cycle of a band-limited saw, square or organ through a 12 dB/octave low-pass, `[2048]`.

    The filter is applied to the harmonics' amplitudes: 1 / sqrt((1 - x^2)^2 + (x / Q)^2) at x = f / cutoff.
    """
    harmonics = np.arange(1, TABLE // 2)
    amplitude = 1.0 / harmonics
    if shape == "square":
        amplitude[1::2] = 0.0
    elif shape == "organ":
        amplitude *= np.isin(harmonics, (1, 2, 3, 4, 6, 8, 12, 16))
    x = harmonics * frequency / cutoff
    amplitude = amplitude / np.sqrt((1 - x * x) ** 2 + (x / resonance) ** 2)
    amplitude[harmonics * frequency > 0.47 * sample_rate] = 0.0
    spectrum = np.zeros(TABLE // 2 + 1, dtype=np.complex64)
    spectrum[1:-1] = -1j * amplitude
    return (np.fft.irfft(spectrum) * TABLE / 2).astype(np.float32)


def table_note(
    rng: np.random.Generator,
    shape: str,
    frequency: float,
    n: int,
    sample_rate: int,
    *,
    cutoffs: tuple[float, float],
    brightness: np.ndarray,
    resonance: float = 0.9,
    detune: float = 0.0,
    voices: int = 1,
) -> np.ndarray:
    """A note whose filter moves between two cutoffs as `brightness` `[n]` goes from 0 to 1."""
    dark, bright = (wavetable(shape, frequency, c, resonance, sample_rate) for c in cutoffs)
    out = np.zeros(n, dtype=np.float32)
    time = np.arange(n, dtype=np.float64)
    for _ in range(voices):
        f = frequency * 2.0 ** (rng.normal() * detune / 12.0)
        index = ((time * (f / sample_rate) + rng.random()) * TABLE).astype(np.int64) & (TABLE - 1)
        low = dark[index]
        out += low + (bright[index] - low) * brightness
    return out / np.float32(np.sqrt(voices))


def fm_note(
    frequency: float, n: int, sample_rate: int, *, ratio: float, index: float, seconds: float
) -> np.ndarray:
    """Two-operator frequency modulation whose index and level decay: electric pianos, bells, basses."""
    phase = np.arange(n, dtype=np.float32) * np.float32(2 * np.pi * frequency / sample_rate)
    fall = decay(n, seconds, sample_rate)
    return np.sin(phase + np.float32(index) * fall * np.sin(np.float32(ratio) * phase)) * np.sqrt(fall)


def pluck(
    rng: np.random.Generator, frequency: float, n: int, sample_rate: int, *, seconds: float, bright: float
) -> np.ndarray:
    """A plucked string (Karplus and Strong 1983), all periods at once.

    In that model each period is the last one through an averaging filter. On its spectrum that is a power of
    the filter's response, here |H| = 1 - s + s cos(pi m / M) for harmonic m, so a note is one batched inverse
    FFT. The period's fraction of a sample is a phase that grows from period to period.

    Args:
        seconds: time in which the fundamental falls by 60 dB. bright: 0..1, of the plucking noise.
    """
    period = sample_rate / frequency
    length = max(8, int(period))
    k = np.arange(-(-n // length), dtype=np.float32)[:, None]
    m = np.arange(length // 2 + 1, dtype=np.float32)
    place = rng.uniform(0.08, 0.45)  # where the string is plucked: notches at its multiples
    burst = np.fft.rfft(noise(rng, length)) * np.exp(-m * (1 - bright) * 0.25) * np.sin(np.pi * m * place)
    loss = 1 - 0.5 * rng.uniform(0.1, 0.9) * (1 - np.cos(np.pi * m / m[-1]))
    # Periods are counted in `length` samples: 60 dB are 6.9078 nepers.
    gain = np.maximum(loss, 1e-3) ** k * np.exp(-6.9078 * k * length / (seconds * sample_rate))
    shift = np.exp(-2j * np.pi * m / length * (period - length) * k)
    string = np.fft.irfft(burst * gain * shift, length, axis=1).ravel()[:n]
    return (string / (np.abs(string).max() + 1e-9)).astype(np.float32)


def kick(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    n = int(rng.uniform(0.15, 0.5) * sample_rate)
    end, start = rng.uniform(40, 65), rng.uniform(120, 400)
    pitch = end + (start - end) * decay(n, rng.uniform(0.06, 0.2), sample_rate)
    body = np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate) * decay(n, n / sample_rate, sample_rate)
    click = noise(rng, n) * decay(n, 0.012, sample_rate) * rng.uniform(0.0, 0.6)
    return np.tanh(rng.uniform(1.0, 3.0) * (body + click)).astype(np.float32)


def snare(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    n = int(rng.uniform(0.12, 0.4) * sample_rate)
    time = np.arange(n) / sample_rate
    f = rng.uniform(150, 260)
    skin = np.sin(2 * np.pi * f * time) + 0.6 * np.sin(2 * np.pi * 1.6 * f * time)
    wires = highpass(noise(rng, n), rng.uniform(800, 3000), sample_rate)
    wires *= decay(n, rng.uniform(0.1, 0.35), sample_rate)
    out = skin * decay(n, rng.uniform(0.08, 0.2), sample_rate) * rng.uniform(0.2, 1.0) + wires
    return np.tanh(1.2 * out).astype(np.float32)


def hat(rng: np.random.Generator, sample_rate: int, open_: bool = False) -> np.ndarray:
    seconds = rng.uniform(0.25, 0.7) if open_ else rng.uniform(0.03, 0.12)
    n = int(seconds * sample_rate)
    time = np.arange(n) / sample_rate
    base = rng.uniform(300, 500)
    metal = sum(np.sign(np.sin(2 * np.pi * base * r * time)) for r in (1.0, 1.342, 1.717, 2.011, 2.53))
    mix = rng.uniform(0.0, 0.3)
    out = noise(rng, n) * (1 - mix) + np.asarray(metal, dtype=np.float32) * mix
    out = highpass(highpass(out, rng.uniform(3000, 7000), sample_rate), 3000, sample_rate)
    return (out * decay(n, seconds, sample_rate)).astype(np.float32)


def tom(rng: np.random.Generator, sample_rate: int) -> np.ndarray:
    n = int(rng.uniform(0.2, 0.5) * sample_rate)
    f = rng.uniform(70, 200)
    pitch = f * (1 + 0.6 * decay(n, 0.12, sample_rate))
    body = np.sin(2 * np.pi * np.cumsum(pitch) / sample_rate) * decay(n, n / sample_rate, sample_rate)
    return (body + 0.3 * noise(rng, n) * decay(n, 0.04, sample_rate)).astype(np.float32)


# Formant frequencies of a, e, i, o, u for an adult voice (Peterson and Barney 1952, rounded), Hz.
VOWELS = (
    (730, 1090, 2440),
    (530, 1840, 2480),
    (270, 2290, 3010),
    (570, 840, 2410),
    (300, 870, 2240),
)


def syllable(
    rng: np.random.Generator, pitch: float, n: int, sample_rate: int, *, scale: float, sung: bool
) -> np.ndarray:
    """A vowel, perhaps after a burst of noise, on a gliding pitch; `scale` stretches the formants."""
    time = np.arange(n) / sample_rate
    glide = 1 + rng.normal() * (0.01 if sung else 0.12) * (time * sample_rate / n - 0.5)
    vibrato = (0.012 if sung else 0.004) * np.sin(2 * np.pi * (rng.uniform(4.5, 6.5) * time + rng.random()))
    phase = np.cumsum(pitch * (glide + vibrato)) / sample_rate
    pulses = np.diff(np.floor(phase), prepend=0.0).astype(np.float32) * np.float32(sample_rate / pitch * 0.2)
    breath = rng.uniform(0.01, 0.08)
    # The glottis falls by about 12 dB an octave, the lips give 6 back: a first-order low-pass remains.
    source = lowpass(pulses, 700.0, sample_rate) + breath * noise(rng, n)
    first, second = (np.array(VOWELS[rng.integers(5)]) * scale for _ in range(2))
    blend = np.linspace(0.0, 1.0, n, dtype=np.float32)
    out = np.zeros(n, dtype=np.float32)
    for formants, weight in ((first, 1 - blend), (second, blend)):
        heard = [
            g * resonate(source, f, 60 + 0.04 * f, sample_rate)
            for f, g in zip((*formants, 3600 * scale), (1.0, 0.6, 0.35, 0.2), strict=True)
            if f < 0.45 * sample_rate
        ]
        out += weight * np.sum(heard, axis=0)
    out *= envelope(n, 0.02, 0.05, sample_rate)
    out /= np.abs(out).max() + 1e-9
    if rng.random() < 0.6:  # a consonant: s, sh, t, k or the like
        m = min(int(rng.uniform(0.01, 0.1) * sample_rate), n // 2)
        hiss = highpass(noise(rng, m), rng.uniform(1500, 5000), sample_rate) * envelope(
            m, 0.005, 0.02, sample_rate
        )
        out[:m] = out[:m] * np.linspace(0, 1, m, dtype=np.float32) + rng.uniform(0.05, 0.25) * hiss
    return out.astype(np.float32)
