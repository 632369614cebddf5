"""Functions from settings to positions of peaks: learned from examples, and solved for a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dafxhost.encoders import Encoder
from dafxhost.parameters import Parameter, Port
from dafxhost.training.controller import Controller
from dafxhost.training.landmark_search import find_landmarks
from dafxhost.training.landmarks import Landmarks, novel
from dafxhost.training.runs import load_weights

COUNT = 6
TOLERANCES = torch.tensor([1.0])


def lags(settings: Tensor) -> Tensor:
    """A delay's: the first grows with the square of a parameter and a little with another one, the second is
    a multiple of it, in steps in the upper half: `[N, 2]`.
    """
    first = 30000 * settings[:, 0] ** 2 + 80 * settings[:, 2] + 40
    steps = torch.tensor([1.5, 1.25, 0.75, 0.5])[((settings[:, 1] - 0.5) * 8).long().clamp(0, 3)]
    return torch.stack([first, first * torch.where(settings[:, 1] < 0.5, 0.2 + 3 * settings[:, 1], steps)], 1)


def examples(count: int, seed: int = 0, share: float = 0.8) -> tuple[Tensor, Tensor, Tensor]:
    """Settings `[N, 4]`, peaks of references and of inputs `[N, 1, K, 2]`: echoes among others by chance."""
    generator = torch.Generator().manual_seed(seed)
    settings = torch.rand(count, 4, generator=generator, dtype=torch.float64)
    position = 32000 * torch.rand(count, COUNT, generator=generator, dtype=torch.float64)
    height = 3.5 + 2 * torch.rand(count, COUNT, generator=generator, dtype=torch.float64)
    there = torch.rand(count, 2, generator=generator) < share
    position[:, :2] = torch.where(there, lags(settings).round(), position[:, :2])
    height[:, :2] += 6 * there
    dry = torch.zeros(count, COUNT, 2, dtype=torch.float64)
    dry[:, 0, 0], dry[:, 0, 1] = position[:, 5], 9.0  # the input has one of them, too
    order = torch.rand(count, COUNT, generator=generator).argsort(dim=1)
    peaks = torch.stack([position, height], dim=2).gather(1, order[..., None].expand(-1, -1, 2))
    return settings, peaks[:, None], dry[:, None]


def flat(count: int, parameters: int = 4, bins: int = 24) -> tuple[Tensor, Tensor]:
    """Belief in nothing, and which values there are."""
    return torch.full((count, parameters, bins), 1 / bins), torch.ones(parameters, bins, dtype=torch.bool)


@pytest.fixture(scope="module")
def landmarks() -> Landmarks:
    settings, peaks, dry = examples(6000)
    return find_landmarks(settings, torch.tensor([True, True, True, True]), peaks, dry, TOLERANCES)


def test_functions_of_settings_are_found(landmarks: Landmarks) -> None:
    settings, _, _ = examples(500, seed=1)
    true = lags(settings)
    assert landmarks.main[:2].tolist() == [0, 1] and landmarks.base[:2].tolist() == [-1, 0]
    assert float(landmarks.slope[0, 2]) == pytest.approx(80, abs=1)
    for number in (0, 1):
        error = (landmarks.positions(number, settings) - true[:, number]).abs()
        assert float((error < 2).double().mean()) > (0.97, 0.9)[number]


def test_parameters_are_put_where_peaks_are(landmarks: Landmarks) -> None:
    settings, peaks, dry = examples(500, seed=2, share=1.0)
    start = torch.full_like(settings, 0.5)
    start[:, 2] = settings[:, 2]
    found, put = landmarks.locate(start, *flat(500), peaks, dry)
    assert float(put[:, 0].double().mean()) > 0.7 and not bool(put[:, 2:].any())
    error = (lags(found)[:, 0] - lags(settings)[:, 0]).abs()[put[:, 0]]
    assert float((error < 4).double().mean()) > 0.6
    assert torch.equal(found[~put], start[~put])


def test_what_is_believed_decides_between_peaks(landmarks: Landmarks) -> None:
    settings, peaks, dry = examples(300, seed=3, share=1.0)
    place = torch.linspace(0, 1, 24, dtype=torch.float64)
    belief = (-0.5 * ((place - settings[..., None]) / 0.05).square()).softmax(dim=2)
    found, put = landmarks.locate(settings + 0.03, belief, flat(1)[1], peaks, dry)
    error = (lags(found) - lags(settings)).abs()
    assert float(put[:, :2].double().mean()) > 0.8
    assert float((error[:, 0][put[:, 0]] < 8).double().mean()) > 0.85


def test_without_peaks_nothing_is_put(landmarks: Landmarks) -> None:
    start = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    none = torch.zeros(5, 1, COUNT, 2)
    found, put = landmarks.locate(start, *flat(5), none, none)
    assert not bool(put.any()) and torch.equal(found, start.double())


def test_where_settings_move_nothing_there_are_no_landmarks() -> None:
    settings, peaks, dry = examples(3000)
    shuffled = settings[torch.randperm(3000, generator=torch.Generator().manual_seed(1))]
    assert len(find_landmarks(shuffled, torch.ones(4, dtype=torch.bool), peaks, dry, TOLERANCES)) == 0
    few = find_landmarks(settings[:20], torch.ones(4, dtype=torch.bool), peaks[:20], dry[:20], TOLERANCES)
    assert len(few) == 0


def test_each_family_has_bases_of_its_own() -> None:
    settings, peaks, dry = examples(2500)
    twice, input = torch.cat([peaks, peaks], dim=1), torch.cat([dry, dry], dim=1)
    every = torch.ones(4, dtype=torch.bool)
    found = find_landmarks(settings, every, twice, input, TOLERANCES.repeat(2))
    families, mains, bases = (x.tolist() for x in (found.family, found.main, found.base))
    for family in (0, 1):
        number = next(k for k in range(len(found)) if families[k] == family and mains[k] == 1)
        assert bases[number] >= 0 and families[bases[number]] == family
        at = found.positions(number, settings)
        there = at.abs() < 1e6  # so few examples leave some bins without a line
        error = (at - lags(settings)[:, 1]).abs()[there]
        assert float(there.double().mean()) > 0.3 and float((error < 2).double().mean()) > 0.9


def test_what_the_input_has_counts_for_nothing() -> None:
    reference = torch.tensor([[[[100.0, 9.0], [250.0, 8.0]]]])
    dry = torch.tensor([[[[250.5, 5.0], [100.0, 0.0]]]])
    assert novel(reference, dry)[0, 0, :, 1].tolist() == [9.0, 0.0]


class Heard(Encoder):
    """Embeddings are the peaks themselves."""

    name = "heard"
    peak_tolerances = (1.0,)

    def __init__(self) -> None:
        super().__init__(2 * COUNT, 16000)

    def config(self) -> dict[str, Any]:
        return {}

    def embed(self, audio: Tensor) -> Tensor:
        return audio[:, : 2 * COUNT]

    def peaks(self, embedding: Tensor) -> Tensor:
        return embedding.reshape(-1, 1, COUNT, 2)


def controller() -> Controller:
    names = ("time", "ratio", "fine", "mix")
    parameters = [Parameter(name, default=0.5, port=Port(k)) for k, name in enumerate(names)]
    parameters.append(Parameter("mode", "choice", 0, 2, 0, choices=("a", "b", "c"), port=Port(4)))
    torch.manual_seed(0)
    return Controller(Heard(), parameters, hidden=8, depth=1).eval()


@pytest.fixture(scope="module")
def taught() -> tuple[Controller, Tensor, Tensor]:
    """A controller that has learned landmarks, and embeddings of inputs and references."""
    settings, peaks, dry = examples(3000)
    settings = torch.cat([settings, torch.full((len(settings), 1), 0.5)], dim=1)
    one = controller()
    heard, input = peaks.flatten(1).float(), dry.flatten(1).float()
    assert one.landmarks is None
    one.find_landmarks(input, heard, settings)
    return one, input, heard


def test_a_controller_answers_with_them_and_keeps_them(
    taught: tuple[Controller, Tensor, Tensor], tmp_path: Path
) -> None:
    one, input, heard = taught
    assert one.landmarks is not None and 0 in one.landmarks.main.tolist()
    with torch.no_grad():
        logits = one(input[:50], heard[:50])
        answer, put = one.settle(logits, input[:50], heard[:50])
    assert bool(put[:, 0].any()) and not bool(put[:, 4].any())
    assert torch.equal(answer[~put], one.decode(logits)[~put])
    other = controller()
    load_weights(other, one.state_dict(), tmp_path)
    with torch.no_grad():
        assert torch.equal(other.answer(input[:50], heard[:50]), answer)
    load_weights(other, controller().state_dict(), tmp_path)
    assert other.landmarks is None


def test_what_is_located_has_no_gradient(taught: tuple[Controller, Tensor, Tensor]) -> None:
    one, input, heard = taught
    logits = one(input[:40], heard[:40]).detach().requires_grad_()
    answer, put = one.settle(logits, input[:40], heard[:40])
    (gradient,) = torch.autograd.grad(answer.sum(), logits)
    moved = gradient.abs().sum(dim=2)[:, :4] > 0
    assert bool(put.any()) and torch.equal(moved, ~put[:, :4])
