"""Training by several processes, started by torchrun: each with plugins and a share of examples of its own.

    torchrun --nproc-per-node 2 -m dafxhost_cli.main train --effect mda-combo --device cuda

Every process trains as one alone would, from a seed of its own, except that gradients are averaged before a
step, and that what depends on the clock (how many steps, when to end) is decided by process 0. So a step is
one of as many times the batch. Process 0 writes the run; what the others would write goes into a folder that
is deleted. Networks run on cuda:LOCAL_RANK (nccl) or the CPU (gloo); workers are divided among the processes
of a machine. When a process fails, the others end with its message.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
import torch.distributed as dist
from torch import nn

from dafxhost.errors import RunError, UsageError

if TYPE_CHECKING:
    from dafxhost.training.config import TrainConfig
    from dafxhost.training.trainer import TrainResult

PATIENCE = timedelta(minutes=30)
"""How long processes wait for each other: making a pool takes minutes, and not everywhere the same."""
_FAILED = "dafxhost-failed"


def several() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def rank() -> int:
    """Number of this process; 0 if it is alone."""
    return int(os.environ.get("RANK", "0")) if several() else 0


class Alone:
    """One process: nothing to agree on."""

    rank, size = 0, 1

    def average(self, module: nn.Module) -> None:
        """Replace the gradients by their mean over all processes."""

    def same(self, module: nn.Module) -> None:
        """Give all processes the weights and buffers of process 0."""

    def agree(self, number: int) -> int:
        """The number that process 0 has."""
        return number

    def any(self, flag: bool) -> bool:
        """Whether the flag is set anywhere."""
        return flag


class Group(Alone):
    """What processes of one training do together; every method is to be called by all of them.

    Args:
        store: which outlives a process, where its last words are left.
    """

    def __init__(self, rank: int, size: int, device: torch.device, store: Any) -> None:
        self.rank, self.size, self.device = rank, size, device
        self._store = store

    def average(self, module: nn.Module) -> None:
        weights = [p for p in module.parameters() if p.requires_grad]
        given = [torch.zeros_like(p) if p.grad is None else p.grad for p in weights]
        flat = torch.cat([g.flatten() for g in given])
        self._together(lambda: dist.all_reduce(flat))
        flat /= self.size
        for p, part in zip(weights, flat.split([p.numel() for p in weights]), strict=True):
            p.grad = part.view_as(p)

    def same(self, module: nn.Module) -> None:
        for tensor in (*module.parameters(), *module.buffers()):
            self._together(lambda t=tensor: dist.broadcast(t.data, 0))

    def agree(self, number: int) -> int:
        value = torch.tensor(number, dtype=torch.int64, device=self.device)
        self._together(lambda: dist.broadcast(value, 0))
        return int(value)

    def any(self, flag: bool) -> bool:
        value = torch.tensor(int(flag), dtype=torch.int64, device=self.device)
        self._together(lambda: dist.all_reduce(value, dist.ReduceOp.MAX))
        return bool(value)

    def leave(self) -> None:
        """Let go of the store. Nothing can be done together any more."""
        del self._store

    def fail(self, error: BaseException) -> None:
        """Leave last words for the others, unless another process already has."""
        words = f"process {self.rank} of {self.size} ended: {error or type(error).__name__}"
        with suppress(RuntimeError):
            self._store.compare_set(_FAILED, "", words)

    def _together(self, work: Callable[[], Any]) -> None:
        try:
            work()
        except RuntimeError as error:
            raise RunError(self._why(error)) from error

    def _why(self, error: RuntimeError) -> str:
        with suppress(RuntimeError):
            self._store.set_timeout(timedelta(seconds=5))
            return self._store.get(_FAILED).decode()
        return f"another process of this training has ended without a word, or cannot be reached: {error}"


def end(code: int) -> NoReturn:
    """End this process of a broken group at once, with its output written.

    At the interpreter's own end torch's threads, which still wait for others, may abort it instead.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@contextmanager
def join(device: torch.device) -> Iterator[Group]:
    """A place in the group that torchrun started; what is raised within is told to the others."""
    backend = "nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the processes of this training do not find each other: {error}") from error
    store = dist.distributed_c10d._get_default_store()
    group = Group(dist.get_rank(), dist.get_world_size(), device, store)
    try:
        yield group
    except BaseException as error:
        group.fail(error)
        raise
    finally:
        with suppress(RuntimeError):
            dist.destroy_process_group()
        # What is raised keeps this frame, and with it the store, until the interpreter has gone too far to
        # join its threads ("terminate called without an active exception").
        group.leave()
        del store


def share_of(config: TrainConfig, rank: int, local_rank: int, local_size: int) -> TrainConfig:
    """The config of one process: a device, a seed and a share of the workers of its own.

    Raises:
        UsageError: `patience` is set: only process 0 knows how validation goes.
    """
    from dafxhost.training.session import mix

    if config.patience:
        raise UsageError("patience needs a single process; leave it out, or start without torchrun")
    cores = len(os.sched_getaffinity(0))
    workers = config.workers or max(1, cores // local_size)
    device = f"cuda:{local_rank}" if config.device == "cuda" else config.device
    own = config.replace(workers=workers, device=device)
    # Process 0 validates for all; the others only go through the motions, to stay in step.
    return own.replace(seed=mix(config.seed, 11, rank), validation=1, track="") if rank else own


def train_together(
    config: TrainConfig | None,
    resume: str | Path | None,
    run_dir: str | Path | None,
    runs_dir: str | Path,
    on_event: Callable[[dict[str, Any]], None] | None,
) -> TrainResult:
    """`trainer.train` as one of several processes. Returns process 0's result, elsewhere an own one.

    Raises:
        UsageError: a run to resume, or options that need a single process. RunError: another process failed.
    """
    from dafxhost.training import trainer
    from dafxhost.training.config import TrainConfig

    if resume is not None:
        raise UsageError("a run is resumed by a single process: start without torchrun")
    place = {name: int(os.environ[name]) for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    config = share_of(config or TrainConfig(), place["RANK"], place["LOCAL_RANK"], place["LOCAL_WORLD_SIZE"])
    device = torch.device(config.device)
    if device.type == "cuda" and torch.cuda.is_available():
        torch.cuda.set_device(device)
    with ExitStack() as stack:
        group = stack.enter_context(join(device))
        if group.rank:
            run_dir = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "aside"
            on_event = None
        return trainer.train_one(config, None, run_dir, runs_dir, on_event, group)
