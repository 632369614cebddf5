"""Choosing where plugins run by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dafxhost.errors import UsageError

if TYPE_CHECKING:
    from dafxhost.effects import Effect
    from dafxhost.execution.front import BaseExecutor

KINDS = ("processes", "ray")


def check_kind(kind: str) -> None:
    """Raises UsageError: there is no such kind of executor."""
    if kind not in KINDS:
        raise UsageError(f"executor is {kind!r}; it is {' or '.join(map(repr, KINDS))}")


def open_executor(effect: Effect, kind: str = "processes", **options: Any) -> BaseExecutor:
    """An executor for an effect.

    Args:
        kind: "processes" (this machine's cores) or "ray" (the machines of a Ray cluster, see `RayExecutor`).
        options: keyword arguments of `Executor`, and for "ray" also those of `RayExecutor`.

    Raises:
        UsageError: an argument out of range, or Ray is not installed. DafxhostError: there is no cluster.
    """
    check_kind(kind)
    if kind == "ray":
        from dafxhost.execution.ray_executor import RayExecutor

        return RayExecutor(effect, **options)
    from dafxhost.execution.executor import Executor

    return Executor(effect, **options)
