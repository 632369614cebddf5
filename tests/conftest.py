"""Settings shared by all tests."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    """Two OpenMP threads beside the plugin workers on a 2-core machine slow small operations many times."""
    import torch

    torch.set_num_threads(1)
