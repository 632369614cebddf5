"""The built-in corpus: music made by our own code, for training without any data at hand.

Drums, basses, chords, plucked strings and a voice, alone, in pairs and in full mixes, at random tempo,
density, key, room and level. It is made so that a controller trained on it works on recordings: broad
spectra, strong dynamics, rests between notes, noise floors, reverberation.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import oaconvolve

from dafxhost.data import instruments as ins
from dafxhost.data.sources import AudioSource, Split, is_silent, looped
from dafxhost.errors import ShapeError, UsageError

ITEM_SECONDS = 14.0
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 3, 5, 7, 9, 10), (0, 3, 5, 6, 7, 10, 12))
# What the bank's items are, in turn; about a third are full mixes and a half are single instruments.
STYLES = (
    ("mix", ("drums", "bass", "chords", "pluck")),
    ("drums", ("drums",)),
    ("mix", ("drums", "bass", "chords")),
    ("voice", ("voice",)),
    ("pluck", ("pluck",)),
    ("chords", ("chords",)),
    ("mix", ("drums", "bass", "pluck", "voice")),
    ("bass", ("bass",)),
    ("duo", ("pluck", "voice")),
    ("drums", ("drums",)),
    ("mix", ("drums", "chords")),
    ("voice", ("voice",)),
    ("duo", ("chords", "voice")),
    ("pluck", ("pluck",)),
    ("mix", ("drums", "bass")),
    ("percussion", ("percussion",)),
)


@dataclass(frozen=True)
class _Song:
    """What the instruments of one item share."""

    sample_rate: int
    n: int
    step: float  # seconds of a sixteenth
    scale: tuple[int, ...]
    key: float  # Hz of the lowest tonic
    chords: tuple[int, ...]  # degree of each bar, in turn
    swing: float

    @property
    def steps(self) -> int:
        return int(self.n / self.sample_rate / self.step) + 1

    def start(self, step: int) -> int:
        late = self.swing * self.step if step % 2 else 0.0
        return int((step * self.step + late) * self.sample_rate)

    def frequency(self, degree: int, octave: int) -> float:
        size = len(self.scale)
        semitones = self.scale[degree % size] + 12 * (degree // size + octave)
        return self.key * 2.0 ** (semitones / 12.0)

    def chord(self, step: int) -> int:
        return self.chords[(step // 16) % len(self.chords)]


def _add(track: np.ndarray, start: int, sound: np.ndarray, gain: float) -> None:
    """Add what fits."""
    stop = min(start + sound.size, track.size)
    if start < stop:
        track[start:stop] += np.float32(gain) * sound[: stop - start]


def _velocity(rng: np.random.Generator) -> float:
    return float(10.0 ** (rng.uniform(-14.0, 0.0) / 20.0))


def _drums(rng: np.random.Generator, song: _Song) -> np.ndarray:
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
            hit = step % 16 in pattern and rng.random() < 0.93
            if on and (hit or rng.random() < ghost):
                gain = level * (_velocity(rng) ** 0.5 if hit else 0.3 * _velocity(rng))
                _add(track, song.start(step), sound, gain)
    return track


def _percussion(rng: np.random.Generator, song: _Song) -> np.ndarray:
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
            _add(track, song.start(step), sounds[rng.integers(3)], _velocity(rng))
    return track


def _bass(rng: np.random.Generator, song: _Song) -> np.ndarray:
    track, sr = np.zeros(song.n, np.float32), song.sample_rate
    shape = str(rng.choice(["saw", "square", "fm", "pluck"]))
    dark, sweep = rng.uniform(80, 300), rng.uniform(2, 20)
    resonance, ratio, length = rng.uniform(0.7, 4.0), float(rng.choice([0.5, 1, 2, 3])), rng.uniform(0.5, 3.5)
    pattern = rng.random(16) < rng.uniform(0.2, 0.6)
    pattern[0] = True
    for step in range(song.steps):
        if not pattern[step % 16] or rng.random() < 0.08:
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
        _add(track, song.start(step), note * ins.envelope(n, 0.004, 0.03, sr), _velocity(rng) ** 0.6)
    return track


def _chords(rng: np.random.Generator, song: _Song) -> np.ndarray:
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
        _add(track, song.start(step), chord * env, _velocity(rng) ** 0.5)
    return track


def _pluck(rng: np.random.Generator, song: _Song) -> np.ndarray:
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
            _add(track, song.start(step) + late, note(song.chord(step) + tone), _velocity(rng))
    return track


def _voice(rng: np.random.Generator, song: _Song) -> np.ndarray:
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
        _add(track, int(time * sr), sound, _velocity(rng))
        time += length * rng.uniform(0.85, 1.1)
    return track


PLAYERS: dict[str, Callable[[np.random.Generator, _Song], np.ndarray]] = {
    "drums": _drums,
    "percussion": _percussion,
    "bass": _bass,
    "chords": _chords,
    "pluck": _pluck,
    "voice": _voice,
}


def _song(rng: np.random.Generator, sample_rate: int, seconds: float) -> _Song:
    bpm = rng.uniform(65, 165)
    scale = SCALES[rng.integers(len(SCALES))]
    chords = tuple(int(d) for d in rng.choice([0, 3, 4, 5, 1, 2], 4))
    key = 32.7 * 2.0 ** (rng.uniform(0, 14) / 12.0)
    swing = rng.uniform(0.0, 0.3) * (rng.random() < 0.4)
    return _Song(sample_rate, int(seconds * sample_rate), 15.0 / bpm, scale, key, chords, swing)


def _rest(rng: np.random.Generator, track: np.ndarray, song: _Song) -> np.ndarray:
    """Silence an instrument for some of the bars."""
    bar = max(1, int(16 * song.step * song.sample_rate))
    for start in range(0, song.n, bar):
        if rng.random() < 0.15:
            part = track[start : start + bar]
            part *= 1 - ins.envelope(part.size, 0.01, 0.01, song.sample_rate)
    return track


def _room(rng: np.random.Generator, dry: np.ndarray, sample_rate: int) -> np.ndarray:
    """Some reverberation: noise that decays, duller than the sound itself."""
    seconds = float(10 ** rng.uniform(-0.8, 0.2))
    n = int(0.7 * seconds * sample_rate)
    response = ins.lowpass(ins.noise(rng, n), rng.uniform(1500, 7000), sample_rate)
    response *= ins.decay(n, seconds, sample_rate)
    wet = np.asarray(oaconvolve(dry, response / np.sqrt(np.sum(np.square(response)))))[: dry.size]
    return (dry + rng.uniform(0.05, 0.5) * wet).astype(np.float32)


def render_item(
    rng: np.random.Generator, players: tuple[str, ...], sample_rate: int, seconds: float = ITEM_SECONDS
) -> np.ndarray:
    """One piece of music, `[1, seconds * sample_rate]` float32, peak 1."""
    song = _song(rng, sample_rate, seconds)
    mix = np.zeros(song.n, np.float32)
    for player in players:
        track = PLAYERS[player](rng, song)
        if len(players) > 1:
            track = _rest(rng, track, song)
        mix += track * np.float32(10 ** (rng.uniform(-9, 0) / 20) / (np.abs(track).max() + 1e-6))
    if rng.random() < 0.6:
        mix = _room(rng, mix, sample_rate)
    # Recordings carry no direct current; frequency modulation and a voice's pulses do.
    mix = ins.highpass(ins.highpass(mix, 25.0, sample_rate), 25.0, sample_rate)
    mix /= np.abs(mix).max() + 1e-6
    if rng.random() < 0.4:  # loudness as in finished recordings
        mix = np.tanh(rng.uniform(1.0, 4.0) * mix)
    mix = mix + np.float32(10 ** (rng.uniform(-90, -60) / 20)) * ins.noise(rng, song.n)
    if rng.random() < 0.5:  # recordings are often duller than synthesis
        cutoff = rng.uniform(1500, 6000)
        mix = ins.lowpass(ins.lowpass(mix, cutoff, sample_rate), cutoff, sample_rate)
    return (mix / (np.abs(mix).max() + 1e-9))[None].astype(np.float32)


class SyntheticCorpus(AudioSource):
    """A bank of pieces of music, made when first drawn, in a seed's own way.

    A draw takes a random piece, a random stretch of it, a random tilt of its spectrum and a level of -3 to
    -12 dBFS peak. "train" and "validation" share no piece; "all" is the pieces of both.

    Args:
        sample_rate: Hz at which it is made; a draw must ask for the same.
        seed: of all pieces. split: which half of them. bank: how many pieces.
        seconds: length of a piece; longer clips repeat it.
    """

    def __init__(
        self,
        sample_rate: int = 24000,
        seed: int = 0,
        split: Split = "train",
        *,
        bank: int = 200,
        seconds: float = ITEM_SECONDS,
    ) -> None:
        if split not in ("train", "validation", "all"):
            raise UsageError(f"split {split!r} is none of train, validation, all")
        if bank < 1 or seconds <= 0 or seed < 0 or sample_rate < 8000:
            raise UsageError("a corpus needs bank >= 1, seconds > 0, seed >= 0 and a rate of 8000 Hz or more")
        self.sample_rate, self.seed, self.split, self.seconds = sample_rate, seed, split, seconds
        # Even numbers train, odd ones validate; a style's turn comes in both.
        first, stride = {"train": (0, 2), "validation": (1, 2), "all": (0, 1)}[split]
        self._numbers = [first + stride * i for i in range(bank)]
        self.names = [f"{_style(number)[0]}-{number:04d}" for number in self._numbers]
        self.total_seconds = bank * seconds
        self.description = (
            f"built-in synthetic corpus, {bank} pieces, {self.total_seconds:.0f} s, seed {seed}"
        )
        self._items: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def prepare(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Make all pieces now; `progress(done, total)` is called after each."""
        for i in range(len(self._numbers)):
            self._item(i)
            if progress is not None:
                progress(i + 1, len(self._numbers))

    def _item(self, index: int) -> np.ndarray:
        """`[1, T]` int16: half the memory, and its noise lies far below the pieces' own."""
        with self._lock:
            item = self._items.get(index)
        if item is None:
            number = self._numbers[index]
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
            audio = render_item(rng, _style(number)[1], self.sample_rate, self.seconds)
            item = np.round(audio * 32767).astype(np.int16)
            with self._lock:
                self._items[index] = item
        return item

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        if sample_rate != self.sample_rate:
            raise UsageError(f"this corpus was made at {self.sample_rate} Hz, not at {sample_rate} Hz")
        if samples < 1:
            raise ShapeError(f"a clip of {samples} samples cannot be drawn")
        while True:
            index = int(rng.integers(len(self.names)))
            place, tilt, level = rng.random(), rng.uniform(-0.6, 0.6), rng.uniform(-12.0, -3.0)
            clip = self._stretch(index, place, samples)
            if not is_silent(clip):
                return _coloured(clip, tilt, level, sample_rate), self.names[index]

    def _stretch(self, index: int, place: float, samples: int) -> np.ndarray:
        item = self._item(index)
        spare = item.shape[1] - samples
        if spare < 0:
            whole = item.astype(np.float32) / np.float32(32767)
            return looped(whole, int(place * item.shape[1]), samples, int(0.02 * self.sample_rate))
        start = int(place * (spare + 1))
        return item[:, start : start + samples].astype(np.float32) / np.float32(32767)


def _style(number: int) -> tuple[str, tuple[str, ...]]:
    return STYLES[(number // 2) % len(STYLES)]


def _coloured(clip: np.ndarray, tilt: float, level: float, sample_rate: int) -> np.ndarray:
    """More (tilt > 0) or less of what lies above 1 kHz, by up to 8 dB; then the peak to `level` dBFS."""
    low = ins.lowpass(clip, 1000.0, sample_rate)
    out = low + np.float32(2.5**tilt) * (clip - low)
    return (out * np.float32(10 ** (level / 20) / np.abs(out).max())).astype(np.float32)
