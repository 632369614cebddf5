"""Settings shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest

from browser import chromium, page  # noqa: F401  (fixtures)
from command_line import call  # noqa: F401  (a fixture)
from dafxhost.execution.instance import FloatingPoint
from executor_backends import make_executor, needs_ray, ray_cluster  # noqa: F401  (fixtures)


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    """Two OpenMP threads beside the plugin workers on a 2-core machine slow small operations many times."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _denormals_stay() -> Iterator[None]:
    """What renders flushes denormals to zero; in this process that would falsify the tests that follow."""
    yield
    if np.float32(1e-39) * np.float32(1.0) == 0:
        FloatingPoint().restore(False)
        pytest.fail("this test left flush-to-zero set in the tests' own process")


SLOW = pytest.mark.skip(reason="for CI's time: DAFXHOST_TEST_ALL=1 runs it, too")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if needs_ray(item):
            item.add_marker(pytest.mark.ray)
    items.sort(key=needs_ray)  # last: its daemons are children of the tests' process
    if os.environ.get("DAFXHOST_TEST_ALL"):
        return
    for item in items:
        slow = item.get_closest_marker("slow") and not item.get_closest_marker("not_slow")
        if slow or (needs_ray(item) and item.get_closest_marker("slow_on_ray")):
            item.add_marker(SLOW)
