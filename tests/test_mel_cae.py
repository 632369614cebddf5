"""The mel autoencoder: sizes by the two formulas, any shape, activations, a deterministic bottleneck."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autoencoder_clips import RATE, NoteClips, notes
from dafxhost.encoders import load_encoder
from dafxhost.registry import encoder as make_encoder
from dafxhost_encoders.autoencoder import measure
from dafxhost_encoders.mel_cae import MelCAE
from dafxhost_encoders.pretrain import Plan, pretrain
from dafxhost_encoders.vae_network import output_padding

SMALL = {"embedding_size": 24, "n_fft": 512, "hop": 256, "mels": 20, "patch_frames": 16, "channels": [8, 8]}


def report_shape(**options: object) -> MelCAE:
    """For the report's input: 10 mel bands by 474 frames."""
    return MelCAE(**{"embedding_size": 16, "n_fft": 512, "mels": 10, "patch_frames": 474, **options})


@pytest.mark.parametrize("strides", [2, 3, [3, 2, 3], [[2, 3], [3, 2], 1]])
def test_the_reports_shape_comes_back(strides: object) -> None:
    cae = report_shape(channels=[4, 8, 8], strides=strides)
    spectrogram = torch.rand(3, 10, 474)
    assert cae.reconstruct(spectrogram).shape == (3, 10, 474)
    assert cae.latents(spectrogram).shape == (3, 16)


@settings(max_examples=25, deadline=None)
@given(bands=st.integers(1, 90), frames=st.integers(1, 500), stride=st.integers(1, 4))
def test_any_other_shape_comes_back(bands: int, frames: int, stride: int) -> None:
    cae = MelCAE(**{**SMALL, "strides": stride})
    assert cae.reconstruct(torch.rand(1, bands, frames)).shape == (1, bands, frames)


@pytest.mark.parametrize(("size", "kernel", "stride"), [(474, 3, 2), (10, 3, 2), (474, 3, 3), (9, 4, 3)])
def test_torchs_own_layers_agree_with_the_formulas(size: int, kernel: int, stride: int) -> None:
    """H' = (H + 2p - f) / s + 1 down, H = (H' - 1) s - 2p + f + output padding up."""
    down = torch.nn.Conv1d(1, 1, kernel, stride, kernel // 2)
    up = torch.nn.ConvTranspose1d(
        1, 1, kernel, stride, kernel // 2, output_padding=output_padding(size, kernel, stride)
    )
    assert up(down(torch.zeros(1, 1, size))).shape[-1] == size


def test_without_activations_it_would_be_linear() -> None:
    cae = report_shape().eval()
    a, b = torch.rand(2, 1, 10, 474)
    zero = torch.zeros_like(a)
    f = cae.reconstruct
    assert (f(a) + f(b) - f(a + b) - f(zero)).abs().max() > 1e-4


def test_its_latents_are_points() -> None:
    """Nothing is sampled, nothing is drawn to a prior, and it claims no distribution."""
    cae = MelCAE(**SMALL).train()
    spectrogram = torch.rand(2, 20, 16)
    assert torch.equal(cae.reconstruct(spectrogram), cae.reconstruct(spectrogram))
    total, reconstruction, divergence = cae.loss(spectrogram, weight=5.0)
    assert total.item() == reconstruction.item() and divergence.item() == 0.0
    assert not hasattr(cae, "posterior") and "beta" not in cae.config()
    assert all(p.grad is not None for p in _after_backward(cae, total))


def _after_backward(cae: MelCAE, total: torch.Tensor) -> list[torch.nn.Parameter]:
    total.backward()
    return list(cae.parameters())


def test_it_learns_to_reproduce_its_input(tmp_path: Path) -> None:
    """The report's did not. Measured on notes that it has not heard, and loaded again as an encoder."""
    torch.manual_seed(2)
    plan = Plan(max_steps=80, examples=32, held_out=16, batch=16, learning_rate=8e-3, renew=2, max_minutes=5)
    figures = pretrain(MelCAE(**SMALL), NoteClips(), NoteClips(), tmp_path / "cae", plan)
    assert figures["explained"] > 0.6 and figures["explained_beyond_mean"] > 0.4
    assert figures["rmse"] < 0.7 * figures["constant_rmse"]
    cae = load_encoder(figures["weights"])
    assert isinstance(cae, MelCAE) and cae.config() == figures["config"]
    clips = torch.from_numpy(notes(np.random.default_rng(9), 8))
    assert measure(cae, cae.inputs(clips, clips, RATE)).explained > 0.5
    frozen = make_encoder("pretrained", weights=figures["weights"])
    assert torch.equal(frozen(clips, RATE), cae(clips, RATE))
