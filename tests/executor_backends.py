"""Both kinds of executor behind one fixture, and the Ray cluster of two node processes that one of them uses.

`make_executor(effect, **options)` opens an executor of the kind under test, and has `.kind`, and
`.plugin_processes()`: the worker processes in which plugins run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dafxhost.effects import Effect
from dafxhost.execution.backends import open_executor
from dafxhost.execution.front import BaseExecutor

STORE = 100 << 20  # bytes of Ray's object store on each node
NODE_CORES = 3  # as Ray counts them: room for the workers of several executors at a time
HEALTH = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_timeout_ms": 2000}
"""Of Ray: that it takes 2 s to know of a node's death, not 15."""


class Backend:
    """Makes executors of one kind."""

    def __init__(self, kind: str, address: str | None = None) -> None:
        self.kind, self.address = kind, address

    def __call__(self, effect: Effect, **options: Any) -> BaseExecutor:
        more = {} if self.address is None else {"address": self.address}
        return open_executor(effect, self.kind, **more, **options)

    def plugin_processes(self) -> list[psutil.Process]:
        return plugin_processes()  # and nothing else of this process's children, a browser for instance

    def gone(self) -> bool:
        """Whether no plugin process is left; on a node they die a moment after their executor."""
        end = time.monotonic() + (0 if self.kind == "processes" else 5)
        while self.plugin_processes():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True


def plugin_processes(root: int | None = None) -> list[psutil.Process]:
    """Worker processes among the descendants of a process (this one by default), without their guards."""
    found = {}
    for process in psutil.Process(root).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any("dafxhost.execution.worker" in word for word in process.cmdline()):
                found[process.pid] = process, process.ppid()
    return [process for process, parent in found.values() if parent not in found]


class TestCluster:
    """A Ray cluster on this machine, each node with daemons and an object store of its own."""

    __test__ = False

    def __init__(self, nodes: int, cores: int = NODE_CORES) -> None:
        from ray.cluster_utils import Cluster

        # Not pytest's folder: the paths of Ray's sockets must stay under 107 bytes.
        self.folder = tempfile.mkdtemp(prefix="dafxhost-ray-", dir="/tmp")
        self._node: dict[str, Any] = {"num_cpus": cores, "object_store_memory": STORE}
        if shutil.disk_usage("/dev/shm").free < 4 * STORE:  # as in containers
            self._node["plasma_directory"] = self.folder
        # Where Ray writes the cluster's address, which it does not make where another folder is given.
        usual = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
        Path(usual, "ray").mkdir(exist_ok=True)
        self.cluster = Cluster(shutdown_at_exit=True)
        head = {"include_dashboard": False, "temp_dir": self.folder, "_system_config": HEALTH}
        self.cluster.add_node(**self._node, **head)
        for _ in range(nodes - 1):
            self.add()

    @property
    def address(self) -> str:
        return self.cluster.address

    def add(self, **options: Any) -> Any:
        return self.cluster.add_node(**{**self._node, **options})

    @staticmethod
    def raylet(node: Any) -> psutil.Process:
        return psutil.Process(node.all_processes["raylet"][0].process.pid)

    def kill(self, node: Any, *, with_workers: bool) -> None:
        """SIGKILL of the node's raylet, and of Ray's own worker processes there or not."""
        raylet = self.raylet(node)
        children = raylet.children()
        raylet.kill()
        for child in children if with_workers else ():
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()

    def close(self) -> None:
        ours = [n for n in (self.cluster.head_node, *self.cluster.worker_nodes) if n is not None]
        daemons = []
        for node in ours:
            with contextlib.suppress(psutil.Error, KeyError):
                daemons += [self.raylet(node), *self.raylet(node).children(recursive=True)]
        try:
            self.cluster.shutdown()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
        _, alive = psutil.wait_procs(daemons, 10)
        for process in alive:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        assert not alive, f"left by Ray: {alive}"


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[TestCluster]:
    """Two nodes, connected to for the whole session."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    assert not ray.is_initialized()
    from dafxhost.execution.ray_cluster import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started = TestCluster(nodes=2)
    connection = Cluster(started.address)
    yield started
    connection.release()
    started.close()


@pytest.fixture(scope="session", params=["processes", "ray"])
def make_executor(request: pytest.FixtureRequest) -> Backend:
    if request.param == "processes":
        return Backend("processes")
    return Backend("ray", request.getfixturevalue("ray_cluster").address)


def needs_ray(item: pytest.Item) -> bool:
    """Whether a test runs with the Ray cluster: those come last: its daemons are our children."""
    callspec = getattr(item, "callspec", None)
    return "ray_cluster" in getattr(item, "fixturenames", ()) or (
        callspec is not None and callspec.params.get("make_executor") == "ray"
    )
