"""More players of the built-in corpus: keys, strings, winds, bells, pads, textures, machines, speech.

As in `corpus_band`, each plays one track `[n]` of a song, and draws everything from the generator given.
"""

from __future__ import annotations

import numpy as np

from dafxhost.data import corpus_sounds as snd
from dafxhost.data import instruments as ins
from dafxhost.data.corpus_band import velocity, voice
from dafxhost.data.corpus_song import Song


def keys(rng: np.random.Generator, song: Song) -> np.ndarray:
    """A piano: a bass note and chords in the rhythm of a style, a melody above."""
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    bright, n = rng.uniform(0.1, 0.8), int(rng.uniform(0.5, 2.0) * sr)
    stride, low = rng.random() < 0.5, rng.random() < 0.8
    busy, octave = rng.uniform(0.0, 0.6), int(rng.integers(2, 4))
    fade = ins.envelope(n, 0.001, 0.15, sr)
    notes: dict[tuple[int, int], np.ndarray] = {}

    def note(degree: int, at: int) -> np.ndarray:
        if (degree, at) not in notes:
            f = song.frequency(degree, at)
            notes[degree, at] = snd.struck(rng, f, n, sr, kind="piano", bright=bright) * fade
        return notes[degree, at]

    melody = 0
    for step in range(song.steps):
        root, start = song.chord(step), song.start(step)
        if step % 8 == 0 and low:
            song.add(track, start, note(root, 1), velocity(rng) ** 0.4)
        if step % 8 == 4 if stride else step % song.bar == 0:
            for tone in (0, 2, 4):
                song.add(track, start + int(rng.uniform(0, 0.01) * sr), note(root + tone, 2), 0.6)
        if rng.random() < busy:
            melody = int(np.clip(melody + rng.integers(-2, 3), -3, 10))
            song.add(track, start, note(melody, octave), velocity(rng) ** 0.6)
    return track


