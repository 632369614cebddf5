"""Players of the built-in corpus: rhythm sections and songs. Each plays one track `[n]` of a song.

All that is random comes from the generator given, so that a piece is its seed's.
"""

from __future__ import annotations

import numpy as np

from dafxhost.data import instruments as ins
from dafxhost.data.corpus_song import Song


def velocity(rng: np.random.Generator) -> float:
    return float(10.0 ** (rng.uniform(-14.0, 0.0) / 20.0))


def drums(rng: np.random.Generator, song: Song) -> np.ndarray:
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    kit = [
        (ins.kick(rng, sr), 1.0, rng.choice([0, 4, 6, 8, 10, 12, 14], 3, replace=False)),
        (ins.snare(rng, sr), rng.uniform(0.4, 0.9), np.array([4, 12])),
        (ins.hat(rng, sr), rng.uniform(0.1, 0.5), np.arange(0, 16, rng.choice([1, 2, 2, 4]))),
        (ins.hat(rng, sr, open_=True), rng.uniform(0.1, 0.4), np.array([rng.integers(16)])),
        (ins.tom(rng, sr), rng.uniform(0.2, 0.7), rng.integers(0, 16, rng.integers(0, 3))),
    ]
    played = [True, *(rng.random(4) < (0.85, 0.9, 0.4, 0.4))]
    ghost = rng.uniform(0.0, 0.12)
    for step in range(song.steps):
        for (sound, level, pattern), on in zip(kit, played, strict=True):
            hit = step % song.bar in pattern and rng.random() < 0.93
            if on and (hit or rng.random() < ghost):
                gain = level * (velocity(rng) ** 0.5 if hit else 0.3 * velocity(rng))
                song.add(track, song.start(step), sound, gain)
    return track


