"""Audio files: formats, excerpts, blocks, and one sentence for everything that can be wrong."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dafxhost.data import audio_io
from dafxhost.errors import AudioFileError, OutputError, ShapeError


def noise(channels=2, frames=4000, seed=0):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (channels, frames)).astype(np.float32)


def tone(rate, seconds=1.0, frequency=440.0, channels=1):
    t = np.arange(int(rate * seconds)) / rate
    return np.tile(0.5 * np.sin(2 * np.pi * frequency * t), (channels, 1)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000, 96000])
@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".aiff"])
def test_lossless_formats_come_back_as_written(tmp_path, suffix, channels, rate):
    audio, path = noise(channels), tmp_path / f"a{suffix}"
    assert audio_io.write_audio(path, audio, rate) == 0
    back, got_rate = audio_io.read_audio(path)
    assert (got_rate, back.shape, back.dtype) == (rate, audio.shape, np.float32)
    np.testing.assert_allclose(back, audio, atol=2.0**-22)
    info = audio_io.probe(path)
    assert (info.sample_rate, info.channels, info.frames) == (rate, channels, audio.shape[1])
    assert info.seconds == audio.shape[1] / rate
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("suffix", "rate"), [(".ogg", 44100), (".ogg", 8000), (".mp3", 44100), (".mp3", 16000)]
)
def test_lossy_formats_sound_the_same(tmp_path, suffix, rate):
    audio, path = tone(rate, channels=2), tmp_path / f"a{suffix}"
    audio_io.write_audio(path, audio, rate)
    back, got_rate = audio_io.read_audio(path)
    assert got_rate == rate and back.shape[0] == 2
    assert abs(back.shape[1] - audio.shape[1]) <= 3000  # encoders pad
    middle = back[0, rate // 4 : rate // 4 + rate // 2]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(middle.size)))
    assert abs(spectrum.argmax() * rate / middle.size - 440.0) < 4.0


def test_reads_excerpts_mono_and_other_rates(tmp_path):
    audio, path = noise(3, 9000), tmp_path / "a.wav"
    audio_io.write_audio(path, audio, 48000, subtype="FLOAT")
    back, _ = audio_io.read_audio(path, start=1234, frames=500)
    np.testing.assert_array_equal(back, audio[:, 1234:1734])
    back, _ = audio_io.read_audio(path, start=8900, frames=500)
    np.testing.assert_array_equal(back, audio[:, 8900:])
    back, _ = audio_io.read_audio(path, mono=True)
    np.testing.assert_allclose(back, audio.mean(axis=0, keepdims=True), atol=1e-7)
    back, rate = audio_io.read_audio(path, sample_rate=24000)
    assert rate == 24000 and back.shape == (3, 4500)


@pytest.mark.parametrize("rate", [8000, 44100, 96000])
def test_resampling_keeps_a_tone(rate):
    out = audio_io.resample(tone(rate), rate, 24000)
    assert abs(out.shape[1] - 24000) <= 1
    expected = tone(24000)[:, : out.shape[1]]
    np.testing.assert_allclose(out[:, 2000:-2000], expected[:, 2000:-2000], atol=1e-3)
    assert audio_io.resample(out, 24000, 24000) is out


def test_blocks_join_to_the_whole_and_are_bounded(tmp_path):
    audio, path = noise(2, 10_001), tmp_path / "a.flac"
    audio_io.write_audio(path, audio, 22050)
    with audio_io.open_reader(path) as reader:
        blocks = list(reader.blocks(4096))
    assert [b.shape for b in blocks] == [(2, 4096), (2, 4096), (2, 1809)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), audio_io.read_audio(path)[0])


def test_every_bad_file_gives_one_sentence(tmp_path):
    good = tmp_path / "good.wav"
    audio_io.write_audio(good, noise(), 44100)
    data = good.read_bytes()

    def made(name, content):
        (tmp_path / name).write_bytes(content)
        return tmp_path / name

    soundfile.write(tmp_path / "none.wav", np.zeros((0, 2)), 44100)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.2]), 44100, subtype="FLOAT")
    soundfile.write(tmp_path / "inf.wav", np.array([0.1, np.inf, 0.2]), 44100, subtype="FLOAT")
    cases = {
        tmp_path / "missing.wav": "no such file",
        tmp_path: "is a folder",
        made("empty.wav", b""): "is empty (0 bytes)",
        made("text.wav", b"this is no audio, but some text\n" * 50): "cannot be read as audio",
        made("text.mp3", b"this is no audio, but some text\n" * 50): "cannot be read as audio",
        made("text.ogg", b"OggS" + bytes(200)): "cannot be read as audio",
        made("header.wav", data[:20]): "cannot be read as audio",
        made("fla.flac", b"fLaC" + bytes(10)): "cannot be read as audio",
        made("headerless.raw", data): "cannot be read as audio",
        made("unknown.xyz", data[:30]): "cannot be read as audio",
        tmp_path / "none.wav": "holds no samples",
        tmp_path / "nan.wav": "not finite numbers",
        tmp_path / "inf.wav": "not finite numbers",
    }
    for path, words in cases.items():
        with pytest.raises(AudioFileError) as caught:
            audio_io.read_audio(path)
        text = str(caught.value)
        assert words in text and str(path) in text and "\n" not in text and "LibsndfileError" not in text, (
            text
        )


def test_a_truncated_file_is_read_as_far_as_it_goes_or_refused(tmp_path):
    for suffix in (".wav", ".flac", ".ogg", ".mp3"):
        whole = tmp_path / f"whole{suffix}"
        audio_io.write_audio(whole, noise(2, 60_000), 44100)
        data = whole.read_bytes()
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[: len(data) // 2])
        try:
            audio, _ = audio_io.read_audio(cut)
        except AudioFileError as error:
            assert str(cut) in str(error)
        else:
            assert 0 < audio.shape[1] < 60_000 + 3000 and np.isfinite(audio).all()


def test_too_short_silent_and_beyond_the_end(tmp_path):
    path = tmp_path / "one.wav"
    audio_io.write_audio(path, np.full((1, 1), 0.5, np.float32), 44100)
    assert audio_io.read_audio(path)[0].shape == (1, 1)
    with pytest.raises(AudioFileError, match=r"is too short: 1 sample, where at least 100 are needed\."):
        audio_io.read_audio(path, minimum=100)
    with pytest.raises(AudioFileError, match="nothing can be read from sample 7"):
        audio_io.read_audio(path, start=7)
    with pytest.raises(AudioFileError, match=r"reference\.wav is silent"):
        audio_io.require_sound(np.zeros((2, 100), np.float32), "reference.wav")
    audio_io.require_sound(np.full((2, 100), 1e-4, np.float32), "a quiet one")


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.wav"
    audio_io.write_audio(path, noise(), 44100)
    before = path.read_bytes()
    with pytest.raises(KeyboardInterrupt), audio_io.open_writer(path, 44100, 2) as writer:
        writer.write(noise(seed=1))
        raise KeyboardInterrupt
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    with pytest.raises(ShapeError), audio_io.open_writer(path, 44100, 2) as writer:
        writer.write(noise(1))
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_bad_outputs_give_one_sentence(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder.wav").mkdir()
    cases = {
        tmp_path / "a.doc": "choose a name ending in",
        tmp_path / "no" / "a.wav": "there is no folder",
        tmp_path / "file" / "a.wav": "there is no folder",
        tmp_path / "folder.wav": "it is a folder",
        Path("/proc/a.wav"): "does not take it",
    }
    for path, words in cases.items():
        with pytest.raises(OutputError) as caught:
            audio_io.write_audio(path, noise(), 44100)
        assert words in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(OutputError, match="cannot be written with 2 channels at 44100 Hz as WAV VORBIS"):
        audio_io.write_audio(tmp_path / "a.wav", noise(), 44100, subtype="VORBIS")
    assert not list(tmp_path.glob("*a*.wav"))


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_a_full_disk_gives_one_sentence_and_leaves_nothing(tmp_path, suffix):
    # A file-size limit fails writes as a full disk does; it needs a process of its own.
    code = f"""
import resource, signal, numpy as np
from dafxhost.data import audio_io
from dafxhost.errors import OutputError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
audio = np.random.default_rng(0).uniform(-1, 1, (2, 200_000)).astype(np.float32)
try:
    audio_io.write_audio({str(tmp_path / ("a" + suffix))!r}, audio, 44100)
except OutputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "is the disk full?" in done.stdout and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_clipped_samples_are_counted_and_floating_point_keeps_them(tmp_path):
    audio = np.array([[0.5, 1.5, -2.0]], np.float32)
    assert audio_io.write_audio(tmp_path / "a.wav", audio, 44100) == 2
    np.testing.assert_allclose(audio_io.read_audio(tmp_path / "a.wav")[0], [[0.5, 1.0, -1.0]], atol=1e-6)
    audio_io.write_audio(tmp_path / "b.wav", audio, 44100, subtype="FLOAT")
    np.testing.assert_array_equal(audio_io.read_audio(tmp_path / "b.wav")[0], audio)
