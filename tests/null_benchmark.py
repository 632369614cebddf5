"""The null test of benchmarks/, which is in no package, for tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _null_benchmark() -> ModuleType:
    """benchmarks/null.py, which is in no package."""
    path = Path(__file__).parents[1] / "benchmarks" / "null.py"
    spec = importlib.util.spec_from_file_location("null", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["null"] = module
    spec.loader.exec_module(module)
    return module


null_test = _null_benchmark()
