"""What conformance checks found."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Status = Literal["passed", "failed", "skipped"]


class Failed(Exception):
    """A check found something wrong; the text is one sentence."""


class Skipped(Exception):
    """A check does not apply, or cannot tell; the text says why."""


@dataclass(frozen=True)
class Check:
    """One check's outcome.

    Attributes:
        name: as `check_names` lists it.
        status: "passed", "failed" or "skipped".
        text: what was found, one sentence; never empty for what did not pass.
    """

    name: str
    status: Status
    text: str = ""

    def __str__(self) -> str:
        return f"{self.status:8}{self.name}" + (f": {self.text}" if self.text else "")


@dataclass(frozen=True)
class Report:
    """All checks of one effect, encoder or estimator.

    Attributes:
        kind: "effect", "encoder" or "estimator".
        name: of what was checked. provider: what served the effect, "" for other kinds.
        checks: in the order in which they ran.
    """

    kind: str
    name: str
    provider: str
    checks: tuple[Check, ...]

    @property
    def conformant(self) -> bool:
        """Whether no check failed."""
        return not self.failed

    @property
    def passed(self) -> list[Check]:
        return [c for c in self.checks if c.status == "passed"]

    @property
    def failed(self) -> list[Check]:
        return [c for c in self.checks if c.status == "failed"]

    @property
    def skipped(self) -> list[Check]:
        return [c for c in self.checks if c.status == "skipped"]

    def check(self, name: str) -> Check:
        """The outcome of that check. Raises KeyError."""
        return {c.name: c for c in self.checks}[name]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "checks": [asdict(c) for c in self.checks], "conformant": self.conformant}

    def __str__(self) -> str:
        served = f" by {self.provider}" if self.provider else ""
        head = (
            f"{self.kind} {self.name}{served}: {len(self.passed)} passed, {len(self.failed)} failed, "
            f"{len(self.skipped)} skipped"
        )
        return "\n".join([head, *(f"  {c}" for c in self.checks)])
