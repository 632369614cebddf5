"""Refining a transfer by search: nearer to the reference, never worse by the score, said in the result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dafxhost
from command_line import RATE, SAMPLES, make_run
from dafxhost.data.features import normalise_peak
from dafxhost.errors import UsageError
from dafxhost.refinement import StyleScore, refine_setting
from dafxhost.style_transfer import transfer
from dafxhost.training.runs import load_run
from test_transfer import music


def clip(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((1, SAMPLES)))
    audio = np.fft.irfft(spectrum / np.maximum(np.fft.rfftfreq(SAMPLES, 1 / RATE), 50), SAMPLES)
    return normalise_peak(audio.astype(np.float32))


@pytest.fixture(scope="module")
def executor():
    with dafxhost.Executor(dafxhost.effect("mda-combo", provider="builtin"), workers=2) as opened:
        yield opened


def test_the_input_alone_scores_one_and_the_reference_itself_nothing(executor):
    effect, dry = executor.effect, clip(1)
    wanted = effect.setting(drive=0.9, model="Small radio speaker")
    wet = normalise_peak(executor.render(dry[None], wanted[None], RATE)[0])
    score = StyleScore(executor, dry[None], [wet], RATE)
    flat = effect.setting(model="D.I. (flat frequency response)", drive=0.5, hpf_freq=0.0, output=0.5)
    found = score(np.stack([wanted, flat]))
    assert found[0] < 1e-4
    assert found[1] > 0.5
    assert StyleScore(executor, dry[None], [clip(2)], RATE)._score(dry[None, None])[0] == pytest.approx(1.0)


def test_loudness_does_not_count(executor):
    effect, dry = executor.effect, clip(1)
    score = StyleScore(executor, dry[None], [clip(2)], RATE)
    loud, quiet = score(np.stack([effect.setting(output=0.9), effect.setting(output=0.2)]))
    assert loud == pytest.approx(quiet, rel=1e-3)


def test_refining_finds_what_an_untrained_controller_does_not(executor, tmp_path):
    run = load_run(make_run(tmp_path))
    effect = executor.effect
    wanted = effect.setting(drive=0.9, model="Small radio speaker")
    heard = normalise_peak(executor.render(clip(3)[None], wanted[None], RATE)[0])
    start = effect.setting(drive=0.4, model="Large stack (front mic)")
    found = refine_setting(run, executor, [clip(1)], [heard], start, 120)
    assert found.renders == 120
    assert found.score < 0.8 * found.start_score
    again = refine_setting(run, executor, [clip(1)], [heard], start, 120)
    assert np.array_equal(again.setting, found.setting)


def test_a_transfer_that_refines_says_what_it_did(tmp_path: Path):
    make_run(tmp_path / "runs", favour=0)
    source = music(tmp_path / "in.wav")
    reference = music(tmp_path / "ref.wav", seed=5)
    common = {"runs_dir": tmp_path / "runs", "provider": "builtin"}
    plain = transfer(source, reference, output=tmp_path / "plain.wav", **common)
    tried = []
    done = transfer(
        source,
        reference,
        output=tmp_path / "out.wav",
        refine=40,
        progress=lambda *a: tried.append(a),
        **common,
    )
    assert plain.refined is None
    assert done.refined is not None and done.refined["settings_tried"] == 40
    assert done.refined["score_after"] <= done.refined["score_before"]
    assert [count for count, _ in tried] == [40]
    written = json.loads((tmp_path / "out.wav.json").read_text())
    assert written["refined"] == done.refined
    with pytest.raises(UsageError, match="refine is -1"):
        transfer(source, reference, output=tmp_path / "x.wav", refine=-1, **common)
