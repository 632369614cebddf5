"""What lies in a recording at a place that a setting determines: echoes, carriers.

An encoder may give, besides its embedding, peaks: positions of what stands out, by family. Where a family has
a peak whose position follows from the setting (the lag of an echo from a delay time, a frequency of symmetry
from a carrier), that function is learned from a pool of examples, without a render and without knowing the
effect (`landmark_search`). A controller then need not guess the parameter: it takes the peaks of a reference
that are likeliest, by what it believes anyway and by how high they are, and solves for the values that put
them there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

BINS = 128
"""Of a parameter's range: in each a landmark moves along a line of its own, or is nowhere."""
NOWHERE = -1e9
LEAST_HEIGHT = 3.0
"""Of peaks, in deviations; lower ones are chance."""
HEIGHTS = (4.0, 5.0, 6.0, 8.0, 10.0, 14.0)
"""Between which evidence is counted."""
GRADES = len(HEIGHTS) + 2
CANDIDATES = 24
"""Values of a parameter that are weighed."""
WAYS = 6
"""Combinations of several parameters' values that are carried along."""
CERTAIN = 0.4
"""Probability from which on a peak decides."""


class Landmarks(nn.Module):
    """M functions from settings to positions, and what a peak there is worth.

    Attributes:
        family, main: `[M]`, whose peaks, and the parameter that moves them most.
        table: `[M, BINS, 2]`, the ends of the lines in each bin of the main parameter, `NOWHERE` without one;
            with slope `[M, P]` times the others it is the position, or this over that of an earlier
            landmark: base `[M]`, its number or -1.
        tolerance: `[M]`, of positions. evidence: `[M, G, G]`: log of how much likelier a peak of a grade of
            height is at the landmark than elsewhere, where the highest peak of all has one of the grades
            before; grade 0 is none at all. nothing: `[M, G]`, what speaks for leaving the main parameter of
            a landmark alone, of the first one of each.
    """

    family: Tensor
    main: Tensor
    base: Tensor
    table: Tensor
    slope: Tensor
    tolerance: Tensor
    evidence: Tensor
    nothing: Tensor

    def __init__(self, count: int, parameters: int) -> None:
        super().__init__()
        for name, size, kind in (
            ("family", (count,), torch.long),
            ("main", (count,), torch.long),
            ("base", (count,), torch.long),
            ("table", (count, BINS, 2), torch.float64),
            ("slope", (count, parameters), torch.float64),
            ("tolerance", (count,), torch.float64),
            ("evidence", (count, GRADES, GRADES), torch.float64),
            ("nothing", (count, GRADES), torch.float64),
        ):
            self.register_buffer(name, torch.zeros(size, dtype=kind))

    def __len__(self) -> int:
        return len(self.family)

    def positions(self, number: int, settings: Tensor) -> Tensor:
        """Of a landmark, at settings `[N, P]` -> `[N]`."""
        main = on_lines(self.table[number], settings[:, int(self.main[number])])
        value = main + settings.double() @ self.slope[number]
        base = int(self.base[number])
        return value if base < 0 else value * self.positions(base, settings)

    @torch.no_grad()
    def locate(
        self, settings: Tensor, density: Tensor, mask: Tensor, reference: Tensor, dry: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Put parameters to where a peak of the reference says.

        Args:
            settings: `[B, P]`, believed so far. density: `[B, P, L]`, probabilities of values, of which there
            are as many, evenly spaced, as `mask` `[P, L]` says.
            reference, dry: peaks `[B, families, K, 2]`; those that the input has as well count for nothing.

        Returns:
            Settings `[B, P]`, and `[B, P]` bool: which of them were put.
        """
        count, size = settings.shape
        density, peaks = density.double(), novel(reference, dry).double()
        states = settings.double()[:, None]  # [B, W, P]: ways to put parameters, the likeliest first
        weight = torch.zeros(count, 1, dtype=torch.float64, device=settings.device)  # logarithms
        for j, numbers in self.groups().items():
            ways = states.shape[1]
            belief = density[:, j, mask[j]].repeat_interleave(ways, dim=0)
            heard = peaks.repeat_interleave(ways, dim=0)
            value, more = self.weighed(j, numbers, states.flatten(0, 1), belief, heard)
            choices = value.shape[1]
            total = (weight[..., None] + more.reshape(count, ways, choices)).flatten(1)
            weight, place = total.topk(min(WAYS, total.shape[1]), dim=1)
            kept = (place // choices)[..., None].expand(-1, -1, size)
            states = states.gather(1, kept)
            states[..., j] = value.reshape(count, -1).gather(1, place)
        best = states[:, 0]
        alike = self._alike(states)
        sure = (weight.softmax(dim=1)[..., None] * alike).sum(dim=1)
        put = (best != settings.double()) & (sure > CERTAIN)
        return torch.where(put, best, settings.double()), put

    def _alike(self, states: Tensor) -> Tensor:
        """Which of the ways `[B, W, P]` put each parameter as the first one does, `[B, W, P]` bool.

        That is, to the same value, or to one that gives its landmark the same place.
        """
        alike = (states - states[:, :1]).abs() < 1e-3
        for j, (number, *_) in self.groups().items():
            at = self.positions(number, states.flatten(0, 1)).reshape(states.shape[:2])
            same = (at - at[:, :1]).abs() < 2 * self.tolerance[number]
            alike[..., j] |= same & (at > NOWHERE / 2)
        return alike

    def groups(self) -> dict[int, list[int]]:
        """Parameters, in the order in which they are put, and the landmarks that each moves."""
        main = self.main.tolist()
        return {j: [m for m, k in enumerate(main) if k == j] for j in dict.fromkeys(main)}

    def weighed(
        self, j: int, numbers: list[int], settings: Tensor, density: Tensor, peaks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values `[B, Q + 1]` that a parameter may have by the landmarks that it moves: as it is comes last.

        And the logarithms of how likely they are.
        """
        value, weight = self.candidates(j, numbers, settings, density, peaks)
        grades, highest = self.grades(j, numbers, settings, value, peaks)
        for k, number in enumerate(numbers):
            weight = weight + self.evidence[number][highest[:, k, None], grades[:, k]]
        none = sum(self.evidence[number][highest[:, k], 0] for k, number in enumerate(numbers))
        none = none + self.nothing[numbers[0]][highest[:, 0]]
        return torch.cat([value, settings[:, j : j + 1]], dim=1), torch.cat([weight, none[:, None]], dim=1)

    def candidates(
        self, j: int, numbers: list[int], settings: Tensor, density: Tensor, peaks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Values `[B, Q]` that put a landmark to a peak, and logarithms of how much is believed in each."""
        found = [self._crossings(number, settings, peaks) for number in numbers]
        value, width, worth = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
        believed = (_interpolated(density, value) * width + 1e-30).log()
        place = (believed + worth).topk(min(CANDIDATES, value.shape[1]), dim=1).indices
        value, width, believed = (x.gather(1, place) for x in (value, width, believed))
        # Those that several landmarks want are one candidate.
        same = (value[:, :, None] - value[:, None]).abs() < width[:, :, None]
        share = (same & (width > 0)[:, None]).sum(dim=2).clamp(min=1)
        return value, believed - share.log()

    def grades(
        self, j: int, numbers: list[int], settings: Tensor, value: Tensor, peaks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of M landmarks the grades `[B, M, Q]` of peaks where they would be, and of the highest `[B, M]`.

        value: `[B, Q]`, of parameter j.
        """
        many = settings[:, None].repeat(1, value.shape[1], 1)
        many[:, :, j] = value
        at = [self.positions(number, many.flatten(0, 1)).reshape(value.shape) for number in numbers]
        heights = [self._height_at(number, x, peaks) for number, x in zip(numbers, at, strict=True)]
        highest = [peaks[:, int(self.family[number]), :, 1].amax(dim=1) for number in numbers]
        return grade(torch.stack(heights, dim=1)), grade(torch.stack(highest, dim=1))

    def _crossings(self, number: int, settings: Tensor, peaks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Values of the main parameter that put the landmark to a peak.

        Returns:
            These, the ranges that would do, and the evidence, `[B, CANDIDATES]` each; ranges are 0 where
            there are fewer.
        """
        under = int(self.base[number])
        others = (settings @ self.slope[number])[:, None, None]
        position, height = peaks[:, int(self.family[number])].unbind(dim=-1)
        unit = torch.ones_like(others) if under < 0 else self.positions(under, settings)[:, None, None]
        unit = torch.where(unit.abs() < 1, 1.0, unit)
        low, high = self.table[number].unbind(dim=1)
        # By how much a landmark may be off, in its unit; where a line is flat within that, all of it will do.
        reach = 2 * self.tolerance[number] / unit.abs()  # [B, 1, 1]
        flat = (high - low).abs() <= reach
        step = torch.where(flat, 1.0, high - low)
        wanted = position[..., None] / unit - others  # [B, K, 1]
        share = (wanted - low) / step  # [B, K, BINS]
        inside = torch.where(flat, (wanted - (low + high) / 2).abs() <= reach, (share >= 0) & (share < 1))
        inside &= (height > LEAST_HEIGHT)[..., None]
        share = torch.where(flat, 0.5, share.clamp(0, 1))
        value = (torch.arange(BINS, device=low.device) + share) / BINS
        width = torch.where(flat, 1.0, (reach / step.abs()).clamp(max=1.0)) / BINS
        tall, place = torch.where(inside, height[..., None], 0.0).flatten(1).topk(CANDIDATES, dim=1)
        worth = self._worth(number, tall, peaks)
        return value.flatten(1).gather(1, place), (width * inside).flatten(1).gather(1, place), worth

    def _height_at(self, number: int, at: Tensor, peaks: Tensor) -> Tensor:
        """Heights `[B, Q]` of the peaks at the positions `[B, Q]`, 0 where there is none."""
        position, height = peaks[:, int(self.family[number])].unbind(dim=-1)
        near = (position[:, None] - at[..., None]).abs() < 2 * self.tolerance[number]
        return torch.where(near & (height > LEAST_HEIGHT)[:, None], height[:, None], 0.0).amax(dim=2)

    def _worth(self, number: int, height: Tensor, peaks: Tensor) -> Tensor:
        """Evidence of heights `[B, Q]` at a landmark."""
        highest = grade(peaks[:, int(self.family[number]), :, 1].amax(dim=1))
        return self.evidence[number][highest[:, None], grade(height)]


def on_lines(table: Tensor, values: Tensor) -> Tensor:
    """What lines `[BINS, 2]` say at values `[N]` of their parameter -> `[N]`."""
    place = values.double().clamp(0, 1) * BINS
    bin = place.long().clamp(max=BINS - 1)
    low, high = table[bin].unbind(dim=1)
    return low + (place - bin) * (high - low)


def novel(reference: Tensor, dry: Tensor) -> Tensor:
    """Peaks `[B, F, K, 2]` of references, without the heights of those that the inputs have, too."""
    apart = (reference[..., :, None, 0] - dry[..., None, :, 0]).abs()
    near = apart <= 1.5 + 2e-4 * reference[..., :, None, 0]
    known = (near & (dry[..., None, :, 1] > LEAST_HEIGHT)).any(dim=-1)
    height = torch.where(known, 0.0, reference[..., 1])
    return torch.stack([reference[..., 0], height], dim=-1)


def grade(height: Tensor) -> Tensor:
    """Heights -> 0 for none, else from 1 up."""
    edges = torch.tensor(HEIGHTS, device=height.device, dtype=height.dtype)
    return torch.where(height > 0, 1 + torch.bucketize(height, edges), 0)


def _interpolated(density: Tensor, at: Tensor) -> Tensor:
    """Probabilities `[B, L]` of evenly spaced values from 0 to 1 -> density at `[B, N]`."""
    last = density.shape[1] - 1
    place = (at * last).clamp(0, last)
    below = place.floor().long().clamp(max=last - 1)
    share = place - below
    return last * ((1 - share) * density.gather(1, below) + share * density.gather(1, below + 1))
