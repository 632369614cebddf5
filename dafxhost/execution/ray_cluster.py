"""The Ray cluster as the executor sees it: connecting, nodes, actors. The only module that imports ray.

Ray (Moritz et al. 2018, "Ray: A Distributed Framework for Emerging AI Applications", OSDI) carries arrays
between machines and notices their death; it never runs a plugin itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from dafxhost.errors import DafxhostError, UsageError

RENDER_CALLS = 2
"""Shards an actor works on at a time: while one is sent or fetched, the other keeps its workers busy."""
STREAM_CALLS = 8
CONNECT_PATIENCE = 10.0  # s
LOCAL_STORE = 2 << 30  # bytes, of a cluster that we start
SMALLEST_STORE = 80 << 20  # bytes; Ray accepts none below 75 MiB

_lock = threading.Lock()
_users = 0  # executors that use a connection made by us
_started = False  # whether the cluster behind it was started by us


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive.

    Attributes:
        id: Ray's. name: its address and the beginning of its id, for people.
        cores: CPU cores that Ray counts on it. free: those that no actor or task holds.
    """

    id: str
    name: str
    cores: int
    free: int


def load() -> Any:
    """The package ray. Raises UsageError: it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f'the executor "ray" needs Ray ({error}); install it: pip install "dafxhost[ray]"'
        ) from error
    return ray


class Cluster:
    """A connection to a Ray cluster; one process has at most one, which its executors share.

    Args:
        address: "host:port", "auto" or "local"; None is the environment's RAY_ADDRESS, else "local", a
            cluster of this machine alone that lasts as long as executors use it. A connection that the caller
            made by `ray.init` is used as it is and left as it is.

    Attributes:
        started: the cluster was started here, so that its cores are shared with nobody.

    Raises:
        UsageError: Ray is not installed, or this process is connected to another cluster.
        DafxhostError: no cluster answers there, or none can be started.
    """

    def __init__(self, address: str | None) -> None:
        global _users, _started
        self.ray = ray = load()
        address = address or os.environ.get("RAY_ADDRESS") or "local"
        with _lock:
            self._counted = _users > 0 or not ray.is_initialized()
            if ray.is_initialized():
                self._check_same(address)
            else:
                _started = _connect(ray, address)
            _users += self._counted
            self.started = self._counted and _started

    def _check_same(self, address: str) -> None:
        if address in ("auto", "local") or "://" in address:
            return
        now = str(self.ray.get_runtime_context().gcs_address)
        if _numeric(address) != _numeric(now):
            raise UsageError(f"this process is connected to the Ray cluster at {now}, not to {address}")

    def release(self) -> None:
        """Let go of the connection; the last one that does so ends it. Called once."""
        global _users
        with _lock:
            _users -= self._counted
            if self._counted and not _users and self.ray.is_initialized():
                self.ray.shutdown()
                _print_ray_messages(True)

    def nodes(self) -> list[Node]:
        """Living nodes with at least one CPU core.

        A node that died without a word is listed until Ray misses its heartbeats (about 15 s).
        """
        free = _available()
        found = []
        for node in self.ray.nodes():
            cores = int(node["Resources"].get("CPU", 0))
            if node["Alive"] and cores >= 1:
                name = f"{node['NodeManagerAddress']} ({node['NodeID'][:8]})"
                left = free.get(node["NodeID"], {}).get("CPU", 0.0) if free is not None else cores
                found.append(Node(node["NodeID"], name, cores, int(left)))
        return sorted(found, key=lambda n: n.id)

    def start(self, node: Node, workers: int, *arguments: Any) -> Any:
        """An actor of `workers` workers on that node; `arguments` are those of `RenderActor`."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        from dafxhost.execution.ray_actor import RenderActor

        groups = {"render": RENDER_CALLS, "stream": STREAM_CALLS, "watch": 1}
        remote = self.ray.remote(concurrency_groups=groups)(RenderActor)
        return remote.options(
            num_cpus=0 if self.started else workers,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
        ).remote(workers, *arguments)

    def call(self, method: Any, group: str, *arguments: Any) -> Any:
        """Call an actor's method in one of its concurrency groups; gives a reference to the answer."""
        return method.options(concurrency_group=group).remote(*arguments)

    def when_done(self, reference: Any, then: Callable[[Future[Any]], None]) -> None:
        """Have `then` called, in one of Ray's threads, when the answer is here or cannot come any more."""
        reference.future().add_done_callback(then)

    def put(self, array: Any) -> Any:
        return self.ray.put(array)

    def get(self, reference: Any, timeout: float) -> Any:
        """Raises TimeoutError, or what `lost` recognises."""
        try:
            return self.ray.get(reference, timeout=timeout)
        except self.ray.exceptions.GetTimeoutError as error:
            raise TimeoutError(f"no answer within {timeout:g} s") from error

    def kill(self, actor: Any) -> None:
        """End an actor's process, and with it (PR_SET_PDEATHSIG) the workers it started."""
        with contextlib.suppress(Exception):  # it, or the cluster, may be gone already
            self.ray.kill(actor)

    def lost(self, error: BaseException) -> bool:
        """Whether an error means that an actor or what it had answered is gone, not that it answered so."""
        kinds = self.ray.exceptions
        return isinstance(error, kinds.RayError) and not isinstance(error, kinds.RayTaskError)

    def silent(self, error: BaseException) -> bool:
        """Whether an actor is out of reach and Ray does not know why: its node may be dead."""
        kind = getattr(self.ray.exceptions, "ActorUnavailableError", None)
        return kind is not None and isinstance(error, kind)


