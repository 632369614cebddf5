"""Intervals, temperatures and their calibration, on distributions whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import dafxhost
from command_line import make_run
from dafxhost.data.examples import ExampleBatch
from dafxhost.errors import RunError, ShapeError, UsageError
from dafxhost.parameters import Parameter, Port
from dafxhost.training.controller import Controller
from dafxhost.training.runs import load_run
from dafxhost.training.uncertainty import (
    CALIBRATION,
    calibrate_run,
    calibration,
    cumulative,
    fit_temperature,
    quantiles,
    uncertainty,
)

PARAMETERS = (
    Parameter("amount", minimum=0, maximum=200, default=0.5, unit="%", port=Port(0)),
    Parameter("mode", "choice", 0, 3, 0, choices=tuple("abcd"), port=Port(1, values=(0.0, 1.0, 2.0, 3.0))),
)
NAMES = [p.name for p in PARAMETERS]


def controller() -> Controller:
    encoder = dafxhost.encoder("style-statistics", mels=4, linear=4)
    return Controller(encoder, PARAMETERS, hidden=8, depth=1, bins=21)


def drawn(n: int, c: Controller, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits `[n, 2, 21]` that are the truth: bells of many widths, and choices of many certainties; settings
    drawn from the very distributions.
    """
    rng = np.random.default_rng(seed)
    middle, width = rng.uniform(0, 1, (n, 1)), rng.uniform(0.05, 0.4, (n, 1))
    bells = -0.5 * ((c.values[0].numpy() - middle) / width) ** 2
    choices = np.full((n, c.values.shape[1]), -1e9)
    choices[:, :4] = rng.normal(0, 2, (n, 4))
    logits = torch.from_numpy(np.stack([bells, choices], axis=1))
    rows = torch.multinomial(
        logits.softmax(dim=-1).flatten(0, 1), 1, generator=torch.Generator().manual_seed(seed)
    ).reshape(n, 2)
    settings = c.values.double()[torch.arange(2), rows]
    settings[:, 0] += torch.from_numpy(rng.uniform(-0.025, 0.025, n))  # anywhere in the bin
    ends = (rows[:, 0] == 0) | (rows[:, 0] == 20)
    settings[ends, 0] = (settings[ends, 0] - c.values[0, rows[ends, 0]]).abs()  # half bins at both ends
    settings[rows[:, 0] == 20, 0] = 1 - settings[rows[:, 0] == 20, 0]
    return logits, settings


