"""Conformance checks for effects, encoders and gradient estimators, for tests of packages that add them.

::

    from dafxhost.testing import assert_conformant, check_effect, conformance

    test_conformance = conformance("my-effect")  # pytest: one item a check
    assert_conformant("my-effect")  # any other test tool
    print(check_effect("my-effect"))  # a report to look at

Importing this package is cheap: pytest, numpy and torch are imported only by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dafxhost.testing.items import conformance as conformance
    from dafxhost.testing.report import Check as Check
    from dafxhost.testing.report import Report as Report
    from dafxhost.testing.suites import assert_conformant as assert_conformant
    from dafxhost.testing.suites import check_effect as check_effect
    from dafxhost.testing.suites import check_encoder as check_encoder
    from dafxhost.testing.suites import check_estimator as check_estimator
    from dafxhost.testing.suites import check_names as check_names

_WHERE = {
    "Check": "dafxhost.testing.report",
    "Report": "dafxhost.testing.report",
    "assert_conformant": "dafxhost.testing.suites",
    "check_effect": "dafxhost.testing.suites",
    "check_encoder": "dafxhost.testing.suites",
    "check_estimator": "dafxhost.testing.suites",
    "check_names": "dafxhost.testing.suites",
    "conformance": "dafxhost.testing.items",
}
__all__ = [*sorted(_WHERE)]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'dafxhost.testing' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
