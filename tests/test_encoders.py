"""What every encoder has to keep, and its weights on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from dafxhost.encoders import Encoder, load_encoder, save_encoder
from dafxhost.errors import OutputError, RunError, ShapeError, UnknownNameError, UsageError
from dafxhost.registry import encoder as make_encoder
from dafxhost.registry import registry

RATE = 24_000
SMALL_VAE = {"n_fft": 512, "hop": 512, "patch_frames": 16, "channels": [4, 8], "embedding_size": 24}
TRAINABLE = {
    "log-mel": {},
    "spectrogram-vae": {},
    "log-mel small": {
        "name": "log-mel",
        "embedding_size": 7,
        "n_fft": 1024,
        "hop": 300,
        "mels": 33,
        "channels": [8, 16],
    },
    "spectrogram-vae small": {"name": "spectrogram-vae", **SMALL_VAE, "strides": [[3, 2], 2]},
}


def build(case: str) -> Encoder:
    torch.manual_seed(3)
    if case == "pretrained":
        return make_encoder("pretrained", encoder="spectrogram-vae", options=SMALL_VAE)
    options = dict(TRAINABLE[case])
    return make_encoder(str(options.pop("name", case)), **options)


def music(clips: int, samples: int, rate: int = RATE, channels: int = 1, seed: int = 0) -> Tensor:
    """Decaying harmonic notes over a little noise, `[clips, channels, samples]`."""
    rng = np.random.default_rng(seed)
    time = np.arange(samples) / rate
    out = np.empty((clips, channels, samples))
    for clip in out:
        pitch, decay = rng.uniform(80, 600), rng.uniform(1, 8)
        note = sum(np.sin(2 * np.pi * pitch * h * time) / h for h in range(1, 8))
        for channel in clip:
            channel[:] = note * np.exp(-decay * (time % 0.5)) + 0.01 * rng.standard_normal(samples)
    return torch.from_numpy(0.2 * out).float()


@pytest.fixture(params=[*TRAINABLE, "pretrained"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return build(request.param).eval()


@pytest.fixture(params=[*TRAINABLE])
def trainable(request: pytest.FixtureRequest) -> Encoder:
    return build(request.param)


def embed(encoder: Encoder, audio: Tensor, rate: int = RATE) -> Tensor:
    with torch.no_grad():
        return encoder(audio, rate)


def test_all_three_are_registered() -> None:
    assert {"log-mel", "spectrogram-vae", "pretrained"} <= set(registry().names("encoder"))


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; from dafxhost.registry import registry; assert registry().names('encoder')\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("samples", [1, 2, 37, 1023, 1024, 2048, 5000, 33_000, 60 * RATE])
def test_any_length(encoder: Encoder, samples: int) -> None:
    out = embed(encoder, music(1, samples))
    assert out.shape == (1, encoder.embedding_size)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize(
    "rate", [8000, 11_025, 16_000, 22_050, 32_000, 44_100, 44_101, 48_000, 88_200, 96_000]
)
def test_any_rate(encoder: Encoder, rate: int) -> None:
    """The same notes at another rate give nearly the same embedding; different notes do not."""
    here = embed(encoder, music(1, rate, rate), rate)
    assert here.shape == (1, encoder.embedding_size)
    if rate < encoder.sample_rate:
        return  # the highest notes' harmonics are missing there
    reference = embed(encoder, music(1, RATE))
    other = embed(encoder, music(1, RATE, seed=5))
    assert (here - reference).norm() < 0.5 * (other - reference).norm()


def test_channels_are_averaged(encoder: Encoder) -> None:
    mono = music(2, 9000)
    torch.testing.assert_close(embed(encoder, mono.repeat(1, 2, 1)), embed(encoder, mono))
    stereo = music(2, 9000, channels=2)
    torch.testing.assert_close(
        embed(encoder, stereo), embed(encoder, stereo.mean(1, keepdim=True)), atol=1e-5, rtol=1e-5
    )


def test_eval_mode_is_deterministic(encoder: Encoder) -> None:
    audio = music(2, 20_000)
    torch.manual_seed(1)
    first = embed(encoder, audio)
    torch.manual_seed(2)
    assert torch.equal(first, embed(encoder, audio))


def test_one_at_a_time_equals_a_batch(encoder: Encoder) -> None:
    audio = music(5, 30_000)
    together = embed(encoder, audio)
    alone = torch.cat([embed(encoder, clip[None]) for clip in audio])
    assert (together - alone).abs().max() < 1e-5


def test_embeddings_tell_clips_apart(encoder: Encoder) -> None:
    out = embed(encoder, music(4, 30_000))
    assert torch.pdist(out).min() > 1e-3


def test_level_does_not_matter_unless_asked(encoder: Encoder) -> None:
    audio = music(2, 20_000)
    torch.testing.assert_close(embed(encoder, 0.03 * audio), embed(encoder, audio), atol=1e-3, rtol=1e-3)


def test_level_matters_when_asked() -> None:
    audio = music(2, 20_000)
    encoder = make_encoder("log-mel", normalise=False).eval()
    assert (embed(encoder, 0.03 * audio) - embed(encoder, audio)).abs().max() > 0.01


def test_silence_has_a_finite_embedding_and_gradient(trainable: Encoder) -> None:
    silent = torch.zeros(1, 1, 10_000, requires_grad=True)
    out = trainable(silent, RATE)
    out.sum().backward()
    assert torch.isfinite(out).all()
    assert all(torch.isfinite(p.grad).all() for p in trainable.parameters() if p.grad is not None)


def test_gradient_reaches_weights_and_audio(trainable: Encoder) -> None:
    audio = music(2, 12_000, 44_100).requires_grad_()
    trainable.train()(audio, 44_100).square().sum().backward()
    reached = [p for p in trainable.parameters() if p.grad is not None and bool((p.grad != 0).any())]
    assert len(reached) >= 4
    assert audio.grad is not None
    assert torch.isfinite(audio.grad).all()
    assert (audio.grad != 0).any()
    assert not trainable.frozen


def test_freeze(trainable: Encoder) -> None:
    trainable.freeze()
    assert trainable.frozen
    assert not trainable(music(1, 5000), RATE).requires_grad


@pytest.mark.parametrize(
    ("audio", "rate", "error", "words"),
    [
        (torch.zeros(2, 100), RATE, ShapeError, r"\[B, C, T\]"),
        (torch.zeros(1, 1, 0), RATE, ShapeError, "empty"),
        (torch.zeros(0, 1, 50), RATE, ShapeError, "empty"),
        (torch.zeros(1, 1, 50, dtype=torch.int16), RATE, UsageError, "int16"),
        (torch.zeros(1, 1, 50), 0, UsageError, "0 Hz"),
        (torch.zeros(1, 1, 50), 44_100.5, UsageError, "44100.5"),
        (
            torch.tensor([0.0, float("nan")]).expand(3, 1, 2),
            RATE,
            UsageError,
            "NaN or infinite samples in clips 0",
        ),
        (torch.tensor([0.0, float("inf")]).expand(1, 1, 2), RATE, UsageError, "NaN or infinite"),
        (np.zeros((1, 1, 50)), RATE, UsageError, "torch tensor"),
    ],
)
def test_bad_audio_is_named(
    encoder: Encoder, audio: Tensor, rate: int, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        encoder(audio, rate)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("log-mel", {"mels": 400}),
        ("log-mel", {"channels": [12]}),
        ("log-mel", {"channels": []}),
        ("log-mel", {"embedding_size": 0}),
        ("log-mel", {"sample_rate": 24}),
        ("log-mel", {"hop": 0}),
        ("spectrogram-vae", {"power": 0.0}),
        ("spectrogram-vae", {"beta": float("nan")}),
        ("spectrogram-vae", {"strides": [2, 2]}),
        ("spectrogram-vae", {"kernels": [[3, 3, 3], 3, 3, 3]}),
        ("spectrogram-vae", {"channels": []}),
        ("spectrogram-vae", {"patch_frames": 0}),
    ],
)
def test_bad_options_are_named(name: str, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        make_encoder(name, **options)


def test_save_and_load_give_the_same_embeddings(encoder: Encoder, tmp_path: Path) -> None:
    audio = music(2, 30_000, 44_100)
    path = save_encoder(encoder, tmp_path / "deep" / "weights")
    assert path == tmp_path / "deep" / "weights.safetensors"
    assert sorted(p.name for p in path.parent.iterdir()) == ["weights.json", "weights.safetensors"]
    again = load_encoder(path)
    assert type(again) is type(encoder)
    assert again.config() == encoder.config()
    assert not again.training
    assert torch.equal(embed(again, audio, 44_100), embed(encoder, audio, 44_100))
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["encoder"] == encoder.name
    assert about["sample_rate"] == encoder.sample_rate
    assert about["versions"]["torch"] == torch.__version__


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return save_encoder(build("spectrogram-vae small"), tmp_path / "vae.safetensors")


def damage(path: Path, what: str) -> None:
    description = path.with_suffix(".json")
    about = json.loads(description.read_text())
    data = path.read_bytes()
    if what == "weights missing":
        path.unlink()
    elif what == "both missing":
        path.unlink()
        description.unlink()
    elif what == "description missing":
        description.unlink()
    elif what == "description cut":
        description.write_text(description.read_text()[:40])
    elif what == "description binary":
        description.write_bytes(b"\xff\xfe\x00\x01")
    elif what == "description a list":
        description.write_text("[1]")
    elif what == "weights cut":
        path.write_bytes(data[: len(data) // 2])
    elif what == "weights one bit":
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif what == "weights a directory":
        path.unlink()
        path.mkdir()
    else:
        about.update(
            {
                "format": {"format": 99},
                "options": {"config": {**about["config"], "embedding_size": 25}, "embedding_size": 25},
                "option unknown": {"config": {**about["config"], "colour": "red"}},
                "option of another kind": {"config": {**about["config"], "n_fft": "wide"}},
                "size": {"embedding_size": 3},
                "rate": {"sample_rate": 44_100},
            }[what]
        )
        description.write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("weights missing", "cannot read"),
        ("both missing", "missing"),
        ("description missing", "vae.json is missing"),
        ("description cut", "not JSON"),
        ("description binary", "not JSON"),
        ("description a list", "does not describe"),
        ("weights cut", "damaged"),
        ("weights one bit", "damaged"),
        ("weights a directory", "cannot read"),
        ("format", "format 99"),
        ("options", "does not fit"),
        ("option unknown", "colour"),
        ("option of another kind", "n_fft"),
        ("size", "embedding_size 3"),
        ("rate", "sample_rate 44100"),
    ],
)
def test_damage_is_named(saved: Path, what: str, words: str) -> None:
    damage(saved, what)
    for load in (load_encoder, lambda path: make_encoder("pretrained", weights=path)):
        with pytest.raises(RunError, match=words) as caught:
            load(saved)
        assert "\n" not in str(caught.value)


def test_weights_that_are_no_safetensors(saved: Path) -> None:
    import hashlib

    saved.write_bytes(b"PK\x03\x04 a pickle, perhaps")
    description = saved.with_suffix(".json")
    about = json.loads(description.read_text())
    about["weights_sha256"] = hashlib.sha256(saved.read_bytes()).hexdigest()
    description.write_text(json.dumps(about))
    with pytest.raises(RunError, match="no safetensors file"):
        load_encoder(saved)


def test_weights_with_nan(tmp_path: Path) -> None:
    encoder = build("log-mel small")
    with torch.no_grad():
        next(encoder.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="NaN"):
        load_encoder(save_encoder(encoder, tmp_path / "w"))


def test_unknown_encoder_in_a_file(saved: Path) -> None:
    description = saved.with_suffix(".json")
    description.write_text(description.read_text().replace('"spectrogram-vae"', '"someone-elses"'))
    with pytest.raises(UnknownNameError, match="someone-elses"):
        load_encoder(saved)


def test_saving_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        save_encoder(build("log-mel small"), tmp_path / "file" / "weights")


def test_a_failed_save_leaves_the_old_files(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(self: Path, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match="No space left"):
        save_encoder(build("spectrogram-vae small"), saved)
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert len(list(saved.parent.iterdir())) == 2
    load_encoder(saved)


def test_pretrained_is_frozen_and_always_in_eval_mode(saved: Path) -> None:
    encoder = make_encoder("pretrained", weights=str(saved))
    encoder.train()
    assert encoder.frozen
    assert not any(m.training for m in encoder.modules())
    assert not encoder(music(1, 9000), RATE).requires_grad
    audio = music(2, 9000)
    assert torch.equal(embed(encoder, audio), embed(load_encoder(saved), audio))


def test_pretrained_checks_what_it_is_told(saved: Path) -> None:
    make_encoder("pretrained", weights=saved, encoder="spectrogram-vae", options={"n_fft": 512})
    with pytest.raises(RunError, match="holds the encoder 'spectrogram-vae', not 'log-mel'"):
        make_encoder("pretrained", weights=saved, encoder="log-mel")
    with pytest.raises(RunError, match="n_fft 512, not 2048"):
        make_encoder("pretrained", weights=saved, options={"n_fft": 2048})


def test_a_copy_of_pretrained_needs_no_original_file(saved: Path, tmp_path: Path) -> None:
    encoder = make_encoder("pretrained", weights=saved)
    audio = music(1, 9000)
    want = embed(encoder, audio)
    copy = save_encoder(encoder, tmp_path / "run" / "encoder")
    saved.unlink()
    saved.with_suffix(".json").unlink()
    again = load_encoder(copy)
    assert again.frozen
    assert torch.equal(embed(again, audio), want)
    by_hand = make_encoder(encoder.name, **encoder.config())
    by_hand.load_state_dict(safetensors.torch.load_file(copy))
    assert torch.equal(embed(by_hand, audio), want)


class Peak(Encoder):
    """The smallest encoder: no weights."""

    def __init__(self) -> None:
        super().__init__(1, RATE)

    def config(self) -> dict[str, object]:
        return {}

    def embed(self, audio: Tensor) -> Tensor:
        return audio.abs().amax(dim=1, keepdim=True)


def test_somebody_elses_encoder_gets_the_checks_and_the_level(tmp_path: Path) -> None:
    encoder = Peak()
    torch.testing.assert_close(encoder(music(3, 500), RATE), torch.full((3, 1), 10 ** (-12 / 20)))
    with pytest.raises(ShapeError):
        encoder(torch.zeros(5), RATE)
    with pytest.raises(UsageError, match="no registry name"):
        encoder.save(tmp_path / "w")
