"""What the players of one piece of the built-in corpus share: tempo, metre, key, chords, form, dynamics."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 3, 5, 6, 7, 10, 12))
# Degrees from 0; the usual cadences of songs, blues, baroque basses and vamps.
PROGRESSIONS = (
    (0, 4, 5, 3), (0, 5, 3, 4), (5, 3, 0, 4), (0, 3, 4, 4), (1, 4, 0, 0), (0, 6, 5, 4), (0, 0, 3, 0),
    (0, 3, 6, 2, 5, 1, 4, 0), (0, 0, 0, 0, 3, 3, 0, 0, 4, 3, 0, 4), (0, 1), (0, 0, 0, 0), (0, 2, 3, 4),
)  # fmt: skip
METRES = ((16, 0.7), (12, 0.2), (20, 0.04), (14, 0.06))
"""Sixteenths in a bar (4/4, 3/4 or 6/8, 5/4, 7/8), and how likely."""


@dataclass(frozen=True)
class Song:
    """The plan of one piece.

    Attributes:
        sample_rate: Hz. n: samples. step: seconds of a sixteenth. swing: how late every second one is.
        scale: semitones. key: Hz of the lowest tonic. chords: degree of each bar, in turn. bar: sixteenths.
        loudness: gain of each step for one instrument, 0 where it rests; none plays evenly throughout.
    """

    sample_rate: int
    n: int
    step: float
    scale: tuple[int, ...]
    key: float
    chords: tuple[int, ...]
    swing: float
    bar: int = 16
    loudness: np.ndarray | None = None

    @property
    def steps(self) -> int:
        return int(self.n / self.sample_rate / self.step) + 1

    @property
    def seconds(self) -> float:
        return self.n / self.sample_rate

    def start(self, step: int) -> int:
        """Sample at which a step begins."""
        late = self.swing * self.step if step % 2 else 0.0
        return int((step * self.step + late) * self.sample_rate)

    def frequency(self, degree: int, octave: int) -> float:
        """Hz of a degree of the scale, 0 the tonic, in an octave above the key."""
        size = len(self.scale)
        semitones = self.scale[degree % size] + 12 * (degree // size + octave)
        return self.key * 2.0 ** (semitones / 12.0)

    def chord(self, step: int) -> int:
        return self.chords[(step // self.bar) % len(self.chords)]

    def gain(self, sample: int) -> float:
        """How loud a note that begins at this sample is played."""
        if self.loudness is None:
            return 1.0
        return float(self.loudness[min(int(sample / self.sample_rate / self.step), len(self.loudness) - 1)])

    def add(self, track: np.ndarray, start: int, sound: np.ndarray, gain: float) -> None:
        """Add to `track` `[n]` what fits of a note, as loud as the form wants it there."""
        stop, gain = min(start + sound.size, track.size), gain * self.gain(start)
        if start < stop and gain > 0:
            track[start:stop] += np.float32(gain) * sound[: stop - start]


def plain_song(rng: np.random.Generator, sample_rate: int, seconds: float) -> Song:
    """Four bars of 4/4 in turn, without form."""
    bpm = rng.uniform(65, 165)
    scale = SCALES[rng.integers(len(SCALES))]
    chords = tuple(int(d) for d in rng.choice([0, 3, 4, 5, 1, 2], 4))
    key = 32.7 * 2.0 ** (rng.uniform(0, 14) / 12.0)
    swing = rng.uniform(0.0, 0.3) * (rng.random() < 0.4)
    return Song(sample_rate, int(seconds * sample_rate), 15.0 / bpm, scale, key, chords, swing)


def compose(rng: np.random.Generator, sample_rate: int, seconds: float) -> Song:
    """A song with a metre and a progression. Tempo: 60 to 180 quarters a minute, most often about 110."""
    song = plain_song(rng, sample_rate, seconds)
    bpm = float(np.clip(110 * 2 ** rng.normal(0, 0.4), 60, 180))
    bar = int(rng.choice([bar for bar, _ in METRES], p=[share for _, share in METRES]))
    chords = PROGRESSIONS[rng.integers(len(PROGRESSIONS))] if rng.random() < 0.75 else song.chords
    return replace(song, step=15.0 / bpm, bar=bar, chords=chords)


def arrange(rng: np.random.Generator, song: Song, players: int) -> list[Song]:
    """The song for each of the players: who plays in which section, how loud, with crescendos and rests.

    Sections of 2 or 4 bars have a level of their own (verse, chorus); in each, somebody plays. About one
    piece in four keeps one level. An instrument alone rests for single bars only.
    """
    bars = song.steps // song.bar + 1
    section = np.arange(bars) // int(rng.choice([2, 4]))
    count = int(section[-1]) + 1
    levels = rng.uniform(-14.0, 0.0, count) * (rng.random() < 0.75)
    if count > 1 and rng.random() < 0.25:  # one long crescendo or its reverse
        levels = np.sort(rng.uniform(-24.0, 0.0, count))[:: int(rng.choice([-1, 1]))]
    ramps = rng.uniform(-8.0, 8.0, count) * (rng.random(count) < 0.3)
    plays = rng.random((count, players)) < 0.8
    plays[np.arange(count), rng.integers(players, size=count)] = True
    at_bar = np.arange(song.steps) // song.bar
    within = (np.arange(song.steps) % song.bar) / song.bar
    of = section[at_bar]
    level = levels[of] + ramps[of] * (within - 0.5)
    accent = rng.uniform(0.0, 3.0) * ((np.arange(song.steps) % song.bar) != 0)
    rests = rng.random((players, bars)) < (0.1 if players > 1 else 0.06)
    rests[:, 0] &= players > 1
    on = plays[of].T & ~rests[:, at_bar]
    if not on.any():  # in a very short piece
        on = plays[of].T
    return [replace(song, loudness=np.where(own, 10 ** ((level - accent) / 20), 0.0)) for own in on]
