"""The effects that come with dafxhost, registered as anybody's would be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dafxhost.registry import EffectSpec, hookimpl
from dafxhost_effects import eq_compressor, mda, pedalboard_effects, zam
from dafxhost_effects.factories import target

if TYPE_CHECKING:
    from dafxhost.effects import Effect


@hookimpl
def dafxhost_effects() -> list[EffectSpec]:
    return [
        EffectSpec(name, target(m.__name__, name), m.summary(name), f"{m.__name__}:provider_of")
        for m in (mda, zam, pedalboard_effects, eq_compressor)
        for name in m.table()
    ]


@hookimpl
def dafxhost_effect_at(location: str, provider: str | None) -> Effect | None:
    from dafxhost_effects import files, stretching

    stretch = stretching.at(location, provider)
    if stretch is not None:
        return stretch
    return files.from_location(location, provider) if files.is_location(location) else None


@hookimpl
def dafxhost_presets(effect: Effect) -> dict[str, Any] | None:
    from dafxhost_effects import presets

    return presets.writers(effect) or None


@hookimpl
def dafxhost_neutral(effect: Effect) -> dict[str, Any] | None:
    from dafxhost_effects import neutral

    return neutral.values(effect)


@hookimpl
def dafxhost_factory_presets(effect: Effect) -> dict[str, dict[str, float]] | None:
    from dafxhost_effects.presets import factory

    return factory.of(effect)
