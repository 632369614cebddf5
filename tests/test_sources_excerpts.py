"""Clips drawn from recordings: levels, channels, checks, and files that vanish or change meanwhile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from dafxhost.data import sources
from dafxhost.data.checks import clipped_samples
from dafxhost.data.excerpts import Level
from dafxhost.data.facts import Facts
from dafxhost.data.facts_cache import FactsCache
from dafxhost.data.loudness import LoudnessMeter, loudness
from dafxhost.data.sources import FolderSource, open_source
from dafxhost.errors import AudioFileError, UsageError
from lab_recordings import place_signal, write_tone

RATE = 16000


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path_factory.mktemp("cache")))


def draw(source: sources.RecordingSource, seed: int = 0, samples: int = RATE) -> sources.Excerpt:
    return source.draw_excerpt(np.random.default_rng(seed), samples, RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("levels")
    soundfile.write(root / "a.wav", place_signal(3 * RATE, 2, RATE), RATE, subtype="FLOAT")
    return root


def test_the_level_asked_for_is_met_and_recorded(folder: Path) -> None:
    plain, peak = draw(open_source(folder, RATE)), draw(open_source(folder, RATE, level="peak:-12"))
    assert plain.gain == 0 and str(plain.level) == "as recorded" and not plain.repeated
    assert np.abs(peak.audio).max() == pytest.approx(10 ** (-12 / 20), rel=1e-5)
    np.testing.assert_allclose(peak.audio, plain.audio * 10 ** (peak.gain / 20), rtol=1e-5)
    loud = open_source(folder, RATE, level="loudness:-23", channels="stereo")
    assert "at -23 LUFS loudness" not in loud.description and "at -23 LUFS" in loud.description
    made = draw(loud)
    assert made.audio.shape == (2, RATE)
    assert loudness(made.audio, RATE) == pytest.approx(-23, abs=0.01)
    with pytest.raises(UsageError, match="too short to have a loudness"):
        draw(loud, samples=1000)
    for wrong in ("peak", "rms:-3", "peak:loud", "none:3", "loudness:300"):
        with pytest.raises(UsageError, match="level"):
            Level.parse(wrong)


@pytest.mark.parametrize(("rate", "channels"), [(44100, 2), (16000, 1), (48000, 5)])
def test_loudness_is_pyloudnorms(rate: int, channels: int) -> None:
    pyloudnorm = pytest.importorskip("pyloudnorm")
    steps = np.random.default_rng(1).uniform(0, 1, 40)  # quiet and loud, so that both gates have work
    audio = place_signal(4 * rate, channels, rate).T * np.repeat(steps**3, rate // 10)
    expected = pyloudnorm.Meter(rate, filter_class="DeMan").integrated_loudness(audio.T.astype(np.float64))
    assert loudness(audio, rate) == pytest.approx(expected, abs=1e-6)
    meter = LoudnessMeter(rate, channels)
    for start in range(0, audio.shape[1], 7777):
        meter.add(audio[:, start : start + 7777])
    assert meter.integrated() == pytest.approx(expected, abs=1e-6)
    assert loudness(np.zeros((1, rate)), rate) == -np.inf


@pytest.mark.parametrize("memory_limit", [1 << 30, 0])
def test_channels_come_as_asked(folder: Path, memory_limit: int) -> None:
    stereo = draw(open_source(folder, RATE, channels="stereo", memory_limit=memory_limit)).audio
    mono, right = (
        draw(open_source(folder, RATE, channels=c, memory_limit=memory_limit)).audio for c in ("mono", 1)
    )
    np.testing.assert_allclose(mono[0], stereo.mean(axis=0), atol=1e-7)
    np.testing.assert_array_equal(right[0], stereo[1])
    with pytest.raises(AudioFileError, match="has no channel 7"):
        draw(open_source(folder, RATE, channels=7))
    with pytest.raises(UsageError, match="one number of channels"):
        open_source(folder, RATE, channels="all")


def test_an_excerpt_says_where_it_began(folder: Path) -> None:
    whole, _ = soundfile.read(folder / "a.wav", always_2d=True, dtype="float32")
    for memory_limit in (1 << 30, 0):
        made = draw(open_source(folder, RATE, memory_limit=memory_limit), 3, 4000)
        start = round(made.start * RATE)
        np.testing.assert_allclose(made.audio[0], whole[start : start + 4000].mean(axis=1), atol=1e-7)
    made = draw(open_source(folder, RATE), samples=5 * RATE)
    assert made.repeated and made.audio.shape == (1, 5 * RATE)


def test_clipping_is_counted_and_refused_where_asked(tmp_path: Path) -> None:
    audio = place_signal(RATE, 1, RATE)[:, 0]
    clean = audio / np.abs(audio).max() * 0.9
    soundfile.write(tmp_path / "a.wav", clean, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", np.clip(clean * 9, -1, 1), RATE, subtype="FLOAT")
    kept = open_source(tmp_path, RATE)
    counts = {(e := draw(kept, seed)).name: e.clipped for seed in range(12)}
    assert counts["a.wav"] == 0 and counts["b.wav"] > 50
    strict = open_source(tmp_path, RATE, clipping="refuse")
    assert {draw(strict, seed).name for seed in range(12)} == {"a.wav"}
    assert clipped_samples(np.array([[1, 1, 0, 1, 1, 1, -1, -1, -1, -1, 0, 1.0]])) == 7


@pytest.mark.parametrize("memory_limit", [1 << 30, 0])
def test_files_that_vanish_or_change_are_named_once(tmp_path: Path, memory_limit: int) -> None:
    for name in ("gone.wav", "new.wav", "stays.wav"):
        write_tone(tmp_path / name, 2.0, RATE)
    source = FolderSource(tmp_path, RATE, memory_limit=memory_limit)
    (tmp_path / "gone.wav").unlink()
    write_tone(tmp_path / "new.wav", 1.0, RATE)
    assert {draw(source, seed).name for seed in range(30)} == {"stays.wav"}
    reasons = dict(source.unreadable)
    assert len(source.unreadable) == 2
    assert "has vanished" in reasons[tmp_path / "gone.wav"]
    assert "has changed" in reasons[tmp_path / "new.wav"]
    (tmp_path / "stays.wav").unlink()
    if not memory_limit:
        with pytest.raises(AudioFileError, match="nothing that sounds was found"):
            draw(source)


def test_a_file_broken_at_one_place_is_drawn_at_others_whatever_came_before(tmp_path: Path) -> None:
    data = place_signal(20 * RATE, 1, RATE)
    data[12 * RATE :: 9] = np.nan
    soundfile.write(tmp_path / "holed.wav", data, RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "whole.wav", place_signal(20 * RATE, 1, RATE, 3), RATE)
    fresh = [draw(FolderSource(tmp_path, RATE, memory_limit=0), seed).name for seed in range(25)]
    used = FolderSource(tmp_path, RATE, memory_limit=0)
    assert [draw(used, seed).name for seed in range(25)] == fresh
    assert set(fresh) == {"holed.wav", "whole.wav"} and len(used.unreadable) == 1


def test_what_the_cache_knows_changes_no_draw_but_keeps_out_what_crashes(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav"):
        write_tone(tmp_path / name, 1.0, RATE)
    before = [draw(FolderSource(tmp_path, RATE), seed).name for seed in range(9)]
    with FactsCache() as cache:
        for name, problem in (("a.wav", ""), ("b.wav", "b.wav is corrupt"), ("c.wav", "")):
            facts = (tmp_path / name).stat()
            cache.put(
                Facts(str(tmp_path / name), 0, facts.st_size, problem, RATE, 1, RATE, RATE, "WAV", "PCM_16"),
                facts.st_size,
                facts.st_mtime_ns,
            )
    assert [draw(FolderSource(tmp_path, RATE), seed).name for seed in range(9)] == before
    with FactsCache() as cache:
        facts = (tmp_path / "c.wav").stat()
        crashed = Facts(str(tmp_path / "c.wav"), problem="c.wav cannot be read: its decoder crashed")
        cache.put(crashed, facts.st_size, facts.st_mtime_ns)
    assert FolderSource(tmp_path, RATE).names == ["a.wav", "b.wav"]
