"""The spectrogram VAE: exact shapes, its loss, and reconstructions better than a constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from autoencoder_clips import notes
from dafxhost.errors import AudioFileError, ShapeError, UsageError
from dafxhost_encoders.autoencoder import measure
from dafxhost_encoders.listening import generate_audio, rebuilt, reconstruct_audio, traverse_audio
from dafxhost_encoders.spectra import CompressedSpectrogram, Magnitude
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
    assert quality.explained_beyond_mean == pytest.approx(0.0, abs=1e-3)
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


FRONTS: list[dict[str, Any]] = [
    {"bands": bands, "compression": compression, "mels": 20}
    for bands in ("stft", "mel")
    for compression in ("power", "log")
]


def chirp(samples: int = 9000) -> Tensor:
    time = torch.arange(samples) / RATE
    return 0.25 * torch.sin(2 * torch.pi * (200 * time + 3000 * time.square()))[None]


@pytest.mark.parametrize("front", FRONTS, ids=lambda f: f"{f['bands']}-{f['compression']}")
def test_compressed_spectrograms_are_inverted(front: dict[str, Any]) -> None:
    """Bins come back as they were; mel bands as magnitudes that have the same mel bands again."""
    compressed = CompressedSpectrogram(RATE, 512, 128, **front)
    audio = torch.from_numpy(notes(np.random.default_rng(1), 1)[:, 0])
    spectrogram = compressed(audio)
    assert spectrogram.shape == (1, compressed.bands, 1 + audio.shape[1] // 128)
    magnitudes = compressed.magnitudes(spectrogram)
    assert magnitudes.shape == (1, 257, spectrogram.shape[-1]) and bool((magnitudes >= 0).all())
    wanted = compressed.magnitude(audio)
    if front["bands"] == "stft":
        torch.testing.assert_close(magnitudes, wanted, atol=1e-6, rtol=1e-3)
    else:
        again = torch.einsum("bft,fm->bmt", magnitudes.square(), compressed.filters)
        first = torch.einsum("bft,fm->bmt", wanted.square(), compressed.filters)
        assert (again - first).norm() < 0.35 * first.norm()


def test_more_compression_of_what_is_loud() -> None:
    """Both compressions grow, ever more slowly, and give silence the least value."""
    for front in FRONTS:
        compressed = CompressedSpectrogram(RATE, 512, 128, **front)
        levels = [compressed(gain * chirp()).amax() for gain in (0.0, 0.01, 0.1, 1.0)]
        assert levels[0] < levels[1] < levels[2] < levels[3]
        assert levels[3] < 5 * levels[2]


@pytest.mark.parametrize("hop", [64, 128, 256])
def test_audio_comes_back_with_its_own_phase(hop: int) -> None:
    magnitude = Magnitude(512, hop)
    audio = chirp()
    spectrum = magnitude.spectrum(audio)
    torch.testing.assert_close(magnitude.audio(spectrum.abs(), spectrum, 9000), audio, atol=1e-4, rtol=1e-3)


def test_griffin_lim_finds_audio_of_these_magnitudes() -> None:
    magnitude = Magnitude(512, 128)
    wanted = magnitude(chirp())
    found = magnitude.audio(wanted, samples=9000)
    assert torch.equal(found, magnitude.audio(wanted, samples=9000))
    noise = magnitude(0.1 * torch.randn(1, 9000))
    assert (magnitude(found) - wanted).norm() < 0.2 * wanted.norm() < (noise - wanted).norm()


def test_windows_that_leave_gaps_are_named() -> None:
    with pytest.raises(UsageError, match="256 at most"):
        Magnitude(512, 512).audio(torch.rand(1, 257, 4))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input": "wavelets"}, "stft or mel"),
        ({"compression": "cubic"}, "power or log"),
        ({"power": 0}, "power"),
        ({"input": "mel", "mels": 400}, "too many for n_fft 512"),
        ({"beta": -1}, "beta"),
        ({"beta": float("nan")}, "beta"),
        ({"embedding_size": 0}, "embedding_size"),
        ({"patch_frames": 0}, "patch_frames"),
        ({"strides": [2, 2]}, "2 entries for 3 layers"),
    ],
)
def test_impossible_options_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        SpectrogramVAE(**{**SMALL, **options})


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 120), st.integers(1, 40))
def test_patches_are_joined_to_what_they_were_cut_from(frames: int, width: int) -> None:
    encoder = SpectrogramVAE(**SMALL)
    encoder.patch_frames = width
    spectrogram = torch.arange(2 * 3 * frames, dtype=torch.float32).reshape(2, 3, frames)
    assert torch.equal(encoder.joined(encoder.patches(spectrogram), frames), spectrogram)


def test_the_embedding_is_the_mean_of_the_patches_latents() -> None:
    encoder = SpectrogramVAE(**SMALL).train()
    clips = torch.from_numpy(notes(np.random.default_rng(2), 3))
    inputs = encoder.inputs(torch.zeros_like(clips), clips, RATE)
    mean, _ = encoder.posterior(inputs)
    torch.testing.assert_close(encoder(clips, RATE), mean.unflatten(0, (3, -1)).mean(dim=1))
    assert not inputs.requires_grad


@pytest.fixture(scope="module")
def listener() -> SpectrogramVAE:
    torch.manual_seed(1)
    return SpectrogramVAE(**{**SMALL, "hop": 128}).eval()


def test_a_perfect_decoder_gives_the_recording_back(listener: SpectrogramVAE) -> None:
    """With a network that keeps everything, what is left of errors is the transforms' own."""
    audio = 0.7 * torch.from_numpy(notes(np.random.default_rng(3), 1))[0].repeat(2, 1)
    whole = {}

    class Perfect(SpectrogramVAE):
        def latents(self, inputs: Tensor) -> Tensor:
            whole["inputs"] = inputs
            return torch.zeros(len(inputs), self.embedding_size)

        def decode(self, latents: Tensor, size: tuple[int, ...]) -> Tensor:
            return whole["inputs"]

    sound, explained = reconstruct_audio(Perfect(**{**SMALL, "hop": 128}), audio, RATE)
    assert explained == pytest.approx(1.0)
    torch.testing.assert_close(sound, audio[:1], atol=2e-3, rtol=0.0)


