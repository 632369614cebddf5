"""Folders of audio as sources of clips."""

import numpy as np
import pytest
import soundfile

from dafxhost.data.sources import AudioSource, FolderSource, file_fraction, is_silent, looped, split_names
from dafxhost.errors import AudioFileError, UsageError

RATE = 24000


def noise(seconds, rate, channels, seed=0, level=0.3):
    rng = np.random.default_rng(seed)
    return rng.uniform(-level, level, (int(seconds * rate), channels)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("music")
    (root / "deep" / "er").mkdir(parents=True)
    soundfile.write(root / "a.wav", noise(2.0, 8000, 1, 1), 8000)
    soundfile.write(root / "b.flac", noise(1.5, 44100, 2, 2), 44100)
    soundfile.write(root / "deep" / "c.ogg", noise(1.2, 48000, 1, 3), 48000)
    soundfile.write(root / "deep" / "d.mp3", noise(2.0, 44100, 2, 4), 44100)
    soundfile.write(root / "deep" / "er" / "e.aiff", noise(0.2, 96000, 6, 5), 96000)
    soundfile.write(root / "deep" / "UPPER.WAV", noise(1.5, RATE, 1, 6), RATE, format="WAV")
    (root / "notes.txt").write_text("not audio")
    (root / "broken.wav").write_bytes(b"RIFF but nothing more")
    (root / "empty.flac").write_bytes(b"")
    soundfile.write(root / "silent.wav", np.zeros((RATE, 1)), RATE)
    return root


@pytest.mark.parametrize("memory_limit", [1 << 30, 0])
def test_draws_from_every_format_rate_and_channel_count(folder, memory_limit):
    source = FolderSource(folder, RATE, memory_limit=memory_limit)
    assert isinstance(source, AudioSource) and source.in_memory == bool(memory_limit)
    assert len(source.names) == 7 and sorted(p.name for p, _ in source.unreadable) == [
        "broken.wav",
        "empty.flac",
    ]
    assert all(str(p) in reason for p, reason in source.unreadable)
    assert source.total_seconds == pytest.approx(2 + 1.5 + 1.2 + 2 + 0.2 + 1.5 + 1, abs=0.1)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(80):
        clip, name = source.draw(rng, 16384, RATE)
        assert clip.shape == (1, 16384) and clip.dtype == np.float32 and np.isfinite(clip).all()
        assert not is_silent(clip)
        seen.add(name)
    assert seen == set(source.names) - {"silent.wav"}


@pytest.mark.parametrize("memory_limit", [1 << 30, 0])
def test_a_draw_is_decided_by_the_rng_alone(folder, memory_limit):
    one = FolderSource(folder, RATE, memory_limit=memory_limit)
    two = FolderSource(folder, RATE, memory_limit=memory_limit)
    for _ in range(10):  # a history that the other source has not
        two.draw(np.random.default_rng(99), 4000, RATE)
    for seed in range(12):
        a, name_a = one.draw(np.random.default_rng(seed), 20000, RATE)
        b, name_b = two.draw(np.random.default_rng(seed), 20000, RATE)
        assert name_a == name_b
        np.testing.assert_array_equal(a, b)
    starts = {float(one.draw(np.random.default_rng(s), 4000, RATE)[0][0, 100]) for s in range(12)}
    assert len(starts) > 8


def test_an_excerpt_read_from_disk_is_a_stretch_of_the_file(tmp_path):
    t = np.arange(5 * 48000) / 48000
    soundfile.write(
        tmp_path / "sweep.wav", 0.5 * np.sin(2 * np.pi * (200 + 300 * t) * t), 48000, subtype="FLOAT"
    )
    whole = FolderSource(tmp_path, RATE)._decoded(0)[0]
    clip = FolderSource(tmp_path, RATE, memory_limit=0).draw(np.random.default_rng(3), 9000, RATE)[0][0]
    correlation = np.fft.irfft(np.fft.rfft(whole, 1 << 18) * np.conj(np.fft.rfft(clip, 1 << 18)))
    start = int(correlation.argmax())
    np.testing.assert_allclose(clip, whole[start : start + 9000], atol=0.03)  # up to half a sample apart
    other_rate = FolderSource(tmp_path, RATE).draw(np.random.default_rng(3), 9000, 16000)[0]
    assert other_rate.shape == (1, 9000)


def test_short_files_are_repeated_without_a_click():
    t = np.arange(2500) / RATE
    audio = np.sin(2 * np.pi * 321.0 * t)[None].astype(np.float32)
    out = looped(audio, 700, 20000, 480)
    assert out.shape == (1, 20000)
    np.testing.assert_array_equal(out[0, : 2020 - 700], audio[0, 700:2020])
    np.testing.assert_array_equal(out[0, :2020], out[0, 2020:4040])
    steepest = np.abs(np.diff(audio[0])).max()
    assert np.abs(np.diff(out[0])).max() < 1.1 * steepest
    assert looped(np.ones((1, 1), np.float32), 0, 5, 480).tolist() == [[1.0] * 5]


def test_the_split_is_stable_and_both_sides_have_files():
    names = [f"song{i}.wav" for i in range(200)]
    train, validation = (split_names(names, s, 0.2) for s in ("train", "validation"))
    assert sorted(train + validation) == sorted(names) and 20 < len(validation) < 60
    more = names + [f"new/{i}.flac" for i in range(100)]
    assert set(validation) == set(split_names(more, "validation", 0.2)) & set(names)
    assert split_names(names[::-1], "train", 0.2) == train
    for count in range(2, 12):
        for fraction in (0.01, 0.5, 0.99):
            few = names[:count]
            sides = [split_names(few, s, fraction) for s in ("train", "validation")]
            assert all(sides) and sorted(sides[0] + sides[1]) == sorted(few)
    assert split_names(["a"], "train", 0.2) == split_names(["a"], "validation", 0.2) == ["a"]
    assert split_names(names, "all", 0.2) == sorted(names)
    assert 0 <= file_fraction("a") < 1
    with pytest.raises(UsageError, match="split 'test' is none of train, validation, all"):
        split_names(names, "test", 0.2)
    with pytest.raises(UsageError, match="validation fraction 1"):
        split_names(names, "train", 1.0)


def test_folder_sources_split_by_file(folder):
    train = FolderSource(folder, RATE, "train", validation_fraction=0.4)
    validation = FolderSource(folder, RATE, "validation", validation_fraction=0.4)
    assert train.names and validation.names and not set(train.names) & set(validation.names)
    assert train.total_seconds + validation.total_seconds == pytest.approx(
        FolderSource(folder, RATE).total_seconds
    )


def test_faulty_folders_give_one_sentence(tmp_path, folder):
    bad = tmp_path / "bad"
    bad.mkdir()
    cases = {tmp_path / "none": "no such folder", folder / "a.wav": "is a file", bad: "holds no audio file"}
    for path, words in cases.items():
        with pytest.raises(AudioFileError, match=words):
            FolderSource(path, RATE)
    (bad / "x.wav").write_bytes(b"")
    (bad / "y.mp3").write_bytes(b"hello")
    with pytest.raises(AudioFileError, match=r"none of the 2 audio files .* is empty \(0 bytes\)"):
        FolderSource(bad, RATE)
    soundfile.write(bad / "z.wav", np.zeros((RATE, 1)), RATE)
    with pytest.raises(AudioFileError, match="nothing that sounds was found"):
        FolderSource(bad, RATE).draw(np.random.default_rng(0), 1000, RATE)


def test_a_file_with_nan_is_left_out_and_named(tmp_path):
    audio = noise(1.0, RATE, 1)
    soundfile.write(tmp_path / "good.wav", audio, RATE)
    audio[9000] = np.nan
    soundfile.write(tmp_path / "nan.wav", audio, RATE, subtype="FLOAT")
    source = FolderSource(tmp_path, RATE)
    names = {source.draw(np.random.default_rng(s), 1000, RATE)[1] for s in range(10)}
    assert names == {"good.wav"}
    [(path, reason)] = source.unreadable
    assert path.name == "nan.wav" and "not finite" in reason


def test_silence_is_judged_by_halves_and_relative_to_the_peak():
    loud = noise(0.5, RATE, 1, level=0.9)[:, 0][None]
    assert not is_silent(loud) and not is_silent(loud * 1e-3)
    assert is_silent(loud * 1e-5) and is_silent(np.zeros((1, 100), np.float32))
    for half in (slice(None, 6000), slice(6000, None)):
        gap = loud.copy()
        gap[:, half] = 0
        assert is_silent(gap)
