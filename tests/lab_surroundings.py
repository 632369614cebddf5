"""What an executor must leave as it found it: processes, shared memory, file descriptors."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

MARK = "DAFXHOST_LAB_MARK"  # in the environment of all processes that a test starts


class Surroundings:
    """What must be as before when an executor is closed: processes, shared memory, descriptors, folder.

    Results must be let go of first: they keep the memory open that they lie in. Processes are found by a
    mark in their environment, which they inherit, whoever their parent is now.
    """

    def __init__(self, mark: str) -> None:
        gc.collect()  # what earlier executors left
        self.mark = os.environ[MARK] = mark
        self._shared = shared_memory()
        self._descriptors = descriptors()
        self._facts = self._look()

    @staticmethod
    def _look() -> dict[str, Any]:
        return {
            "folder": os.getcwd(),
            "SIGINT": signal.getsignal(signal.SIGINT),
        }

    def problems(self, timeout: float = 3.0) -> list[str]:
        """What is left. Processes may take `timeout` seconds to go; those that stay are killed."""
        gc.collect()
        left = marked(self.mark)
        psutil.wait_procs(left, timeout=timeout)
        now = self._look()
        changed = [name for name, fact in now.items() if fact != self._facts[name]]
        found = [f"{name}: {now[name]}, before {self._facts[name]}" for name in changed] + kill(self.mark)
        found += [f"{more} file descriptor {target}" for target, more in self._more_descriptors().items()]
        return found + left_in_shared_memory(self._shared)

    def _more_descriptors(self) -> Counter[str]:
        """Targets that are open more often than before."""
        return descriptors() - self._descriptors


def descriptors() -> Counter[str]:
    """What this process has open, and how often; pipes and sockets without their numbers."""
    targets: Counter[str] = Counter()
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            targets[re.sub(r":\[\d+\]", "", os.readlink(f"/proc/self/fd/{name}"))] += 1
    return targets


def shared_memory() -> set[str]:
    """Files in /dev/shm, without those of other programs that may be at work on this machine."""
    return {name for name in os.listdir("/dev/shm") if not re.search("joblib|loky|ray|plasma", name)}


def left_in_shared_memory(before: set[str]) -> list[str]:
    """New files in /dev/shm that no living process has mapped: what a process at work there has, it uses."""
    new = shared_memory() - before
    if not new:
        return []
    mapped = ""
    for process in Path("/proc").glob("[0-9]*/maps"):
        with contextlib.suppress(OSError):
            mapped += "".join(line for line in process.read_text().splitlines() if "/dev/shm/" in line)
    return [f"/dev/shm/{name} is left" for name in sorted(new & shared_memory()) if name not in mapped]


def marked(mark: str) -> list[psutil.Process]:
    """Living processes of that mark, without this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.AccessDenied, psutil.ZombieProcess, psutil.NoSuchProcess):
            continue
    return found


def kill(mark: str) -> list[str]:
    """End the processes of that mark, and say which there were."""
    found = []
    for process in marked(mark):
        found.append(f"process {process.pid} is left, child of {process.ppid()}")
        process.kill()
    return found
