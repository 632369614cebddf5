"""What a setting's steady filter looks like, whatever is played through it.

A filter that does not move adds the logarithm of its response to the logarithm of every spectrum, and so the
cepstrum of its response to the mean cepstrum of every recording (Bogert, Healy and Tukey 1963). What it adds,
its signature, is measured on noise. A room of some size has hundreds of weak reflections, none of which can
be seen in a recording by itself; the inner product with the signature of the right size sees all of them
(the matched filter: Turin, IRE Transactions on Information Theory 6, 1960). So parameters whose
smallest moves change the signature altogether, of which features that generalise say least, are found best.

For each such parameter a table of signatures is kept, over its range. Nothing is rendered at an answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor, nn

SLOTS = 2
"""Parameters, at most."""
GRID = 768
"""Values of a parameter."""
RANGES = 8
"""Of lags, in each of which it is measured how strong a signature is."""
INPUTS = SLOTS * (RANGES + 3)
"""Numbers that a controller is given."""

_BANDS = 32
_LEAST = 24  # first lag, samples
_TALLEST, _SPREAD = 4.0, 20.0
_NEAR = 2.0 / GRID
_BASES, _TRIED, _STEP = 12, 4, 0.01
_ALIKE = 0.7
_MOST_EXAMPLES, _LEAST_SHARE = 1500, 0.1
_TOGETHER = 64


class Signatures(nn.Module):
    """Tables of signatures of M parameters.

    Attributes:
        main: `[M]`, the parameters. table: `[M, GRID, L]`, int8, times unit `[M, L]` the signatures, L lags,
            at values in the middle of GRID steps of the parameter from 0 to 1.
        threshold: `[M]`, evidence from which on it decides: where half of what lies just above is right.
    """

    main: Tensor
    table: Tensor
    unit: Tensor
    threshold: Tensor

    def __init__(self, count: int, lags: int) -> None:
        super().__init__()
        self.register_buffer("main", torch.zeros(count, dtype=torch.long))
        self.register_buffer("table", torch.zeros(count, GRID, lags, dtype=torch.int8))
        self.register_buffer("unit", torch.zeros(count, lags))
        self.register_buffer("threshold", torch.zeros(count))

    def __len__(self) -> int:
        return len(self.main)

    @torch.no_grad()
    def weigh(self, cepstra: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean cepstra `[B, L]` of references -> values `[B, M]` whose signatures they hold most likely.

        Also the evidence for each, `[B, M]`: the logarithm of how much likelier the cepstrum is with that
        signature, of whatever strength, than without any; and the strengths in ranges of lags,
        `[B, M, RANGES]`, about 1 where it is as strong as on noise.
        """
        found = [
            match(cepstra, self.table[m] * self.unit[m], log_edges(cepstra.shape[1], RANGES))
            for m in range(len(self))
        ]
        values, evidence, strengths = (torch.stack(part, dim=1) for part in zip(*found, strict=True))
        return values, evidence, strengths

    def inputs(self, cepstra: Tensor) -> Tensor:
        """`[B, L]` -> what a controller is told of it, `[B, INPUTS]`, 0 for parameters there are not."""
        values, evidence, strengths = self.weigh(cepstra)
        sure = (evidence >= self.threshold)[..., None]
        parts = [2 * values[..., None] - 1, strengths.clamp(-_TALLEST, _TALLEST)]
        known = torch.cat([sure.to(values), *(part * sure for part in parts)], dim=2)
        all_ = torch.cat([known, (evidence[..., None] / _SPREAD).clamp(max=_TALLEST)], dim=2).flatten(1)
        return nn.functional.pad(all_, (0, INPUTS - all_.shape[1]))

    def locate(self, cepstra: Tensor, settings: Tensor) -> tuple[Tensor, Tensor]:
        """Settings `[B, P]` with what mean cepstra `[B, L]` tell for sure, and `[B, P]` bool: what it is."""
        values, evidence, _ = self.weigh(cepstra)
        said, put = settings.clone(), torch.zeros_like(settings, dtype=torch.bool)
        said[:, self.main], put[:, self.main] = values.to(settings), evidence >= self.threshold
        return torch.where(put, said, settings), put


