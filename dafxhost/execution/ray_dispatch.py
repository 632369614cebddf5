"""The dispatcher of the Ray executor: one thread that hands shards to actors and copes with lost nodes."""

from __future__ import annotations

import logging
import queue
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import (
    DafxhostError,
    EffectUnavailableError,
    JobFailure,
    ParameterNotAppliedError,
)
from dafxhost.execution.dispatcher import Dispatcher
from dafxhost.execution.ray_actor import Answer, packed
from dafxhost.execution.ray_batch import RayBatch, Shard
from dafxhost.execution.ray_cluster import RENDER_CALLS, Cluster, Node, reason, share
from dafxhost.execution.stats import BusyTime, RenderStats, Unrepeatable
from dafxhost.processor import RenderSpec

LOOK = 1.0  # s between looks for nodes, while there is work
STARTS = 2  # of actors that failed on a node without a word of the plugin: then the node is left out
AVOID = (
    20.0  # s for which nothing is started on a node that fell silent: Ray may take as long to call it dead
)
RESTART = 0.25  # s until an actor that ended on a living node is replaced there; doubled each time
CLOSE_PATIENCE = 10.0  # s

log = logging.getLogger("dafxhost.ray")


class Actor:
    """An actor and what it has in hand."""

    def __init__(self, handle: Any, node: Node, workers: int) -> None:
        self.handle, self.node, self.workers = handle, node, workers
        self.ready = False
        self.shards: set[Shard] = set()
        self.streams = 0

    def takes(self, depth: int) -> bool:
        """Whether it may get a shard now. One that a node was lost with is tried with no other beside it."""
        return self.ready and len(self.shards) == depth and not any(s.lost for s in self.shards)


