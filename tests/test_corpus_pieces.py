"""The built-in corpus's pieces: form, stereo, stems, and the sounds that they are made of."""

import numpy as np
import pytest

from dafxhost.data import corpus_mixing, corpus_sounds
from dafxhost.data.corpus import PLAYERS, STYLES, SyntheticCorpus, render_piece
from dafxhost.data.corpus_song import Song, arrange, compose
from dafxhost.errors import AudioFileError, UsageError

RATE = 16000


def decibels(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x)) + 1e-12))


@pytest.fixture(scope="module")
def songs() -> list[Song]:
    return [compose(np.random.default_rng(seed), RATE, 20.0) for seed in range(60)]


def test_songs_differ_in_tempo_metre_key_and_harmony(songs: list[Song]) -> None:
    tempos = np.array([15.0 / song.step for song in songs])
    assert tempos.min() >= 60 and tempos.max() <= 180 and tempos.std() > 15
    assert {12, 16} <= {song.bar for song in songs}
    assert len({song.chords for song in songs}) > 8 and len({song.scale for song in songs}) > 2


def test_somebody_plays_most_of_the_time_and_loudness_has_a_form(songs: list[Song]) -> None:
    moving = 0
    for seed, song in enumerate(songs):
        parts = arrange(np.random.default_rng(seed), song, 3)
        loudness = np.stack([part.loudness for part in parts])
        assert loudness.shape == (3, song.steps) and (loudness >= 0).all() and loudness.max() < 2
        assert (loudness.sum(axis=1) > 0).any() and (loudness.sum(axis=0) > 0).mean() > 0.5
        heard = loudness[loudness > 0]
        moving += 20 * np.log10(heard.max() / heard.min()) > 6
        assert parts[0].chords == song.chords and parts[0].step == song.step
    assert moving > len(songs) / 2


