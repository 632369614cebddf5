"""A learned proxy of the loss: what it learns, and a training that goes through it; pools used again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dafxhost import Executor
from dafxhost.errors import RunError
from dafxhost.losses import MultiResolutionSTFT
from dafxhost.training import proxy_phase, trainer
from dafxhost.training.controller import Controller
from dafxhost.training.pool import Pool, load_pool
from dafxhost.training.proxy import DistanceMeter, DistanceProxy, Distances, fit_proxy, proxy_objective
from dafxhost.training.runs import load_state, save_state
from dafxhost.training.trainer import train
from dafxhost_encoders.style_statistics import StyleStatistics
from test_training import SMALL, Stop, log, stopper, weights
from training_effects import shaper_effect, write_audio


@pytest.fixture(autouse=True)
def _shaper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "find_effect", lambda name, provider=None: shaper_effect())


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("audio"))


@pytest.fixture
def controller() -> Controller:
    torch.manual_seed(0)
    return Controller(StyleStatistics(16000), shaper_effect().parameters, hidden=8, depth=1, bins=12)


def some_distances(controller: Controller, clips: int = 240, seed: int = 0) -> Distances:
    """Of an effect whose renders lie at known places: a curve over tone, elsewhere for each mode."""
    rng = np.random.default_rng(seed)
    settings = rng.random((clips, 6, 2))
    content = rng.standard_normal((clips, controller.encoder.embedding_size)) * 0.01
    loudness = rng.uniform(0.5, 1.5, clips)
    content[:, 0] += 5 * loudness
    mode = (settings[..., 1] * 3).astype(int)
    places = np.stack([np.sin(3 * settings[..., 0]), settings[..., 0] ** 2, 0.7 * mode], axis=-1)
    places = np.concatenate([places, np.full((clips, 1, 3), 0.3)], axis=1) * loudness[:, None, None]
    values = np.abs(places[:, :, None] - places[:, None]).sum(axis=-1)
    values[3, 2, :] = np.nan
    return Distances(*(torch.from_numpy(x).float() for x in (settings, content, values)))


def test_a_proxy_learns_distances(controller: Controller) -> None:
    data = some_distances(controller)
    torch.manual_seed(1)
    proxy = DistanceProxy(controller, controller.encoder.embedding_size, width=64, points=24)
    figures = fit_proxy(proxy, data, steps=500)
    assert figures["error"] < 0.35 * figures["constant"]
    one, other = torch.rand(5, 2), torch.rand(5, 2)
    described = proxy.describe(data.content[:5])
    a, b = proxy.points(one, described), proxy.points(other, described)
    assert torch.equal(proxy.distance(a, b), proxy.distance(b, a))
    assert torch.equal(proxy.distance(a, a), torch.zeros(5))
    # Left alone, the setting says nothing.
    flag = torch.ones(5)
    assert torch.equal(proxy.points(one, described, flag), proxy.points(other, described, flag))


def test_distances_are_those_of_the_loss(controller: Controller) -> None:
    rng = np.random.default_rng(0)
    audio = torch.from_numpy(0.2 * rng.standard_normal((2, 1, 8192))).half()
    size = controller.encoder.embedding_size
    settings = torch.rand(6, 2)
    pool = Pool(torch.rand(2, size), torch.rand(2, size), audio, torch.rand(6, size), settings,
                torch.tensor([0, 0, 0, 1, 1, 1]))  # fmt: skip
    with Executor(shaper_effect(), workers=1) as executor, ThreadPoolExecutor(1) as threads:
        meter = DistanceMeter(executor, controller, sample_rate=16000, excerpt=0, threads=threads)
        data = meter.measure(pool, [1], rng, lambda done: None)
        assert data.renders == 13 and torch.equal(data.settings[0, :3], settings[3:])
        assert torch.equal(data.values, data.values.transpose(1, 2))
        wet = executor.render(audio[1:].float().numpy(), data.settings.double().numpy(), 16000)
    clips = torch.from_numpy(np.concatenate([wet[0], audio[1:].float().numpy()]))
    clips = clips * (10 ** (-12 / 20) / clips.abs().amax(dim=(1, 2), keepdim=True))
    exact = MultiResolutionSTFT()(clips, clips[:1].expand_as(clips))
    # Every fourth frame of the small spectra stands for all of them.
    torch.testing.assert_close(data.values[0, 0], exact, rtol=0.03, atol=1e-3)


def test_the_gradient_through_a_proxy_finds_the_setting(controller: Controller) -> None:
    data = some_distances(controller)
    torch.manual_seed(1)
    proxy = DistanceProxy(controller, controller.encoder.embedding_size, width=64, points=24)
    fit_proxy(proxy, data, steps=500)
    proxy.requires_grad_(False)
    wanted = torch.tensor([[0.8, 5 / 6]]).repeat(4, 1)
    logits = torch.zeros(4, *controller.values.shape, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    applied = torch.ones(4, dtype=torch.bool)
    for _ in range(150):
        content = data.content[:4]
        scalar, distances = proxy_objective(controller, proxy, logits, wanted, content, applied, content)
        optimiser.zero_grad()
        scalar.backward()
        optimiser.step()
    found = controller.decode(logits).detach()
    assert float(distances.mean()) < 0.15
    torch.testing.assert_close(found, wanted, atol=0.1, rtol=0)


PROXY = SMALL.replace(
    pool=24,
    supervised_steps=30,
    proxy_clips=8,
    proxy_steps=30,
    proxy_epoch=15,
    end_to_end_steps=4,
    epoch_steps=2,
)


def test_training_through_a_proxy_and_resuming_it(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_phase, "FIT_STEPS", 60)
    config = PROXY.replace(data=str(audio))
    whole = train(config, run_dir=tmp_path / "whole")
    lines = log(whole.run)
    assert [e["phase"] for e in lines] == ["supervised", "proxy", "proxy", "end-to-end", "end-to-end"]
    assert all(np.isfinite(e["loss"]) for e in lines)
    with pytest.raises(Stop):
        train(config, run_dir=tmp_path / "cut", on_event=stopper("proxy", 20, Stop))
    resumed = train(resume=tmp_path / "cut")
    a, b = weights(whole.run), weights(resumed.run)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_pool_is_used_again(audio: Path, tmp_path: Path) -> None:
    config = SMALL.replace(data=str(audio), pool=40, supervised_steps=5, end_to_end_steps=2, keep_pool=True)
    first = train(config, run_dir=tmp_path / "first")
    file = first.run / "pool.safetensors"
    events: list[dict[str, Any]] = []
    again = train(
        config.replace(pool_from=str(file), keep_pool=False),
        run_dir=tmp_path / "again",
        on_event=events.append,
    )
    assert not [e for e in events if e["event"] == "pool"]
    a, b = weights(first.run), weights(again.run)
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert file.is_file() and not (again.run / "pool.safetensors").exists()
    with pytest.raises(RunError, match=r"does not fit this training.*samples 8192, not 4096"):
        train(config.replace(pool_from=str(file), samples=4096, loss_samples=0), run_dir=tmp_path / "other")
    with pytest.raises(RunError, match="is missing"):
        train(config.replace(pool_from=str(tmp_path / "none")), run_dir=tmp_path / "third")


def test_a_pool_of_another_effect_is_refused(tmp_path: Path) -> None:
    save_state(tmp_path / "pool", {"dry": torch.zeros(1)}, {"effect": "a"})
    assert load_state(tmp_path / "pool")[1] == {"effect": "a"}
    with pytest.raises(RunError, match="effect 'a', not 'b'"):
        load_pool(tmp_path / "pool", {"effect": "b"})


def test_a_soft_decoding_lies_between_and_is_trained_anywhere() -> None:
    torch.manual_seed(0)
    soft = Controller(
        StyleStatistics(16000), shaper_effect().parameters, hidden=8, depth=1, bins=12, sharpness=2.0
    )
    flat = torch.zeros(1, *soft.values.shape)
    assert float(soft.decode(flat)[0, 0]) == pytest.approx(0.5, abs=1e-6)
    assert soft.config()["sharpness"] == 2.0
    drawn = soft.draw(flat[0], 4000, torch.Generator().manual_seed(0))
    assert drawn.shape == (4000, 2) and float(drawn.min()) >= 0 and float(drawn.max()) <= 1
    assert set(drawn[:, 1].mul(3).sub(0.5).round().int().tolist()) == {0, 1, 2}
    # Half a bin beyond either end is cut off, so the ends are drawn more often than their neighbours.
    assert float((drawn[:, 0] < 1e-9).float().mean()) == pytest.approx(1 / 24, abs=0.015)