class RayPool(Dispatcher):
    """Actors for one effect. Public methods may be called from any thread.

    Args:
        workers: in all; None: a worker for every core of the cluster.
        options: keyword options of the executors on the nodes.
        patience: seconds without any node after which renders fail.
    """

    def __init__(
        self,
        effect: Effect,
        cluster: Cluster,
        *,
        workers: int | None,
        options: dict[str, Any],
        failure_dir: Path,
        patience: float,
    ) -> None:
        super().__init__("dafxhost-ray", CLOSE_PATIENCE)
        self.effect, self.cluster, self.wanted, self.patience = effect, cluster, workers, patience
        self.failure_dir = failure_dir
        self._options = options
        self._pickled = packed(effect)
        self.last_failures: list[JobFailure] = []
        self.unrepeatable: Unrepeatable | None = None
        self.lost: list[str] = []  # names of nodes that were lost
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        # The rest belongs to the dispatcher thread.
        self.actors: list[Actor] = []
        self._batches: list[RayBatch] = []
        self._openings: list[Future[Actor]] = []
        self._left_out: dict[str, str] = {}  # node id -> why
        self._failed_starts: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()  # of actors, by node id
        self._avoid: dict[str, float] = {}  # node id -> until when
        self._pace: dict[RenderSpec, float] = {}  # plugin seconds a sample
        self._next_look = 0.0
        self._alone_since: float | None = None
        self._busy = BusyTime()
        self._totals: dict[str, Any] = {}
        self._cores = sum(node.cores for node in cluster.nodes())

    # ---- called from any thread

    @property
    def workers(self) -> int:
        """As many as were asked for, or as the cluster had cores when it was looked at last."""
        return self.wanted if self.wanted is not None else max(1, self._cores)

    def submit(self, batch: RayBatch) -> None:
        self.post(lambda: self._add(batch))

    def abort(self, batch: RayBatch, error: BaseException) -> None:
        self.post(lambda: batch.abort(error))

    def actor_for_stream(self) -> Actor:
        """The one with the fewest streams. Raises DafxhostError: there is none."""
        answer: Future[Actor] = Future()
        self.post(lambda: self._openings.append(answer))
        try:
            return answer.result()
        except KeyboardInterrupt:
            answer.cancel()
            raise

    def stats(self) -> RenderStats:
        return RenderStats(**self._totals, wall_seconds=self._busy.seconds(), workers=self.workers)

    # ---- the dispatcher thread

    def _deliver(self, action: Callable[[], None]) -> None:
        self._inbox.put(action)

    def _turn(self) -> None:
        self._listen()
        self._drop_finished()
        if self._batches or self._openings:
            if time.monotonic() >= self._next_look:
                self._look()
            self._assign()
            self._check_patience()

    def _release(self) -> None:
        for actor in self.actors:
            self.cluster.kill(actor.handle)
        self.actors.clear()
        self.cluster.release()

    def _listen(self) -> None:
        """Do what was posted; wait for it if there is nothing else to do."""
        try:
            self._inbox.get(timeout=LOOK if self._batches or self._openings else None)()
            while True:
                self._inbox.get_nowait()()
        except queue.Empty:
            pass

    def _fail_all(self, error: BaseException) -> None:
        while not self._inbox.empty():  # batches that were never seen
            self._inbox.get_nowait()()
        self._give_up(error)

    def _give_up(self, error: BaseException) -> None:
        """Fail what is in progress."""
        for batch in self._batches:
            batch.abort(error)
        for opening in self._openings:
            if opening.set_running_or_notify_cancel():
                opening.set_exception(error)
        self._openings.clear()
        self._drop_finished()

    def _add(self, batch: RayBatch) -> None:
        self._batches.append(batch)
        self._busy.begin()

    def _drop_finished(self) -> None:
        for batch in [b for b in self._batches if b.over]:
            self._batches.remove(batch)
            if not self._batches:
                self._busy.end()
            if batch.error is None:
                batch.finish()
            if batch.error is None:
                self.last_failures = batch.failures

    # -- nodes

    def _look(self) -> None:
        """Start actors on nodes that have cores for them, until there are as many workers as wanted."""
        self._next_look = time.monotonic() + LOOK
        nodes = [n for n in self.cluster.nodes() if n.id not in self._left_out]
        self._cores = sum(node.cores for node in nodes)
        now = time.monotonic()
        ours = Counter[str]()
        starting = Counter[str]()
        for actor in self.actors:
            ours[actor.node.id] += actor.workers
            starting[actor.node.id] += 0 if actor.ready else actor.workers
        room = {}
        for node in nodes:
            if self._avoid.get(node.id, 0) > now:
                continue
            if self.cluster.started:  # nobody else is there; more workers than cores are the caller's wish
                room[node.id] = (self.wanted or node.cores) - ours[node.id]
            else:
                room[node.id] = min(node.free - starting[node.id], node.cores - ours[node.id])
        missing = sys.maxsize if self.wanted is None else self.wanted - sum(ours.values())
        for node, workers in share(nodes, room, missing):
            arguments = (dafxhost.__version__, self._pickled, self._options, list(sys.path))
            actor = Actor(self.cluster.start(node, workers, *arguments), node, workers)
            self.actors.append(actor)
            self._call(actor, "start", "watch", lambda f, a=actor: self._on_started(a, f))

    def _call(
        self, actor: Actor, method: str, group: str, then: Callable[[Any], None], *arguments: Any
    ) -> None:
        reference = self.cluster.call(getattr(actor.handle, method), group, *arguments)
        self.cluster.when_done(reference, lambda future: self._inbox.put(lambda: then(future)))

    def _on_started(self, actor: Actor, future: Future[str]) -> None:
        if actor not in self.actors:
            return
        error = future.exception()
        problem = future.result() if error is None else ""
        if error is not None:
            self._failed_starts[actor.node.id] += 1
            if self._failed_starts[actor.node.id] >= STARTS:
                problem = f"no actor starts there: {reason(error)}"
            else:
                self._lose(actor, error)
                return
        if problem:
            self._left_out[actor.node.id] = problem
            log.warning("node %s is left out: %s", actor.node.name, problem)
            self.actors.remove(actor)
            self.cluster.kill(actor.handle)
            self._next_look = 0.0
            return
        actor.ready = True
        self._call(actor, "watch", "watch", lambda f: self._lose(actor, f.exception()))

    def _lose(self, actor: Actor, error: BaseException | None) -> None:
        """An actor is gone: its shards go to others."""
        if actor not in self.actors:
            return
        self.actors.remove(actor)
        self.cluster.kill(actor.handle)  # if it is merely out of reach
        self._losses[actor.node.id] += 1
        delay = min(AVOID, RESTART * 2 ** self._losses[actor.node.id])
        if error is not None and self.cluster.silent(error):
            delay = AVOID
        self._avoid[actor.node.id] = time.monotonic() + delay
        self._next_look = 0.0
        if actor.ready:
            self._count(replaced=actor.workers)
            if actor.node.name not in self.lost:  # its cores may have come one by one, an actor each
                self.lost.append(actor.node.name)
            jobs = sum(shard.jobs for shard in actor.shards)
            why = "it ended" if error is None else reason(error)
            log.warning("node %s was lost (%s); its %d renders go to others", actor.node.name, why, jobs)
        for shard in sorted(actor.shards, key=lambda s: (s.first, s.left), reverse=True):
            if shard.batch.lose(shard, actor.node.name):
                self._count(retried=shard.jobs)
        actor.shards.clear()

    def _check_patience(self) -> None:
        if any(actor.ready for actor in self.actors) or not (self._batches or self._openings):
            self._alone_since = None
            return
        what = f"no node of the Ray cluster can render effect {self.effect.name!r}"
        living = {node.id: node.name for node in self.cluster.nodes()}
        if living and all(node in self._left_out for node in living):
            why = "; ".join(f"node {living[i]}: {self._left_out[i]}" for i in sorted(living))
            self._give_up(EffectUnavailableError(f"{what}: {why}"))
            return
        now = time.monotonic()
        self._alone_since = self._alone_since or now
        if now - self._alone_since > self.patience:
            self._alone_since = None
            why = "there is none with CPU cores"
            if living:
                why = f"the cores of {', '.join(living.values())} are held by others, or it does not answer"
            self._give_up(DafxhostError(f"{what} within {self.patience:g} s: {why}"))

    # -- shards

    def _assign(self) -> None:
        ready = [actor for actor in self.actors if actor.ready]
        for opening in self._openings if ready else ():
            if opening.set_running_or_notify_cancel():
                actor = min(ready, key=lambda a: a.streams)
                actor.streams += 1
                opening.set_result(actor)
        if ready:
            self._openings.clear()
        # Every idle actor first, then one shard ahead for each; not while there is one to be tried alone.
        alone = any(shard.lost for batch in self._batches for shard in batch.returned)
        depths = 1 if alone else RENDER_CALLS
        for depth in range(depths):
            for actor in ready:
                while actor.takes(depth) and (shard := self._next_shard(actor, depth)) is not None:
                    self._hand_out(actor, shard)

    def _next_shard(self, actor: Actor, depth: int) -> Shard | None:
        for batch in self._batches:
            if batch.returned and (not depth or not batch.returned[0].lost):
                return batch.returned.popleft()
            if not (batch.error is None and batch.waiting):
                continue
            pace = self._pace.get(batch.spec)
            seconds = None if pace is None else pace * batch.clips.shape[2]
            try:
                everybody = sum(a.workers for a in self.actors)
                return batch.next_shard(actor.workers, everybody, seconds, self.cluster.put)
            except Exception as error:  # noqa: BLE001  (Ray's, when its object store and the disk are full)
                batch.abort(DafxhostError(f"the clips cannot be put into Ray's object store: {error}"))
        return None

    def _hand_out(self, actor: Actor, shard: Shard) -> None:
        actor.shards.add(shard)
        arguments = (shard.clips, shard.first - shard.base, shard.settings)
        how = (shard.batch.spec.sample_rate, shard.batch.on_error)
        then = lambda f: self._on_rendered(actor, shard, f)  # noqa: E731
        self._call(actor, "render", "render", then, *arguments, *how)

    def _on_rendered(self, actor: Actor, shard: Shard, future: Future[Answer]) -> None:
        if shard not in actor.shards:  # taken back already
            return
        error, batch = future.exception(), shard.batch
        if error is not None and self.cluster.lost(error):
            self._lose(actor, error)
            return
        actor.shards.remove(shard)
        if error is not None:
            text = " ".join(str(error).split())[-400:]
            batch.abort(DafxhostError(f"rendering on node {actor.node.name} broke down: {text}"))
            return
        answer = future.result()
        if answer.error is not None:
            refusal = answer.exception()
            if not (isinstance(refusal, ParameterNotAppliedError) and batch.refuse(shard, refusal)):
                batch.abort(type(refusal)(f"{refusal} (on node {actor.node.name})"))
            return
        spent = answer.spent or {}
        self._count(**spent)
        self.unrepeatable = self.unrepeatable or answer.unrepeatable
        batch.gather(shard, answer.value, answer.failures)
        samples = spent.get("renders", 0) * batch.clips.shape[2]
        if samples and spent["plugin_seconds"] > 0:
            pace = spent["plugin_seconds"] / samples
            known = self._pace.setdefault(batch.spec, pace)
            self._pace[batch.spec] = 0.8 * known + 0.2 * pace

    def _count(self, **spent: float) -> None:
        # A new dict: another thread may be reading the old one.
        self._totals = {**self._totals, **{k: self._totals.get(k, 0) + v for k, v in spent.items()}}
