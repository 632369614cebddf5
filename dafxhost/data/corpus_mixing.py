"""From tracks to a finished stereo piece of the built-in corpus: placement, room, compression, noise."""

from __future__ import annotations

import numpy as np
from scipy.signal import butter, oaconvolve, sosfilt

from dafxhost.data import corpus_sounds as snd
from dafxhost.data import instruments as ins


def placed(rng: np.random.Generator, track: np.ndarray, sample_rate: int, wide: float) -> np.ndarray:
    """A mono track somewhere between the loudspeakers, `[2, n]`.

    By level (constant power, Blumlein's sine law about) and, as between spaced microphones, by up to 0.6 ms;
    with `wide` above 0 also a copy 7 to 25 ms later of opposite sign in the two channels, so wide a source.
    """
    place = float(np.clip(rng.normal(0, 0.35), -1, 1))
    angle = (place + 1) * np.pi / 4
    out = np.stack([np.cos(angle) * track, np.sin(angle) * track]).astype(np.float32)
    late = int(abs(place) * rng.uniform(0, 6e-4) * sample_rate)
    if late:
        far = 1 if place < 0 else 0
        out[far, late:] = out[far, :-late].copy()
    shift = int(rng.uniform(0.007, 0.025) * sample_rate)
    if wide > 0:
        copy = np.float32(wide) * track[:-shift]
        out[0, shift:] += copy
        out[1, shift:] -= copy
    return out


class Room:
    """A reverberation in two channels: noise that decays, duller than the sound, alike in the low notes.

    Args:
        seconds: by which it has fallen by 60 dB. level: of it beside the dry sound. wide: 0..1, how different
            the channels are.
    """

    def __init__(
        self, rng: np.random.Generator, sample_rate: int, seconds: float, level: float, wide: float
    ) -> None:
        n, before = int(0.7 * seconds * sample_rate), int(rng.uniform(0, 0.03) * sample_rate)
        cutoff = rng.uniform(1500, 7000)
        common, left, right = (
            ins.lowpass(ins.noise(rng, n), cutoff, sample_rate) * ins.decay(n, seconds, sample_rate)
            for _ in range(3)
        )
        response = np.stack([common + wide * left, common + wide * right])
        response *= level / np.sqrt(np.sum(np.square(response), axis=1, keepdims=True))
        self.response = np.pad(response, ((0, 0), (before, 0))).astype(np.float32)

    def __call__(self, dry: np.ndarray) -> np.ndarray:
        """`[2, n]` with its reverberation."""
        wet = np.asarray(oaconvolve(dry, self.response, axes=1))[:, : dry.shape[1]]
        return (dry + wet).astype(np.float32)


def random_room(rng: np.random.Generator, sample_rate: int) -> Room | None:
    """A close microphone (none), a room, a hall."""
    kind = rng.random()
    seconds, level = float(10 ** rng.uniform(-0.8, 0.4)), float(10 ** rng.uniform(-1.2, 0.0))
    return Room(rng, sample_rate, seconds, level, rng.uniform(0.2, 1.5)) if kind < 0.65 else None


def compressed(mix: np.ndarray, ratio: float, sample_rate: int) -> np.ndarray:
    """`[C, n]`, its level over 12 ms made more even: by `1 / ratio` in decibels above -50 dB."""
    hop = max(1, int(0.012 * sample_rate))
    blocks = -(-mix.shape[1] // hop)
    power = np.zeros(blocks * hop, np.float32)
    power[: mix.shape[1]] = np.mean(np.square(mix), axis=0)
    power = power.reshape(blocks, hop).mean(axis=1)
    smooth = np.convolve(np.pad(power, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    level = 10 * np.log10(smooth + 1e-12)
    above = np.maximum(level - level.max(), -50.0)
    gain = 10 ** (-above * (1 - 1 / ratio) / 20)
    curve = np.interp(np.arange(mix.shape[1]), (np.arange(blocks) + 0.5) * hop, gain)
    return mix * curve.astype(np.float32)


def equalised(rng: np.random.Generator, mix: np.ndarray, deviation: float) -> np.ndarray:
    """`[C, n]` through a random smooth equaliser of linear phase, decibels of this deviation at 8 points."""
    points = rng.normal(0, deviation, 8)
    taps = 511
    octave = np.linspace(0, 1, 257) ** 0.35
    gain = 10 ** (np.interp(octave, np.linspace(0, 1, 8), points) / 20)
    kernel = np.roll(np.fft.irfft(gain, 512), taps // 2)[:taps] * np.hanning(taps)
    return np.asarray(oaconvolve(mix, kernel[None], mode="same", axes=1)).astype(np.float32)


def mastered(rng: np.random.Generator, mix: np.ndarray, sample_rate: int) -> np.ndarray:
    """What happens to recordings between microphone and file, `[2, n]` to `[2, n]`, peak 1.

    Direct current off, equaliser, compressor, saturation, band limits of older or cheaper equipment, noise.
    """
    out = ins.highpass(ins.highpass(mix, 25.0, sample_rate), 25.0, sample_rate)
    if rng.random() < 0.5:
        out = equalised(rng, out, rng.uniform(1, 5))
    if rng.random() < 0.45:
        out = compressed(out, float(rng.uniform(1.3, 4.0)), sample_rate)
    out = out / (np.abs(out).max() + 1e-6)
    if rng.random() < 0.35:
        drive = rng.uniform(1.0, 4.0)
        out = np.tanh(drive * out).astype(np.float32)
    if rng.random() < 0.3:
        cutoff = rng.uniform(1500, 6000)
        out = ins.lowpass(ins.lowpass(out, cutoff, sample_rate), cutoff, sample_rate)
    if rng.random() < 0.2:  # as after a low rate of sampling or a codec
        edge = min(float(rng.uniform(3500, 10000)), 0.45 * sample_rate)
        out = np.asarray(sosfilt(butter(6, edge, fs=sample_rate, output="sos"), out))
    if rng.random() < 0.08:  # a telephone, a small radio
        band = butter(
            2, (rng.uniform(80, 400), rng.uniform(2500, 6000)), "bandpass", fs=sample_rate, output="sos"
        )
        out = np.asarray(sosfilt(band, out))
    out = out / (np.abs(out).max() + 1e-9) + _floor(rng, out.shape[1], sample_rate)
    return (out / (np.abs(out).max() + 1e-9)).astype(np.float32)


def _floor(rng: np.random.Generator, n: int, sample_rate: int) -> np.ndarray:
    """Noise of the room and the equipment, -90 to -35 dB below full scale, alike in both channels or not."""
    level = 10 ** (rng.uniform(-90, -55) / 20 if rng.random() < 0.7 else rng.uniform(-55, -35) / 20)
    if rng.random() < 0.5:
        both = np.stack([ins.noise(rng, n), ins.noise(rng, n)])
    else:
        hiss = 5 * snd.coloured(rng, n, sample_rate, peaks=1)
        both = np.stack([hiss, np.roll(hiss, int(rng.integers(n)) * int(rng.integers(2)))])
    if rng.random() < 0.1:
        both = both + 10 * snd.crackle(rng, n, sample_rate, 20.0)
    return np.float32(level) * both
