"""Running conformance checks: one function for each kind of thing that a package can add."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dafxhost.errors import DafxhostError, RepeatabilityWarning, UnknownNameError, UsageError
from dafxhost.testing.report import Check, Failed, Report, Skipped

KINDS = ("effect", "encoder", "estimator")

# Names are known before anything is imported, since pytest collects before it runs.
NAMES = {
    "effect": (
        "loads",
        "parameters",
        "ranges",
        "discrete",
        "resets",
        "determinism",
        "latency",
        "silence",
        "sample-rates",
        "channels",
        "lengths",
        "denormals",
        "streaming",
        "live-parameters",
    ),
    "encoder": (
        "embeds",
        "deterministic",
        "batch",
        "lengths",
        "sample-rates",
        "silence",
        "bad-audio",
        "saved",
    ),
    "estimator": ("plans", "repeatable", "linear", "unbiased", "bounds", "failed-renders", "bad-settings"),
}


class Session(Protocol):
    """What is being checked, with all that its checks share."""

    kind: str
    name: str
    provider: str

    def close(self) -> None: ...


def check_names(kind: str = "effect") -> tuple[str, ...]:
    """Names of the checks of one kind, in the order in which they run. Raises UnknownNameError."""
    if kind not in NAMES:
        raise UnknownNameError("kind of conformance", kind, KINDS)
    return NAMES[kind]


def open_session(subject: Any, *, kind: str = "effect", **options: Any) -> Session:
    """What is named, ready to be checked.

    Args:
        subject: a registered name, an `Effect`, a callable that makes it, or (other kinds) a function that
            makes a new encoder or estimator.
        options: of the kind's session; of an effect also `provider`, of the others `make`, the options of
            the factory.

    Raises:
        DafxhostError: it cannot be made.
    """
    check_names(kind)
    if kind == "effect":
        from dafxhost.effects import Effect
        from dafxhost.registry import effect
        from dafxhost.testing.session import EffectSession

        provider = options.pop("provider", None)
        made = effect(subject, provider) if isinstance(subject, str) else subject
        if not isinstance(made, Effect) and callable(made):
            made = made()
        if not isinstance(made, Effect):
            raise UsageError(f"an effect is checked by its name or as an Effect, not {type(made).__name__}")
        return EffectSession(made, **options)
    module = importlib.import_module(f"dafxhost.testing.{kind}_checks")
    return module.open_session(subject, **options)


def run_check(session: Session, name: str, reasons: Mapping[str, str] | None = None) -> Check:
    """One check, whatever comes of it. `reasons` are the checks to leave out, and why."""
    if reasons and name in reasons:
        return Check(name, "skipped", reasons[name])
    check = _checks(session.kind)[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RepeatabilityWarning)  # checks ask the executor themselves
        try:
            return Check(name, "passed", check(session) or "")
        except Skipped as reason:
            return Check(name, "skipped", str(reason))
        except (Failed, DafxhostError) as error:
            return Check(name, "failed", " ".join(str(error).split()))


def _checks(kind: str) -> dict[str, Callable[[Any], str]]:
    return importlib.import_module(f"dafxhost.testing.{kind}_checks").CHECKS


def selected(kind: str, only: Sequence[str] | None, skip: Mapping[str, str] | None) -> list[str]:
    """Names of the checks to run. Raises UnknownNameError for one that there is not; UsageError."""
    names = check_names(kind)
    for name in (*(only or ()), *(skip or ())):
        if name not in names:
            raise UnknownNameError("conformance check", name, names)
    if skip and not all(skip.values()):
        raise UsageError("skip maps a check to the reason why it is left out; a reason is empty")
    return [n for n in names if only is None or n in only]


def _run(
    subject: Any,
    kind: str,
    only: Sequence[str] | None,
    skip: Mapping[str, str] | None,
    options: dict[str, Any],
) -> Report:
    names = selected(kind, only, skip)
    session = open_session(subject, kind=kind, **options)
    try:
        done: list[Check] = []
        for name in names:
            first = check_names(kind)[0]
            if done and done[0].name == first and done[0].status == "failed":
                done.append(Check(name, "skipped", f"it failed the check {first!r}"))
            else:
                done.append(run_check(session, name, skip))
        return Report(kind, session.name, session.provider, tuple(done))
    finally:
        session.close()


def check_effect(
    effect: Any,
    *,
    provider: str | None = None,
    only: Sequence[str] | None = None,
    skip: Mapping[str, str] | None = None,
    **options: Any,
) -> Report:
    """Render an effect in every way that dafxhost may, in worker processes.

    Args:
        effect: a registered name, or an `Effect`. provider: instead of the preferred one, for a name.
        only: names of checks, all by default (`check_names()`).
        skip: checks to leave out, each with the reason, which the report repeats.
        options: of `dafxhost.testing.session.EffectSession`: rates (Hz), longest and seconds (s), neutral
            (native values by name with which an impulse passes unchanged), deadline (s), seed.

    Raises:
        UnknownNameError, EffectUnavailableError, RegistryError: no such effect here, or no such check.
        UsageError: an option out of range.
    """
    return _run(effect, "effect", only, skip, {"provider": provider, **options})


def check_encoder(
    encoder: Any, *, only: Sequence[str] | None = None, skip: Mapping[str, str] | None = None, **options: Any
) -> Report:
    """Check an encoder: a registered name (made with `options`), or a function that makes one."""
    return _run(encoder, "encoder", only, skip, options)


def check_estimator(
    estimator: Any,
    *,
    only: Sequence[str] | None = None,
    skip: Mapping[str, str] | None = None,
    **options: Any,
) -> Report:
    """Check a gradient estimator: a registered name (made with `options`), or a function that makes one."""
    return _run(estimator, "estimator", only, skip, options)


def assert_conformant(subject: Any, *, kind: str = "effect", **options: Any) -> Report:
    """As `check_effect`, `check_encoder` or `check_estimator`, but raise AssertionError if a check fails."""
    check_names(kind)
    report = {"effect": check_effect, "encoder": check_encoder, "estimator": check_estimator}[kind](
        subject, **options
    )
    if not report.conformant:
        lines = [f"{kind} {report.name} is not conformant:", *(f"  {c}" for c in report.failed)]
        raise AssertionError("\n".join(lines))
    return report
