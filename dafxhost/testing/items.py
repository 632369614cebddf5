"""Conformance as pytest items: one item a check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from dafxhost.errors import DafxhostError
from dafxhost.testing import pytest_plugin
from dafxhost.testing.suites import check_names, open_session, run_check, selected


def conformance(
    subject: Any,
    *,
    kind: str = "effect",
    only: Sequence[str] | None = None,
    skip: Mapping[str, str] | None = None,
    **options: Any,
) -> Callable[[str], None]:
    """A test function with one pytest item a check::

        test_conformance = conformance("my-effect", neutral={"mix": 0})

    Nothing is looked up or loaded before the first item runs. Items of one function share their workers,
    which end when items of another begin.

    Args:
        subject: a registered name, an `Effect`, or a function that makes the effect, encoder or estimator.
        kind: "effect", "encoder" or "estimator".
        only, skip, options: see `check_effect`.

    Raises:
        UnknownNameError: no such kind or check. UsageError: a check is skipped without a reason.
    """
    names = selected(kind, only, skip)
    key, first = object(), check_names(kind)[0]
    unusable: list[str] = []

    @pytest.mark.parametrize("check", names)
    def test(check: str) -> None:
        __tracebackhide__ = True
        if unusable:
            pytest.skip(unusable[0])
        try:
            session = pytest_plugin.session(key, lambda: open_session(subject, kind=kind, **options))
        except DafxhostError as error:
            unusable.append("it cannot be made")
            pytest.fail(str(error), pytrace=False)
        outcome = run_check(session, check, skip)
        pytest_plugin.note(f"{kind} {session.name}", outcome)
        if outcome.status == "failed":
            if check == first:
                unusable.append(f"it failed the check {first!r}")
            pytest.fail(f"{kind} {session.name}: {outcome.text}", pytrace=False)
        if outcome.status == "skipped":
            pytest.skip(outcome.text)

    return test
