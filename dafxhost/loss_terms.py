"""How a config writes a sum of losses: "mr-stft + 0.5 modulation + embedding:pretrained". No torch."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from dafxhost.errors import UsageError

TERMS = ("mr-stft", "magnitude", "modulation", "echo", "embedding", "embedding:ENCODER")
"""What a loss can be the sum of; "embedding" alone is that of style-statistics."""
_ENCODER = "style-statistics"
_TERM = re.compile(r"(?:(?P<weight>[^\s*]+?)\s*[\s*]\s*)?(?P<name>[a-z][\w-]*)(?::(?P<of>[\w.-]+))?")


@dataclass(frozen=True)
class Term:
    """A term of a sum: its name, its weight (above 0), and the encoder's name where it needs one."""

    name: str
    weight: float = 1.0
    encoder: str = ""


def parse_loss(text: str) -> tuple[Term, ...]:
    """Terms of "mr-stft + 0.5 modulation": names with weights before them, joined by "+".

    Raises:
        UsageError: an empty or unknown term, one that comes twice, or a weight that is no number above 0.
    """
    terms = [_term(part.strip(), text) for part in text.split("+")]
    names = [(term.name, term.encoder) for term in terms]
    if len(set(names)) < len(names):
        raise UsageError(f"loss {text!r} names a term twice; add up its weights")
    return tuple(terms)


def _term(part: str, text: str) -> Term:
    match = _TERM.fullmatch(part)
    if match is None:
        raise UsageError(f'loss {text!r}: {part!r} is no term; write for instance "mr-stft + 0.5 modulation"')
    name, encoder = match["name"], match["of"] or ""
    known = [term for term in TERMS if ":" not in term]
    if name not in known:
        raise UsageError(f"loss {text!r}: there is no term {name!r}; there are {', '.join(TERMS)}")
    if encoder and name != "embedding":
        raise UsageError(f"loss {text!r}: {name} takes no encoder; only embedding:ENCODER does")
    try:
        weight = float(match["weight"] or 1.0)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise UsageError(
            f"loss {text!r}: the weight of {name} must be a number above 0, not {match['weight']}"
        )
    return Term(name, weight, encoder or (_ENCODER if name == "embedding" else ""))
