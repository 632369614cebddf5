"""What is said where a tracker's package is not installed."""

from __future__ import annotations

from dafxhost.errors import DafxhostError, RegistryError


def missing(tracker: str, extra: str, error: ImportError) -> DafxhostError:
    """The error of a tracker whose package cannot be imported."""
    return RegistryError(
        f"tracker {tracker!r} needs a package that is not installed ({error}); "
        f'install it: pip install "dafxhost[{extra}]"'
    )