def percussion(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Few hits of few kinds with long rests: single shots, rides, bells, rolls."""
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    makers = [ins.kick, ins.snare, ins.hat, ins.tom]
    sounds = [makers[i](rng, sr) for i in rng.integers(0, 4, 2)]
    partials = rng.uniform(200, 6000, 6)
    ring = [
        ins.fm_note(float(f), 2 * sr, sr, ratio=1.41, index=1.0, seconds=rng.uniform(0.3, 3))
        for f in partials
    ]
    sounds.append(np.mean(ring, axis=0))
    every = int(rng.choice([1, 2, 3, 4, 8]))
    for step in range(0, song.steps, every):
        if rng.random() < 0.8:
            song.add(track, song.start(step), sounds[rng.integers(3)], velocity(rng))
    return track


def bass(rng: np.random.Generator, song: Song) -> np.ndarray:
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    shape = str(rng.choice(["saw", "square", "fm", "pluck"]))
    dark, sweep = rng.uniform(80, 300), rng.uniform(2, 20)
    resonance, ratio, length = rng.uniform(0.7, 4.0), float(rng.choice([0.5, 1, 2, 3])), rng.uniform(0.5, 3.5)
    pattern = rng.random(16) < rng.uniform(0.2, 0.6)
    pattern[0] = True
    for step in range(song.steps):
        if not pattern[step % song.bar % 16] or rng.random() < 0.08:
            continue
        degree = song.chord(step) + int(rng.choice([0, 0, 0, 0, 4, 7, 2]))
        f, n = song.frequency(degree, 0), int(length * song.step * sr * rng.uniform(0.6, 1.2))
        if shape == "fm":
            note = ins.fm_note(f, n, sr, ratio=ratio, index=sweep / 3, seconds=0.8)
        elif shape == "pluck":
            note = ins.pluck(rng, f, n, sr, seconds=2.0, bright=0.5)
        else:
            brightness = ins.decay(n, rng.uniform(0.1, 0.6), sr)
            note = ins.table_note(
                rng, shape, f, n, sr, cutoffs=(dark, dark * sweep), brightness=brightness, resonance=resonance
            )
        song.add(track, song.start(step), note * ins.envelope(n, 0.004, 0.03, sr), velocity(rng) ** 0.6)
    return track


def chords(rng: np.random.Generator, song: Song) -> np.ndarray:
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    shape = str(rng.choice(["saw", "saw", "organ", "square", "fm", "fm"]))
    every = int(rng.choice([4, 8, 8, 16, 16]))
    hold, attack = rng.uniform(0.4, 1.1), float(10 ** rng.uniform(-2.3, -0.4))
    cutoffs = (rng.uniform(300, 1500), rng.uniform(1500, 9000))
    voices, ratio, index = int(rng.integers(1, 3)), float(rng.choice([1, 2, 3.5, 7])), rng.uniform(0.5, 4)
    octave = int(rng.integers(1, 4))
    for step in range(0, song.steps, every):
        if rng.random() < 0.12:
            continue
        n = int(hold * every * song.step * sr)
        moving = 0.5 - 0.5 * np.cos(np.linspace(0, 2 * np.pi * rng.uniform(0.3, 2), n, dtype=np.float32))
        chord = np.zeros(n, np.float32)
        for tone in (0, 2, 4, 6)[: rng.integers(2, 5)]:
            f = song.frequency(song.chord(step) + tone, octave)
            if shape == "fm":
                chord += ins.fm_note(f, n, sr, ratio=ratio, index=index, seconds=rng.uniform(0.8, 3))
            else:
                chord += ins.table_note(
                    rng, shape, f, n, sr, cutoffs=cutoffs, brightness=moving, detune=0.08, voices=voices
                )
        env = ins.envelope(n, 0.004 if shape == "fm" else attack, 0.08, sr)
        song.add(track, song.start(step), chord * env, velocity(rng) ** 0.5)
    return track


def pluck(rng: np.random.Generator, song: Song) -> np.ndarray:
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    seconds, bright, density = rng.uniform(0.8, 5.0), rng.uniform(0.2, 1.0), rng.uniform(0.15, 0.7)
    strum, octave = rng.random() < 0.4, int(rng.integers(1, 4))
    notes: dict[int, np.ndarray] = {}

    def note(degree: int) -> np.ndarray:
        if degree not in notes:
            n = int(min(seconds, 2.0) * sr)
            string = ins.pluck(rng, song.frequency(degree, octave), n, sr, seconds=seconds, bright=bright)
            notes[degree] = string * ins.envelope(n, 0.001, 0.05, sr)
        return notes[degree]

    for step in range(0, song.steps, 4 if strum else 1):
        if rng.random() > (0.75 if strum else density):
            continue
        tones = (0, 2, 4, 7, 9) if strum else (int(rng.choice([0, 2, 4, 6, 7, 8, 9])),)
        for i, tone in enumerate(tones):
            late = int(i * rng.uniform(0.008, 0.025) * sr)
            song.add(track, song.start(step) + late, note(song.chord(step) + tone), velocity(rng))
    return track


def voice(rng: np.random.Generator, song: Song) -> np.ndarray:
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    sung, scale = rng.random() < 0.4, rng.uniform(0.9, 1.25)
    pitch = rng.uniform(85, 240)
    time = 0.0
    while time < song.n / sr:
        if rng.random() < 0.13:  # a pause for breath
            time += rng.uniform(0.2, 0.9)
            continue
        length = rng.uniform(0.25, 0.9) if sung else rng.uniform(0.1, 0.3)
        f = song.frequency(int(rng.integers(0, 8)), 1) if sung else pitch * 2 ** rng.normal(0, 0.12)
        f = f * 2.0 ** np.round(np.log2(pitch / f)) if sung else f
        sound = ins.syllable(rng, float(f), int(length * sr), sr, scale=scale, sung=sung)
        song.add(track, int(time * sr), sound, velocity(rng))
        time += length * rng.uniform(0.85, 1.1)
    return track