def match(cepstra: Tensor, signatures: Tensor, edges: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Which of the signatures `[GRID, L]` cepstra `[B, L]` hold: value `[B]`, evidence, strengths `[B, R]`.

    With noise of a variance that each cepstrum itself shows, and any strength above 0, the evidence is half
    the square of the inner product over that of the signature by itself. Edges are of R ranges of lags.
    """
    deviation = _deviations(cepstra)
    heard = (cepstra / deviation).clamp(-_TALLEST, _TALLEST) / deviation
    product = (heard @ signatures.T).clamp(min=0)
    own = deviation.square().reciprocal() @ signatures.square().T + 1e-6
    evidence = product.square() / own / 2
    most, place = evidence.max(dim=1)
    before, after = (evidence.gather(1, (place + k).clamp(0, GRID - 1)[:, None])[:, 0] for k in (-1, 1))
    bend = before - 2 * most + after
    shift = torch.where(bend < -1e-6, 0.5 * (before - after) / bend, 0.0).clamp(-0.5, 0.5)
    best, parts = signatures[place], []
    for a, b in itertools.pairwise(edges):
        some = best[:, a:b]
        size = (some / deviation[:, a:b]).square().sum(dim=1)
        parts.append((heard[:, a:b] * some).sum(dim=1) / (size + 1.0))
    return ((place + 0.5 + shift) / GRID).clamp(0, 1), most, torch.stack(parts, dim=1)


def log_edges(lags: int, count: int) -> list[int]:
    """Of `count` ranges of `lags` lags, even on a logarithmic axis."""
    last = torch.logspace(0, 1, count + 1, base=(lags + _LEAST) / _LEAST) * _LEAST - _LEAST
    return [int(x) for x in last.round()]


def _deviations(cepstra: Tensor) -> Tensor:
    """`[B, L]` -> deviations of each in bands of lags, `[B, L]`."""
    edges = log_edges(cepstra.shape[1], _BANDS)
    out = torch.empty_like(cepstra)
    for a, b in itertools.pairwise(edges):
        out[:, a:b] = cepstra[:, a:b].square().mean(dim=1, keepdim=True).sqrt() if b > a else 0
    return out + 1e-3


def find_signatures(
    settings: Tensor,
    continuous: Tensor,
    cepstra: Tensor,
    plain: Tensor,
    measure: Callable[[Tensor], Tensor],
    generator: torch.Generator,
) -> Signatures:
    """Learn which parameters signatures tell, and their tables.

    Args:
        settings: `[N, P]` of examples. continuous: `[P]` bool. cepstra: `[N, L]` of the examples' references.
        plain: `[C, L]`, of clips without the effect, which have no signature to be found.
        measure: settings `[K, P]` -> signatures `[K, L]`, rendered on noise.
    """
    some = slice(0, None, -(-len(settings) // _MOST_EXAMPLES))
    plain = plain[:: -(-len(plain) // _MOST_EXAMPLES)]
    nowhere = torch.full((len(plain), settings.shape[1]), -1.0)
    settings, cepstra = torch.cat([settings[some], nowhere]), torch.cat([cepstra[some], plain])
    bases = torch.rand(_BASES, settings.shape[1], generator=generator)
    at_bases = measure(bases)
    strongest = bases[at_bases.norm(dim=1).argsort(descending=True)[:_TRIED]]
    found: list[tuple[float, int, Tensor, float]] = []
    for j in _sharp(bases, at_bases, continuous, measure):
        best = max(
            (_tried(j, base, settings, cepstra, measure) for base in strongest), key=lambda one: one[0]
        )
        if best[0] >= _LEAST_SHARE:
            found.append(best)
    found = sorted(found, key=lambda one: -one[0])[:SLOTS]
    result = Signatures(len(found), cepstra.shape[1])
    for m, (_, j, table, threshold) in enumerate(found):
        unit = table.abs().amax(dim=0) / 127 + 1e-9
        result.main[m], result.unit[m], result.threshold[m] = j, unit, threshold
        result.table[m] = (table / unit).round().to(torch.int8)
    return result


def _sharp(
    bases: Tensor, at_bases: Tensor, continuous: Tensor, measure: Callable[[Tensor], Tensor]
) -> list[int]:
    """Parameters whose moves by a hundredth turn signatures `[K, L]` at the bases `[K, P]` into others."""
    out = []
    size = at_bases.norm(dim=1)
    strong = size >= size.median()
    for j in continuous.nonzero()[:, 0].tolist():
        moved = bases.clone()
        moved[:, j] = torch.where(bases[:, j] < 0.5, bases[:, j] + _STEP, bases[:, j] - _STEP)
        cosine = nn.functional.cosine_similarity(measure(moved), at_bases, dim=1)
        if float(cosine[strong].median()) < _ALIKE:
            out.append(j)
    return out


def _tried(
    j: int, base: Tensor, settings: Tensor, cepstra: Tensor, measure: Callable[[Tensor], Tensor]
) -> tuple[float, int, Tensor, float]:
    """A table of parameter j, the others as in `base`: share of examples it finds for sure, and threshold."""
    grid = base.repeat(GRID, 1)
    grid[:, j] = (torch.arange(GRID) + 0.5) / GRID
    table = torch.cat([measure(part) for part in grid.split(_TOGETHER)])
    values, evidence, _ = match(cepstra, table, log_edges(cepstra.shape[1], RANGES))
    right = (values - settings[:, j]).abs() < _NEAR
    order = evidence.argsort(descending=True)
    # From the surest on, as far as more are right than wrong.
    gain = torch.where(right[order], 1.0, -1.0).cumsum(dim=0)
    count = int(gain.argmax()) + 1 if float(gain.max()) > 0 else 0
    threshold = float(evidence[order[count - 1]]) if count else float("inf")
    share = float(right[order[:count]].double().mean()) * count / len(order) if count else 0.0
    return share, j, table, threshold
