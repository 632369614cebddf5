"""The estimator study: its measures on a differentiable effect, and its page."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import estimator_study as study
import estimator_study_page as page
from estimator_study_cases import starts
from estimator_study_descent import Contestant, descend
from estimator_study_quality import cosine, dense, quality
from estimator_study_torch import EFFECTS, TorchLandscape

from dafxhost.estimators.finite_difference import CentralDifference
from dafxhost.estimators.spsa import SPSA
from dafxhost.losses import TransferLoss
from torch_effects import noise

TRUTH = torch.tensor([[0.4, 0.5, 0.7], [0.6, 0.4, 0.5]], dtype=torch.float64)


def landscape(name: str) -> TorchLandscape:
    made = TorchLandscape(EFFECTS[name][0], noise(2, 1, 3000), TRUTH)
    made.loss = TransferLoss((64, 512), l1_weight=0.0)
    with torch.no_grad():
        made.prepared = made.loss.prepare(made.render(TRUTH[:, None])[:, 0])
    return made


@pytest.mark.parametrize("name", EFFECTS)
def test_autograd_and_central_differences_agree(name: str) -> None:
    land = landscape(name)
    at = starts(land, 3)
    assert float(land.losses(TRUTH[:, None]).max()) < 1e-6 < float(land.losses(at[:, None]).min())
    if name != "torch-echo":  # whose loss is rough in the delay
        assert (cosine(dense(land, at, 0.002), land.gradient(at)) > 0.99).all()


def test_a_perfect_estimator_has_a_cosine_of_one_and_no_variance() -> None:
    land = landscape("torch-low-pass")
    at = starts(land, 3)
    truth, slopes = land.gradient(at), land.slopes(at)
    found = quality(land, at, truth, slopes, lambda: CentralDifference(0.002))
    for space in ("loss", "signal"):
        assert min(found[space]["cosine"]) > 0.99
        assert max(found[space]["variance"]) == 0.0
        assert max(found[space]["bias2"]) < 0.05
    noisy = quality(land, at, truth, slopes, lambda: SPSA(0.002, 1))
    assert noisy["renders"] == 2 and max(noisy["loss"]["variance"]) > 0.01


def test_descent_keeps_to_its_budget_and_gets_somewhere() -> None:
    land = landscape("torch-distortion")
    at = starts(land, 3)
    before, count = land.losses(at[:, None])[:, 0], land.renders
    after = descend(land, at, Contestant("central", lambda: CentralDifference(0.05)), budget=62, rate=0.08)
    assert land.renders - count == 2 * (60 + 1), "ten steps of six renders, and the last look, twice"
    assert (after < 0.7 * before).all()


def test_the_page_is_written_from_results(monkeypatch: pytest.MonkeyPatch) -> None:
    land = landscape("torch-low-pass")
    monkeypatch.setattr(study, "QUALITY", study.QUALITY[1:3])
    monkeypatch.setattr(study, "DESCENT", study.DESCENT[:2])
    names = {"parameters": ["p0", "p1", "p2"]}
    results = {
        "steps": {"effects": {"mda-test": {**study.steps(land), **names}}},
        "quality": {"effects": {"torch-low-pass": {**study.estimates(land), **names}}},
        "descent": {"effects": {"torch-low-pass": {**study.descent(land, 12), **names}}},
    }
    text = page.written(page.PAGE.read_text(encoding="utf-8"), results)
    assert "| mda-test | " in text and "random search" in text and page.NOT_YET in text
    assert "| nan" not in text
    with pytest.raises(ValueError, match="section"):
        page.written("no marks", results)


def test_failures_do_not_spoil_the_means() -> None:
    assert page.mean([1.0, float("nan"), 3.0]) == 2.0
    assert page.number(page.mean([])) == "–"
    values: list[Tensor] = [torch.zeros(3), torch.ones(3)]
    assert float(cosine(values[0], values[1])) == 0.0