def test_quantiles_and_probabilities_undo_each_other() -> None:
    values = torch.linspace(0, 1, 11, dtype=torch.float64)
    uniform = torch.tensor([0.05] + [0.1] * 9 + [0.05], dtype=torch.float64)
    torch.testing.assert_close(
        quantiles(uniform, values, (0.0, 0.1, 0.5, 0.9, 1.0)),
        torch.tensor([0, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64),
    )
    other = torch.rand(3, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    other = other / other.sum(dim=-1, keepdim=True)
    found = quantiles(other, values, (0.3,))
    torch.testing.assert_close(cumulative(other, values, found[:, 0]), torch.full((3,), 0.3).double())


def test_true_distributions_are_found_calibrated_and_their_temperature_is_one() -> None:
    c = controller()
    logits, settings = drawn(4000, c)
    amount, mode = calibration(c, NAMES, logits, settings)
    for level in (0.5, 0.8, 0.95):
        assert amount.coverage[f"{level:g}"] == pytest.approx(level, abs=0.03)
    assert max(amount.error, mode.error) < 0.02
    assert mode.coverage == {}
    assert amount.accuracy is None
    assert fit_temperature(c, logits, settings).tolist() == pytest.approx([1, 1], rel=0.07)


def test_networks_too_sure_of_themselves_are_seen_and_mended() -> None:
    c = controller()
    logits, settings = drawn(4000, c)
    sure = torch.stack([4 * logits[:, 0], 3 * logits[:, 1]], dim=1)
    amount, mode = calibration(c, NAMES, sure, settings)
    assert amount.coverage["0.8"] < 0.6
    assert min(amount.error, mode.error) > 0.04
    fitted = fit_temperature(c, sure, settings)
    assert fitted.tolist() == pytest.approx([4, 3], rel=0.07)
    fresh, truth = drawn(2000, c, seed=1)
    fresh = torch.stack([4 * fresh[:, 0], 3 * fresh[:, 1]], dim=1)
    mended = calibration(c, NAMES, fresh, truth, fitted)
    before = calibration(c, NAMES, fresh, truth)
    assert mended[0].coverage["0.8"] == pytest.approx(0.8, abs=0.04)
    assert all(a.error < 0.5 * b.error and a.nll < b.nll for a, b in zip(mended, before, strict=True))
    assert mended[1].accuracy == before[1].accuracy  # temperature changes no answer
    together = fit_temperature(c, sure, settings, shared=True)
    assert together[0] == together[1]
    assert 3 < together[0] < 4


def test_bad_input_is_said() -> None:
    c = controller()
    logits, settings = drawn(20, c)
    with pytest.raises(UsageError, match="15 examples are too few"):
        fit_temperature(c, logits[:15], settings[:15])
    with pytest.raises(ShapeError, match=r"settings \[B, 2\]"):
        calibration(c, NAMES, logits, settings[:, :1])
    with pytest.raises(ShapeError, match="B at least 1"):
        calibration(c, NAMES, logits[:0], settings[:0])


def batch(n: int, samples: int) -> ExampleBatch:
    rng = np.random.default_rng(0)
    audio = (0.1 * rng.standard_normal((2, n, 1, samples))).astype(np.float32)
    settings = rng.uniform(0, 1, (n, 7))
    applied = np.arange(n) != 0
    return ExampleBatch(audio[0], audio[1], audio[1], settings, applied, ["x"] * n, {})


def test_a_run_keeps_its_temperatures_for_the_very_weights_they_were_fitted_to(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run")
    run = load_run(path)
    made = batch(18, run.samples)
    made = ExampleBatch(
        made.dry, made.reference, made.target, made.settings[:, : len(run.parameters)], made.applied,
        made.names, {},
    )  # fmt: skip
    embedded = run.embed_pairs(list(made.dry[:2]), list(made.reference[:2]))
    logits = run.logits(*embedded)
    np.testing.assert_array_equal(
        run.decode_pairs(logits, embedded), run.predict_pairs(list(made.dry[:2]), list(made.reference[:2]))
    )
    before = uncertainty(run, logits)
    assert not before[0].calibrated
    found = calibrate_run(run, made)
    assert found is not None
    kept = json.loads((path / CALIBRATION).read_text())["checkpoints"][run.checkpoint]
    assert list(kept["temperature"].values()) == found.tolist()
    assert kept["examples"] == 17  # the one without the effect says nothing of settings
    after = uncertainty(run, logits)
    for p, (a, b) in enumerate(zip(after, before, strict=True)):
        assert a.calibrated
        if a.confidence is None:
            assert 0 <= a.low < a.high <= 1
            assert " to " in a.text()
            # Random settings: the fit flattens what an untrained network believes, or leaves it.
            assert (a.entropy > b.entropy) == (found[p] > 1)
        else:
            assert a.text().endswith("% sure")
    kept["weights_sha256"] = "of other weights"
    (path / CALIBRATION).write_text(json.dumps({"checkpoints": {run.checkpoint: kept}}))
    assert not uncertainty(run, logits)[0].calibrated
    (path / CALIBRATION).write_text("[]")
    with pytest.raises(RunError, match=r"calibration\.json is damaged.*delete it"):
        uncertainty(run, logits)
    with pytest.raises(UsageError, match="between 0 and 1"):
        uncertainty(run, logits, level=80)
    few = batch(10, run.samples)
    assert calibrate_run(run, few) is None
