"""Finding effects, encoders, gradient estimators and trackers: ours and anybody's, by entry point.

A package takes part by one entry point in the group "dafxhost" naming a module that implements one or more
hooks::

    [project.entry-points.dafxhost]
    my-effects = "my_package"

    # my_package.py
    from dafxhost.registry import EffectSpec, hookimpl

    @hookimpl
    def dafxhost_effects():
        return [EffectSpec("my-gain", "my_package.gain:make", "A gain.")]

Hooks return specs, which are cheap: nothing they name is imported before it is asked for.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pluggy

from dafxhost.errors import DafxhostError, RegistryError, UnknownNameError

if TYPE_CHECKING:
    from dafxhost.effects import Effect
    from dafxhost.tracking import Tracker

GROUP = "dafxhost"
hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True)
class Spec:
    """A name in the registry.

    Attributes:
        name: lower case, words joined by hyphens.
        factory: "module:attribute" of what makes it, imported only when asked for.
        summary: one line.
        provider: "module:attribute" of a cheap function `name -> str` that says what serves it here, or "".
    """

    name: str
    factory: str
    summary: str = ""
    provider: str = ""

    kind = "thing"

    def load(self) -> Any:
        """Import and return what `factory` names. Raises RegistryError with the reason."""
        return load_attribute(self.factory, f"{self.kind} {self.name!r}")

    def provider_text(self) -> str:
        """What serves it here, e.g. "lv2"; "" when it does not say. Raises RegistryError with the reason."""
        if not self.provider:
            return ""
        function = load_attribute(self.provider, f"{self.kind} {self.name!r}")
        try:
            return str(function(self.name))
        except Exception as error:
            raise RegistryError(f"{self.kind} {self.name!r}: no provider: {_reason(error)}") from error


class EffectSpec(Spec):
    """`factory(provider: str | None = None) -> dafxhost.Effect`."""

    kind = "effect"


class EncoderSpec(Spec):
    """`factory(**options) -> dafxhost.encoder.Encoder` (a torch.nn.Module)."""

    kind = "encoder"


class EstimatorSpec(Spec):
    """`factory(**options) -> dafxhost.estimators.base.Estimator`."""

    kind = "estimator"


class TrackerSpec(Spec):
    """`factory() -> dafxhost.tracking.Tracker`."""

    kind = "tracker"


class Hooks:
    """The hooks a package may implement; each returns an iterable of specs."""

    @hookspec
    def dafxhost_effects(self) -> Iterable[EffectSpec]:
        """Effects this package adds."""
        raise RegistryError("a hook specification is not to be called")

    @hookspec
    def dafxhost_encoders(self) -> Iterable[EncoderSpec]:
        """Audio encoders this package adds."""
        raise RegistryError("a hook specification is not to be called")

    @hookspec
    def dafxhost_estimators(self) -> Iterable[EstimatorSpec]:
        """Gradient estimators this package adds."""
        raise RegistryError("a hook specification is not to be called")

    @hookspec
    def dafxhost_trackers(self) -> Iterable[TrackerSpec]:
        """Trackers of trainings this package adds."""
        raise RegistryError("a hook specification is not to be called")

    @hookspec(firstresult=True)
    def dafxhost_effect_at(self, location: str, provider: str | None) -> Any:
        """The `Effect` of a plugin file or URI that is no registered name, or None: not ours to load."""
        raise RegistryError("a hook specification is not to be called")

    @hookspec(firstresult=True)
    def dafxhost_presets(self, effect: Effect) -> Any:
        """Writers of files that a DAW loads, {suffix: `write(effect, setting [P], path)`}, or None: not ours.

        A writer makes the file or folder, or raises PluginError or OutputError; `dafxhost.presets` has
        checked its arguments.
        """
        raise RegistryError("a hook specification is not to be called")

    @hookspec(firstresult=True)
    def dafxhost_neutral(self, effect: Effect) -> Any:
        """Native values by name at which the effect leaves audio alone, whatever its other parameters are, or
        None: not known."""
        raise RegistryError("a hook specification is not to be called")

    @hookspec(firstresult=True)
    def dafxhost_factory_presets(self, effect: Effect) -> Any:
        """Presets that come with the effect's plugin, {preset: {parameter: native value}}, or None: not
        known."""
        raise RegistryError("a hook specification is not to be called")


HOOKS = {
    "effect": "dafxhost_effects",
    "encoder": "dafxhost_encoders",
    "estimator": "dafxhost_estimators",
    "tracker": "dafxhost_trackers",
}
SPEC_CLASSES: dict[str, type[Spec]] = {
    "effect": EffectSpec,
    "encoder": EncoderSpec,
    "estimator": EstimatorSpec,
    "tracker": TrackerSpec,
}
OTHER_HOOKS = {"dafxhost_effect_at", "dafxhost_presets", "dafxhost_neutral", "dafxhost_factory_presets"}


@dataclass(frozen=True)
class Entry:
    """One spec and where it came from."""

    spec: Spec
    distribution: str
    version: str

    @property
    def kind(self) -> str:
        return self.spec.kind


@dataclass(frozen=True)
class Broken:
    """A package, hook or spec that could not be used, and why."""

    entry_point: str
    distribution: str
    version: str
    reason: str


def _reason(error: BaseException) -> str:
    """An exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def load_attribute(target: str, what: str) -> Any:
    """ "module:attribute" -> the attribute. Raises RegistryError naming `what` asked for it."""
    module_name, _, attribute = target.partition(":")
    try:
        value: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            value = getattr(value, part)
    except (Exception, SystemExit) as error:
        raise RegistryError(f"{what} names {target!r}, which cannot be loaded: {_reason(error)}") from error
    return value


