"""The kinds of examples: which clips an example needs, and what its input, reference and target are.

- "ab" (Grant 2023): the halves A and B of one clip and one setting. Input A dry, reference B wet, target A
  wet. The reference shares no moment with the input, as in use.
- "two-settings" (the weekly reports): one clip and two settings. The input is the clip at the first setting,
  reference and target are the clip at the second. The effect at the second setting on such an input does not
  give the target to the sample, since the input is wet already: the setting is a label, not an answer.
- "parallel": one clip and one setting. The input is dry, reference and target are wet: input and reference
  are the same performance.
"""

from __future__ import annotations

from dataclasses import dataclass

from dafxhost.errors import UnknownNameError


@dataclass(frozen=True)
class PairKind:
    """One kind of example.

    Attributes:
        name: "ab", "two-settings" or "parallel".
        rows: dry clips an example (2: two halves of one excerpt).
        columns: settings an example.
        input_column: setting at which the input is, or -1: dry. The input is clip 0, as is the target.
        reference_row: clip that the reference is made of.
    """

    name: str
    rows: int
    columns: int
    input_column: int
    reference_row: int

    @property
    def target_column(self) -> int:
        """Setting of reference and target: the last."""
        return self.columns - 1

    @property
    def renders(self) -> int:
        """Renders an example, if nothing is refused."""
        return self.rows * self.columns


KINDS = {
    kind.name: kind
    for kind in (
        PairKind("ab", rows=2, columns=1, input_column=-1, reference_row=1),
        PairKind("two-settings", rows=1, columns=2, input_column=0, reference_row=0),
        PairKind("parallel", rows=1, columns=1, input_column=-1, reference_row=0),
    )
}


def pair_kind(name: str) -> PairKind:
    """The kind of that name. Raises UnknownNameError."""
    if name not in KINDS:
        raise UnknownNameError("kind of pairs", name, KINDS)
    return KINDS[name]
