"""Factories of many effects of one family, each reachable as "module:factories.NAME", as specs want it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from dafxhost.effects import Effect


class Factories:
    """`factories.mda_combo` is the factory of "mda-combo".

    Args:
        make: name -> `factory(provider=None) -> Effect`.
        names: the family's names, read when first asked for.
    """

    def __init__(
        self, make: Callable[[str], Callable[..., Effect]], names: Callable[[], Collection[str]]
    ) -> None:
        self._make, self._names = make, names

    def __getattr__(self, attribute: str) -> Callable[..., Effect]:
        name = attribute.replace("_", "-")
        if attribute.startswith("_") or name not in self._names():
            raise AttributeError(f"no effect {name!r} in this family")
        return self._make(name)


def target(module: str, name: str) -> str:
    """The "module:attribute" of a name's factory."""
    return f"{module}:factories.{name.replace('-', '_')}"