class Registry:
    """All entries found, and all that were found broken.

    Args:
        entry_points: mostly for tests; by default those of the group "dafxhost" of this environment.
    """

    def __init__(self, entry_points: Iterable[importlib.metadata.EntryPoint] | None = None) -> None:
        self.entries: list[Entry] = []
        self.broken: list[Broken] = []
        self._manager = manager = pluggy.PluginManager(GROUP)
        manager.add_hookspecs(Hooks)
        found = importlib.metadata.entry_points(group=GROUP) if entry_points is None else entry_points
        for point in sorted(found, key=lambda p: (_origin(p), p.name)):
            self._add(manager, point)

    def _add(self, manager: pluggy.PluginManager, point: importlib.metadata.EntryPoint) -> None:
        distribution, version = _origin(point)

        def broken(reason: str) -> None:
            self.broken.append(Broken(point.name, distribution, version, reason))

        # Somebody else's code may raise anything at import or in a hook, even SystemExit; it must take down
        # nothing but itself.
        try:
            plugin = point.load()
            # The name carries the distribution: two packages may choose the same entry point name.
            manager.register(plugin, name=f"{distribution}:{point.name}")
            known = {*HOOKS.values(), *OTHER_HOOKS}
            problems = [
                h
                for h in dir(plugin)
                if h.startswith("dafxhost_")
                and h not in known
                and getattr(getattr(plugin, h), "dafxhost_impl", None)
            ]
            if problems:
                broken(
                    f"implements unknown hooks {', '.join(problems)}; there are {', '.join(sorted(known))}"
                )
        except (Exception, SystemExit) as error:  # noqa: BLE001
            broken(_reason(error))
            return
        for kind, hook in HOOKS.items():
            function = getattr(plugin, hook, None)
            if function is None:
                continue
            try:
                specs = list(function())
            except (Exception, SystemExit) as error:  # noqa: BLE001
                broken(f"{hook} raised {_reason(error)}")
                continue
            for spec in specs:
                if not isinstance(spec, SPEC_CLASSES[kind]):
                    broken(f"{hook} gave {spec!r}, which is no {SPEC_CLASSES[kind].__name__}")
                elif not (isinstance(spec.name, str) and spec.name and isinstance(spec.factory, str)):
                    broken(f"{hook} gave {spec!r}, whose name or factory is no text")
                else:
                    self.entries.append(Entry(spec, distribution, version))

    def effect_at(self, location: str, provider: str | None = None) -> Any:
        """What the first package that can load this plugin file or URI makes of it, or None."""
        return self._manager.hook.dafxhost_effect_at(location=location, provider=provider)

    def presets(self, effect: Effect) -> dict[str, Callable[..., None]]:
        """Who writes which kind of preset of this effect, by suffix; empty where nobody does."""
        return dict(self._manager.hook.dafxhost_presets(effect=effect) or {})

    def neutral(self, effect: Effect) -> dict[str, Any] | None:
        """Native values by name at which the effect leaves audio alone; None where nobody knows them."""
        return self._manager.hook.dafxhost_neutral(effect=effect)

    def factory_presets(self, effect: Effect) -> dict[str, dict[str, Any]] | None:
        """Presets that come with the plugin, {preset: {parameter: native value}}; None where nobody can
        tell."""
        return self._manager.hook.dafxhost_factory_presets(effect=effect)

    def names(self, kind: str) -> list[str]:
        """Sorted names of one kind ("effect", "encoder", "estimator", "tracker")."""
        return sorted({e.spec.name for e in self.entries if e.kind == kind})

    def find(self, kind: str, name: str) -> Spec:
        """The spec of that name.

        Raises:
            UnknownNameError: with near misses and all names, and what is broken.
            RegistryError: two distributions offer it.
        """
        hits = [e for e in self.entries if e.kind == kind and e.spec.name == name]
        if len(hits) > 1:
            sources = sorted({f"{e.distribution} {e.version}" for e in hits})
            remedy = "; uninstall one of them" if len(sources) > 1 else " twice; that is a fault in it"
            raise RegistryError(f"{kind} {name!r} is offered by " + " and by ".join(sources) + remedy)
        if not hits:
            hint = (
                "Broken: " + "; ".join(f"{b.distribution}: {b.reason}" for b in self.broken)
                if self.broken
                else ""
            )
            raise UnknownNameError(kind, name, self.names(kind), hint)
        return hits[0].spec


