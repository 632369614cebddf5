"""Training with the estimator that was chosen for the effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dafxhost.estimators.choice import STEPS
from dafxhost.training import trainer
from dafxhost.training.config import TrainConfig
from dafxhost.training.trainer import train
from training_effects import shaper_effect, write_audio


def test_auto_is_measured_once_and_told_in_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(trainer, "find_effect", lambda name, provider=None: shaper_effect())
    config = TrainConfig(
        effect="test-shaper", data=str(write_audio(tmp_path / "audio")), sample_rate=16000, samples=4096,
        loss_samples=0, fft_sizes=(128,), encoder_options={"sample_rate": 16000}, hidden=8, depth=1, pool=16,
        supervised_steps=2, supervised_batch=8, end_to_end_steps=2, batch=2, epoch_steps=2, validation=4,
        corpus_share=0.0, augment=False, workers=1, estimator="auto",
    )  # fmt: skip
    cards: list[dict[str, Any]] = []
    for name in ("one", "two"):
        result = train(config, run_dir=tmp_path / name)
        cards.append(json.loads((result.run / "best.json").read_text())["estimator"])
        assert result.steps == 2
    (kept,) = (tmp_path / "cache").glob("estimator-*.json")
    assert cards[0] == cards[1] == json.loads(kept.read_text())
    assert cards[0]["parameters"] == ["tone"] and cards[0]["steps"][0] in STEPS
