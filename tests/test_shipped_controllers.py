"""Controllers that come with dafxhost: a transfer without training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from command_line import Call
from dafxhost.registry import effect
from dafxhost.run_folders import CONTROLLERS, find_run, read_info, shipped_effects, shipped_run
from dafxhost.training.runs import load_run, newest_run
from test_transfer import music

NINE = ("ambience", "combo", "delay", "dynamics", "leslie", "multiband", "overdrive", "ringmod", "thruzero")


def test_the_nine_effects_of_the_paper_have_one() -> None:
    assert shipped_effects() == [f"mda-{name}" for name in NINE]
    assert sum(p.stat().st_size for p in CONTROLLERS.rglob("*") if p.is_file()) < 20e6


@pytest.mark.parametrize("name", NINE)
def test_each_fits_its_effect_and_answers(name: str) -> None:
    path = shipped_run(f"mda-{name}")
    assert path is not None
    run = load_run(path, effect=effect(f"mda-{name}"))
    rng = np.random.default_rng(0)
    clips = 0.2 * rng.standard_normal((2, 1, 65536)).astype(np.float32)
    setting = run.predict(clips[0], clips[1], run.sample_rate)
    assert np.isfinite(setting).all() and setting.min() >= 0 and setting.max() <= 1
    assert np.ptp(setting) > 0
    # No folder of this machine is named in what is given to others.
    info = read_info(path)
    assert info.problem == "" and info.config["data"].startswith("../") and info.config["pool_from"] == ""


def test_they_are_found_by_the_effects_name_after_ones_own(tmp_path: Path) -> None:
    assert newest_run(tmp_path, "mda-combo") == find_run("mda-combo", tmp_path) == CONTROLLERS / "mda-combo"
    assert shipped_run("mda-bandisto") is None


def test_a_transfer_needs_no_training(call: Call, tmp_path: Path) -> None:
    music(tmp_path / "in.wav")
    music(tmp_path / "ref.wav", seed=5)
    code, out, err = call("transfer", "in.wav", "ref.wav", "--effect", "mda-overdrive", "--json")
    assert code == 0, err
    assert json.loads(out)["effect"] == "mda-overdrive" and (tmp_path / "in-transferred.wav").is_file()
    code, _, err = call("transfer", "in.wav", "ref.wav")
    assert code == 1 and "mda-overdrive" in err  # which effects come with one