def _origin(point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    dist = getattr(point, "dist", None)
    return (dist.name, dist.version) if dist is not None else (point.value, "")


@cache
def registry() -> Registry:
    """The registry of this environment, read once a process."""
    return Registry()


def effect(name: str, provider: str | None = None) -> Effect:
    """The effect of that name, served by the best provider found here, or by the one asked for.

    What is no registered name may be the path of a plugin file or a URI, if a package can load such, or a
    chain of effects: "a > b", or the path of its TOML file (see `dafxhost.chains`). Links of a chain that
    name no provider get the one asked for.

    Raises:
        UsageError: a chain that cannot be read.
        UnknownNameError: no such effect, or no such provider of it.
        EffectUnavailableError: nothing on this machine can host it; says what to install.
        RegistryError: the package that offers it is broken.
    """
    from dafxhost.effects import Effect

    made = None
    if name not in registry().names("effect"):
        from dafxhost import chains

        if chains.is_chain(name):
            made = chains.chain_effect(name, provider)
        else:
            made = registry().effect_at(name, provider)
    if made is None:
        made = _make("effect", name, provider=provider)
    if not isinstance(made, Effect):
        raise RegistryError(f"effect {name!r}: its factory gave {type(made).__name__}, which is no Effect")
    return made


def encoder(name: str, **options: Any) -> Any:
    """A new encoder of that name (a torch module). Raises like `effect`."""
    return _make("encoder", name, **options)


def estimator(name: str, **options: Any) -> Any:
    """A new gradient estimator of that name. Raises like `effect`."""
    return _make("estimator", name, **options)


def tracker(name: str) -> Tracker:
    """A new tracker of that name, not started. Raises like `effect`."""
    from dafxhost.tracking import Tracker

    made = _make("tracker", name)
    if not isinstance(made, Tracker):
        raise RegistryError(f"tracker {name!r}: its factory gave {type(made).__name__}, which is no Tracker")
    return made


def _make(kind: str, name: str, **options: Any) -> Any:
    factory: Callable[..., Any] = registry().find(kind, name).load()
    try:
        return factory(**options)
    except DafxhostError:
        raise
    except Exception as error:
        raise RegistryError(f"{kind} {name!r} could not be made: {_reason(error)}") from error