def share(nodes: list[Node], room: dict[str, int], workers: int) -> list[tuple[Node, int]]:
    """How many of `workers` each node gets: one each in turn, as long as there is room on it.

    Args:
        room: how many fit on a node, by its id.
    """
    given = Counter[str]()
    while workers > 0:
        fitting = [n for n in nodes if room.get(n.id, 0) > given[n.id]][:workers]
        if not fitting:
            break
        given.update(n.id for n in fitting)
        workers -= len(fitting)
    return [(node, given[node.id]) for node in nodes if given[node.id]]


def reason(error: BaseException) -> str:
    """What Ray says of a loss, on one line and without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [n for n in lines if n.startswith(("The actor", "the actor")) and "before finishing" not in n]
    line = (telling or lines or [type(error).__name__])[-1]
    return line.split(" Some common causes")[0][:300]


def _connect(ray: Any, address: str) -> bool:
    """Returns whether a cluster was started for it."""
    local = address == "local"
    _check_answers(address)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if local:
        options |= {"include_dashboard": False, "num_cpus": len(os.sched_getaffinity(0)), **_store()}
    try:
        with _as_it_was(local):
            ray.init(address=address, **options)
    except Exception as error:
        what = "no Ray cluster can be started here" if local else f"no Ray cluster answers at {address}"
        raise DafxhostError(f"{what}: {' '.join(str(error).split())[:400]}") from error
    _print_ray_messages(False)
    return local


@contextlib.contextmanager
def _as_it_was(local: bool) -> Iterator[None]:
    """`ray.init` takes over SIGTERM; a cluster of our own reports nothing to anybody."""
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    usage = os.environ.get("RAY_USAGE_STATS_ENABLED")
    if local and usage is None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        yield
    finally:
        if main and handler is not None:
            signal.signal(signal.SIGTERM, handler)
        if local and usage is None:
            del os.environ["RAY_USAGE_STATS_ENABLED"]


def _store() -> dict[str, Any]:
    """The object store of a cluster of our own: in /dev/shm as far as a container has that."""
    space = shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else 0
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    size = min(LOCAL_STORE, int(0.3 * memory), int(0.8 * space))
    if size >= SMALLEST_STORE:
        return {"object_store_memory": size}
    return {"object_store_memory": SMALLEST_STORE, "_plasma_directory": "/tmp"}


def _print_ray_messages(enabled: bool) -> None:
    """Ray prints what befalls its daemons to stdout, where results belong; there is no option for it."""
    from ray._private import worker

    if hasattr(worker, "_worker_logs_enabled"):
        worker._worker_logs_enabled = enabled


def _available() -> dict[str, dict[str, float]] | None:
    """Free resources by node, or None where this version of Ray does not tell."""
    from ray._private import state

    tell = getattr(state, "available_resources_per_node", None)
    return None if tell is None else tell()


def _check_answers(address: str) -> None:
    """Ray would try for more than three minutes, and then end this process. Raises DafxhostError."""
    host, colon, port = address.rpartition(":")
    if "://" in address or not (colon and port.isdigit()):
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_PATIENCE).close()
    except OSError as error:
        raise DafxhostError(f"no Ray cluster answers at {address}: {error.strerror or error}") from error


def _numeric(address: str) -> tuple[str, str]:
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError):
        host = socket.gethostbyname(host)
    return host, port
