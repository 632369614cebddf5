"""Excerpts lie exactly where they are asked for, in every format; and no header is believed."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dafxhost.data import audio_io, decoders
from dafxhost.data.audio_io import AudioReader, read_audio, take_channels
from dafxhost.errors import AudioFileError, UsageError
from lab_recordings import by_ffmpeg, place_of, place_signal

RATE, FRAMES = 44100, 100_000  # so long, libsndfile's own seeks in Vorbis are wrong near the end


@pytest.fixture(scope="module")
def signal() -> np.ndarray:
    return place_signal(FRAMES, 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, signal: np.ndarray) -> Path:
    root = tmp_path_factory.mktemp("seek")
    soundfile.write(root / "a.wav", signal, RATE)
    soundfile.write(root / "a.flac", signal, RATE)
    soundfile.write(root / "a.ogg", signal, RATE, format="OGG", subtype="VORBIS")
    soundfile.write(root / "a.opus", signal, 48000, format="OGG", subtype="OPUS")
    soundfile.write(root / "a.mp3", signal, RATE, format="MP3", subtype="MPEG_LAYER_III")
    return root


def starts(total: int, frames: int, count: int = 12) -> list[int]:
    rng = np.random.default_rng(1)
    last = total - frames
    return [
        0,
        1,
        last,
        last - 1,
        *(last - 600 * k for k in range(1, 12)),
        *map(int, rng.integers(0, last, count)),
    ]


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "opus", "mp3"])
def test_an_excerpt_is_the_same_samples_as_the_whole(folder: Path, signal: np.ndarray, suffix: str) -> None:
    path = folder / f"a.{suffix}"
    whole, _ = read_audio(path)
    assert whole.shape[1] == FRAMES
    for start in starts(FRAMES, 700):
        excerpt, _ = read_audio(path, start=start, frames=700)
        np.testing.assert_allclose(excerpt, whole[:, start : start + 700], atol=1e-6, err_msg=str(start))
    at = place_of(whole[0, 50_000:52_000], signal[:, 0], 50_000)
    assert at == 50_000, "decoded audio lies where it was encoded"


@pytest.mark.parametrize("name", ["a.m4a", "a.aac", "alac.m4a"])
def test_mpeg_4_excerpts_lie_where_they_are_asked_for(
    tmp_path: Path, folder: Path, signal: np.ndarray, name: str
) -> None:
    codec = "alac" if name.startswith("alac") else "aac"
    path = by_ffmpeg(folder / "a.wav", tmp_path / name, "-c:a", codec)
    whole, rate = read_audio(path)
    assert rate == RATE
    # Bare AAC says nothing of its encoder's padding: 1024 samples lie before the first one.
    padding = 1024 if name == "a.aac" else 0
    # The container states lengths in milliseconds.
    assert whole.shape[0] == 2 and (padding or abs(whole.shape[1] - FRAMES) <= RATE // 1000)
    for start in (44_099, 61_234, FRAMES - 3000):
        excerpt, _ = read_audio(path, start=start, frames=2000)
        assert excerpt.shape == (2, 2000)
        assert place_of(excerpt[0], signal[:, 0], start) == start - padding
        if codec == "alac":
            np.testing.assert_array_equal(excerpt, whole[:, start : start + 2000])


def test_streams_of_a_container_are_recordings_of_their_own(tmp_path: Path, folder: Path) -> None:
    other = folder / "a.ogg"
    path = by_ffmpeg(
        folder / "a.wav",
        tmp_path / "x.stem.mp4",
        "-i",
        str(other),
        "-map",
        "0:a",
        "-map",
        "1:a",
        "-c:a",
        "alac",
    )
    first, _ = read_audio(path, stream=0, frames=9000)
    second, _ = read_audio(path, stream=1, frames=9000)
    np.testing.assert_allclose(first, read_audio(folder / "a.wav", frames=9000)[0], atol=1e-6)
    np.testing.assert_allclose(second, read_audio(other, frames=9000)[0], atol=1e-3)
    with pytest.raises(AudioFileError, match="no audio stream number 2; there are 2"):
        AudioReader(path, 2)
    with pytest.raises(AudioFileError, match="has one audio stream"):
        AudioReader(folder / "a.wav", 1)


def test_without_ffmpeg_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.m4a"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    monkeypatch.setattr(decoders, "ffmpeg_programs", lambda: None)
    with pytest.raises(AudioFileError, match=r"a\.m4a needs the program ffmpeg, .*apt install ffmpeg"):
        read_audio(path)


def test_a_decoder_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, fake = tmp_path / "a.m4a", tmp_path / "ffmpeg"
    path.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(1000))
    fake.write_text("#!/bin/sh\nexec sleep 100\n")
    fake.chmod(0o755)
    probe = tmp_path / "ffprobe"
    probe.write_text(
        '#!/bin/sh\necho \'{"streams": [{"sample_rate": "8000", "channels": 1, "time_base": "1/8000",'
        ' "duration_ts": 9000, "codec_name": "aac"}], "format": {"format_name": "mov"}}\'\n'
    )
    probe.chmod(0o755)
    monkeypatch.setattr(decoders, "ffmpeg_programs", lambda: (str(fake), str(probe)))
    monkeypatch.setattr(decoders, "PATIENCE", 0.3)
    with pytest.raises(decoders.DecoderHungError, match=r"ffmpeg hung for 0\.3 s"):
        read_audio(path)
    monkeypatch.setattr(decoders, "ffmpeg_programs", lambda: (str(fake), str(fake)))
    os.utime(path, (0, 0))
    with pytest.raises(AudioFileError, match="ffprobe gave no answer"):
        read_audio(path)


def test_no_header_is_believed(tmp_path: Path, folder: Path) -> None:
    flac = bytearray((folder / "a.flac").read_bytes())
    flac[21] |= 0x0F
    flac[22:26] = b"\xff" * 4  # 2^36 samples: 512 GB
    (tmp_path / "lie.flac").write_bytes(flac)
    with pytest.raises(AudioFileError, match="header promises 68719476735 samples, which its"):
        read_audio(tmp_path / "lie.flac")
    (tmp_path / "words.au").write_bytes(b"words, not sound " * 100)  # libsndfile would take it for u-law
    with pytest.raises(AudioFileError, match="no known format's header"):
        read_audio(tmp_path / "words.au")
    with AudioReader(folder / "a.wav") as reader:
        assert reader.read(10**12).shape == (2, FRAMES)  # no 8 TB are asked for


def test_a_pipe_with_a_name_of_audio_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    said: list[str] = []

    def look() -> None:
        try:
            audio_io.probe(tmp_path / "a.wav")
        except AudioFileError as error:
            said.append(str(error))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(30)
    assert said and "no regular file" in said[0]


def test_the_content_decides_and_not_the_name(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "flac.mp3").write_bytes((folder / "a.flac").read_bytes())
    np.testing.assert_array_equal(
        read_audio(tmp_path / "flac.mp3", frames=500)[0], read_audio(folder / "a.flac", frames=500)[0]
    )


def test_channels_are_taken_as_asked() -> None:
    audio = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert take_channels(audio, "all") is audio
    np.testing.assert_array_equal(take_channels(audio, "mono"), [[4, 5, 6, 7]])
    np.testing.assert_array_equal(take_channels(audio, "stereo"), audio[:2])
    np.testing.assert_array_equal(take_channels(audio[:1], "stereo"), audio[[0, 0]])
    np.testing.assert_array_equal(take_channels(audio, 2), audio[2:])
    with pytest.raises(AudioFileError, match=r"a\.wav has no channel 3; it has 3"):
        take_channels(audio, 3, "a.wav")
    for wrong in (-1, "left"):
        with pytest.raises(UsageError, match="is none of"):
            take_channels(audio, wrong)  # type: ignore[arg-type]
