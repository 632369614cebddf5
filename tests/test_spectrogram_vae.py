"""The spectrogram VAE: exact shapes, its loss, and reconstructions better than a constant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dafxhost.encoders import load_encoder
from dafxhost.errors import OutputError, ShapeError, UsageError
from dafxhost.registry import encoder as make_encoder
from dafxhost_encoders.pretrain import measure, pretrain_spectrogram_vae
from dafxhost_encoders.spectrogram_vae import SpectrogramVAE
from dafxhost_encoders.vae_network import VAENetwork, convolved, divergence, output_padding, sample

RATE = 24_000
SMALL = {
    "n_fft": 512,
    "hop": 512,
    "patch_frames": 16,
    "channels": [4, 8, 8],
    "embedding_size": 16,
    "strides": 2,
}
QUICK = {**SMALL, "n_fft": 256, "hop": 256}
LAYER = st.tuples(st.integers(1, 7), st.integers(1, 7))
STRIDE = st.tuples(st.integers(1, 4), st.integers(1, 4))


@given(st.integers(1, 5000), st.integers(1, 11), st.integers(1, 8))
def test_output_padding_undoes_the_convolution(size: int, kernel: int, stride: int) -> None:
    there = convolved(size, kernel, stride)
    padding = output_padding(size, kernel, stride)
    assert there >= 1
    assert 0 <= padding < stride
    assert (there - 1) * stride - 2 * (kernel // 2) + kernel + padding == size


@settings(max_examples=60, deadline=None)
@given(
    bins=st.integers(8, 1100),
    frames=st.integers(1, 300),
    layers=st.lists(st.tuples(LAYER, STRIDE), min_size=1, max_size=4),
)
def test_any_shape_comes_back_exactly(
    bins: int, frames: int, layers: list[tuple[tuple[int, int], tuple[int, int]]]
) -> None:
    kernels, strides = [k for k, _ in layers], [s for _, s in layers]
    network = VAENetwork((64, 16), 2, [1] * len(layers), kernels, strides)
    with torch.no_grad():
        mean, _ = network.encode(torch.randn(1, bins, frames))
        assert mean.shape == (1, 2)
        assert network.decode(mean, (bins, frames)).shape == (1, bins, frames)


@pytest.mark.parametrize("strides", [2, 3, [3, 2, 3], [[2, 3], [3, 2], 1]])
@pytest.mark.parametrize("shape", [(257, 16), (8, 1), (1025, 7), (300, 200), (474, 10)])
def test_the_encoder_keeps_any_shape(shape: tuple[int, int], strides: object) -> None:
    encoder = SpectrogramVAE(**{**SMALL, "strides": strides})
    spectrogram = torch.rand(2, *shape)
    for mode in (True, False):
        encoder.train(mode)
        assert encoder.reconstruct(spectrogram).shape == spectrogram.shape
        assert all(torch.isfinite(part) and part.ndim == 0 for part in encoder.loss(spectrogram))


def test_nominal_shape_uses_every_place() -> None:
    """At the shape it is built for nothing is averaged away: every element reaches the latents."""
    encoder = SpectrogramVAE(**SMALL)
    spectrogram = torch.rand(1, 257, 16, requires_grad=True)
    mean, _ = encoder.network.encode(spectrogram)
    (gradient,) = torch.autograd.grad(mean.square().sum(), spectrogram)
    assert (gradient != 0).float().mean() > 0.99


def test_it_is_not_linear() -> None:
    """An early autoencoder had no activations: then f(a) + f(b) = f(a + b) + f(0)."""
    network = VAENetwork((33, 16), 8, (4, 8))
    a, b = torch.randn(2, 1, 33, 16)
    zero = torch.zeros_like(a)
    for f in (lambda x: network.encode(x)[0], lambda x: network.decode(x.flatten()[None, :8], (33, 16))):
        assert (f(a) + f(b) - f(a + b) - f(zero)).abs().max() > 1e-3 * f(a).abs().max()


def test_sampled_in_train_mode_only() -> None:
    encoder = SpectrogramVAE(**SMALL)
    spectrogram = torch.rand(1, 257, 16)
    assert not torch.equal(encoder.reconstruct(spectrogram), encoder.reconstruct(spectrogram))
    encoder.eval()
    assert torch.equal(encoder.reconstruct(spectrogram), encoder.reconstruct(spectrogram))


def test_divergence_against_torch() -> None:
    mean, log_variance = torch.randn(2, 5, 4)
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    want = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(divergence(mean, log_variance), want, atol=1e-5, rtol=1e-4)


def test_samples_have_the_moments_asked_for() -> None:
    torch.manual_seed(1)
    draws = sample(torch.full((40_000,), 2.0), torch.full((40_000,), 2 * np.log(0.5)))
    assert abs(draws.mean() - 2.0) < 0.02
    assert abs(draws.std() - 0.5) < 0.02


def test_loss_is_reconstruction_and_weighted_divergence() -> None:
    spectrogram = torch.rand(3, 257, 16)
    encoder = SpectrogramVAE(**SMALL, beta=4.0).eval()
    total, reconstruction, nats = encoder.loss(spectrogram)
    torch.testing.assert_close(total, reconstruction + 4.0 * nats / (257 * 16))
    error = (encoder.reconstruct(spectrogram) - spectrogram).square().mean() / encoder.spread**2
    torch.testing.assert_close(reconstruction, error)


def test_the_mean_spectrum_has_a_reconstruction_error_of_one() -> None:
    encoder = SpectrogramVAE(**SMALL).eval()
    spectrogram = torch.rand(3, 257, 16) + torch.linspace(0, 2, 257)[:, None]
    encoder.fit_scale(spectrogram)
    with torch.no_grad():
        encoder.network.up[-1].weight.zero_()  # whatever the latents, the decoder now gives 0
        encoder.network.up[-1].bias.zero_()
    assert encoder.loss(spectrogram)[1].item() == pytest.approx(1.0, abs=1e-3)
    quality = measure(encoder, spectrogram)
    assert quality.explained_beyond_mean_spectrum == pytest.approx(0.0, abs=1e-3)
    assert quality.explained == pytest.approx(
        1 - (1 / 12) / (1 / 12 + 4 / 12), abs=0.02
    )  # variances of the two


def test_elbo_is_the_loss_of_all_patches() -> None:
    encoder = SpectrogramVAE(**SMALL).eval()
    audio = torch.randn(2, 2, 44_100)
    patches = encoder.patches(encoder.spectrogram(encoder.prepare(audio, 44_100)))
    assert patches.shape == (2, 3, 257, 16)
    torch.testing.assert_close(encoder.elbo(audio, 44_100), encoder.loss(patches.flatten(0, 1)))


@pytest.mark.parametrize("frames", [1, 5, 16, 17, 31, 32, 33, 100])
def test_patches_cover_every_frame(frames: int) -> None:
    encoder = SpectrogramVAE(**SMALL)
    numbered = torch.arange(frames, dtype=torch.float32).expand(1, 3, frames)
    patches = encoder.patches(numbered)
    assert patches.shape == (1, -(-frames // 16), 3, 16)
    assert set(patches.unique().tolist()) == set(range(frames))


@pytest.mark.parametrize("shape", [(257, 16), (0, 257, 16), (1, 1, 257, 16)])
def test_bad_spectrograms_are_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="bins, frames"):
        SpectrogramVAE(**SMALL).loss(torch.zeros(shape))


def notes(rng: np.random.Generator, n: int) -> np.ndarray:
    """Clips of half a second: filtered noise bursts over decaying notes, `[n, T]`."""
    samples = 12_288
    time = np.arange(samples) / RATE
    out = np.zeros((n, samples))
    for clip in out:
        pitch, decay = 2 ** rng.uniform(6, 9), rng.uniform(2, 20)
        clip += sum(np.sin(2 * np.pi * pitch * h * time) / h for h in range(1, 12)) * np.exp(-decay * time)
        burst = (
            np.cumsum(rng.standard_normal(samples)) if rng.random() < 0.5 else rng.standard_normal(samples)
        )
        clip += 0.3 * burst / np.abs(burst).max() * np.exp(-20 * (time % rng.uniform(0.1, 0.4)))
    return 0.3 * out


def test_training_beats_the_constant_by_far(tmp_path: Path) -> None:
    """The weekly reports' VAE reconstructed worse than a constant (RMSE .003 where the mean was .002)."""
    steps = []
    figures = pretrain_spectrogram_vae(
        notes,
        out=tmp_path / "vae",
        max_minutes=4.0,
        max_steps=100,
        batch_size=8,
        learning_rate=3e-3,
        seed=4,
        options=QUICK,
        on_step=steps.append,
    )
    assert figures["explained"] > 0.5
    assert figures["explained_beyond_mean_spectrum"] > 0.2
    assert figures["rmse"] < 0.8 * figures["constant_rmse"]
    assert figures["active_latents"] >= 3
    assert [s["step"] for s in steps] == list(range(1, figures["steps"] + 1))
    assert all(np.isfinite([s["total"], s["reconstruction"], s["divergence"]]).all() for s in steps)
    assert steps[-1]["progress"] == 1.0

    # The written weights are the ones measured, and serve as a frozen encoder.
    vae = load_encoder(figures["weights"])
    assert isinstance(vae, SpectrogramVAE)
    fresh = torch.from_numpy(notes(np.random.default_rng([4, 1]), 32)).float()[:, None]
    patches = vae.patches(vae.spectrogram(vae.prepare(fresh, RATE))).flatten(0, 1)
    assert measure(vae, patches).explained == pytest.approx(figures["explained"], abs=1e-4)
    frozen = make_encoder("pretrained", weights=figures["weights"])
    assert torch.equal(frozen(fresh, RATE), vae(fresh, RATE))


def test_pretraining_repeats_itself(tmp_path: Path) -> None:
    def run(seed: int) -> dict[str, object]:
        state = torch.get_rng_state()
        out = pretrain_spectrogram_vae(
            notes,
            out=tmp_path / "vae",
            max_steps=4,
            seed=seed,
            options=QUICK,
            evaluate_every=2,
            batch_size=4,
            held_out_clips=4,
        )
        assert torch.equal(torch.get_rng_state(), state)  # the caller's generator is left alone
        return {k: v for k, v in out.items() if k != "seconds"}

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_pretraining_ends_in_time(tmp_path: Path) -> None:
    figures = pretrain_spectrogram_vae(notes, out=tmp_path / "vae", max_minutes=1 / 60, options=SMALL)
    assert figures["seconds"] < 20
    assert figures["steps"] >= 1


@pytest.mark.parametrize("options", [{"max_minutes": 0}, {"max_steps": 0}, {"batch_size": 0}])
def test_impossible_pretraining_is_named(tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        pretrain_spectrogram_vae(notes, out=tmp_path / "vae", **options)


def test_pretraining_says_at_once_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        pretrain_spectrogram_vae(notes, out=tmp_path / "file" / "vae", options=SMALL, max_steps=1)