def test_reconstructions_keep_length_and_report_what_they_explain(listener: SpectrogramVAE) -> None:
    audio = torch.from_numpy(notes(np.random.default_rng(3), 1))[0]
    for phase in ("input", "griffin-lim"):
        sound, explained = reconstruct_audio(listener, audio, RATE, phase=phase)
        assert sound.shape == audio.shape and bool(torch.isfinite(sound).all())
        assert explained < 0.9  # untrained
    with pytest.raises(UsageError, match="griffin-lim"):
        reconstruct_audio(listener, audio, RATE, phase="guessed")
    with pytest.raises(AudioFileError, match="silent"):
        reconstruct_audio(listener, torch.zeros(1, 5000), RATE)


def test_a_traversal_moves_one_latent(listener: SpectrogramVAE) -> None:
    audio = torch.from_numpy(notes(np.random.default_rng(3), 1))[0]
    sounds = traverse_audio(listener, audio, RATE, 3, span=2.0, steps=3)
    assert sounds.shape == (3, audio.shape[1])
    assert torch.equal(sounds[1:2], reconstruct_audio(listener, audio, RATE)[0])
    assert not torch.equal(sounds[0], sounds[2])
    spectrogram = listener.spectrogram(listener.prepare(audio[None], RATE))
    assert torch.equal(rebuilt(listener, spectrogram, torch.zeros(16)), rebuilt(listener, spectrogram, None))
    for latent, steps in ((16, 3), (-1, 3), (0, 0)):
        with pytest.raises(UsageError):
            traverse_audio(listener, audio, RATE, latent, steps=steps)


def test_sounds_of_random_latents(listener: SpectrogramVAE) -> None:
    sounds = generate_audio(listener, 2, seed=4)
    assert sounds.shape == (2, 15 * 128) and bool(torch.isfinite(sounds).all())
    assert torch.equal(sounds, generate_audio(listener, 2, seed=4))
    assert not torch.equal(sounds[0], sounds[1])
    with pytest.raises(UsageError, match="1000"):
        generate_audio(listener, 0)