def bells(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Bars, bells, celesta, skins in tune: few to many notes that ring into each other."""
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    kind = str(rng.choice(["bar", "bell", "tabla", "skin"]))
    octave = int(rng.integers(1, 4) if kind in ("tabla", "skin") else rng.integers(2, 6))
    n, bright = int(rng.uniform(0.6, 3.0) * sr), rng.uniform(0.2, 1.0)
    every, density = int(rng.choice([1, 2, 4, 16])), rng.uniform(0.2, 0.9)
    fade = ins.envelope(n, 0.001, 0.05, sr)
    tones = rng.integers(0, 8, 5)
    notes = [
        snd.struck(rng, song.frequency(int(t), octave), n, sr, kind=kind, bright=bright) * fade for t in tones
    ]
    for step in range(0, song.steps, every):
        if rng.random() < density or step == 0:
            song.add(track, song.start(step), notes[rng.integers(5)], velocity(rng) ** 0.7)
    return track


def metal(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Cymbals, gongs, triangles: a pattern, a roll, or single strokes that ring out."""
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    stroke = [snd.cymbal(rng, int(rng.uniform(0.8, 5.0) * sr), sr) for _ in range(2)]
    stroke = [s * ins.envelope(s.size, 0.001, 0.1, sr) for s in stroke]
    every = int(rng.choice([1, 2, 4, 16, 32]))
    for step in range(0, song.steps, every):
        if step == 0 or rng.random() < 0.8:
            song.add(track, song.start(step), stroke[rng.integers(2)], velocity(rng) ** 0.6)
    return track


def _body(rng: np.random.Generator) -> np.ndarray:
    """Resonances of an instrument: (Hz, octaves, dB) of each."""
    count = int(rng.integers(2, 6))
    return np.stack(
        [10 ** rng.uniform(2.3, 3.7, count), rng.uniform(0.1, 0.6, count), rng.uniform(3, 18, count)], axis=1
    )


def sustain(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Strings, brass, woodwind: a melody in long and short notes, or a section that holds chords."""
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    section, octave, body = rng.random() < 0.4, int(rng.integers(1, 4)), _body(rng)
    slope, hard = rng.uniform(4, 14), rng.uniform(2, 8)
    attack, vibrato = 10 ** rng.uniform(-2.0, -0.3), rng.uniform(0.0, 0.35)
    breath = 10 ** rng.uniform(-2.5, -0.7)
    lengths = ([8, 16] if section else [2, 4, 4, 8, 12])[: int(rng.integers(2, 6))]
    step, degree = 0, 0
    while step < song.steps:
        length = int(rng.choice(lengths))
        if rng.random() < 0.9:
            degree = int(np.clip(degree + rng.integers(-2, 3), -2, 9))
            tones = [song.chord(step) + t for t in (0, 2, 4)] if section else [degree]
            n = int(length * song.step * sr * rng.uniform(0.7, 1.05))
            for tone in tones:
                f = song.frequency(tone, octave)
                soft, loud = (snd.table(rng, f, sr, slope=s, body=body) for s in (slope + hard, slope))
                sound = snd.sustained(
                    rng, (soft, loud), f, n, sr, attack=attack, vibrato=vibrato, breath=breath
                )
                song.add(track, song.start(step), sound, velocity(rng) ** 0.4)
        step += length
    return track


def drone(rng: np.random.Generator, song: Song) -> np.ndarray:
    """A cluster of partials that beat and swell, over noise; nothing begins, nothing ends."""
    count = int(rng.integers(4, 40))
    root = song.frequency(0, int(rng.integers(0, 4)))
    harmonic = rng.random() < 0.6
    ratio = rng.integers(1, 20, count) if harmonic else 2 ** rng.uniform(0, 5, count)
    frequency = root * ratio * 2 ** (rng.normal(0, 0.1, count) / 12)
    amplitude = rng.exponential(1.0, count) / ratio ** rng.uniform(0.2, 1.5)
    out = np.zeros(song.n, np.float32)
    for part in np.array_split(np.arange(count), 3):
        if not len(part):
            continue
        still = np.full(len(part), 1e4)
        sound = snd.modes(
            frequency[part], still, amplitude[part], song.n, song.sample_rate, rng.uniform(0, 6.28, len(part))
        )
        out += sound * _swell(rng, song.n, song.sample_rate)
    hiss = snd.coloured(rng, song.n, song.sample_rate, peaks=3)
    level = np.sqrt(np.mean(out**2)) + 1e-9
    return out + np.float32(5 * level * 10 ** rng.uniform(-2.5, -0.2)) * hiss


def _swell(rng: np.random.Generator, n: int, sample_rate: int) -> np.ndarray:
    """A random slow level, 0..1."""
    points = max(4, int(n / sample_rate * 10 ** rng.uniform(-0.7, 0.8)))
    level = 10 ** (rng.uniform(-rng.uniform(3, 30), 0, points) / 20)
    return np.interp(np.arange(n), np.linspace(0, n, points), level).astype(np.float32)


def texture(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Noises that come and go: sea, wind, steam, hiss, crackle."""
    out = np.zeros(song.n, np.float32)
    for _ in range(int(rng.integers(1, 4))):
        out += snd.coloured(rng, song.n, song.sample_rate, peaks=int(rng.integers(0, 6))) * _swell(
            rng, song.n, song.sample_rate
        )
    if rng.random() < 0.4:
        clicks = snd.crackle(rng, song.n, song.sample_rate, 10 ** rng.uniform(0, 2.5))
        out += np.float32(10 ** rng.uniform(-0.7, 0.7)) * clicks
    return out


def machine(rng: np.random.Generator, song: Song) -> np.ndarray:
    """A loop of a bar or less, of short noises and tones, repeated: printers, engines, sequencers."""
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    n = int(song.step * int(rng.choice([4, 8, 16])) * sr)
    loop = np.zeros(n, np.float32)
    for _ in range(int(rng.integers(2, 14))):
        start = int(rng.integers(n))
        m = min(n - start, int(10 ** rng.uniform(-2, -0.3) * sr) + 2)
        f = float(10 ** rng.uniform(1.8, 3.8))
        if rng.random() < 0.5:
            shape = str(rng.choice(["saw", "square"]))
            bright = np.ones(m, np.float32)
            sound = ins.table_note(rng, shape, f, m, sr, cutoffs=(f, 8 * f), brightness=bright)
        else:
            sound = 3 * ins.resonate(ins.noise(rng, m), f, f * 10 ** rng.uniform(-1.5, 0), sr)
            sound /= np.sqrt(np.mean(sound**2)) + 1e-6
        loop[start : start + m] += sound * ins.envelope(m, 0.003, 0.01, sr) * np.float32(velocity(rng))
    for start in range(0, song.n, max(n, 1)):
        song.add(track, start, loop, 1.0)
    return track


def hits(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Booms, sweeps and swells with long tails, seconds apart."""
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    time = 0.0
    while time < song.seconds:
        n = int(rng.uniform(1.0, 6.0) * sr)
        kind = rng.integers(3)
        if kind == 0:  # a boom
            count = 20
            f = 30 * 2 ** rng.uniform(0, 5, count)
            sound = snd.modes(f, rng.uniform(0.5, 5, count), 1 / f, n, sr, rng.uniform(0, 6.28, count))
        elif kind == 1:  # noise that rises or falls
            sound = snd.coloured(rng, n, sr, peaks=4) * ins.decay(n, rng.uniform(0.5, 4), sr)
            sound = sound[::-1] if rng.random() < 0.4 else sound
        else:  # a sweep
            octaves = np.linspace(rng.uniform(-3, 3), rng.uniform(-3, 3), n)
            sound = np.sin(2 * np.pi * np.cumsum(300 * 2**octaves) / sr) * ins.decay(n, rng.uniform(1, 6), sr)
        sound = sound / (np.abs(sound).max() + 1e-9) * ins.envelope(n, 0.002, 0.3, sr)
        song.add(track, int(time * sr), sound.astype(np.float32), velocity(rng) ** 0.5)
        time += rng.uniform(0.5, 4.0)
    return track


def babble(rng: np.random.Generator, song: Song) -> np.ndarray:
    """Several people at once, near and far."""
    gains = 10 ** (rng.uniform(-15, 0, int(rng.integers(2, 4))) / 20)
    return np.sum([np.float32(g) * voice(rng, song) for g in gains], axis=0)
