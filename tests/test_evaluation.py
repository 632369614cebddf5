"""Evaluation: the rows, their intervals, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dafxhost.data.sources import FolderSource
from dafxhost.errors import RunError, UsageError
from dafxhost.metrics import DEFAULT, METRICS
from dafxhost.training import evaluation, trainer
from dafxhost.training.config import TrainConfig
from dafxhost.training.evaluation import Evaluation, evaluate
from dafxhost.training.runs import load_run
from training_effects import shaper_effect, write_audio


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small run, and the effect findable under its name for this module's tests."""
    folder = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        for module in (trainer, evaluation):
            patch.setattr(module, "find_effect", lambda name, provider=None: shaper_effect())
        config = TrainConfig(
            effect="test-shaper", data=str(write_audio(folder / "train")), sample_rate=16000, samples=8192,
            loss_samples=4096, encoder_options={"sample_rate": 16000}, hidden=48, depth=1, bins=12, pool=200,
            supervised_steps=100, end_to_end_steps=5, supervised_batch=32, batch=4, directions=1,
            alternatives=2, epoch_steps=5, validation=6, workers=1, corpus_share=0.0,
        )  # fmt: skip
        trainer.train(config, run_dir=folder / "run")
        yield folder / "run"


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> FolderSource:
    return FolderSource(write_audio(tmp_path_factory.mktemp("test"), seed=9), 16000)


@pytest.fixture(scope="module")
def result(run: Path, heard: FolderSource) -> Evaluation:
    return evaluate(run, heard, 24, seed=3, workers=1)


def test_the_controller_beats_every_simple_way(result: Evaluation) -> None:
    names = [r.name for r in result.rows]
    assert names == [
        "controller",
        "supervised only",
        "random setting",
        "constant setting",
        "true setting",
        "input left alone",
    ]
    ours = result.row("controller")
    for name in ("random setting", "constant setting", "input left alone"):
        assert ours.mean < result.row(name).mean
    assert result.row("input left alone").ratio == 1.0
    for row in result.rows:
        assert row.low <= row.mean <= row.high and row.ratio_low <= row.ratio <= row.ratio_high
        assert row.ratio == pytest.approx(row.mean / result.row("input left alone").mean)
    assert result.examples == 24 and 0 < result.applied <= 24 and result.failed == 0
    tone, mode = result.parameters["tone"], result.parameters["mode"]
    assert 0 <= tone["mae"] < 0.25 and tone["pearson"] > 0.5 and tone["spearman"] > 0.5
    assert 1 / 3 < mode["accuracy"] <= 1
    assert tone["unheard"] == 0 and result.unidentifiable == ()
    assert result.identification["examples"] == result.applied
    assert set(result.constant) == {"tone", "mode"}


def test_every_way_has_every_metric(result: Evaluation) -> None:
    oracle, alone, ours = (result.row(n) for n in ("true setting", "input left alone", "controller"))
    assert oracle.mean == oracle.high == oracle.ratio == 0
    for row in result.rows:
        assert tuple(row.metrics) == DEFAULT
        for name, figure in row.metrics.items():
            assert figure.low <= figure.mean <= figure.high and figure.examples == 24
            assert oracle.metrics[name].mean == METRICS[name].perfect
            at_rest = 1 if METRICS[name].lower else 0
            assert alone.metrics[name].relative == pytest.approx(at_rest)
    assert ours.metrics["mr-stft"].mean == ours.mean
    for name in ("mel", "centroid", "lufs"):
        assert ours.metrics[name].relative_high < 1
    assert ours.metrics["mfcc"].relative_low > 0


def test_level_matched_and_parallel(run: Path, heard: FolderSource) -> None:
    done = evaluate(
        run, heard, 6, seed=3, workers=1, protocol="level-matched", pairs="parallel", metrics=["rms", "crest"]
    )
    assert [m["name"] for m in done.metrics] == ["mr-stft", "crest"] and "by construction" in done.skipped[
        "rms"
    ]
    assert done.row("true setting").mean == 0 < done.row("controller").mean
    assert (done.protocol, done.pairs) == ("level-matched", "parallel")
    assert done.details is not None and done.details.metrics["crest"].shape == (6, 6)


def test_equal_calls_give_equal_figures(run: Path, heard: FolderSource, result: Evaluation) -> None:
    done: list[tuple[int, int]] = []
    again = evaluate(load_run(run), heard, 24, seed=3, workers=2, progress=lambda k, n: done.append((k, n)))
    assert again == result
    assert done == [(16, 24), (24, 24)]


def test_json_and_markdown(result: Evaluation) -> None:
    data = json.loads(result.to_json())
    assert Evaluation.from_json(result.to_json()) == result
    assert data["rows"][0]["metrics"]["crest"]["mean"] == result.row("controller").metrics["crest"].mean
    assert data["rows"][0]["ratio"] == result.row("controller").ratio
    text = result.to_markdown()
    assert f"{result.row('controller').ratio:.3f}" in text and "| mode |" in text


def test_effect_never_applied_is_no_division_by_zero(run: Path, heard: FolderSource) -> None:
    nothing = evaluate(run, heard, 2, seed=1, workers=1, apply_probability=0.0)
    assert nothing.row("input left alone").mean == 0 and nothing.parameters == {}
    assert np.isfinite([r.ratio for r in nothing.rows]).all()


def test_a_search_is_measured_beside_the_controller(run: Path, heard: FolderSource) -> None:
    done = evaluate(run, heard, 6, seed=3, workers=2, refine=30, search=[8], metrics=["mel"])
    assert done.row("8 renders alone").mean > 0
    refined, alone = done.row("controller and 30 renders"), done.row("30 renders alone")
    assert refined.mean < done.row("random setting").mean
    assert refined.mean < alone.mean  # a search of so few renders lives of where it begins
    with pytest.raises(UsageError, match="refine is -1"):
        evaluate(run, heard, 1, refine=-1)


def test_a_search_alone_knows_nothing_of_the_controller(run: Path, heard: FolderSource) -> None:
    one, other = load_run(run), load_run(run)
    with torch.no_grad():
        other.controller.head.weight.neg_()
    alone = [evaluate(r, heard, 3, seed=4, workers=2, search=[30], metrics=["mel"]) for r in (one, other)]
    assert alone[0].row("30 renders alone") == alone[1].row("30 renders alone")
    assert alone[0].row("controller").mean != alone[1].row("controller").mean


def test_refusals(run: Path, heard: FolderSource, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        evaluate(run, heard, 0)
    with pytest.raises(RunError, match="no run folder"):
        evaluate(tmp_path / "nowhere", heard, 1)
