"""Run folders: what is found, loaded, predicted, and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import OutputError, ParameterError, RunError, ShapeError, UsageError
from dafxhost.parameters import Parameter, Port
from dafxhost.training import runs
from dafxhost.training.config import TrainConfig
from dafxhost.training.controller import Controller
from dafxhost.training.runs import load_run, new_run, newest_run
from training_effects import MODES, shaper_effect


def write_run(path: Path, effect: Effect | None = None, name: str = "best") -> Controller:
    """A run with an untrained controller."""
    effect = effect or shaper_effect()
    torch.manual_seed(3)
    encoder = dafxhost.encoder("style-statistics", sample_rate=16000)
    controller = Controller(encoder, effect.parameters, hidden=16, depth=1, bins=8).eval()
    path.mkdir(parents=True, exist_ok=True)
    runs.save_controller(path, name, controller, runs.card_of(effect, controller, 16000, 16384))
    return controller


@pytest.fixture(scope="module")
def run_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "a-run"
    write_run(path)
    return path


def noise(seconds: float, rate: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal((channels, int(seconds * rate)))
    return (0.1 * samples).astype(np.float32)


def test_a_saved_controller_gives_the_same_settings(tmp_path: Path) -> None:
    controller = write_run(tmp_path)
    run = load_run(tmp_path)
    a, b = noise(1.024, 16000, seed=1), noise(1.024, 16000, seed=2)
    expected = controller.setting(torch.from_numpy(a)[None], torch.from_numpy(b)[None], 16000)[0]
    assert np.allclose(run.predict(a, b, 16000), expected.double().numpy(), rtol=0, atol=1e-6)
    assert np.array_equal(run.predict_batch(a[None], b[None])[0], expected.double().numpy())
    assert [p.name for p in run.parameters] == ["tone", "mode"]
    assert run.parameters[1].choices == MODES
    assert (run.effect_name, run.sample_rate, run.samples) == ("test-shaper", 16000, 16384)


def test_predicts_from_any_rate_length_channels_and_level(run_path: Path) -> None:
    run = load_run(run_path)
    long, short = noise(20.0, 44100, channels=2), noise(0.3, 44100)
    first = run.predict(long, short, 44100)
    assert first.shape == (2,) and first.dtype == np.float64
    assert ((first >= 0) & (first <= 1)).all()
    assert np.array_equal(first, run.predict(long, short, 44100))
    # Powers of two scale without rounding: the level plays no part.
    assert np.array_equal(first, run.predict(long / 4, short / 8, 44100))


def test_predict_refuses_what_it_cannot_hear(run_path: Path) -> None:
    run = load_run(run_path)
    good = noise(1, 16000)
    with pytest.raises(UsageError, match="input is silent"):
        run.predict(np.zeros((1, 16000), np.float32), good, 16000)
    with pytest.raises(ParameterError, match="reference holds NaN"):
        run.predict(good, good * np.nan, 16000)
    with pytest.raises(ShapeError, match=r"input has shape \[C, T\]"):
        run.predict(good[0], good, 16000)


def test_finds_the_newest_run_of_an_effect(tmp_path: Path) -> None:
    import os

    with pytest.raises(RunError, match=r"no run .*dafxhost train --effect mda-bandisto"):
        newest_run(tmp_path / "nowhere", "mda-bandisto")
    write_run(tmp_path / "one")
    write_run(tmp_path / "two", shaper_effect("other-shaper"))
    os.utime(tmp_path / "two" / "best.json", ns=(10**18, 10**18))
    os.utime(tmp_path / "one" / "best.json", ns=(2 * 10**18, 2 * 10**18))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "best.json").write_text("{")
    assert newest_run(tmp_path, "other-shaper").name == "two"
    assert newest_run(tmp_path, "test-shaper").name == "one"
    with pytest.raises(RunError, match="of effect 'mda-bandisto'"):
        newest_run(tmp_path, "mda-bandisto")


def test_a_run_is_found_by_its_plugins_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the path is written: what was trained with `--effect FILE` is not known by that text."""
    import json

    plugin = tmp_path / "Some.vst3"
    plugin.touch()
    write_run(tmp_path / "runs" / "one")
    card = tmp_path / "runs" / "one" / "best.json"
    card.write_text(json.dumps({**json.loads(card.read_text()), "location": str(plugin)}))
    monkeypatch.chdir(tmp_path)
    for text in ("Some.vst3", str(plugin), "runs/../Some.vst3", "test-shaper"):
        assert newest_run("runs", text).name == "one"
    with pytest.raises(RunError, match=r"of effect 'Other.vst3'"):
        newest_run("runs", "Other.vst3")


