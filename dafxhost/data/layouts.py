"""How data sets lie on disk: which file is which song, speaker and stem, and in which part of the set."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dafxhost.data.listing import Listing
from dafxhost.errors import UnknownNameError, UsageError

Part = Literal["", "train", "validation", "test"]
STEMS = ("mixture", "drums", "bass", "other", "vocals")
"""Of MUSDB18; in a .stem.mp4 they are the audio streams 0 to 4."""
RECOGNISED = 0.9
"""Share of a folder's files that must have a data set's names for it to be taken for that set."""


@dataclass(frozen=True)
class Recording:
    """Something to draw clips from: an audio file, one of its streams, or a stretch of it.

    Attributes:
        name: unique in its data set, from the path relative to it.
        path: the file. stream: which of its audio streams.
        group: what must not be divided between training and validation: a song, a speaker, a file.
        part: the part that the data set itself puts it in, or "".
        stem: what it is of its song ("mixture", "drums", ...), or "".
        start, end: the stretch in seconds; end None is the file's end.
    """

    name: str
    path: Path
    group: str
    part: Part = ""
    stem: str = ""
    stream: int = 0
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Layout:
    """A data set's file names.

    Attributes:
        name: e.g. "vctk". summary: one line. pattern: of paths relative to the folder, with the groups
            `group`, and where there are any `part` and `stem`.
    """

    name: str
    summary: str
    pattern: re.Pattern[str]

    def read(self, listing: Listing) -> list[Recording]:
        """The recordings among the files; what has other names is left out."""
        made: list[Recording] = []
        for file in listing.files:
            if match := self.pattern.fullmatch(file):
                made += self._recordings(file, listing.folder / file, match.groupdict(default=""))
        return made

    def _recordings(self, file: str, path: Path, found: dict[str, str]) -> list[Recording]:
        part = _part(found.get("part", ""))
        if self.name == "musdb18":
            return [
                Recording(f"{file}:{stem}", path, found["group"], part, stem, stream)
                for stream, stem in enumerate(STEMS)
            ]
        return [Recording(file, path, found["group"], part, found.get("stem", ""))]

    def share(self, listing: Listing) -> float:
        """How much of the folder has this layout's names, 0..1."""
        return sum(bool(self.pattern.fullmatch(f)) for f in listing.files) / max(1, len(listing.files))


def _part(word: str) -> Part:
    """The part that a folder's name means: train, dev-clean, test-other, ..."""
    parts: dict[str, Part] = {"train": "train", "valid": "validation", "dev": "validation", "test": "test"}
    for start, part in parts.items():
        if word.lower().startswith(start):
            return part
    return ""


_STEM = "|".join(STEMS)
FOLDER = Layout("folder", "any folder: every file is a group of its own", re.compile(r"(?P<group>.+)"))
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout(
            "musdb18",
            "MUSDB18: [train|test]/SONG.stem.mp4, by song (needs ffmpeg)",
            re.compile(r"(?:.*?/)??(?:(?P<part>train|test)/)?(?P<group>[^/]+)\.stem\.mp4"),
        ),
        Layout(
            "musdb18-hq",
            f"MUSDB18-HQ: [train|test]/SONG/({_STEM}).wav, by song",
            re.compile(rf"(?:.*?/)??(?:(?P<part>train|test)/)?(?P<group>[^/]+)/(?P<stem>{_STEM})\.wav"),
        ),
        Layout(
            "vctk",
            "VCTK: .../p225/p225_001[_mic1].wav or .flac, by speaker",
            re.compile(r"(?:.*/)?(?P<group>[ps]\d{1,3})/(?P=group)_\d+(?:_mic[12])?\.(?:wav|flac)"),
        ),
        Layout(
            "daps",
            "DAPS: .../f1_script1_clean.wav, by speaker",
            re.compile(r"(?:.*/)?(?P<group>[fm]\d{1,2})_script\d+_\w+\.wav"),
        ),
        Layout(
            "librispeech",
            "LibriSpeech, LibriTTS: [train-...|dev-...|test-...]/198/209/198-209-0000.flac, by speaker",
            re.compile(
                r"(?:.*?/)??(?:(?P<part>(?:train|dev|test)-[\w-]+)/)?(?P<group>\d+)/(?P<c>\d+)/"
                r"(?P=group)[-_](?P=c)[-_][\d_]+\.(?:wav|flac)"
            ),
        ),
        Layout(
            "folders",
            "any folder of folders: all files of one folder are a group (a song's stems, a speaker)",
            re.compile(r"(?:(?P<group>.+)/)?[^/]+"),
        ),
        FOLDER,
    )
}
ASKED_FOR = ("folders", "folder")
"""Layouts that every folder has: taken by name, and the last one where no other is recognised."""


def read_layout(listing: Listing, name: str = "auto") -> tuple[Layout, list[Recording]]:
    """The layout of that name, or the one that nine tenths of the files have, and the recordings in it.

    Raises:
        UnknownNameError: no layout of that name. UsageError: the folder has no file of that layout's names.
    """
    if name == "auto":
        known = [layout for key, layout in LAYOUTS.items() if key not in ASKED_FOR]
        layout = next((one for one in known if one.share(listing) >= RECOGNISED), FOLDER)
    elif name in LAYOUTS:
        layout = LAYOUTS[name]
    else:
        raise UnknownNameError("layout", name, ["auto", *LAYOUTS])
    recordings = layout.read(listing)
    if listing.files and not recordings:
        raise UsageError(f"{listing.folder} is not laid out as {name}: {layout.summary}.")
    return layout, recordings


def choose_stems(recordings: Sequence[Recording], stems: Sequence[str] | None) -> list[Recording]:
    """The recordings of these stems; all of them if `stems` is None.

    Raises:
        UnknownNameError: a stem that is not there.
    """
    if stems is None:
        return list(recordings)
    there = {recording.stem for recording in recordings} - {""}
    for stem in stems:
        if stem not in there:
            raise UnknownNameError("stem", stem, there)
    return [recording for recording in recordings if recording.stem in stems]
