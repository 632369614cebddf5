"""What evidence for a landmark is worth, learned from choices between candidates.

Counts of peaks against chance treat landmarks as if they had nothing to do with each other. But the wrong
candidates of an example are no chance: sums and differences of its echoes put peaks at several landmarks at
once. So the counts are corrected until, among the candidates of examples that were not learned from, the
right ones are likely (multinomial logit: McFadden 1974).
"""

from __future__ import annotations

import torch
from torch import Tensor

from dafxhost.training.landmarks import GRADES, Landmarks

STEPS, RATE = 200, 0.1
DECAY = 1e-3
MOST_EXAMPLES = 3000
_FLAT = 24
_VALUE = 0.004  # of a parameter: as good as right


def learn_weights(landmarks: Landmarks, settings: Tensor, peaks: Tensor) -> None:
    """Correct `evidence` and `nothing` by examples: settings `[N, P]`, novel peaks `[N, F, K, 2]`."""
    settings, peaks = settings[:MOST_EXAMPLES].double(), peaks[:MOST_EXAMPLES].double()
    flat = torch.full((len(settings), _FLAT), 1.0 / _FLAT, dtype=torch.float64)
    for j, numbers in landmarks.groups().items():
        value, believed = landmarks.candidates(j, numbers, settings, flat, peaks)
        grades, highest = landmarks.grades(j, numbers, settings, value, peaks)
        first = numbers[0]
        moved = settings[:, None].repeat(1, value.shape[1], 1)
        moved[:, :, j] = value
        at = landmarks.positions(first, moved.flatten(0, 1)).reshape(value.shape)
        near = (at - landmarks.positions(first, settings)[:, None]).abs() < 2 * landmarks.tolerance[first]
        right = (near | ((value - settings[:, j : j + 1]).abs() < _VALUE)) & (believed > -60)
        right = torch.cat([right, ~right.any(dim=1, keepdim=True)], dim=1)
        more, nothing = _fitted(landmarks, numbers, believed, grades, highest, right)
        for k, number in enumerate(numbers):
            landmarks.evidence[number] += more[k]
        landmarks.nothing[first] = nothing


def _fitted(
    landmarks: Landmarks, numbers: list[int], believed: Tensor, grades: Tensor, highest: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """What to add: to each landmark's grades `[M, G]`, and to leaving the parameter alone `[G]`."""
    more = torch.zeros(len(numbers), GRADES, dtype=torch.float64, requires_grad=True)
    nothing = torch.zeros(GRADES, dtype=torch.float64, requires_grad=True)
    fixed, none = believed, torch.zeros(len(believed), dtype=torch.float64)
    for k, number in enumerate(numbers):
        fixed = fixed + landmarks.evidence[number][highest[:, k, None], grades[:, k]]
        none = none + landmarks.evidence[number][highest[:, k], 0]
    optimiser = torch.optim.Adam([more, nothing], lr=RATE)
    with torch.enable_grad():
        for _ in range(STEPS):
            added = sum(more[k][grades[:, k]] for k in range(len(numbers)))
            alone = none + more[:, 0].sum() + nothing[highest[:, 0]]
            chances = torch.cat([fixed + added, alone[:, None]], dim=1).log_softmax(dim=1)
            loss = -chances.masked_fill(~right, -torch.inf).logsumexp(dim=1).mean()
            loss = loss + DECAY * (more.square().sum() + nothing.square().sum())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return more.detach(), nothing.detach()