def test_a_resting_player_is_silent_and_notes_ring_on() -> None:
    song = compose(np.random.default_rng(0), RATE, 4.0)
    part = arrange(np.random.default_rng(0), song, 1)[0]
    quiet = Song(**{**part.__dict__, "loudness": np.where(np.arange(song.steps) < 4, 1.0, 0.0)})
    track = np.zeros(quiet.n, np.float32)
    quiet.add(track, 0, np.ones(song.n // 2, np.float32), 0.5)
    quiet.add(track, song.start(8), np.ones(10, np.float32), 0.5)
    assert (track[: song.n // 2] == 0.5).all() and not track[song.n // 2 :].any()


@pytest.mark.parametrize("players", sorted({players for _, players in STYLES}))
def test_every_style_gives_a_finite_stereo_piece_at_full_scale(players: tuple[str, ...]) -> None:
    assert set(players) <= set(PLAYERS)
    piece = render_piece(np.random.default_rng(3), players, RATE, 3.0)
    assert piece.audio.shape == (2, 3 * RATE) and piece.audio.dtype == np.float32
    assert np.isfinite(piece.audio).all() and np.abs(piece.audio).max() == pytest.approx(1.0, abs=1e-5)
    assert decibels(piece.audio) > -50 and piece.stems == ()
    # Recordings have a floor: no stretch is digital silence.
    assert np.abs(piece.audio).reshape(2, -1, 400).max(axis=2).min() > 0


@pytest.mark.parametrize("rate", [8000, 48000])
def test_pieces_at_other_rates(rate: int) -> None:
    piece = render_piece(np.random.default_rng(1), ("keys", "sustain", "metal", "texture"), rate, 2.0)
    assert piece.audio.shape == (2, 2 * rate) and np.isfinite(piece.audio).all()


def test_stems_are_those_of_the_mix() -> None:
    players = ("drums", "keys", "bass")
    plain = render_piece(np.random.default_rng(4), players, RATE, 6.0)
    split = render_piece(np.random.default_rng(4), players, RATE, 6.0, stems=True)
    np.testing.assert_array_equal(plain.audio, split.audio)
    assert tuple(name for name, _ in split.stems) == players
    together = np.sum([stem for _, stem in split.stems], axis=0)
    # The mix has been mastered (not linear), but is made of nothing else.
    assert together.shape == split.audio.shape
    likeness = np.corrcoef(together.mean(axis=0), split.audio.mean(axis=0))[0, 1]
    assert abs(likeness) > 0.7
    loud = [stem.mean(axis=0) for _, stem in split.stems if stem.any()]
    assert len(loud) > 1
    assert min(abs(np.corrcoef(stem, together.mean(axis=0))[0, 1]) for stem in loud) < abs(likeness)


def test_the_shortest_pieces_are_not_silent() -> None:
    song = compose(np.random.default_rng(0), RATE, 0.2)
    for seed in range(200):
        parts = arrange(np.random.default_rng(seed), song, 2)
        assert np.sum([part.loudness for part in parts]) > 0


def test_stereo_draws_are_wide_and_mono_ones_their_mean() -> None:
    stereo, mono = (SyntheticCorpus(RATE, 2, bank=5, seconds=2.0, channels=c) for c in ("stereo", "mono"))
    right = SyntheticCorpus(RATE, 2, bank=5, seconds=2.0, channels=1)
    widths = []
    for seed in range(8):
        both, name = stereo.draw(np.random.default_rng(seed), RATE, RATE)
        one, same = mono.draw(np.random.default_rng(seed), RATE, RATE)
        other, _ = right.draw(np.random.default_rng(seed), RATE, RATE)
        assert name == same and both.shape == (2, RATE) and one.shape == other.shape == (1, RATE)
        assert 0.2 < np.abs(both).max() < 0.75
        for expected, got in ((both.mean(axis=0), one[0]), (both[1], other[0])):
            assert np.corrcoef(expected, got)[0, 1] > 0.98  # but for its rounding to 16 bits and its level
        widths.append(decibels(both[0] - both[1]) - decibels(both[0] + both[1]))
    assert max(widths) > -20 and np.std(widths) > 2


def test_channels_that_no_piece_has() -> None:
    with pytest.raises(UsageError, match="pieces are stereo"):
        SyntheticCorpus(RATE, bank=1, channels="all")
    with pytest.raises(AudioFileError, match="no channel 2"):
        SyntheticCorpus(RATE, bank=1, channels=2)


def test_modes_are_the_sum_of_decaying_sines() -> None:
    rng, n = np.random.default_rng(0), 5000
    frequency, seconds = rng.uniform(50, 7000, 9), rng.uniform(0.05, 2, 9)
    amplitude, phase = rng.uniform(0, 1, 9), rng.uniform(0, 6, 9)
    time = np.arange(n)[None] / RATE
    sines = np.sin(2 * np.pi * frequency[:, None] * time + phase[:, None])
    expected = (amplitude[:, None] * 10 ** (-3 * time / seconds[:, None]) * sines).sum(axis=0)
    found = corpus_sounds.modes(frequency, seconds, amplitude, n, RATE, phase)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert not corpus_sounds.modes(np.array([9000.0]), np.ones(1), np.ones(1), 10, RATE).any()


@pytest.mark.parametrize("kind", ["piano", "bar", "bell", "skin", "tabla"])
def test_struck_sounds_decay(kind: str) -> None:
    note = corpus_sounds.struck(np.random.default_rng(1), 220.0, RATE, RATE, kind=kind, bright=0.5)
    assert np.abs(note).max() == pytest.approx(1.0, abs=1e-4)
    assert decibels(note[-2000:]) < decibels(note[:2000]) - 6


def test_a_sustained_note_is_in_tune() -> None:
    rng = np.random.default_rng(2)
    body = np.array([[900.0, 0.3, 9.0]])
    tables = tuple(corpus_sounds.table(rng, 330.0, RATE, slope=s, body=body) for s in (12.0, 6.0))
    note = corpus_sounds.sustained(
        rng, (tables[0], tables[1]), 330.0, RATE, RATE, attack=0.05, vibrato=0.0, breath=0.01
    )
    spectrum = np.abs(np.fft.rfft(note * np.hanning(RATE)))
    peak = 300 + int(spectrum[300:360].argmax())
    assert abs(1200 * np.log2(peak / 330)) < 40


def test_compression_makes_levels_more_even() -> None:
    rng = np.random.default_rng(0)
    loud, quiet = (g * rng.standard_normal((2, RATE)).astype(np.float32) for g in (0.3, 0.01))
    out = corpus_mixing.compressed(np.concatenate([loud, quiet], axis=1), 2.0, RATE)
    before = decibels(loud) - decibels(quiet)
    after = decibels(out[:, : RATE - 500]) - decibels(out[:, RATE + 500 :])
    assert after == pytest.approx(before / 2, abs=1.5)
