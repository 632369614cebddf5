"""Encoders from other people's checkpoints, on small ones of the right structure, made here."""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torchaudio.functional import melscale_fbanks

from command_line import Call, small_training
from dafxhost.encoders import load_encoder, save_encoder
from dafxhost.errors import RunError, UsageError
from dafxhost.registry import encoder as make_encoder
from dafxhost.testing.encoder_checks import CHECKS, EncoderSession
from dafxhost.training import runs
from dafxhost.training.config import TrainConfig
from dafxhost.training.session import _make_encoder
from dafxhost_encoders.checkpoints.reading import read_tensors

CHANNELS = (2, 3, 4, 5, 6, 7)


def checkpoint(
    heads: dict[str, int], mels: int, n_fft: int, prefix: str = "", bn: bool = True
) -> dict[str, Tensor]:
    """Random weights with the names and shapes that PANNs' and ST-ITO's public code gives them."""
    torch.manual_seed(1)
    out: dict[str, Tensor] = {
        "spectrogram_extractor.stft.conv_real.weight": torch.zeros(n_fft // 2 + 1, 1, n_fft),
        "spectrogram_extractor.stft.conv_imag.weight": torch.zeros(n_fft // 2 + 1, 1, n_fft),
        "logmel_extractor.melW": melscale_fbanks(
            n_fft // 2 + 1, 50.0, 4000.0, mels, 8000, norm="slaney", mel_scale="slaney"
        ),
    }
    out |= {f"bn0.{k}": v for k, v in nn.BatchNorm2d(mels).state_dict().items()}
    inputs = 1
    for number, outputs in enumerate(CHANNELS, 1):
        block = f"conv_block{number}"
        for layer, few in ((1, inputs), (2, outputs)):
            out[f"{block}.conv{layer}.weight"] = 0.3 * torch.randn(outputs, few, 3, 3)
            if bn:
                state = nn.BatchNorm2d(outputs).state_dict()
                out |= {f"{block}.bn{layer}.{k}": v for k, v in state.items()}
        inputs = outputs
    for head, size in heads.items():
        out |= {f"{head}.{k}": v for k, v in nn.Linear(inputs, size).state_dict().items()}
    return {prefix + name: value for name, value in out.items()}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of each kind, small: as Lightning writes it, and as PANNs' training wrote it."""
    folder = tmp_path_factory.mktemp("checkpoints")
    afx = checkpoint({"fc_mid": 4, "fc_side": 4}, 32, 2048, "encoder.")
    afx["adversary.weight"] = torch.zeros(3)
    torch.save({"epoch": 3, "state_dict": afx, "hyper_parameters": {"lr": 1e-4}}, folder / "afx-rep.ckpt")
    panns = checkpoint({"fc1": 7, "fc_audioset": 527}, 32, 256)
    torch.save({"iteration": 9, "model": panns}, folder / "Cnn14.pth")
    return {"afx-rep": folder / "afx-rep.ckpt", "panns-cnn14": folder / "Cnn14.pth"}


def noise(clips: int, channels: int, samples: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(clips, channels, samples, generator=generator)


@pytest.mark.parametrize("name, size, rate", [("afx-rep", 8, 48_000), ("panns-cnn14", 7, 8_000)])
def test_a_checkpoint_fits_and_conforms(files: dict[str, Path], name: str, size: int, rate: int) -> None:
    encoder = make_encoder(name, weights=files[name])
    assert (encoder.embedding_size, encoder.sample_rate) == (size, rate)
    assert encoder.frozen
    for check, verify in CHECKS.items():
        if check != "sample-rates":
            verify(EncoderSession(encoder, True))


def test_weights_are_the_files(files: dict[str, Path]) -> None:
    tensors = read_tensors(files["afx-rep"])
    state = make_encoder("afx-rep", weights=files["afx-rep"]).state_dict()
    for key, name in (("trunk.conv_block3.conv2.weight",) * 2, ("fc_side.bias",) * 2):
        assert torch.equal(state[key], tensors["encoder." + name.removeprefix("trunk.")])


def test_cnn14_is_the_papers(files: dict[str, Path]) -> None:
    """Table 1 of Kong 2020, computed once more step by step, with a librosa-style front end in float64."""
    encoder = make_encoder("panns-cnn14", weights=files["panns-cnn14"])
    audio = noise(2, 1, 8000)
    tensors = {k: v.double() for k, v in read_tensors(files["panns-cnn14"]).items() if v.is_floating_point()}
    x = (audio[:, 0] / audio.abs().amax(dim=2)).double()
    window = torch.hann_window(256, dtype=torch.float64)
    spectrum = torch.stft(x, 256, 80, window=window, center=True, pad_mode="reflect", return_complex=True)
    mel = spectrum.abs().square().transpose(1, 2) @ tensors["logmel_extractor.melW"]
    h = 10 * torch.log10(mel.clamp(min=1e-10))[:, None] / (1 + 1e-5) ** 0.5  # fresh batch normalisation
    for block in range(1, 7):
        for layer in (1, 2):
            h = nn.functional.conv2d(h, tensors[f"conv_block{block}.conv{layer}.weight"], padding=1)
            h = (h / (1 + 1e-5) ** 0.5).relu()
        h = nn.functional.avg_pool2d(h, 2) if block < 6 else h
    h = h.mean(dim=3)
    h = h.amax(dim=2) + h.mean(dim=2)
    expected = (h @ tensors["fc1.weight"].T + tensors["fc1.bias"]).relu()
    torch.testing.assert_close(encoder(audio, 8000).double(), expected, rtol=1e-3, atol=1e-4)
    assert expected.abs().max() > 0


def test_mid_and_side(files: dict[str, Path]) -> None:
    encoder = make_encoder("afx-rep", weights=files["afx-rep"])
    mono, stereo = noise(1, 1, 60_000), noise(1, 2, 60_000)
    out = encoder(stereo, 48_000)
    torch.testing.assert_close(out[:, :4].norm(), torch.tensor(1.0))
    torch.testing.assert_close(out[:, 4:].norm(), torch.tensor(1.0))
    assert not torch.allclose(out[:, :4], out[:, 4:])
    alone = encoder(mono, 48_000)
    assert torch.equal(alone[:, :4], alone[:, 4:])
    torch.testing.assert_close(encoder(mono.expand(-1, 2, -1), 48_000), alone)
    # The other channel inverted makes mid and side trade places.
    assert not torch.allclose(encoder(stereo * torch.tensor([[1.0], [-1.0]]), 48_000), out)
    # Level is no part of it.
    torch.testing.assert_close(encoder(0.1 * stereo, 48_000), out, rtol=1e-3, atol=1e-4)


def test_a_saved_copy_needs_no_checkpoint(files: dict[str, Path], tmp_path: Path) -> None:
    encoder = make_encoder("afx-rep", weights=files["afx-rep"], input_norm="batchnorm")
    again = load_encoder(save_encoder(encoder, tmp_path / "copy"))
    assert again.structure["input_norm"] == "batchnorm"
    audio = noise(1, 2, 50_000)
    assert torch.equal(again(audio, 44_100), encoder(audio, 44_100))


def test_long_clips_are_cut(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dafxhost_encoders.checkpoints.cnn14.LONGEST", 2)
    encoder = make_encoder("panns-cnn14", weights=files["panns-cnn14"])
    halves = noise(2, 1, 12_000)
    halves = halves / halves.abs().amax(dim=2, keepdim=True)
    whole = encoder(torch.cat([halves[:1], halves[1:]], dim=2), 8000)
    torch.testing.assert_close(whole, encoder(halves, 8000).mean(dim=0, keepdim=True))


class Harmful:
    """What a hostile checkpoint would be: unpickled, it runs something."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("touched"),))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {"a": torch.zeros(1)}, "x": Harmful()}, tmp_path / "bad.ckpt")
    (tmp_path / "raw.pth").write_bytes(pickle.dumps({"model": Harmful()}))
    for name in ("bad.ckpt", "raw.pth"):
        with pytest.raises(RunError, match="more than tensors"):
            make_encoder("afx-rep", weights=tmp_path / name)
    assert not (tmp_path / "touched").exists()


def test_bad_files_are_explained(files: dict[str, Path], tmp_path: Path) -> None:
    def fails(name: str, match: str, encoder: str = "afx-rep") -> None:
        with pytest.raises(RunError, match=match):
            make_encoder(encoder, weights=tmp_path / name)

    fails("none.ckpt", "no checkpoint at")
    (tmp_path / "text.pth").write_text("hello")
    fails("text.pth", "not read|cannot be read")
    (tmp_path / "cut.ckpt").write_bytes(files["afx-rep"].read_bytes()[:2000])
    fails("cut.ckpt", "not read|cannot be read")
    torch.save({"model": {"x": 1}}, tmp_path / "numbers.pth")
    fails("numbers.pth", "no tensors by name")
    torch.save(read_tensors(files["panns-cnn14"]), tmp_path / "other.pth")
    fails("other.pth", "no checkpoint of afx-rep: it has no tensor fc_mid")
    tensors = read_tensors(files["panns-cnn14"])
    tensors["conv_block2.conv2.weight"] = torch.zeros(1, 1, 3, 3)
    safetensors.torch.save_file(tensors, tmp_path / "shape.safetensors")
    fails("shape.safetensors", r"conv_block2.conv2.weight has shape \[1, 1, 3, 3\]", "panns-cnn14")
    for name in ("afx-rep", "panns-cnn14"):
        with pytest.raises(UsageError, match=f"--encoder {name} --encoder-weights FILE"):
            make_encoder(name)


def test_a_training_reads_the_checkpoint(files: dict[str, Path]) -> None:
    for name, path in files.items():
        encoder = _make_encoder(TrainConfig(encoder=name, encoder_weights=str(path)))
        assert encoder.name == name
        assert encoder.frozen


@pytest.mark.slow
def test_training_with_a_checkpoint(files: dict[str, Path], call: Call, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(small_training(1))
    copy = tmp_path / "afx.ckpt"
    copy.write_bytes(files["afx-rep"].read_bytes())
    options = ("--effect", "mda-combo", "--config", "small.toml", "--run-dir", "run", "--workers", "1")
    code, _, words = call("train", *options, "--encoder", "afx-rep", "--encoder-weights", copy)
    assert code == 0, words
    copy.unlink()
    assert runs.load_run(tmp_path / "run").controller.encoder.name == "afx-rep"


def test_clap_without_transformers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(UsageError, match=r"pip install \"dafxhost\[clap\]\""):
        make_encoder("clap", weights=tmp_path)
    with pytest.raises(UsageError, match="--encoder clap --encoder-weights DIR"):
        make_encoder("clap")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_clap_from_a_folder(tmp_path: Path) -> None:
    import transformers as clap

    audio = {
        "hidden_size": 32,
        "patch_embeds_hidden_size": 16,
        "depths": [1, 1],
        "num_attention_heads": [2, 2],
        "num_hidden_layers": 2,
        "spec_size": 64,
        "num_mel_bins": 16,
        "window_size": 4,
    }
    text = {
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "intermediate_size": 8,
        "vocab_size": 16,
        "projection_dim": 12,
    }
    torch.manual_seed(1)
    model = clap.ClapModel(clap.ClapConfig(audio_config=audio, text_config=text, projection_dim=12))
    model.save_pretrained(tmp_path / "clap")
    front = clap.ClapFeatureExtractor(
        feature_size=16,
        sampling_rate=8000,
        hop_length=80,
        max_length_s=1,
        fft_window_size=256,
        frequency_max=4000,
    )
    front.save_pretrained(tmp_path / "clap")
    encoder = make_encoder("clap", weights=tmp_path / "clap")
    assert (encoder.embedding_size, encoder.sample_rate, encoder.frozen) == (12, 8000, True)
    clips = noise(2, 1, 20_000)
    one = encoder(clips, 8000)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(2))
    assert torch.equal(encoder(clips, 8000), one)
    again = load_encoder(save_encoder(encoder, tmp_path / "copy"))
    assert torch.equal(again(clips, 8000), one)
    with pytest.raises(RunError, match="no CLAP model in"):
        make_encoder("clap", weights=tmp_path)
