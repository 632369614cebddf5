"""Where effects leave audio alone."""

from __future__ import annotations


def values(effect):
    return None
