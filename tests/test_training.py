"""Training: it learns, resumes to the same numbers, stops in time, survives Ctrl-C and bad renders."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from dafxhost.errors import AudioFileError, RunError, UnknownNameError, UsageError
from dafxhost.training import trainer
from dafxhost.training.config import TrainConfig
from dafxhost.training.runs import load_run, newest_run
from dafxhost.training.trainer import train
from training_effects import shaper_effect, write_audio

SMALL = TrainConfig(
    effect="test-shaper",
    sample_rate=16000,
    samples=8192,
    loss_samples=4096,
    encoder_options={"sample_rate": 16000},
    hidden=48,
    depth=1,
    bins=12,
    pool=200,
    supervised_steps=100,
    end_to_end_steps=12,
    supervised_batch=32,
    batch=4,
    directions=1,
    alternatives=2,
    epoch_steps=5,
    validation=8,
    corpus_share=0.0,
    workers=1,
    max_minutes=5.0,
)


@pytest.fixture(autouse=True)
def _shaper(monkeypatch: pytest.MonkeyPatch) -> None:
    find = trainer.find_effect

    def find_effect(name: str, provider: str | None = None) -> Any:
        return shaper_effect() if name == "test-shaper" else find(name, provider)

    monkeypatch.setattr(trainer, "find_effect", find_effect)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("audio"))


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(run / f"{name}.safetensors")


def log(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_learns_and_leaves_a_usable_run(audio: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    config = SMALL.replace(data=str(audio), end_to_end_steps=15)
    result = train(config, runs_dir=tmp_path, on_event=events.append)
    assert result.reason == "finished" and result.steps == 15
    # The input left alone is what training has to beat.
    assert result.validation < 0.6 * result.untouched
    assert result.validation <= result.supervised
    assert newest_run(tmp_path, "test-shaper") == result.run
    assert TrainConfig.from_toml(result.run / "config.toml") == config
    assert not (result.run / "pool.safetensors").exists()
    lines = log(result.run)
    assert [e["phase"] for e in lines] == ["supervised", *["end-to-end"] * 3]
    assert min(e["validation"] for e in lines) == result.validation
    kinds = [e["event"] for e in events]
    assert kinds[0] == "start" and kinds[-1] == "end" and {"pool", "step", "epoch"} <= set(kinds)
    assert events[0]["run"] == str(result.run) and events[0]["minutes"] == 5.0
    card = load_run(result.run).card
    assert card["figures"]["validation_mrstft"] == result.validation
    assert [p["name"] for p in card["parameters"]] == ["tone", "mode"]


def test_end_to_end_improves_on_a_poor_start(audio: Path, tmp_path: Path) -> None:
    config = SMALL.replace(
        data=str(audio), pool=64, supervised_steps=2, end_to_end_steps=80, epoch_steps=40, anchor=0.0,
        batch=8, rate=1e-3, validation=64,
    )  # fmt: skip
    result = train(config, runs_dir=tmp_path)
    assert result.validation < 0.8 * result.supervised


class Stop(Exception):
    """As good as a kill: nothing is written for it."""


def stopper(phase: str, step: int, error: type[BaseException]) -> Callable[[dict[str, Any]], None]:
    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "step" and event["phase"] == phase and event["step"] >= step:
            raise error

    return on_event


@pytest.mark.parametrize(
    ("phase", "step", "error"),
    [("end-to-end", 7, Stop), ("end-to-end", 7, KeyboardInterrupt), ("supervised", 20, KeyboardInterrupt)],
)
def test_resuming_gives_the_numbers_of_an_undisturbed_run(
    audio: Path, tmp_path: Path, phase: str, step: int, error: type[BaseException]
) -> None:
    config = SMALL.replace(data=str(audio), pool=60, supervised_steps=40)
    whole = train(config, run_dir=tmp_path / "whole")
    with pytest.raises(error):
        train(config, run_dir=tmp_path / "cut", on_event=stopper(phase, step, error))
    resumed = train(resume=tmp_path / "cut")
    assert resumed.validation == whole.validation and resumed.steps == whole.steps
    a, b = weights(whole.run), weights(resumed.run)
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert [e["validation"] for e in log(whole.run)] == [e["validation"] for e in log(resumed.run)]


def test_ctrl_c_keeps_a_usable_controller(audio: Path, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    stop = stopper("supervised", 40, KeyboardInterrupt)

    def on_event(event: dict[str, Any]) -> None:
        events.append(event)
        stop(event)

    with pytest.raises(KeyboardInterrupt):
        train(SMALL.replace(data=str(audio)), run_dir=tmp_path / "run", on_event=on_event)
    assert events[-1]["event"] == "end" and events[-1]["reason"] == "interrupted"
    run = load_run(tmp_path / "run")
    assert run.checkpoint == "last"
    clip = np.random.default_rng(0).standard_normal((1, 8192)).astype(np.float32)
    assert run.predict(clip, clip, 16000).shape == (2,)


def test_max_minutes_bounds_a_run_of_open_length(audio: Path, tmp_path: Path) -> None:
    config = SMALL.replace(
        data=str(audio), pool=0, supervised_steps=0, end_to_end_steps=0, max_minutes=0.1, validation=4
    )
    start = time.monotonic()
    result = train(config, runs_dir=tmp_path)
    # 6 s, and some for starting workers and the last validation on a busy machine.
    assert time.monotonic() - start < 20
    assert load_run(result.run).effect_name == "test-shaper"
    kept = json.loads((result.run / "best.json").read_text())["figures"]
    assert kept["pool"] > 0 and kept["supervised_steps"] > 0


def test_trains_an_encoder_with_the_controller(audio: Path, tmp_path: Path) -> None:
    options = {"sample_rate": 16000, "channels": [8, 8], "embedding_size": 16, "mels": 32}
    config = SMALL.replace(
        data=str(audio), encoder="log-mel", encoder_options=options, supervised_steps=3, end_to_end_steps=3
    )
    result = train(config, runs_dir=tmp_path)
    before, after = weights(result.run, "supervised"), weights(result.run)
    moved = [k for k in before if k.startswith("encoder.") and not torch.equal(before[k], after[k])]
    assert moved


@pytest.mark.parametrize("space", ["loss", "signal"])
def test_both_spaces_and_other_estimators_run(audio: Path, tmp_path: Path, space: str) -> None:
    config = SMALL.replace(
        data=str(audio), space=space, estimator="fd-central", pool=64, supervised_steps=5, end_to_end_steps=3
    )
    assert np.isfinite(train(config, runs_dir=tmp_path).validation)


def test_failed_renders_cost_their_examples_only(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "find_effect", lambda name, provider=None: shaper_effect(broken=2))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    config = SMALL.replace(data=str(audio), pool=64, supervised_steps=3, end_to_end_steps=6)
    result = train(config, runs_dir=tmp_path / "runs")
    assert np.isfinite(result.validation)
    assert all(torch.isfinite(v).all() for v in weights(result.run).values())


def test_patience_ends_training(audio: Path, tmp_path: Path) -> None:
    # At a learning rate of next to nothing nothing improves.
    config = SMALL.replace(
        data=str(audio), rate=1e-12, patience=2, end_to_end_steps=50, epoch_steps=2, pool=64, anchor=0.0
    )
    result = train(config, runs_dir=tmp_path)
    assert result.reason == "patience" and result.steps < 50


def test_what_cannot_be_trained_is_said_and_leaves_no_folder(audio: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="mda-combo"):
        train(TrainConfig(effect="mda-cmbo"), runs_dir=tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="CUDA" if not torch.cuda.is_available() else "device"):
        train(SMALL.replace(data=str(audio), device="cuda" if not torch.cuda.is_available() else "no"),
              runs_dir=tmp_path)  # fmt: skip
    with pytest.raises(AudioFileError, match="no such folder"):
        train(SMALL.replace(data=str(tmp_path / "nowhere")), runs_dir=tmp_path)
    with pytest.raises(RunError, match="no run to resume"):
        train(resume=tmp_path)
    done = write_audio(tmp_path / "taken")
    (done / "config.toml").write_text("")
    with pytest.raises(UsageError, match="already holds a run"):
        train(SMALL, run_dir=done)


def test_the_callers_random_state_is_left_alone(audio: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(SMALL.replace(data=str(audio), pool=32, supervised_steps=2, end_to_end_steps=1), runs_dir=tmp_path)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("pairs", [pytest.param("two-settings", marks=pytest.mark.slow), "parallel"])
def test_trains_on_other_pairs_and_settings(
    pairs: str, audio: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("DAFXHOST_CACHE", str(tmp_path / "cache"))
    config = SMALL.replace(
        data=str(audio), pairs=pairs, settings="even", augmentations="tilt, gain, polarity", pool=40,
        supervised_steps=10, end_to_end_steps=2, validation=4,
    )  # fmt: skip
    result = train(config, runs_dir=tmp_path)
    assert result.reason == "finished" and np.isfinite(result.validation)
    assert TrainConfig.from_toml(result.run / "config.toml") == config
    assert list((tmp_path / "cache").glob("even-*.json"))


def test_wrong_pairs_settings_and_augmentations_are_named() -> None:
    for name, value in (("pairs", "abc"), ("settings", "odd"), ("augmentations", "speed, loud")):
        with pytest.raises(UsageError, match=f"training option {name} = '{value}'"):
            SMALL.replace(**{name: value})
    with pytest.raises(UsageError, match='needs settings = "presets"'):
        SMALL.replace(presets="folder")
