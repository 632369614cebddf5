"""Settings shared by all tests."""

from __future__ import annotations

import pytest

from executor_backends import make_executor, needs_ray, ray_cluster  # noqa: F401  (fixtures)


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    """Two OpenMP threads beside the plugin workers on a 2-core machine slow small operations many times."""
    import torch

    torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=needs_ray)
