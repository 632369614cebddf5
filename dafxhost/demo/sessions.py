"""What one user of the demo has: recordings, effect, setting. Nothing of it is shared with another user."""

from __future__ import annotations

import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Literal

import numpy as np

from dafxhost.errors import UsageError

if TYPE_CHECKING:
    from dafxhost.demo.settings_map import SettingsMap
    from dafxhost.effects import Effect

Role = Literal["input", "reference"]
MOST = 100
"""Sessions kept; the one that has been idle longest makes room."""


@dataclass
class Session:
    """One open page.

    Attributes:
        folder: its own, deleted with it. recordings, names: by role, the file here and its name to the user.
        effect, setting: chosen, `[P]` on 0..1. strength: 0 to 1.
        made: files of the newest render: they are deleted when the next one comes.
        map: of the effect's settings, if one was drawn.
    """

    folder: Path
    recordings: dict[Role, Path] = field(default_factory=dict)
    names: dict[Role, str] = field(default_factory=dict)
    effect: Effect | None = None
    setting: np.ndarray = field(default_factory=lambda: np.zeros(0))
    strength: float = 1.0
    made: list[Path] = field(default_factory=list)
    map: SettingsMap | None = None
    count: int = 0

    def recording(self, role: Role) -> Path:
        """Raises UsageError: there is none yet."""
        path = self.recordings.get(role)
        if path is None or not path.exists():
            raise UsageError(f"drop in {'an input' if role == 'input' else 'a reference'} first")
        return path

    def chosen(self) -> Effect:
        """Raises UsageError: no effect is chosen."""
        if self.effect is None:
            raise UsageError("choose an effect first")
        return self.effect

    def choose(self, effect: Effect) -> None:
        """Take an effect, at its default."""
        self.effect, self.setting, self.map = effect, effect.default_setting(), None

    def name(self, suffix: str) -> Path:
        """A new file in the folder, with a name that no other session has."""
        self.count += 1
        stem = Path(self.names.get("input", "input")).stem[:40] or "input"
        effect = "".join(c if c.isalnum() else "-" for c in self.chosen().name)[:40]
        return self.folder / f"{stem}-{effect}-{self.folder.name[-6:]}-{self.count}{suffix}"


class Sessions:
    """All open pages, by what the server calls them. Safe in threads.

    Args:
        folder: where their folders are made. cache: where the server keeps copies of the files it gave out,
            in folders of its own.
    """

    def __init__(self, folder: Path, cache: Path | None = None, most: int = MOST) -> None:
        self._folder, self._cache, self._most = folder, cache, most
        self._all: OrderedDict[str, Session] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Session:
        """The session of that page, new if it is."""
        with self._lock:
            if key not in self._all:
                self._all[key] = Session(Path(mkdtemp(prefix="user-", dir=self._folder)))
            self._all.move_to_end(key)
            found = self._all[key]
            surplus = [self._all.popitem(last=False)[1] for _ in range(len(self._all) - self._most)]
        for session in surplus:
            self._remove(session)
        return found

    def drop(self, key: str) -> None:
        """Forget a page that was closed, with its files."""
        with self._lock:
            session = self._all.pop(key, None)
        if session is not None:
            self._remove(session)

    def replace(self, session: Session, made: list[Path]) -> None:
        """Note the files of a new render, and delete those of the one before."""
        old, session.made = session.made, made
        self._delete(old)

    def _remove(self, session: Session) -> None:
        self._delete(session.made)
        shutil.rmtree(session.folder, ignore_errors=True)

    def _delete(self, files: list[Path]) -> None:
        for path in files:
            path.unlink(missing_ok=True)
            if self._cache is not None:
                for copy in self._cache.glob(f"*/{path.name}"):
                    copy.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._all)
