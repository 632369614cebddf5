"""Executors kept between renders, so that a knob that is turned does not wait for a plugin to load."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dafxhost.errors import UsageError

if TYPE_CHECKING:
    from dafxhost.effects import Effect
    from dafxhost.execution.executor import Executor

KEPT = 3
"""Effects whose workers stay when nobody is using them."""
Key = tuple[str, str]


@dataclass
class _Kept:
    executor: Executor
    users: int = 0


class Executors:
    """One `Executor` an effect, shared by all users; those used longest ago are closed first.

    Args:
        workers: of each executor; None: as many as there are cores.
        deadline: seconds that one render may take.
    """

    def __init__(self, *, workers: int | None = None, deadline: float = 60.0, kept: int = KEPT) -> None:
        self._workers, self._deadline, self._most = workers, deadline, kept
        self._kept: OrderedDict[Key, _Kept] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    @contextmanager
    def of(self, effect: Effect) -> Iterator[Executor]:
        """The executor of an effect, not closed as long as the `with` block lasts.

        Raises:
            UsageError: the demo is ending. PluginError: the plugin does not load.
        """
        key = effect.name, effect.provider.name
        with self._lock:
            kept = self._kept.get(key) or self._make(key, effect)
            self._kept.move_to_end(key)
            kept.users += 1
        try:
            yield kept.executor
        finally:
            with self._lock:
                kept.users -= 1
                surplus = self._surplus()
            for executor in surplus:
                executor.close()

    def _make(self, key: Key, effect: Effect) -> _Kept:
        from dafxhost.execution.executor import Executor

        if self._closed:
            raise UsageError("the demo is ending")
        kept = _Kept(Executor(effect, workers=self._workers, deadline=self._deadline))
        self._kept[key] = kept
        return kept

    def _surplus(self) -> list[Executor]:
        idle = [key for key, kept in self._kept.items() if not kept.users]
        return [self._kept.pop(key).executor for key in idle[: max(0, len(self._kept) - self._most)]]

    def __len__(self) -> int:
        return len(self._kept)

    def close(self) -> None:
        """End all workers, those at work, too: whoever waits for them gets a UsageError."""
        with self._lock:
            self._closed = True
            executors = [kept.executor for kept in self._kept.values()]
            self._kept.clear()
        for executor in executors:
            executor.close()
