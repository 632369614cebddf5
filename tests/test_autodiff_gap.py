"""The benchmark of estimated against automatic gradients: its arithmetic, and one run at toy size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import autodiff_gap
import autodiff_report
import measure
from autodiff_ways import AUTODIFF, THEIRS, Autodiff, Estimated, RandomCoordinates, TorchBox

from dafxhost.estimators.spsa import SPSA
from dafxhost.losses import TransferLoss
from dafxhost_effects.torch_effects.eq_compressor import eq_compressor


def example(batch: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Dry and target `[B, 1, T]`, and settings `[B, 24]` beside the true ones."""
    g = torch.Generator().manual_seed(0)
    dry = 0.1 * torch.randn(batch, 1, 4096, generator=g)
    true, settings = (0.1 + 0.8 * torch.rand(batch, 24, generator=g) for _ in range(2))
    return dry, eq_compressor(dry, true, 24000), settings


LOSS = TransferLoss((64, 512), l1_weight=0.0)


def test_all_coordinates_in_either_space_are_the_automatic_gradient() -> None:
    dry, target, settings = example(2)
    g = torch.Generator().manual_seed(1)
    losses, true = Autodiff(LOSS, 24000)(dry, target, settings, g)
    for space, cosine in (("signal", 0.995), ("loss", 0.95)):
        way = Estimated(LOSS, TorchBox(24000), RandomCoordinates(0.003, 24), space)
        ours, estimate = way(dry, target, settings, g)
        torch.testing.assert_close(ours, losses)
        assert way.renders == 25
        assert torch.cosine_similarity(estimate, true, dim=1).min() > cosine
        assert 0.9 < float(estimate.norm() / true.norm()) < 1.1


def test_few_coordinates_average_to_all_with_less_noise_than_spsa() -> None:
    """On a linear function, where both are unbiased: over many draws the mean is the slope."""
    slope = torch.linspace(-1, 1, 24, dtype=torch.float64)
    centre = torch.full((4000, 24), 0.5)
    noise: dict[str, float] = {}
    for name, estimator in (("six", RandomCoordinates(0.01, 6)), ("spsa", SPSA(0.01, 1))):
        plan = estimator.perturb(centre, base=True, generator=torch.Generator().manual_seed(2))
        estimate = estimator.gradient(plan, plan.settings @ slope)
        assert (estimate.mean(0) - slope).abs().max() < 0.25
        noise[name] = float((estimate - slope).square().sum(1).mean() / slope.square().sum())
    assert noise["six"] == pytest.approx(24 / 6 - 1, rel=0.1)
    assert noise["spsa"] == pytest.approx(23, rel=0.1)


def test_coordinates_are_dealt_evenly_and_turn_round_at_the_bound() -> None:
    plan = RandomCoordinates(0.1, 6).perturb(torch.ones(8, 24), generator=torch.Generator().manual_seed(3))
    moved = plan.distances != 0
    assert (moved.sum(2) == 1).all() and (moved.sum((0, 1)) == 2).all()
    assert (moved.sum(1) <= 1).all(), "a parameter was drawn twice for one example"
    np.testing.assert_allclose(plan.distances[moved], -0.1)


def test_a_failed_render_takes_away_its_own_coordinate() -> None:
    estimator = RandomCoordinates(0.1, 2)
    plan = estimator.perturb(torch.full((1, 4), 0.5), generator=torch.Generator().manual_seed(4))
    values = plan.settings.sum(2)
    values[0, 1] = torch.nan
    gradient = estimator.gradient(plan, values)
    lost = int(plan.distances[0, 0].nonzero())
    assert estimator.dropped == 1 and gradient.isfinite().all()
    assert gradient[0, lost] == 0 and gradient.sum() == pytest.approx(4.0)


def test_the_gap_is_a_share_with_an_interval() -> None:
    rng = np.random.default_rng(5)
    base = rng.random(200)
    theirs, autodiff, ours = base + 0.5, base + 0.1, base + 0.2 + 0.1 * rng.standard_normal(200)
    share, low, high = autodiff_report.gap_closed(theirs, autodiff, ours)
    assert low < share < high and share == pytest.approx(0.75, abs=0.06) and high - low < 0.15
    assert autodiff_report.gap_closed(theirs, autodiff, autodiff)[0] == pytest.approx(1.0)
    assert autodiff_report.gap_closed(theirs, autodiff, theirs)[0] == 0.0


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(measure, "busy_cores", lambda seconds=1.0: 0.0)
    rng = np.random.default_rng(6)
    for folder in ("train", "test"):
        (tmp_path / folder).mkdir()
        for name in ("one", "two"):
            soundfile.write(tmp_path / folder / f"{name}.wav", 0.3 * rng.standard_normal(48000), 24000)
    (tmp_path / "page.md").write_text("# A\n\n<!-- begin gap -->\nold\n<!-- end gap -->\n")
    return [
        *("--json", str(tmp_path / "gap.json"), "--page", str(tmp_path / "page.md"), "--write"),
        *("--train", str(tmp_path / "train"), "--test", str(tmp_path / "test")),
        *("--samples", "16384", "--loss-samples", "2048", "--examples", "4", "--validation", "2"),
        *("--held-out", "3", "--corpus-share", "0", "--bank", "1"),
        *("--steps", "2", "--every", "1", "--batch", "2"),
        *("--rates", "1e-3", "--ways", AUTODIFF, THEIRS, "coordinates-6", "--cache", str(tmp_path / "sets")),
    ]  # fmt: skip


def test_a_run_at_toy_size_writes_its_page(tiny: list[str], tmp_path: Path, capsys: Any) -> None:
    assert autodiff_gap.main(tiny) == 0
    found = json.loads((tmp_path / "gap.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [AUTODIFF, THEIRS, "coordinates-6"] and found["step"] == 2
    assert (rows[THEIRS]["renders"], rows["coordinates-6"]["renders"]) == (3, 7)
    assert rows[AUTODIFF]["gap"][0] == 1 and rows[THEIRS]["gap"][0] == 0 and rows[AUTODIFF]["cost"] == 1
    page = (tmp_path / "page.md").read_text()
    assert "old" not in page and "2 of 2 steps of 2 examples" in page and "| input left alone |" in page
    # The examples that were kept are taken again, and the same seeds give the same training.
    capsys.readouterr()
    assert autodiff_gap.main(tiny) == 0
    again = {row["name"]: row["loss"] for row in json.loads(capsys.readouterr().out)}
    assert again == {name: row["loss"] for name, row in rows.items()}


def test_what_is_missing_is_said(tmp_path: Path, capsys: Any) -> None:
    for given, said in (
        (["--json", str(tmp_path / "no.json")], "nothing was measured yet"),
        (["--train", "a"], "--train and --test go together"),
        (["--train", "a", "--test", "b", "--ways", THEIRS], "between them lies the gap"),
    ):
        with pytest.raises(SystemExit) as ended:
            autodiff_gap.main(given)
        assert ended.value.code == 2 and said in capsys.readouterr().err
    with pytest.raises(ValueError, match="begin gap"):
        autodiff_report.written("# no marks", {})
