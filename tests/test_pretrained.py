"""The encoder whose weights are in the package."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor

from command_line import Call, small_training
from dafxhost.encoders import load_encoder, read_description, save_encoder
from dafxhost.errors import RunError
from dafxhost.registry import encoder as make_encoder
from dafxhost.testing.encoder_checks import CHECKS, EncoderSession
from dafxhost.training import runs
from dafxhost_encoders import pretrained
from dafxhost_encoders.pretrained import SHIPPED, PretrainedEncoder, card

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def encoder() -> PretrainedEncoder:
    return make_encoder("pretrained")


def clips(count: int = 2, samples: int = 40_000) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    level = torch.exp(-6 * (torch.arange(samples) / 24_000 % 0.3))
    return 0.2 * level * torch.randn(count, 1, samples, generator=generator)


def test_it_needs_no_file_and_conforms(encoder: PretrainedEncoder) -> None:
    assert encoder.inner.name == "effect-encoder"
    assert encoder.frozen
    for name, check in CHECKS.items():
        if name not in ("sample-rates", "lengths"):  # those of its inner one: test_effect_encoder
            check(EncoderSession(encoder, True))


def test_its_weights_are_trained_and_small(encoder: PretrainedEncoder) -> None:
    assert SHIPPED.stat().st_size < 3e6
    assert encoder.inner.get_buffer("scale").std() > 0.1
    torch.manual_seed(0)
    fresh = make_encoder("effect-encoder", **encoder.inner.config()).eval()
    assert not torch.allclose(fresh(clips(), 24_000), encoder(clips(), 24_000))


def test_the_card_belongs_to_the_weights() -> None:
    about = card()
    assert about["weights_sha256"] == read_description(SHIPPED)["weights_sha256"]
    assert about["weights_sha256"] == hashlib.sha256(SHIPPED.read_bytes()).hexdigest()
    assert about["command"].startswith("dafxhost pretrain effect-encoder ")
    assert all(entry["licence"] and entry["what"] for entry in about["data"])
    assert {"licence", "protocol", "effects", "figures", "limits"} <= set(about)


def test_a_missing_card_is_explained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path / "x.safetensors")
    with pytest.raises(RunError, match="install dafxhost again"):
        card()
    with pytest.raises(RunError, match="no encoder at"):
        PretrainedEncoder()


def test_a_saved_copy_needs_not_the_shipped_file(
    encoder: PretrainedEncoder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = save_encoder(encoder, tmp_path / "copy")
    monkeypatch.setattr(pretrained, "SHIPPED", tmp_path / "gone.safetensors")
    assert torch.equal(load_encoder(path)(clips(), 24_000), encoder(clips(), 24_000))


def test_rate_and_length_change_little(encoder: PretrainedEncoder) -> None:
    """The same sound at another rate lies nearer than another sound."""
    from torchaudio.functional import resample

    one, other = clips(2, 96_000).split(1)
    here = encoder(one, 24_000)
    upsampled = encoder(resample(one, 24_000, 44_100), 44_100)
    assert (upsampled - here).norm() < 0.5 * (encoder(other.flip(-1), 24_000) - here).norm()


def test_the_wheel_holds_the_weights(tmp_path: Path) -> None:
    """Built from a copy of the encoders, so that no file of the working tree is touched."""
    copy = tmp_path / "source"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(ROOT / name, copy / name)
    for name in ("dafxhost", "effects/dafxhost_effects", "encoders/dafxhost_encoders", "cli/dafxhost_cli"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    [wheel] = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for suffix in (".safetensors", ".json", ".card.json"):
        assert f"dafxhost_encoders/weights/effect-encoder{suffix}" in names


@pytest.mark.slow
def test_training_with_it(call: Call, tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(small_training(1))
    options = ("--effect", "mda-combo", "--config", "small.toml", "--run-dir", "run", "--workers", "1")
    code, _, words = call("train", *options, "--encoder", "pretrained")
    assert code == 0, words
    inner = runs.load_run(tmp_path / "run").controller.encoder.inner  # type: ignore[union-attr]
    assert inner.name == "effect-encoder"
