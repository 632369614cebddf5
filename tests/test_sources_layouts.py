"""Data sets as they lie on disk: recognised, split by song and speaker, walked whatever the folder holds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dafxhost.data.dataset import open_dataset
from dafxhost.data.layouts import LAYOUTS, STEMS, Recording, read_layout
from dafxhost.data.listing import Listing, list_audio
from dafxhost.data.sources import FolderSource, open_source
from dafxhost.data.splits import split_names, split_recordings
from dafxhost.errors import AudioFileError, UnknownNameError, UsageError
from lab_recordings import by_ffmpeg, write_tone

RATE = 8000


def listing(*files: str) -> Listing:
    return Listing(Path("/x"), sorted(files))


NAMES = {
    "musdb18": ["train/A - Song.stem.mp4", "test/B - Other.stem.mp4"],
    "musdb18-hq": [f"musdb18hq/{p}/Song {p}/{s}.wav" for p in ("train", "test") for s in STEMS],
    "vctk": ["VCTK/wav48_silence_trimmed/p225/p225_001_mic1.flac", "VCTK/wav48/s5/s5_002.wav"],
    "daps": ["daps/clean/f1_script1_clean.wav", "daps/ipad_balcony1/m10_script5_ipad_balcony1.wav"],
    "librispeech": [
        "LibriSpeech/train-clean-100/198/209/198-209-0000.flac",
        "dev-clean/84/12/84-12-0001.flac",
    ],
    "folder": ["music/one.mp3", "two.wav", "Song/drums.wav", "p225/p226_001.wav"],
}
GROUPS = {
    "musdb18": {("A - Song", "train"), ("B - Other", "test")},
    "musdb18-hq": {("Song train", "train"), ("Song test", "test")},
    "vctk": {("p225", ""), ("s5", "")},
    "daps": {("f1", ""), ("m10", "")},
    "librispeech": {("198", "train"), ("84", "validation")},
    "folder": {(name, "") for name in NAMES["folder"]},
}


@pytest.mark.parametrize("name", NAMES)
def test_each_layout_is_recognised_by_its_names(name: str) -> None:
    layout, recordings = read_layout(listing(*NAMES[name]))
    assert layout.name == name
    assert {(r.group, r.part) for r in recordings} == GROUPS[name]
    assert len({r.name for r in recordings}) == len(recordings)
    if name.startswith("musdb"):
        assert sorted({r.stem for r in recordings}) == sorted(STEMS) and len(recordings) == 10
    if name == "musdb18":
        assert {(r.stem, r.stream) for r in recordings} == set(zip(STEMS, range(5), strict=True))


def test_a_part_of_a_data_set_and_a_few_strangers_are_recognised_too() -> None:
    alone = listing("Song/mixture.wav", "Song/drums.wav")
    assert read_layout(alone)[0].name == "musdb18-hq" and read_layout(alone)[1][0].part == ""
    many = [f"p{k}/p{k}_001.wav" for k in range(100, 120)]
    layout, recordings = read_layout(listing(*many, "readme/hello.wav"))
    assert layout.name == "vctk" and len(recordings) == 20
    assert read_layout(listing(*many[:5], "a.wav", "b.wav"))[0].name == "folder"


def test_a_layout_can_be_chosen_or_is_refused() -> None:
    files = listing("Song A/kick.wav", "Song A/bass.wav", "Song B/kick.wav", "alone.wav")
    assert read_layout(files)[0].name == "folder"
    _, recordings = read_layout(files, "folders")
    assert {r.group for r in recordings} == {"Song A", "Song B", ""}
    with pytest.raises(UsageError, match="not laid out as vctk: VCTK"):
        read_layout(files, "vctk")
    with pytest.raises(UnknownNameError, match="did you mean musdb18"):
        read_layout(files, "musdb")
    assert all(layout.summary for layout in LAYOUTS.values())


def recordings_of(groups: dict[str, str], each: int = 3) -> list[Recording]:
    return [
        Recording(f"{group}/{k}", Path(f"{group}/{k}"), group, part)  # type: ignore[arg-type]
        for group, part in groups.items()
        for k in range(each)
    ]


def groups_on(recordings: list[Recording], split: str, fraction: float = 0.2) -> set[str]:
    return {r.group for r in split_recordings(recordings, split, fraction, "x")}  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [2, 3, 5, 30])
@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.9])
def test_groups_are_never_divided_and_no_side_is_empty(count: int, fraction: float) -> None:
    some = recordings_of({f"singer{k}": "" for k in range(count)})
    train, validation = groups_on(some, "train", fraction), groups_on(some, "validation", fraction)
    assert train and validation and not train & validation and len(train | validation) == count
    sizes = [len(split_recordings(some, s, fraction, "x")) for s in ("train", "validation")]  # type: ignore[arg-type]
    assert sum(sizes) == 3 * count and all(size % 3 == 0 for size in sizes)


def test_added_songs_move_no_other() -> None:
    names = [f"song{k}" for k in range(60)]
    before, after = (
        recordings_of(dict.fromkeys(names, "")),
        recordings_of(dict.fromkeys([*names, *(f"new{k}" for k in range(60))], "")),
    )
    assert groups_on(before, "validation") == groups_on(after, "validation") & set(names)
    assert groups_on(before, "validation") == set(split_names(names, "validation", 0.2))


def test_a_data_sets_own_parts_are_kept() -> None:
    own = recordings_of({**{f"a{k}": "train" for k in range(10)}, "b": "test", "c": "test"})
    assert groups_on(own, "test") == {"b", "c"}
    assert groups_on(own, "train") | groups_on(own, "validation") == {f"a{k}" for k in range(10)}
    given = recordings_of({"a": "train", "b": "", "c": "validation", "d": "test"})
    assert groups_on(given, "train") == {"a", "b"} and groups_on(given, "validation") == {"c"}
    assert groups_on(given, "all") == {"a", "b", "c", "d"}
    with pytest.raises(UsageError, match="x has no recordings for test; what it has is for train"):
        groups_on(recordings_of({"a": ""}), "test")
    with pytest.raises(UsageError, match="split 'dev' is none of train, validation, test, all"):
        groups_on(own, "dev")


def test_a_song_is_drawn_from_by_its_stems(tmp_path: Path) -> None:
    for part, songs in (("train", "ABC"), ("test", "D")):
        for song in songs:
            for k, stem in enumerate(STEMS):
                write_tone(tmp_path / part / song / f"{stem}.wav", seed=k)
    train, validation = (open_source(tmp_path, RATE, split) for split in ("train", "validation"))
    assert not {r.group for r in train.recordings} & {r.group for r in validation.recordings}
    assert len(train.names) + len(validation.names) == 15
    assert "in 2 groups" in train.description and "musdb18-hq, train" in train.description
    test = open_source(tmp_path, RATE, "test", stems=["vocals", "mixture"])
    assert test.names == ["test/D/mixture.wav", "test/D/vocals.wav"]
    with pytest.raises(UnknownNameError, match="unknown stem 'drum'; did you mean drums"):
        open_source(tmp_path, RATE, stems=["drum"])
    clip = test.draw_excerpt(np.random.default_rng(0), 1000, RATE)
    assert clip.group == "D" and clip.name in test.names


def test_a_stem_mp4_gives_five_recordings(tmp_path: Path) -> None:
    source = write_tone(tmp_path / "a.wav", 0.5, 44100, 2)
    (tmp_path / "m" / "train").mkdir(parents=True)
    maps = [word for _ in STEMS for word in ("-map", "0:a")]
    by_ffmpeg(source, tmp_path / "m" / "train" / "A.stem.mp4", *maps, "-c:a", "aac")
    found = open_source(tmp_path / "m", 44100)
    assert found.dataset.layout == "musdb18" and len(found.names) == 5 and found.unreadable == []
    clip, name = found.draw(np.random.default_rng(0), 4000, 44100)
    assert clip.shape == (1, 4000) and name.startswith("train/A.stem.mp4:")


def test_links_loops_and_locked_folders_stop_no_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tone(tmp_path / "m" / "real" / "a.wav")
    write_tone(tmp_path / "elsewhere" / "b.wav")
    write_tone(tmp_path / "m" / ".hidden" / "c.wav")
    write_tone(tmp_path / "m" / "real" / "._a.wav")
    locked = tmp_path / "m" / "locked"
    write_tone(locked / "d.wav")
    (tmp_path / "m" / "aloop").symlink_to(tmp_path / "m")
    (tmp_path / "m" / "real" / "up").symlink_to("..")
    (tmp_path / "m" / "again").symlink_to("real")
    (tmp_path / "m" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "m" / "copy.wav").symlink_to("real/a.wav")
    (tmp_path / "m" / "dangling.wav").symlink_to("nowhere.wav")
    scan = os.scandir

    def refusing(path: str | os.PathLike[str]) -> object:  # chmod does not stop root
        if Path(path) == locked:
            raise PermissionError
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = list_audio(tmp_path / "m")
    assert found.files == ["other/b.wav", "real/a.wav"]
    assert [(p.name, "may not be looked into" in r or "link to nothing" in r) for p, r in found.refused] == [
        ("locked", True),
        ("dangling.wav", True),
    ]
    source = FolderSource(tmp_path / "m", RATE)
    assert source.names == found.files and len(source.unreadable) == 2


def test_a_folder_without_audio_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(AudioFileError, match=r"holds no audio file .*wav.*m4a"):
        open_dataset(tmp_path)
    with pytest.raises(AudioFileError, match=r"a manifest \(\.csv, .*\) is needed"):
        open_dataset(tmp_path / "notes.txt")
    with pytest.raises(AudioFileError, match="no such folder"):
        open_dataset(tmp_path / "none.csv")
