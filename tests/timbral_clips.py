"""Clips whose features by the reference package are frozen in timbral_reference.json."""

from __future__ import annotations

import numpy as np

from dafxhost.data.corpus import render_item

RATE = 44100


def _noise(rng: np.random.Generator, n: int, slope: float) -> np.ndarray:
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / RATE), 20.0) ** -slope
    sound = np.fft.irfft(spectrum, n)
    return (sound / np.abs(sound).max()).astype(np.float32)


def reference_clips() -> dict[str, tuple[np.ndarray, int]]:
    """name -> (audio `[C, T]` float32, rate): music, a voice at 16 kHz, a drum loop in stereo, noises."""

    def piece(seed: int, players: tuple[str, ...], rate: int = RATE) -> np.ndarray:
        return render_item(np.random.default_rng(seed), players, rate, 2.0)

    rng = np.random.default_rng(9)
    drums = piece(3, ("drums",))
    pulses = _noise(rng, RATE * 2, 0.2) * (np.arange(RATE * 2) % 22050 < 5000)
    return {
        "mix": (piece(1, ("drums", "bass", "chords")), RATE),
        "chords": (piece(2, ("chords",)), RATE),
        "voice": (piece(4, ("voice",), 16000), 16000),
        "drums": (np.concatenate([drums, np.roll(drums, 300, axis=1)]), RATE),
        "noise": (_noise(rng, RATE * 2, 0.5)[None], RATE),
        "pulses": (pulses[None].astype(np.float32), RATE),
    }
