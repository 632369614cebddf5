"""A folder, a data set or a manifest, as the recordings in it; nothing is decoded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dafxhost.data import audio_io
from dafxhost.data.layouts import Recording, choose_stems, read_layout
from dafxhost.data.listing import list_audio
from dafxhost.data.manifest import SUFFIXES as MANIFESTS
from dafxhost.data.manifest import is_manifest, read_manifest
from dafxhost.errors import AudioFileError


@dataclass(frozen=True)
class Dataset:
    """Recordings and how they were found.

    Attributes:
        path: the folder or manifest. layout: its name, e.g. "folder", "musdb18-hq", "manifest".
        recordings: by name, sorted.
        refused: (path, reason) of folders that cannot be looked into and of links to nothing.
        left_out: files with a name of audio that the layout has no place for.
    """

    path: Path
    layout: str
    recordings: list[Recording]
    refused: list[tuple[Path, str]] = field(default_factory=list)
    left_out: int = 0

    @property
    def parts(self) -> set[str]:
        """The parts that the data set itself has: of "train", "validation", "test"."""
        return {recording.part for recording in self.recordings} - {""}


def open_dataset(path: str | Path, layout: str = "auto", stems: Sequence[str] | None = None) -> Dataset:
    """What is in a folder, or what a manifest (.csv, .tsv, .jsonl) lists.

    Args:
        layout: "auto", or a name of `layouts.LAYOUTS`; "folders" makes each subfolder a group.
        stems: of data sets with stems, the ones wanted ("mixture", "vocals", ...); None is all of them.

    Raises:
        AudioFileError: no such folder, or no audio in it.
        UsageError: an unknown layout or stem, or a wrong manifest.
    """
    path = Path(path)
    if is_manifest(path):
        listed = choose_stems(read_manifest(path), stems)
        return Dataset(path, "manifest", sorted(listed, key=lambda r: r.name))
    if path.is_file():
        raise AudioFileError(
            f"{path} is a file; a folder of audio files or a manifest ({', '.join(MANIFESTS)}) is needed."
        )
    listing = list_audio(path)
    if not listing.files and not listing.refused:
        raise AudioFileError(f"{path} holds no audio file ({', '.join(s[1:] for s in audio_io.SUFFIXES)}).")
    known, recordings = read_layout(listing, layout)
    chosen = sorted(choose_stems(recordings, stems), key=lambda r: r.name)
    files = len({recording.path for recording in recordings})
    return Dataset(path, known.name, chosen, listing.refused, len(listing.files) - files)
