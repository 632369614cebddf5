"""The packages that only the analysis needs."""

from __future__ import annotations

import importlib.util

from dafxhost.errors import UsageError

NEEDED = {"matplotlib": "matplotlib", "sklearn": "scikit-learn"}
HINT = 'pip install "dafxhost[analysis]"'


def missing(modules: dict[str, str] = NEEDED) -> list[str]:
    """Distribution names of those modules that are not installed. Imports none of them."""
    return [package for module, package in modules.items() if importlib.util.find_spec(module) is None]


def require() -> None:
    """Raise UsageError naming what is missing, before anything is computed."""
    lacking = missing()
    if lacking:
        raise UsageError(f"the analysis needs {' and '.join(lacking)}; install with: {HINT}")


def umap_missing() -> str:
    """Why there can be no UMAP, as a sentence; "" if there can."""
    return f"UMAP is left out: umap-learn is missing; install with: {HINT}" if missing({"umap": ""}) else ""
