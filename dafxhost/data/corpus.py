"""The built-in corpus: music made by our own code, for training without any data at hand.

Bands, soloists, ensembles, textures, machines and voices, with tempo, metre, harmony, form and dynamics, in
stereo, in rooms, with the noise and the compression of recordings. It is made so that a controller trained on
it works on recordings; docs/corpus.md says how far that goes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.signal import oaconvolve

from dafxhost.data import corpus_band as band
from dafxhost.data import corpus_mixing as mixing
from dafxhost.data import corpus_soloists as solo
from dafxhost.data import instruments as ins
from dafxhost.data.audio_io import Channels, take_channels
from dafxhost.data.corpus_song import Song, arrange, compose, plain_song
from dafxhost.data.sources import AudioSource, Split, is_silent, looped
from dafxhost.errors import ShapeError, UsageError

ITEM_SECONDS = 14.0
# What the bank's items are, in turn; about a third are full mixes and a half are single instruments.
STYLES = (
    ("band", ("drums", "bass", "chords", "pluck")),
    ("drums", ("drums",)),
    ("keys", ("keys",)),
    ("texture", ("texture",)),
    ("speech", ("voice",)),
    ("pluck", ("pluck",)),
    ("ensemble", ("sustain", "sustain", "bells", "pluck")),
    ("drone", ("drone",)),
    ("machine", ("machine",)),
    ("jazz", ("keys", "bass", "drums", "metal")),
    ("sustain", ("sustain",)),
    ("metal", ("metal",)),
    ("band", ("drums", "bass", "chords", "voice")),
    ("bells", ("bells",)),
    ("chords", ("chords",)),
    ("hits", ("hits", "drone")),
    ("bass", ("bass",)),
    ("percussion", ("percussion", "bells")),
    ("duo", ("pluck", "voice")),
    ("drums", ("drums", "metal")),
    ("texture", ("texture", "drone")),
    ("band", ("drums", "bass", "machine")),
    ("sustain", ("sustain", "keys")),
    ("speech", ("babble", "texture")),
)
PLAYERS: dict[str, Callable[[np.random.Generator, Song], np.ndarray]] = {
    "drums": band.drums,
    "percussion": band.percussion,
    "bass": band.bass,
    "chords": band.chords,
    "pluck": band.pluck,
    "voice": band.voice,
    "keys": solo.keys,
    "bells": solo.bells,
    "metal": solo.metal,
    "sustain": solo.sustain,
    "drone": solo.drone,
    "texture": solo.texture,
    "machine": solo.machine,
    "hits": solo.hits,
    "babble": solo.babble,
}


@dataclass(frozen=True)
class Piece:
    """A piece of music.

    Attributes:
        audio: finished, `[2, n]` float32, peak 1.
        stems: if asked for, (player, `[2, n]`) of each with its room; their sum, mastered, is `audio`.
    """

    audio: np.ndarray
    stems: tuple[tuple[str, np.ndarray], ...] = ()


def render_piece(
    rng: np.random.Generator,
    players: tuple[str, ...],
    sample_rate: int,
    seconds: float = ITEM_SECONDS,
    *,
    stems: bool = False,
) -> Piece:
    """A piece of music by these players (names of `PLAYERS`), in stereo; the same with stems and without."""
    song = compose(rng, sample_rate, seconds)
    parts = arrange(rng, song, len(players))
    room = mixing.random_room(rng, sample_rate)
    mono = rng.random() < 0.2
    wide = rng.uniform(0.0, 1.0) * (rng.random(len(players)) < 0.4)
    placed = []
    for player, part, spread in zip(players, parts, wide, strict=True):
        track = PLAYERS[player](rng, part)
        track = track * np.float32(10 ** (rng.uniform(-12, 0) / 20) / (np.abs(track).max() + 1e-6))
        stem = mixing.placed(rng, track, sample_rate, 0.0 if mono else spread)
        placed.append(np.repeat(stem.mean(axis=0, keepdims=True), 2, axis=0) if mono else stem)
    wet = room or (lambda dry: dry)
    mix = wet(np.sum(placed, axis=0))
    kept = tuple((player, wet(stem)) for player, stem in zip(players, placed, strict=True)) if stems else ()
    return Piece(mixing.mastered(rng, mix, sample_rate), kept)


def _rest(rng: np.random.Generator, track: np.ndarray, song: Song) -> np.ndarray:
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
    """A sketch: one plain take in mono without form, `[1, seconds * sample_rate]` float32, peak 1.

    Cheaper than `render_piece`, for tests and demonstrations; the corpus is made of both.
    """
    song = plain_song(rng, sample_rate, seconds)
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
        channels: "mono" (the mean of both), "stereo", or a channel's number, as of recordings.
    """

    def __init__(
        self,
        sample_rate: int = 24000,
        seed: int = 0,
        split: Split = "train",
        *,
        bank: int = 200,
        seconds: float = ITEM_SECONDS,
        channels: Channels = "mono",
    ) -> None:
        if split not in ("train", "validation", "all"):
            raise UsageError(f"split {split!r} is none of train, validation, all")
        if bank < 1 or seconds <= 0 or seed < 0 or sample_rate < 8000:
            raise UsageError("a corpus needs bank >= 1, seconds > 0, seed >= 0 and a rate of 8000 Hz or more")
        self.sample_rate, self.seed, self.split, self.seconds = sample_rate, seed, split, seconds
        if channels == "all":
            raise UsageError('pieces are stereo; choose "mono", "stereo" or a channel\'s number')
        take_channels(np.zeros((2, 1), np.float32), channels, "a piece")
        self.channels: Channels = channels
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
        """`[C, T]` int16: half the memory, and its noise lies far below the pieces' own."""
        with self._lock:
            item = self._items.get(index)
        if item is None:
            number = self._numbers[index]
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(number,)))
            audio = render_piece(rng, _style(number)[1], self.sample_rate, self.seconds).audio
            audio = take_channels(audio, self.channels)
            item = np.round(audio * (32767 / np.abs(audio).max())).astype(np.int16)
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