def test_new_runs_do_not_collide(tmp_path: Path) -> None:
    names = {new_run("mda-combo", tmp_path).name for _ in range(3)}
    assert len(names) == 3 and all(n.startswith("mda-combo-") for n in names)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        new_run("mda-combo", tmp_path / "file")


def change(path: Path, **changes: Any) -> None:
    card = json.loads((path / "best.json").read_text())
    card.update(changes)
    (path / "best.json").write_text(json.dumps(card))


def test_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no controller"):
        load_run(tmp_path)
    faults: list[tuple[str, dict[str, Any]]] = [
        ("format", {"format": 99}),
        ("cannot be made", {"controller": {"bogus": 1}}),
        ("not fit", {"controller": {"hidden": 8}}),
    ]
    for i, (text, changes) in enumerate(faults):
        path = tmp_path / str(i)
        write_run(path)
        change(path, **changes)
        with pytest.raises(RunError, match=text):
            load_run(path)
    path = tmp_path / "cut"
    write_run(path)
    (path / "best.safetensors").write_bytes((path / "best.safetensors").read_bytes()[:-10])
    with pytest.raises(RunError, match="damaged"):
        load_run(path)
    (path / "best.safetensors").unlink()
    with pytest.raises(RunError, match="cannot read"):
        load_run(path)
    (path / "best.json").write_text("[]")
    with pytest.raises(RunError, match="not the card"):
        load_run(path)


def test_checkpoints_are_taken_in_order(tmp_path: Path) -> None:
    write_run(tmp_path, name="last")
    assert load_run(tmp_path).checkpoint == "last"
    write_run(tmp_path, name="best")
    assert load_run(tmp_path).checkpoint == "best"
    assert load_run(tmp_path, "last").checkpoint == "last"
    with pytest.raises(RunError, match="no supervised controller"):
        load_run(tmp_path, "supervised")
    with pytest.raises(UsageError, match="unknown checkpoint"):
        load_run(tmp_path, "newest")


def test_a_run_of_something_else_is_refused(run_path: Path) -> None:
    load_run(run_path, effect=shaper_effect())
    with pytest.raises(RunError, match="made for effect 'test-shaper', not 'other'"):
        load_run(run_path, effect=shaper_effect("other"))
    tone, mode = shaper_effect().parameters
    provider = shaper_effect().provider
    wider = Parameter("tone", maximum=2.0, default=0.5, port=Port(0))
    with pytest.raises(RunError, match=r"maximum of test-shaper's parameter 'tone' was 1.0; now it is 2.0"):
        load_run(run_path, effect=Effect("test-shaper", (wider, mode), provider))
    with pytest.raises(RunError, match="2 parameters of test-shaper, which now has 1"):
        load_run(run_path, effect=Effect("test-shaper", (tone,), provider))


def test_config_round_trip_and_faults(tmp_path: Path) -> None:
    config = TrainConfig(data='a "quoted" \\ folder', encoder_options={"mels": 32, "name": "x"}, step=0.1)
    path = tmp_path / "c.toml"
    path.write_text(config.to_toml())
    assert TrainConfig.from_toml(path) == config
    path.write_text('effect = "mda-delay"\nmax_minutes = 3\n')
    assert TrainConfig.from_toml(path) == TrainConfig(effect="mda-delay", max_minutes=3.0)
    for text, match in (
        ("bogus = 1", "unknown training option bogus"),
        ('batch = "many"', "takes int, not 'many'"),
        ("batch = 0", "batch must be above 0"),
        ('space = "outer"', "loss, signal"),
        ("pool_share = 0.9", "leave time"),
    ):
        path.write_text(text)
        with pytest.raises(UsageError, match=match):
            TrainConfig.from_toml(path)
    path.write_text("= 3")
    with pytest.raises(RunError, match="not TOML"):
        TrainConfig.from_toml(path)
    with pytest.raises(RunError, match="cannot read"):
        TrainConfig.from_toml(tmp_path / "nowhere.toml")
