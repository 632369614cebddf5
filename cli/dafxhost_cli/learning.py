"""dafxhost train, evaluate, pretrain."""

from __future__ import annotations


def train() -> None:
    """Train a controller."""


def evaluate() -> None:
    """Evaluate."""


def pretrain() -> None:
    """Pretrain."""
