"""The audio files under a folder, found in one walk that no loop of links and no locked folder stops."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from dafxhost.data.decoders import SUFFIXES
from dafxhost.errors import AudioFileError


@dataclass
class Listing:
    """What a walk found.

    Attributes:
        folder: where it began.
        files: paths relative to it with forward slashes, sorted.
        refused: (path, reason) of folders that cannot be looked into and of links to nothing.
    """

    folder: Path
    files: list[str] = field(default_factory=list)
    refused: list[tuple[Path, str]] = field(default_factory=list)


class _Walk:
    """Real folders and files come first, links after them, so that nothing is found twice by another name."""

    def __init__(self, folder: Path) -> None:
        self.listing = Listing(folder)
        self._seen: set[tuple[int, int]] = set()  # device and inode of folders and files
        self._folders: deque[str] = deque([""])
        self._links: deque[str] = deque()

    def run(self) -> Listing:
        while self._folders or self._links:
            if self._folders:
                self._enter(self._folders.popleft())
            else:
                self._follow(self._links.popleft())
        self.listing.files.sort()
        return self.listing

    def _enter(self, name: str) -> None:
        path = self.listing.folder / name
        try:
            facts = path.stat()
            here = (facts.st_dev, facts.st_ino)
            if here in self._seen:
                return
            self._seen.add(here)
            with os.scandir(path) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except PermissionError:
            self.listing.refused.append((path, f"{path} may not be looked into by this user."))
            return
        except OSError as error:
            self.listing.refused.append((path, f"{path} cannot be looked into: {error.strerror}."))
            return
        for entry in found:
            self._sort(entry, f"{name}/{entry.name}" if name else entry.name, facts.st_dev)

    def _sort(self, entry: os.DirEntry[str], name: str, device: int) -> None:
        if entry.name.startswith("."):
            return
        if entry.is_symlink():
            self._links.append(name)
        elif entry.is_dir(follow_symlinks=False):
            self._folders.append(name)
        elif name.lower().endswith(SUFFIXES):
            self._seen.add((device, entry.inode()))
            self.listing.files.append(name)

    def _follow(self, name: str) -> None:
        path = self.listing.folder / name
        audio = name.lower().endswith(SUFFIXES)
        try:
            facts = path.stat()
        except OSError:
            if audio:
                self.listing.refused.append((path, f"{path} is a link to nothing."))
            return
        if path.is_dir():
            self._folders.append(name)
        elif audio and (facts.st_dev, facts.st_ino) not in self._seen:
            self._seen.add((facts.st_dev, facts.st_ino))
            self.listing.files.append(name)


def list_audio(folder: str | os.PathLike[str]) -> Listing:
    """All files with a name of audio in a folder and its subfolders, but hidden ones.

    Raises:
        AudioFileError: there is no such folder, it is a file, or it may not be read.
    """
    folder = Path(folder)
    try:
        if not folder.exists():
            raise AudioFileError(f"{folder}: there is no such folder.")
        if not folder.is_dir():
            raise AudioFileError(f"{folder} is a file; a folder of audio files is needed.")
        os.scandir(folder).close()
    except PermissionError:
        raise AudioFileError(f"{folder} may not be looked into by this user.") from None
    return _Walk(folder).run()
