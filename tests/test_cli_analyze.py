"""dafxhost analyze as typed, and its page in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from command_line import Call, make_run
from dafxhost.analysis import analysing, extras, latent_plots, probes, style
from dafxhost.encoders import save_encoder
from dafxhost.training.runs import LOG
from dafxhost_encoders.spectrogram_vae import SpectrogramVAE

EFFECTS = "mda-overdrive,mda-ringmod"


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of few dots and forests of few trees: what is drawn and said is the same."""
    monkeypatch.setattr(style, "_DPI", 50)
    monkeypatch.setattr(latent_plots, "SHOWN", 2)
    for name, value in (("TREES", 10), ("_FEW_TREES", 5), ("BOOTSTRAPS", 20), ("FEWEST", 4)):
        monkeypatch.setattr(probes, name, value)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small VAE with random weights and a log of its training."""
    torch.manual_seed(1)
    encoder = SpectrogramVAE(6, 8000, n_fft=64, hop=64, patch_frames=16, channels=(2, 2))
    path = save_encoder(encoder, tmp_path_factory.mktemp("vae") / "small")
    log = [{"step": i, "loss": 1 / (i + 1), "explained": 0.1 * i} for i in range(5)]
    path.with_suffix(".log.jsonl").write_text("\n".join(map(json.dumps, log)))
    return path


def check_page(opened: Any, path: Path, pictures: int) -> None:
    """Every picture is there, in light and in dark, and nothing was asked of anybody."""
    asked: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    for scheme in ("light", "dark"):
        opened.emulate_media(color_scheme=scheme)
        opened.goto(path.as_uri())
        opened.wait_for_selector("#cloud[data-ready=yes]")
        opened.wait_for_function("[...document.images].every(i => i.complete)")
        widths = opened.evaluate("[...document.images].map(i => i.naturalWidth)")
        assert len(widths) == pictures and min(widths) > 0
    assert all(url.startswith(("file:", "data:")) for url in asked)


@pytest.mark.slow
def test_a_vae_has_everything(call: Call, weights: Path, page: Any, tmp_path: Path) -> None:
    code, out, err = call(
        "analyze", weights, "--effects", EFFECTS, "--examples", "4", "--no-umap", "--out", "found",
        "--workers", "1", "--data", recordings(tmp_path), "--colour", "mda-overdrive.drive", "--json",
    )  # fmt: skip
    assert code == 0, err
    said = json.loads(out)
    assert said["effects"] == {"mda-overdrive": 4, "mda-ringmod": 4} and said["notes"] == []
    assert {(p["source"], p["probe"]) for p in said["effect_probes"]} == {
        (s, k) for s in ("processed", "difference", "clean") for k in ("linear", "forest")
    }
    assert any(p["target"] == "mda-overdrive.drive" for p in said["parameter_probes"])
    assert said["latents"]["size"] == 6 and len(said["latents"]["divergence"]) == 6
    assert said["reconstruction"]["rmse"] > 0
    assert json.loads((tmp_path / "found" / "figures.json").read_text())["latents"] == said["latents"]
    names = {p.stem for p in (tmp_path / "found").glob("*.png")}
    assert names == {p.stem for p in (tmp_path / "found").glob("*.svg")}
    assert {"latents", "traversals", "histograms", "reconstructions", "training-curves", "parameter-probes",
            "confusion-difference", "difference-mda-overdrive.drive",
            "difference-mda-overdrive.drive-3d", "latents-mda-overdrive.drive"} <= names  # fmt: skip
    with np.load(tmp_path / "found" / "embeddings.npz", allow_pickle=False) as kept:
        assert kept["processed"].shape == (8, 6) and kept["difference_pca_3d"].shape == (8, 3)
    check_page(page, tmp_path / "found" / "index.html", len(names))
    before = page.locator("#cloud-legend").inner_text()
    page.select_option("#cloud-colour", "mda-overdrive.drive")
    page.select_option("#cloud-view", index=2)
    page.locator("#cloud canvas").focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("#cloud-legend").inner_text() != before
    dots = "document.querySelector('#cloud canvas').getContext('2d').getImageData(0, 0, 900, 400).data"
    assert page.evaluate(f"{dots}.some(v => v)"), "nothing is drawn in the cloud"
    page.set_viewport_size({"width": 380, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
        "a phone has to scroll sideways"
    )


def test_a_run_of_an_encoder_that_only_embeds(call: Call, page: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path, "mda-overdrive", "run")
    entry = {"phase": "supervised", "step": 5, "loss": 0.5, "validation": 1.2, "best": 1.2, "untouched": 1.5}
    (run / LOG).write_text(json.dumps(entry) + "\n")
    code, out, err = call(
        "analyze", run, "--effects", "mda-overdrive", "--examples", "2", "--workers", "1", "--data",
        recordings(tmp_path),
    )  # fmt: skip
    assert code == 0, err
    assert out == f"page: {run / 'analysis' / 'index.html'}\n"
    for words in (
        "no reconstructions",
        "no latents",
        "one effect only",
        "2 examples are too few",
        "no probe of the",
    ):
        assert words in err
    names = {p.stem for p in (run / "analysis").glob("*.png")}
    assert "training-curves" in names and not names & {"latents", "traversals", "histograms"}
    check_page(page, run / "analysis" / "index.html", len(names))
    text = page.inner_text("main")
    assert "What is not here, and why" in text and "log-mel" in text


def recordings(folder: Path) -> Path:
    from training_effects import write_audio

    return write_audio(folder / "data", files=3, seconds=4.5)


def test_a_missing_umap_is_a_note_and_a_missing_matplotlib_an_error(
    call: Call, monkeypatch: pytest.MonkeyPatch, weights: Path
) -> None:
    monkeypatch.setattr(extras, "missing", lambda modules=extras.NEEDED: [m for m in modules if m == "umap"])
    assert 'umap-learn is missing; install with: pip install "dafxhost[analysis]"' in extras.umap_missing()
    monkeypatch.setattr(extras, "missing", lambda modules=extras.NEEDED: ["matplotlib"])
    code, out, err = call("analyze", weights)
    assert (code, out) == (2, "")
    assert err == 'error: the analysis needs matplotlib; install with: pip install "dafxhost[analysis]"\n'


def test_ctrl_c_leaves_an_earlier_analysis_alone(
    call: Call, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "found").mkdir()
    (tmp_path / "found" / "index.html").write_text("earlier")

    def interrupted(*anything: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(analysing, "analyse", interrupted)
    monkeypatch.setattr(
        "dafxhost.analysis.observing.observe", lambda *a, **k: type("Seen", (), {"notes": []})()
    )
    code, out, err = call("analyze", weights, "--effects", EFFECTS, "--out", "found")
    assert code == 130 and out == "" and err.splitlines()[-1].startswith("interrupted; nothing")
    assert [p.name for p in (tmp_path / "found").iterdir()] == ["index.html"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nothing",), 1, "nothing is no run folder, no encoder's weights file and no encoder's name"),
        (("empty",), 1, "holds no controller"),
        (("WEIGHTS", "--effects", "mda-overdriev"), 2, "did you mean mda-overdrive"),
        (("WEIGHTS", "--effects", " , "), 2, "--effects names no effect"),
        (("WEIGHTS", "--effects", EFFECTS, "--colour", "drvie"), 2, "unknown colour 'drvie'"),
        (("WEIGHTS", "--out", "file"), 1, "file is a file"),
        (("WEIGHTS", "--data", "nowhere"), 1, "there is no such folder"),
        (("WEIGHTS", "--examples", "0"), 2, "--examples"),
    ],
)
def test_bad_requests_are_one_sentence(
    call: Call, weights: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    typed = [weights if a == "WEIGHTS" else a for a in arguments]
    got, out, err = call("analyze", *typed)
    assert (got, out) == (code, "") and words in err, err
    assert err.splitlines()[-1].startswith("error: ") and "bug" not in err
    assert not (tmp_path / "empty" / "analysis").exists()
