"""Steps chosen from what the loss does along each parameter: known shapes, a whole effect, the cache."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dafxhost.effects import Effect, Provider
from dafxhost.errors import UsageError
from dafxhost.estimators import choice
from dafxhost.estimators.block import BlockSPSA
from dafxhost.losses import TransferLoss
from dafxhost.parameters import Parameter
from torch_effects import EFFECT, InProcessExecutor

TRUTH = torch.tensor([[0.3, 0.6], [0.5, 0.5], [0.7, 0.2]], dtype=torch.float64)
LOSS = TransferLoss((32, 128, 512), l1_weight=0.0)


class Counting(InProcessExecutor):
    """Renders numpy arrays, too, and counts calls; `broken` renders are NaN."""

    broken = False

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: str = "raise") -> Any:
        numpy = isinstance(audio, np.ndarray)
        out = super().render(
            torch.as_tensor(audio), torch.as_tensor(settings), sample_rate, on_error=on_error
        )
        if self.broken and not numpy:
            out[..., 0] = torch.nan
        return out.numpy() if numpy else out


def scanned(function: Any) -> tuple[Tensor, Tensor]:
    scan = choice.lines(function, TRUTH)
    return choice.agreements(scan, TRUTH)


def test_a_bowl_agrees_at_every_step_and_dents_only_at_large_ones() -> None:
    def losses(settings: Tensor) -> Tensor:
        off = settings - TRUTH.unsqueeze(1)
        # One dent every 0.2: the smallest step sees their walls, a step of 0.1 spans one.
        dents = torch.cos(2 * torch.pi * 5 * off[..., 1])
        return off[..., 0].square() + off[..., 1].square() + 0.1 * dents

    agreement, size = scanned(losses)
    assert agreement[0].min() > 0.97  # less than 1 by what is clipped at the ends
    assert agreement[1, 0] < 0.3 < 0.9 < agreement[1, 2]
    assert float(size[0, 0] / size[0, 1]) == pytest.approx(1.0, abs=0.1)
    assert float(size[1, 0] / size[1, 1]) > 2


def test_a_narrow_valley_wants_a_small_step() -> None:
    """Flat beyond 0.1: where the loss says something, a step of 0.3 sees less of it."""

    def losses(settings: Tensor) -> Tensor:
        off = (settings - TRUTH.unsqueeze(1)).abs()
        return -torch.exp(-((off[..., 0] / 0.1) ** 2)) + 0.0 * off[..., 1]

    agreement, _ = scanned(losses)
    assert (agreement[0] > 0).all()
    assert not agreement[1].any(), "a parameter that does not matter agrees with nothing"


def test_an_upside_down_loss_disagrees_and_failures_are_left_out() -> None:
    agreement, _ = scanned(lambda s: -(s - TRUTH.unsqueeze(1)).square().sum(-1))
    assert (agreement < -0.97).all()  # less than 1 by what is clipped at the ends

    def failing(settings: Tensor) -> Tensor:
        out = (settings - TRUTH.unsqueeze(1)).square().sum(-1)
        return out.masked_fill(torch.arange(out.shape[1]) % 7 == 3, torch.nan)

    agreement, size = scanned(failing)
    assert bool(torch.isfinite(agreement).all()) and bool(torch.isfinite(size).all())
    assert (agreement > 0.7).all()


def test_slopes_are_clipped_at_the_ends_and_divided_by_what_is_left() -> None:
    grid = torch.linspace(0, 1, choice.POINTS, dtype=torch.float64)
    for stride in choice.STRIDES:
        torch.testing.assert_close(choice.slopes(3 * grid, stride), torch.full_like(grid, 3.0))


def test_each_parameter_gets_its_step_and_the_others_have_a_say() -> None:
    clear = torch.tensor([[0.1, 0.2, 0.3, 0.9], [0.9, 0.3, 0.2, 0.1]])
    assert choice.best_steps(clear).tolist() == [3, 0]
    tied = torch.tensor([[0.1, 0.2, 0.8, 0.3], [0.0, 0.0, 0.0, 0.0]])
    assert choice.best_steps(tied).tolist() == [2, 2], "what does not matter follows the others"


def test_directions_are_as_many_as_pay() -> None:
    chosen = torch.zeros(4, dtype=torch.int64)
    alike, size = torch.full((4, 1), 0.5), torch.ones(4, 1, dtype=torch.float64)
    assert choice.best_directions(alike, size, chosen) == 4, "an example costs much beside its estimate"
    # Nothing beside it: all numbers of blocks are worth the same, and the fewest are taken.
    assert choice.best_directions(alike, size, chosen, overhead=0.0) == 1
    one = torch.tensor([[1.0], [1e-4], [1e-4], [1e-4]], dtype=torch.float64)
    telling = torch.tensor([[0.8], [0.0], [0.0], [0.0]])
    assert choice.best_directions(telling, one, chosen) == 1, "the others are no noise to what alone matters"
    assert choice.best_directions(torch.zeros(2, 1), size[:2], chosen[:2]) == 1
    assert choice.best_directions(alike[:1], size[:1], chosen[:1]) == 1


def test_an_effect_is_measured_and_its_estimator_works() -> None:
    executor = Counting()
    found = choice.measure(executor, LOSS, sample_rate=16000, samples=2048, examples=3)
    assert found.parameters == ("gain", "drive", "tilt", "mix")
    assert set(found.steps) <= set(choice.STEPS)
    assert found.agreement[1][1] > 0.3, "drive is heard"
    assert found.agreement[0] == (0.0,) * len(choice.STEPS) or max(map(abs, found.agreement[0])) < 0.2, (
        "the level is matched"
    )
    assert found.render_ms > 0 and found.loss_ms > 0
    estimator = found.make()
    assert isinstance(estimator, BlockSPSA) and estimator.step.tolist() == pytest.approx(found.steps)
    plan = estimator.perturb(torch.full((2, 4), 0.5))
    assert plan.settings.shape == (2, 2 * found.directions, 4)
    assert [row[0] for row in found.rows()] == list(found.parameters)
    again = choice.measure(executor, LOSS, sample_rate=16000, samples=2048, examples=3)
    assert (again.steps, again.agreement, again.roughness) == (found.steps, found.agreement, found.roughness)


def test_failed_renders_leave_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    executor = Counting()
    monkeypatch.setattr(executor, "broken", True)
    found = choice.measure(executor, LOSS, sample_rate=16000, samples=2048, examples=1)
    assert not np.any(found.agreement)
    assert set(found.steps) <= set(choice.STEPS)


def test_an_effect_without_continuous_parameters_has_nothing_to_estimate() -> None:
    effect = Effect(
        "test-switch", (Parameter("on", "toggle", default=0.0),), Provider("test", "nowhere:Nothing")
    )
    found = choice.measure(Counting(effect), LOSS, sample_rate=16000, samples=2048)
    assert (found.parameters, found.steps) == ((), ())
    plan = found.make().perturb(torch.zeros(2, 0))
    assert plan.settings.shape == (2, 2, 0)
    with pytest.raises(UsageError, match="at least one example"):
        choice.measure(Counting(), LOSS, sample_rate=16000, samples=2048, examples=0)


def test_what_was_measured_is_kept_by_effect_and_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path))
    monkeypatch.setattr(choice, "LINES", 1)
    measured: list[str] = []
    answer = choice.Choice(
        EFFECT.name, ("gain",), (0.1,), ((0.0, 0.1, 0.2, 0.1),), (2.0,), "spsa", 1, 1.0, 2.0
    )

    def measure(executor: Any, loss: Any, *, sample_rate: int, samples: int) -> choice.Choice:
        measured.append(f"{sample_rate} {samples} {loss.l1_weight}")
        return answer

    monkeypatch.setattr(choice, "measure", measure)
    executor = Counting()
    assert choice.chosen(executor, LOSS, sample_rate=16000, samples=2048) == answer
    assert choice.chosen(executor, LOSS, sample_rate=16000, samples=2048) == answer
    assert measured == ["16000 2048 0.0"]
    choice.chosen(executor, LOSS, sample_rate=16000, samples=4096)
    choice.chosen(executor, TransferLoss((32, 128), l1_weight=0.0), sample_rate=16000, samples=2048)
    choice.chosen(executor, TransferLoss((32, 128, 512), l1_weight=1.0), sample_rate=16000, samples=2048)
    assert len(measured) == 4
    for file in tmp_path.iterdir():
        file.write_text(json.dumps({"effect": "something else"}))
    assert choice.chosen(executor, LOSS, sample_rate=16000, samples=2048) == answer
    assert len(measured) == 5, "a broken file is measured anew"
