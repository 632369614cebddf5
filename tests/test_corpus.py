"""The built-in corpus: what any music has, and sine tones have not."""

import time

import numpy as np
import pytest

from dafxhost.data import instruments
from dafxhost.data.corpus import PLAYERS, STYLES, SyntheticCorpus, render_item
from dafxhost.data.sources import AudioSource, is_silent
from dafxhost.errors import UsageError

RATE = 24000


@pytest.fixture(scope="module")
def corpus():
    return SyntheticCorpus(RATE, seed=3, bank=16, seconds=6.0)


@pytest.fixture(scope="module")
def clips(corpus):
    return [corpus.draw(np.random.default_rng(seed), 4 * RATE, RATE) for seed in range(32)]


def spectra(audio):
    frames = np.lib.stride_tricks.sliding_window_view(audio[0], 2048)[::1024] * np.hanning(2048)
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    return power[power.sum(axis=1) > 1e-4 * power.sum(axis=1).max()]


def test_clips_are_finite_unclipped_and_of_varied_level(clips):
    peaks = 20 * np.log10([np.abs(clip).max() for clip, _ in clips])
    for clip, _ in clips:
        assert clip.shape == (1, 4 * RATE) and clip.dtype == np.float32 and np.isfinite(clip).all()
        assert not is_silent(clip) and abs(clip.mean()) < 0.02
    assert -12.01 <= peaks.min() < -9 and -6 < peaks.max() <= -2.99
    loudness = [20 * np.log10(np.sqrt(np.mean(clip**2)) / np.abs(clip).max()) for clip, _ in clips]
    assert np.std(loudness) > 1.5  # crest factors of squashed mixes and of single hits


def test_spectra_are_broad_and_differ(clips):
    power = [spectra(clip) for clip, _ in clips]
    frequencies = np.fft.rfftfreq(2048, 1 / RATE)
    centroids = [float(p.sum(axis=0) @ frequencies / p.sum()) for p in power]
    assert 120 < np.percentile(centroids, 10) < np.percentile(centroids, 90) < 6000
    assert np.percentile(centroids, 90) > 2.5 * np.percentile(centroids, 10)
    # A sine tone keeps 99 % of its energy in 4 of the 1025 bins.
    busy = [
        int((np.cumsum(np.sort(p.mean(axis=0))[::-1]) < 0.99 * p.mean(axis=0).sum()).sum()) for p in power
    ]
    assert np.median(busy) > 40 and min(busy) > 8
    tone = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)[None]
    tonal = spectra(tone).mean(axis=0)
    assert int((np.cumsum(np.sort(tonal)[::-1]) < 0.99 * tonal.sum()).sum()) < 5


def test_levels_move_within_a_clip(clips):
    ranges = []
    for clip, _ in clips:
        frames = np.sqrt(np.mean(clip[0, : len(clip[0]) // 1200 * 1200].reshape(-1, 1200) ** 2, axis=1))
        ranges.append(20 * np.log10(np.percentile(frames, 95) / max(np.percentile(frames, 5), 1e-6)))
    assert np.median(ranges) > 10 and min(ranges) > 1


def test_same_seed_same_music_whatever_was_drawn_before(corpus):
    fresh = SyntheticCorpus(RATE, seed=3, bank=16, seconds=6.0)
    for seed in (5, 1):
        a, name_a = fresh.draw(np.random.default_rng(seed), 20000, RATE)
        b, name_b = corpus.draw(np.random.default_rng(seed), 20000, RATE)
        assert name_a == name_b
        np.testing.assert_array_equal(a, b)
    other = SyntheticCorpus(RATE, seed=4, bank=16, seconds=6.0)
    assert not np.allclose(
        other.draw(np.random.default_rng(5), 20000, RATE)[0],
        fresh.draw(np.random.default_rng(5), 20000, RATE)[0],
    )


def test_splits_share_no_piece_and_have_all_styles():
    train, validation, both = (SyntheticCorpus(RATE, 0, s, bank=32) for s in ("train", "validation", "all"))
    assert isinstance(train, AudioSource)
    assert not set(train.names) & set(validation.names)
    assert len(set(train.names)) == 32 and train.total_seconds == 32 * 14.0
    kinds = {name.rsplit("-", 1)[0] for name in train.names}
    assert kinds == {style for style, _ in STYLES} == {name.rsplit("-", 1)[0] for name in validation.names}
    assert set(both.names) <= set(train.names) | set(validation.names)


def test_longer_clips_repeat_a_piece_and_prepare_reports():
    corpus, seen = SyntheticCorpus(RATE, bank=2, seconds=3.0), []
    corpus.prepare(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    clip, _ = corpus.draw(np.random.default_rng(0), 10 * RATE, RATE)
    assert clip.shape == (1, 10 * RATE) and not is_silent(clip)


@pytest.mark.parametrize("player", sorted(PLAYERS))
@pytest.mark.parametrize("rate", [16000, 44100])
def test_every_instrument_at_other_rates(player, rate):
    audio = render_item(np.random.default_rng(7), (player,), rate, 3.0)
    assert audio.shape == (1, 3 * rate) and np.isfinite(audio).all()
    assert np.abs(audio).max() == pytest.approx(1.0, abs=1e-4)
    assert spectra(audio).shape[0] > 5


def test_a_plucked_string_is_in_tune_and_decays():
    for frequency in (82.4, 220.0, 659.3):
        note = instruments.pluck(np.random.default_rng(1), frequency, RATE, RATE, seconds=2.0, bright=0.5)
        spectrum = np.abs(np.fft.rfft(note * np.hanning(RATE), 4 * RATE))
        harmonics = [spectrum[int(4 * h * frequency) - 6 : int(4 * h * frequency) + 8] for h in (1, 2)]
        strongest = max(harmonics, key=lambda part: part.max())
        h = 1 if strongest is harmonics[0] else 2
        found = (int(4 * h * frequency) - 6 + int(strongest.argmax())) / 4 / h
        assert abs(1200 * np.log2(found / frequency)) < 12
        assert np.sqrt(np.mean(note[-4000:] ** 2)) < 0.3 * np.sqrt(np.mean(note[:4000] ** 2))


def test_a_piece_of_eleven_seconds_is_made_fast():
    start = time.process_time()
    for number, (_, players) in enumerate(STYLES):
        render_item(np.random.default_rng(number), players, RATE, 11.0)
    # 50 ms each on an idle core; the limit leaves room for a busy machine.
    assert (time.process_time() - start) / len(STYLES) < 0.5


def test_bad_arguments_give_one_sentence():
    with pytest.raises(UsageError, match="split 'test'"):
        SyntheticCorpus(RATE, 0, "test")
    with pytest.raises(UsageError, match="bank >= 1"):
        SyntheticCorpus(RATE, bank=0)
    with pytest.raises(UsageError, match="made at 24000 Hz, not at 44100 Hz"):
        SyntheticCorpus(RATE, bank=1).draw(np.random.default_rng(0), 100, 44100)
