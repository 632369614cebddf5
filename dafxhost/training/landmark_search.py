"""Learns landmarks (`dafxhost.training.landmarks`) from examples.

Votes of settings against positions of peaks (Hough, US patent 3,069,654, 1962) show a ridge where a
parameter moves a peak. A path along it (dynamic programming) is refined to a spline and slopes of the other
parameters by least squares over peaks that are ever closer to it. Then the parameter's range is cut into
bins, and each gets the line on which most examples of the bin, and few of others, have a peak (random sample
consensus: Fischler and Bolles 1981), since functions may have steps and gaps. How often a peak is there, and
how high, against how often chance puts one there, is counted on examples that were not learned from.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from dafxhost.training.landmark_weights import learn_weights
from dafxhost.training.landmarks import BINS, GRADES, LEAST_HEIGHT, NOWHERE, Landmarks, grade, novel, on_lines

MOST = 6
"""Landmarks looked for in a family."""
KNOTS = 131  # of the splines: 128 intervals from 0 to 1
_ROWS, _COLUMNS = 40, 256  # of the table of votes
_REACH, _JUMP = 24, 0.5  # columns that a path may move from row to row, and what each costs
_RIDGE = 1.3  # times the score of the best path by chance
_FEWEST_PEAKS = 200
_ROUNDS, _SHRINK = 24, 0.75
_STIFF = (0.03, 0.01, 0.003, 0.001, 3e-4, 1e-4)
_LEAST_INLIERS, _WIDER = 60, 50
_LEAST_INFORMATION = 0.1  # nats an example
_TRIALS, _OTHERS, _LOYALTY = 300, 96, 0.75
_LEAST_EXAMPLES, _LEAST_SHARE = 12, 0.12  # in a bin, and on its line more than of others


def find_landmarks(
    settings: Tensor, continuous: Tensor, reference: Tensor, dry: Tensor, tolerances: Tensor
) -> Landmarks:
    """Learn landmarks from N examples.

    Args:
        settings: `[N, P]`. continuous: `[P]` bool. reference, dry: peaks `[N, F, K, 2]`.
        tolerances: `[F]`, of each family's positions.
    """
    settings, peaks = settings.double(), novel(reference, dry).double()
    learn = torch.arange(len(settings)) % 4 > 0
    found: list[dict[str, Any]] = []
    for family in range(peaks.shape[1]):
        searcher = _Searcher(settings, continuous, peaks[:, family], float(tolerances[family]), learn)
        before = len(found)  # a base is counted within its family so far
        for one in searcher.search():
            base = one["base"] + before if one["base"] >= 0 else -1
            found.append({**one, "family": family, "base": base})
    result = Landmarks(len(found), settings.shape[1])
    for number, one in enumerate(found):
        for name, value in one.items():
            getattr(result, name)[number] = value
    learn_weights(result, settings[~learn], peaks[~learn])
    return result


class _Searcher:
    """Looks for the landmarks of one family."""

    def __init__(
        self, settings: Tensor, continuous: Tensor, peaks: Tensor, tolerance: float, learn: Tensor
    ) -> None:
        self.settings, self.tolerance, self.learn = settings, tolerance, learn
        self.parameters = [int(j) for j in continuous.nonzero()[:, 0]]
        self.position, self.height = peaks[..., 0].clamp(min=1e-6), peaks[..., 1]
        self.good = self.height > LEAST_HEIGHT
        self.splines = {j: _splines(settings[:, j]) for j in self.parameters}
        steps = torch.eye(KNOTS, dtype=torch.float64).diff(n=3, dim=0)
        self.bending = torch.block_diag(steps.T @ steps, torch.zeros(settings.shape[1:] * 2))

    def search(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        places: list[Tensor] = []
        for _ in range(MOST):
            best = None
            for base, logarithmic, j in itertools.product(
                range(-1, len(found)), (False, True), self.parameters
            ):
                unit = places[base].clamp(min=1.0) if base >= 0 else torch.ones(len(self.position))
                ridge = self._ridge(j, unit, logarithmic)
                if ridge is not None:
                    one = self._refined(j, unit, ridge)
                    if one is not None and (best is None or one["information"] > best["information"]):
                        best = {**one, "base": base}
            if best is None:
                break
            del best["information"]
            places.append(best.pop("predicted"))
            found.append(best)
            self.good &= (self.position - places[-1][:, None]).abs() > 3 * self.tolerance
        return found

    def _ridge(self, j: int, unit: Tensor, logarithmic: bool) -> Tensor | None:
        """Positions over units `[N]` along a path over a parameter's range, `[KNOTS]`, if votes show one."""
        place = self.position / unit[:, None]
        if logarithmic:
            place = place.log()
        used = self.good & self.learn[:, None]
        some = place[used]
        if len(some) < _FEWEST_PEAKS:
            return None
        low, high = some.quantile(0.002), some.quantile(0.998)
        width = (high - low).clamp(min=1e-6) / _COLUMNS
        column = ((place - low) / width).long().clamp(0, _COLUMNS - 1)
        row = (self.settings[:, j] * _ROWS).long().clamp(0, _ROWS - 1)[:, None].expand_as(column)
        votes = (self.height - LEAST_HEIGHT).clamp(0, 6)
        inside = used & (place >= low) & (place <= high)

        def path(rows: Tensor) -> tuple[float, Tensor]:
            flat = torch.zeros(_ROWS * _COLUMNS, dtype=torch.float64)
            flat.index_add_(0, (rows * _COLUMNS + column)[inside], votes[inside])
            table = flat.reshape(_ROWS, _COLUMNS)
            expected = table.sum(dim=1, keepdim=True) * table.sum(dim=0) / table.sum()
            return _best_path((table - expected) / (expected + 2.0).sqrt())

        score, columns = path(row)
        order = torch.randperm(len(row), generator=torch.Generator().manual_seed(j))
        chance, _ = path(row[order])
        if score < _RIDGE * chance:
            return None
        centres = (torch.arange(_ROWS) + 0.5) / _ROWS
        heights = low + (columns.double() + 0.5) * width
        heights = heights.exp() if logarithmic else heights
        # A spline's coefficients lie close to the line itself.
        knots = (torch.arange(KNOTS, dtype=torch.float64) - 1) / (KNOTS - 3)
        return _interpolated_line(centres.double(), heights, knots)

    def _refined(self, j: int, unit: Tensor, ridge: Tensor) -> dict[str, Any] | None:
        """Functions of all parameters, by least squares over ever closer peaks."""
        others = self.settings.clone()
        others[:, [k for k in range(others.shape[1]) if k == j or k not in self.parameters]] = 0
        design = torch.cat([self.splines[j], others], dim=1)
        solution = torch.cat([ridge, torch.zeros(others.shape[1], dtype=torch.float64)])
        window = self._first_window(design @ solution * unit)
        for number in range(_ROUNDS):
            predicted = design @ solution * unit
            apart = (self.position - predicted[:, None]).abs()
            height, place = torch.where(self.good & (apart < window), self.height, 0.0).max(dim=1)
            inlier = self.learn & (height > 0)
            if int(inlier.sum()) < _LEAST_INLIERS:
                return None
            error = self.position.gather(1, place[:, None])[:, 0] - predicted
            stiff = _STIFF[number * len(_STIFF) // _ROUNDS]
            solution = solution + self._fit(design, inlier, error / unit, unit / window, solution, stiff)
            window = max(2 * self.tolerance, window * _SHRINK)
        slope = solution[KNOTS:]
        edges = _splines(torch.linspace(0, 1, BINS + 1)) @ solution[:KNOTS]
        table = self._lines(j, unit, self.settings @ slope, edges)
        predicted = (on_lines(table, self.settings[:, j]) + self.settings @ slope) * unit
        evidence, information = self._evidence(predicted)
        if information < _LEAST_INFORMATION:
            return None
        return {
            "main": j, "table": table, "slope": slope, "tolerance": self.tolerance, "evidence": evidence,
            "information": information, "predicted": predicted,
        }  # fmt: skip

    def _lines(self, j: int, unit: Tensor, others: Tensor, edges: Tensor) -> Tensor:
        """Ends `[BINS, 2]` of the lines that peaks follow in each bin of a parameter, over the unit `[N]`.

        edges `[BINS + 1]`: what the spline says, at the bins' edges.
        """
        table = torch.full((BINS, 2), NOWHERE, dtype=torch.float64)
        place = self.settings[:, j].clamp(0, 1) * BINS
        bin = place.long().clamp(max=BINS - 1)
        heard = torch.where(self.good, self.position, torch.nan) / unit[:, None] - others[:, None]
        within = 2 * self.tolerance / unit
        generator = torch.Generator().manual_seed(j)
        far = torch.randperm(len(bin), generator=generator)
        for number in range(BINS):
            rows = torch.nonzero((bin == number) & self.learn)[:, 0]
            if len(rows) >= _LEAST_EXAMPLES:
                x = place[rows] - number
                elsewhere = far[(bin[far] - number).abs() > 1][:_OTHERS]
                line = _consensus(
                    x, heard[rows], within[rows], heard[elsewhere], within[elsewhere],
                    edges[number : number + 2], generator,
                )  # fmt: skip
                if line is not None:
                    table[number] = line
        return table

    def _first_window(self, predicted: Tensor) -> float:
        apart = torch.where(self.good, (self.position - predicted[:, None]).abs(), torch.inf).amin(dim=1)
        near = apart[self.learn & apart.isfinite()]
        return float(near.quantile(0.4)) if len(near) else 0.0

    def _fit(
        self, design: Tensor, rows: Tensor, target: Tensor, weight: Tensor, solution: Tensor, stiff: float
    ) -> Tensor:
        """What to add to a solution so that it gives the targets at some rows; splines shall be smooth."""
        some = design[rows] * weight[rows, None]
        scale, share = weight[rows].square().mean(), KNOTS / len(some)
        bending = stiff * scale * self.bending
        normal = share * some.T @ some + bending + 1e-4 * scale * torch.eye(design.shape[1])
        right = share * some.T @ (target * weight)[rows] - bending @ solution
        return torch.linalg.solve(normal, right)

    def _evidence(self, predicted: Tensor) -> tuple[Tensor, float]:
        """Log likelihood ratios of heights at the landmark, and their mean there, on what was not learned.

        How often chance puts a peak there is counted in a range `_WIDER` times as wide, which makes up for
        there being so little chance.
        """
        rows = ~self.learn
        height = torch.where(self.good[rows], self.height[rows], 0.0)
        highest = grade(height.amax(dim=1))
        apart = (self.position[rows] - predicted[rows, None]).abs()
        near = grade(torch.where(apart < 2 * self.tolerance, height, 0.0).amax(dim=1))
        true = torch.bincount(highest * GRADES + near, minlength=GRADES**2).reshape(GRADES, GRADES).double()
        chance = torch.zeros_like(true)
        for k in range(1, 9):
            apart = (self.position[rows] - predicted[rows].roll(k)[:, None]).abs()
            inside = grade(torch.where(apart < 2 * _WIDER * self.tolerance, height, 0.0))
            place = highest[:, None] * GRADES + inside
            counts = torch.bincount(place[inside > 0], minlength=GRADES**2).reshape(GRADES, GRADES)
            chance += counts / (8 * _WIDER)
        totals = true.sum(dim=1, keepdim=True)
        chance[:, 0] = (totals[:, 0] - chance[:, 1:].sum(dim=1)).clamp(min=0)
        # Grades with few examples lean on all of them.
        p, q = (
            (part + 8 * part.sum(dim=0) / part.sum() + 1e-3) / (totals + 8 + 1e-3 * GRADES)
            for part in (true, chance)
        )
        ratio = (p / q).log()
        return ratio, float((true / true.sum() * ratio).sum())


def _splines(settings: Tensor) -> Tensor:
    """Settings `[...]` -> `[..., KNOTS]`, float64: uniform cubic B-splines (de Boor 1978) from 0 to 1."""
    place = settings.double().clamp(0, 1)[..., None] * (KNOTS - 3) - torch.arange(-1, KNOTS - 1)
    apart = place.abs()
    near = 2 / 3 - apart.square() + apart**3 / 2
    far = (2 - apart).clamp(min=0) ** 3 / 6
    return torch.where(apart < 1, near, far)


def _interpolated_line(x: Tensor, y: Tensor, at: Tensor) -> Tensor:
    """The line through points at rising x, at other places; beyond the ends it goes straight on."""
    below = (torch.searchsorted(x, at) - 1).clamp(0, len(x) - 2)
    slope = (y[below + 1] - y[below]) / (x[below + 1] - x[below])
    return y[below] + slope * (at - x[below])


def _best_path(table: Tensor) -> tuple[float, Tensor]:
    """The path from row to row of `[R, C]` with the highest sum, less `_JUMP` for each column that it moves.

    It moves at most `_REACH` columns a row.
    """
    moves = torch.arange(-_REACH, _REACH + 1)
    cost = _JUMP * moves.abs()
    score, steps = table[0].clone(), []
    for row in table[1:]:
        padded = nn.functional.pad(score, (_REACH, _REACH), value=-torch.inf)
        best, which = (padded.unfold(0, 2 * _REACH + 1, 1) - cost).max(dim=1)
        steps.append(torch.arange(len(row)) + moves[which])
        score = best + row
    column = int(score.argmax())
    total, columns = float(score[column]), [column]
    for where in reversed(steps):
        column = int(where[column])
        columns.append(column)
    return total, torch.tensor(columns[::-1])


def _consensus(
    x: Tensor, heard: Tensor, within: Tensor, heard_elsewhere: Tensor, within_elsewhere: Tensor,
    expected: Tensor, generator: torch.Generator,
) -> Tensor | None:  # fmt: skip
    """The line over x in 0..1 that most examples have a peak on, compared with examples it cannot be about.

    Args:
        x: `[n]`. heard: `[n, K]` peaks, NaN for none. within: `[n]`, by how much one may be off. The same of
            examples from elsewhere, which are given random x. expected: `[2]`, the ends of a line that is
            preferred as long as it is not much worse.

    Returns:
        Its values at 0 and 1, or None where nothing stands out.
    """
    example, peak = torch.nonzero(heard.isfinite(), as_tuple=True)
    if len(example) < 2:
        return None
    pick = torch.randint(len(example), (2, _TRIALS), generator=generator)
    (xa, xb), (ya, yb) = x[example[pick]], heard[example[pick], peak[pick]]
    apart = (xb - xa).abs() > 0.15
    # Level lines are tried as well: steps are common.
    rise = torch.cat([((yb - ya) / (xb - xa))[apart], torch.zeros(_TRIALS, dtype=x.dtype)])
    start = torch.cat([ya[apart], ya]) - rise * torch.cat([xa[apart], xa])
    rise, start = torch.cat([expected.diff(), rise]), torch.cat([expected[:1], start])

    def share(x: Tensor, heard: Tensor, within: Tensor) -> Tensor:
        off = (heard[None] - (start[:, None] + rise[:, None] * x)[..., None]).abs()
        return ((off < within[:, None]).any(dim=2)).double().mean(dim=1)

    other = share(torch.rand(len(heard_elsewhere), generator=generator), heard_elsewhere, within_elsewhere)
    score = share(x, heard, within) - other
    best = int(score.argmax())
    best = 0 if float(score[0]) >= _LOYALTY * float(score[best]) else best
    if float(score[best]) < max(_LEAST_SHARE, 5 / len(x)):
        return None
    for _ in range(2):
        off = (heard - (start[best] + rise[best] * x)[:, None]).abs()
        nearest, place = torch.where(off.isnan(), torch.inf, off).min(dim=1)
        on = nearest < within
        if int(on.sum()) < 3 or float(x[on].std()) < 0.05:
            break
        y = heard.gather(1, place[:, None])[on, 0]
        if float(rise[best]) == 0.0:
            start[best] = y.median()
            continue
        design = torch.stack([torch.ones_like(x[on]), x[on]], dim=1) / within[on, None]
        start[best], rise[best] = torch.linalg.lstsq(design, (y / within[on])[:, None]).solution[:, 0]
    return torch.stack([start[best], start[best] + rise[best]])
