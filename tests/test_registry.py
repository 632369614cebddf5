"""Finding effects by entry point: ours, anybody's, and broken ones."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import types

import pytest

from dafxhost import registry as reg
from dafxhost.effects import Effect, Provider
from dafxhost.errors import RegistryError, UnknownNameError
from dafxhost.registry import EffectSpec, EncoderSpec, Registry, hookimpl


class _Distribution:
    def __init__(self, name: str, version: str) -> None:
        self.name, self.version = name, version


class _Point:
    """An entry point with a distribution, without files on disk."""

    def __init__(self, distribution: str, name: str, load) -> None:
        self.dist = _Distribution(distribution, "1.0")
        self.name, self.value, self._load = name, "module", load

    def load(self):
        return self._load()


def _module(**hooks) -> types.ModuleType:
    module = types.ModuleType("made_by_a_test")
    for name, function in hooks.items():
        setattr(module, name, function)
    return module


def _offering(*specs):
    @hookimpl
    def dafxhost_effects():
        return list(specs)

    return _module(dafxhost_effects=dafxhost_effects)


def _registry(*points) -> Registry:
    return Registry(points)  # type: ignore[arg-type]


def _raise(error: BaseException):
    raise error


GAIN = EffectSpec("gain", "nowhere:make", "A gain.")


def test_two_distributions_may_use_one_entry_point_name() -> None:
    found = _registry(
        _Point("a", "effects", lambda: _offering(GAIN)),
        _Point("b", "effects", lambda: _offering(EffectSpec("delay", "x:y"))),
    )
    assert found.names("effect") == ["delay", "gain"] and not found.broken
    assert {(e.distribution, e.version) for e in found.entries} == {("a", "1.0"), ("b", "1.0")}


def test_one_name_from_two_distributions_names_both_and_hurts_nothing_else() -> None:
    found = _registry(
        _Point("a", "x", lambda: _offering(GAIN)),
        _Point("b", "y", lambda: _offering(GAIN, EffectSpec("delay", "x:y"))),
    )
    with pytest.raises(RegistryError, match=r"gain.* offered by a 1\.0 and by b 1\.0"):
        found.find("effect", "gain")
    assert found.find("effect", "delay").factory == "x:y"


def test_one_name_twice_from_one_distribution() -> None:
    with pytest.raises(RegistryError, match=r"offered by a 1\.0 twice"):
        _registry(_Point("a", "x", lambda: _offering(GAIN, GAIN))).find("effect", "gain")


@pytest.mark.parametrize(
    ("load", "reason"),
    [
        (lambda: _raise(ImportError("no module named scikits")), "ImportError: no module named scikits"),
        (lambda: _raise(SystemExit("licence expired")), "SystemExit: licence expired"),
        (lambda: _module(dafxhost_effects=hookimpl(lambda: 1 / 0)), "raised ZeroDivisionError"),
        (lambda: _module(dafxhost_effects=hookimpl(lambda: _raise(SystemExit(3)))), "raised SystemExit: 3"),
        (lambda: _module(dafxhost_effects=hookimpl(lambda: None)), "raised TypeError"),
        (lambda: _offering("gain"), "which is no EffectSpec"),
        (lambda: _offering(EncoderSpec("gain", "x:y")), "which is no EffectSpec"),
        (lambda: _offering(EffectSpec(None, "x:y")), "name or factory is no text"),  # type: ignore[arg-type]
        (lambda: _module(dafxhost_effects=hookimpl(lambda count: [])), "can not be found in the hookspec"),
        (lambda: _module(dafxhost_efects=hookimpl(lambda: [])), "unknown hooks dafxhost_efects"),  # noqa: PIE807
    ],
)
def test_a_broken_package_is_listed_with_its_reason_and_stops_nothing(load, reason: str) -> None:
    found = _registry(_Point("bad", "x", load), _Point("good", "x", lambda: _offering(GAIN)))
    assert found.names("effect") == ["gain"]
    [broken] = found.broken
    assert reason in broken.reason and "\n" not in broken.reason
    assert (broken.distribution, broken.version, broken.entry_point) == ("bad", "1.0", "x")


def test_an_unknown_name_says_what_was_meant_what_there_is_and_what_is_broken() -> None:
    found = _registry(
        _Point("bad", "x", lambda: _raise(ImportError("no torch"))),
        _Point("good", "x", lambda: _offering(GAIN, EffectSpec("mda-combo", "x:y"))),
    )
    with pytest.raises(
        UnknownNameError, match=r"did you mean mda-combo.*gain.*bad: ImportError: no torch"
    ) as info:
        found.find("effect", "mda-conbo")
    assert info.value.exit_code == 2
    with pytest.raises(UnknownNameError, match="Known encoders: none"):
        found.find("encoder", "gain")


@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        ("no_such_module_here:make", "ModuleNotFoundError"),
        ("dafxhost.effects:nothing", "has no attribute"),
        ("dafxhost.effects", "has no attribute"),
        ("dafxhost.effects:Effect", "could not be made: TypeError"),
        ("builtins:dict", "gave dict, which is no Effect"),
    ],
)
def test_a_factory_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, factory: str, reason: str) -> None:
    found = _registry(_Point("a", "x", lambda: _offering(EffectSpec("gain", factory))))
    monkeypatch.setattr(reg, "registry", lambda: found)
    with pytest.raises(RegistryError, match=reason) as info:
        reg.effect("gain")
    assert "'gain'" in str(info.value) and info.value.exit_code == 1


def test_an_effect_is_made_with_the_provider_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("made_by_a_test_too")
    module.make = lambda provider=None: Effect("gain", (), Provider(provider or "best", "m:c"))  # type: ignore[attr-defined]
    module.which = lambda name: f"best for {name}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    spec = EffectSpec("gain", "made_by_a_test_too:make", provider="made_by_a_test_too:which")
    found = _registry(_Point("a", "x", lambda: _offering(spec)))
    monkeypatch.setattr(reg, "registry", lambda: found)
    assert reg.effect("gain").provider.name == "best"
    assert reg.effect("gain", provider="lv2").provider.name == "lv2"
    assert spec.provider_text() == "best for gain" and GAIN.provider_text() == ""


def test_the_built_ins_come_in_by_the_same_door() -> None:
    points = [
        p for p in importlib.metadata.entry_points(group="dafxhost") if p.dist and p.dist.name == "dafxhost"
    ]
    assert {p.name for p in points} >= {"effects", "encoders", "estimators"}
    found = reg.registry()
    assert not [b for b in found.broken if b.distribution == "dafxhost"]
    for kind, name in (("effect", "mda-combo"), ("encoder", "spectrogram-vae"), ("estimator", "spsa")):
        assert name in found.names(kind)
    for entry in found.entries:
        assert entry.spec.summary, f"{entry.spec.name} has no summary"


def test_reading_the_registry_imports_neither_torch_nor_a_plugin_host() -> None:
    code = (
        "import sys, dafxhost.registry as r; n = len(r.registry().entries);"
        "[e.spec.provider_text() for e in r.registry().entries];"
        "print(n, [m for m in ('torch', 'pedalboard', 'dawdreamer', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    count, _, heavy = out.strip().partition(" ")
    assert int(count) > 0 and heavy == "[]"
