"""The embedding VAE: pairs of embeddings, what the controller sees of them, and training through it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from autoencoder_clips import RATE, NoteClips, notes
from command_line import Call, small_training
from dafxhost.encoders import load_encoder, save_encoder
from dafxhost.errors import RunError, ShapeError, UsageError
from dafxhost.registry import effect
from dafxhost.registry import encoder as make_encoder
from dafxhost.training.controller import Controller
from dafxhost_encoders.embedding_vae import EmbeddingVAE
from dafxhost_encoders.pretrain import Plan, pretrain

LOGMEL = {"embedding_size": 12, "n_fft": 512, "hop": 512, "mels": 16, "channels": [8]}


def small(**options: object) -> EmbeddingVAE:
    torch.manual_seed(5)
    return EmbeddingVAE(
        **{"encoder": "log-mel", "encoder_options": LOGMEL, "latent": 8, "hidden": (16,), **options}
    )


@pytest.fixture
def clips() -> tuple[torch.Tensor, torch.Tensor]:
    batch = NoteClips(["clip"]).start(4, [1], 0)()
    return torch.from_numpy(batch.clean), torch.from_numpy(batch.processed)


@pytest.mark.parametrize(("join", "size"), [("concat", 24), ("difference", 12)])
@pytest.mark.parametrize("latent", [8, 64, 256])
def test_shapes_of_both_joins_and_any_latent_size(
    join: str, size: int, latent: int, clips: tuple[torch.Tensor, torch.Tensor]
) -> None:
    vae = small(join=join, latent=latent)
    inputs = vae.inputs(*clips, RATE)
    assert inputs.shape == (4, size) and not inputs.requires_grad
    assert [part.shape for part in vae.posterior(inputs)] == [(4, latent)] * 2
    assert vae.reconstruct(inputs).shape == inputs.shape
    assert vae.pair(vae(clips[0], RATE), vae(clips[1], RATE)).shape == (4, vae.pair_size) == (4, latent)


def test_inputs_are_the_frozen_encoders_embeddings(clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    dry, wet = clips
    vae = small().train()
    a, b = vae.inner(dry, RATE), vae.inner(wet, RATE)
    torch.testing.assert_close(vae.inputs(dry, wet, RATE), torch.cat([a, b], dim=1))
    torch.testing.assert_close(small(join="difference").inputs(dry, wet, RATE), b - a)
    assert torch.equal(vae(dry, RATE), a)
    assert vae.inner.frozen and not vae.inner.training and not vae.frozen


def test_the_pair_is_the_latents_mean_whatever_the_mode(clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    vae = small()
    a, b = vae(clips[0], RATE), vae(clips[1], RATE)
    expected = vae.posterior(vae.inputs(*clips, RATE))[0]
    for mode in (True, False):
        torch.testing.assert_close(vae.train(mode).pair(a, b), expected)


def test_the_scale_is_that_of_each_element() -> None:
    vae = small(join="difference")
    inputs = torch.randn(500, 12) * torch.linspace(1, 100, 12) + 7
    inputs[:, 3] = 2.0  # never moves: it must not be blown up
    vae.fit_scale(inputs)
    scaled = vae.scaled(inputs)
    torch.testing.assert_close(vae.unscaled(scaled), inputs, atol=1e-3, rtol=1e-4)
    assert scaled[:, 3].abs().max() < 1e-3
    keep = torch.arange(12) != 3
    torch.testing.assert_close(scaled[:, keep].std(dim=0, correction=0), torch.ones(11), atol=1e-3, rtol=0)
    with pytest.raises(ShapeError, match=r"\[B, 12\]"):
        vae.scaled(torch.zeros(2, 24))


def test_the_controller_sees_the_pair_only() -> None:
    vae = small().eval()
    fx = effect("mda-overdrive", "builtin")
    controller = Controller(vae, fx.parameters, hidden=16, depth=1).eval()
    assert controller.body[1].in_features == 8
    a, b = torch.randn(2, 3, 12)
    logits = controller(a, b)
    torch.testing.assert_close(
        logits, controller.head(controller.body(vae.pair(a, b).clamp(-6, 6))).view_as(logits)
    )
    assert not torch.equal(logits, controller(b, a))
    assert controller.setting(torch.zeros(1, 1, 4000), torch.randn(1, 1, 4000), RATE).isfinite().all()


def test_a_saved_copy_needs_no_other_file(tmp_path: Path, clips: tuple[torch.Tensor, torch.Tensor]) -> None:
    base = make_encoder("log-mel", **LOGMEL)
    file = save_encoder(base, tmp_path / "base")
    vae = EmbeddingVAE(weights=file, latent=8, hidden=(16,))
    saved = vae.save(tmp_path / "vae")
    file.unlink()
    again = load_encoder(saved)
    assert again.config() == vae.config()
    assert torch.equal(again(clips[0], RATE), base.eval()(clips[0], RATE))
    frozen = make_encoder("pretrained", weights=saved)
    a, b = again(clips[0], RATE), again(clips[1], RATE)
    assert frozen.frozen and frozen.pair_size == 8 and torch.equal(frozen.pair(a, b), again.eval().pair(a, b))
    refrozen = make_encoder("pretrained", encoder="embedding-vae", options=vae.config())
    refrozen.load_state_dict(frozen.state_dict())
    assert torch.equal(refrozen.pair(a, b), frozen.pair(a, b))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"join": "product"}, "concat or difference"),
        ({"latent": 0}, "latent"),
        ({"hidden": (0,)}, "hidden"),
        ({"beta": -1.0}, "beta"),
        ({"encoder": "embedding-vae"}, "another one"),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        small(**options)


def test_it_does_not_nest(tmp_path: Path) -> None:
    file = small().save(tmp_path / "vae")
    with pytest.raises(UsageError, match="not be another embedding-vae"):
        EmbeddingVAE(weights=file)
    with pytest.raises(RunError):
        EmbeddingVAE(weights=tmp_path / "nothing")


@pytest.mark.parametrize("join", ["concat", pytest.param("difference", marks=pytest.mark.slow)])
def test_it_learns_pairs(join: str, tmp_path: Path) -> None:
    vae = EmbeddingVAE("style-statistics", {"mels": 8, "linear": 8}, join=join, latent=16, hidden=(64,))
    plan = Plan(max_steps=80, examples=64, held_out=24, batch=32, learning_rate=3e-3, renew=0, max_minutes=5)
    figures = pretrain(vae, NoteClips(), NoteClips(), tmp_path / "vae", plan)
    assert figures["explained_beyond_mean"] > 0.4
    assert figures["latents"] == 16 and figures["active_latents"] >= 3
    # Clipping is told from smoothing by the latents of pairs that it has not heard.
    batch = NoteClips().start(40, [77])()
    loaded = load_encoder(figures["weights"])
    assert isinstance(loaded, EmbeddingVAE)
    inputs = loaded.inputs(torch.from_numpy(batch.clean), torch.from_numpy(batch.processed), RATE)
    means = loaded.latents(inputs).detach().numpy()
    centres = [means[:20][batch.effects[:20] == k].mean(axis=0) for k in (0, 1)]
    test, truth = means[20:], batch.effects[20:]
    distances = np.stack([np.linalg.norm(test - c, axis=1) for c in centres], axis=1)
    known = truth >= 0
    assert (distances.argmin(axis=1) == truth)[known].mean() > 0.7


@pytest.mark.parametrize("name", [None, pytest.param("embedding-vae", marks=pytest.mark.slow)])
def test_dafxhost_train_takes_it(name: str | None, call: Call, tmp_path: Path) -> None:
    """Frozen by `--encoder-weights` alone, and trained further by its own name."""
    vae = small()
    vae.fit_scale(vae.inputs(*[torch.from_numpy(notes(np.random.default_rng(i), 8)) for i in (1, 2)], RATE))
    vae.save(tmp_path / "vae")
    (tmp_path / "small.toml").write_text(small_training(2))
    arguments = ["--encoder-weights", "vae.safetensors", *([] if name is None else ["--encoder", name])]
    code, out, err = call(
        "train", "--effect", "mda-overdrive", "--provider", "builtin", "--config", "small.toml", "--workers",
        "1", "--run-dir", "run", "--json", *arguments,
    )  # fmt: skip
    assert code == 0, err
    from dafxhost.training import runs

    run = json.loads(out)["run"]
    controller = runs.load_run(tmp_path / run).controller
    assert controller.encoder.pair_size == 8
