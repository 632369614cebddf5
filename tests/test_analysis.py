"""What an analysis measures: latents of a known decoder, probes of known vectors, projections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dafxhost
from dafxhost.analysis import colours, latents, observing, plots, probes, projections, report, subjects
from dafxhost.analysis.latents import divergences, study, traverse
from dafxhost.analysis.observing import Observations, find_effects, observe
from dafxhost.analysis.reconstruction import Reconstructor
from dafxhost.analysis.style import reduced
from dafxhost.data.corpus import SyntheticCorpus
from dafxhost.encoders import Encoder
from dafxhost.errors import DafxhostError, EffectUnavailableError, OutputError, RunError, UnknownNameError
from dafxhost.parameters import Parameter


class Linear(Encoder):
    """`[B, 8]` energies of eight stretches of the clip; as an autoencoder, linear with known weights."""

    name = "test-linear"

    def __init__(self, broken: int = 0) -> None:
        super().__init__(8, 8000, minimum_samples=64)
        self.broken = broken
        self.seen = 0
        weights = torch.zeros(6, 8)
        weights[0, 0], weights[1, 1], weights[2, 2] = 4.0, 2.0, 1.0
        self.register_buffer("weights", weights)

    def config(self) -> dict[str, Any]:
        return {}

    def embed(self, audio: Tensor) -> Tensor:
        length = audio.shape[-1] // 8
        out = audio[:, : 8 * length].reshape(-1, 8, length).square().mean(dim=-1).log10().clamp(min=-9)
        out[: max(0, self.broken - self.seen)] = float("nan")
        self.seen += len(audio)
        return out


class LinearVAE(Linear):
    weights: Tensor

    def inputs(self, clean: Tensor, processed: Tensor, sample_rate: int) -> Tensor:
        return self(processed, sample_rate)

    def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Three of six latents carry the first three inputs; the others stay at the prior."""
        mean = torch.zeros(len(inputs), 6)
        mean[:, :3] = inputs[:, :3]
        return mean, torch.zeros_like(mean)

    def decode(self, latents: Tensor, size: tuple[int, ...]) -> Tensor:
        return (latents @ self.weights).reshape(-1, *size)


def test_latents_of_a_decoder_that_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latents, "PROBES", 400)
    rng = torch.Generator().manual_seed(0)
    inputs = torch.zeros(400, 8)
    inputs[:, :3] = torch.randn(400, 3, generator=rng)
    pictures = inputs @ torch.diag(torch.tensor([4.0, 2.0, 1.0, 0, 0, 0, 0, 0]))

    class Exact(LinearVAE):
        def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return super().posterior(inputs / torch.tensor([4.0, 2.0, 1.0, 1, 1, 1, 1, 1]))

    found = study(Reconstructor(Exact()), pictures)
    assert (found.size, found.active) == (6, 3)
    assert found.divergence is not None and found.output is not None
    assert found.divergence[:3] == pytest.approx(
        0.5 * np.square(inputs[:, :3].numpy()).mean(axis=0), rel=1e-5
    )
    assert found.divergence[3:] == pytest.approx(0)
    # Shares of the variance are those of the weights squared, 16 : 4 : 1, up to chance.
    assert list(found.order[:3]) == [0, 1, 2]
    assert found.output[:3] == pytest.approx(np.array([16, 4, 1]) / 21, rel=0.25)
    assert found.output[3:] == pytest.approx(0)
    by = dict(zip(found.kept, found.explained, strict=True))
    assert by[6] == pytest.approx(1) and by[0] == pytest.approx(0, abs=0.05)
    assert by[1] == pytest.approx(16 / 21, abs=0.08) and by[2] == pytest.approx(20 / 21, abs=0.04)
    assert found.recommended == 3
    assert (
        "3 of 6 latents carry more than 0.1 nats (3 are active" in found.advice()
        and "3 carry 99 %" in found.advice()
    )


def test_a_traversal_moves_one_latent_through_its_own_distribution() -> None:
    mean = np.zeros((50, 6))
    mean[:, 1] = 3 + np.tile([-1.0, 1.0], 25)
    decoded, deviations = traverse(Reconstructor(LinearVAE()), mean, np.array([1, 4]), (8,), steps=5)
    assert decoded.shape == (2, 5, 8)
    assert decoded[0, :, 1] == pytest.approx(2 * (3 + deviations))  # its deviation is 1, its weight 2
    assert np.ptp(decoded[1], axis=0) == pytest.approx(0)  # a latent that never varies moves nothing


def test_the_divergence_is_that_of_the_closed_form() -> None:
    mean, log_variance = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 2.0])
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(torch.tensor(mean), torch.tensor(np.exp(0.5 * log_variance))),
        torch.distributions.Normal(0.0, 1.0),
    )
    assert divergences(mean, log_variance) == pytest.approx(expected.numpy())


def test_nothing_active_and_everything_active_are_said() -> None:
    class Collapsed(LinearVAE):
        def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(inputs), 6), torch.zeros(len(inputs), 6)

    assert "No latent carries" in study(Reconstructor(Collapsed()), torch.randn(20, 8)).advice()

    class Full(LinearVAE):
        def posterior(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
            return 3 * inputs[:, :6], torch.zeros(len(inputs), 6) - 4

    assert "the size is the limit; try 12" in study(Reconstructor(Full()), torch.randn(20, 8)).advice()


# --- probes -------------------------------------------------------------------------------------------------


@pytest.fixture
def cheap_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("TREES", 20), ("_FEW_TREES", 10), ("BOOTSTRAPS", 50)):
        monkeypatch.setattr(probes, name, value)


@pytest.mark.usefixtures("cheap_probes")
def test_probes_find_what_is_there_and_nothing_where_there_is_nothing() -> None:
    rng = np.random.default_rng(1)
    labels, names = np.tile(np.arange(3), 30), [f"clip{i // 9}" for i in range(90)]
    told = rng.standard_normal((90, 6))
    told[:, 2] += 6 * labels
    for rows, low, high in ((told, 0.8, 1.0), (rng.standard_normal((90, 6)), 0.05, 0.6)):
        for found in probes.effect_probes(rows, labels, names, "processed"):
            p = found.probe
            assert low <= p.value <= high and p.chance <= 0.34, p
            assert p.low <= p.value <= p.high and p.recordings == 10
            assert found.confusion.sum() == 90 and np.trace(found.confusion) == round(90 * p.value)


@pytest.mark.usefixtures("cheap_probes")
def test_what_belongs_to_the_recording_is_not_taken_for_the_effect() -> None:
    """Each recording has one effect only, and its vectors lie together: were its clips on both sides of a
    fold, it would be recognised without fail. New recordings lie elsewhere."""
    rng = np.random.default_rng(2)
    groups = np.tile(np.arange(40), 3)
    rows = 10 * rng.standard_normal((40, 4))[groups] + 0.1 * rng.standard_normal((120, 4))
    _, honest = probes.effect_probes(rows, groups % 2, [str(g) for g in groups], "processed")
    _, leaky = probes.effect_probes(rows, groups % 2, [str(i) for i in range(120)], "processed")
    assert honest.probe.value < 0.75 and leaky.probe.value > 0.9


@pytest.mark.usefixtures("cheap_probes")
def test_parameters_are_probed_by_their_kind() -> None:
    rng = np.random.default_rng(3)
    settings = rng.random((60, 3))
    parameters = (
        Parameter("gain"),
        Parameter("mode", "choice", 0, 1, 0, choices=("a", "b")),
        Parameter("noise"),
    )
    rows = np.stack([settings[:, 0], settings[:, 1] > 0.5, rng.random(60)], axis=1)
    found = probes.parameter_probes(
        rows, settings, parameters, [str(i // 6) for i in range(60)], "fx", "difference"
    )
    by = {(p.target, p.probe): p for p in found}
    assert set(by) == {(f"fx.{p.name}", k) for p in parameters for k in ("linear", "forest")}
    assert by["fx.gain", "linear"].measure == "R2" and by["fx.gain", "linear"].value > 0.95
    assert by["fx.mode", "linear"].measure == "accuracy" and by["fx.mode", "forest"].value > 0.95
    assert by["fx.noise", "linear"].value < 0.2 and abs(by["fx.noise", "linear"].chance) < 0.2


def test_one_recording_or_few_examples_are_not_probed() -> None:
    rows = np.zeros((10, 2))
    assert probes.effect_probes(rows, np.arange(10) % 2, ["one"] * 10, "processed") == []
    assert probes.effect_probes(rows, np.zeros(10, int), list("abcdefghij"), "processed") == []
    assert (
        probes.parameter_probes(rows, rows, (Parameter("gain"),), list("abcdefghij"), "fx", "difference")
        == []
    )


# --- projections --------------------------------------------------------------------------------------------


def test_pca_finds_the_plane_in_which_points_lie() -> None:
    rng = np.random.default_rng(4)
    flat = rng.standard_normal((200, 2)) @ rng.standard_normal((2, 10))
    found = projections.pca(flat)
    assert sum(found.explained[:2]) == pytest.approx(1) and found.points[3].shape == (200, 3)
    assert found.points[3][:, 2] == pytest.approx(0, abs=1e-6)
    distances = [
        np.linalg.norm(x[:50, None] - x[50:100], axis=-1)
        for x in (projections.standardised(flat), found.points[2])
    ]
    assert distances[0] == pytest.approx(distances[1])


@pytest.mark.parametrize("rows", [np.ones((5, 4)), np.ones((1, 4)), np.eye(3)[:, :1]])
def test_pca_of_what_has_no_or_little_variance(rows: np.ndarray) -> None:
    found = projections.pca(rows)
    assert found.points[2].shape == (len(rows), 2) and np.isfinite(found.points[3]).all()


def test_umap_takes_a_dozen_rows() -> None:
    assert projections.umap(np.eye(11)) is None


@pytest.mark.slow
def test_umap_keeps_clusters_apart_and_is_repeatable() -> None:
    rng = np.random.default_rng(5)
    which = np.arange(90) % 3
    rows = rng.standard_normal((90, 60)) + 20 * np.eye(60)[which]
    a, b = projections.umap(rows, seed=1), projections.umap(rows, seed=1)
    assert a is not None and b is not None
    for n in (2, 3):
        assert np.array_equal(a.points[n], b.points[n]) and a.points[n].shape == (90, n)
    centres = np.stack([a.points[2][which == k].mean(axis=0) for k in range(3)])
    inside = max(float(np.linalg.norm(a.points[2][which == k] - centres[k], axis=1).max()) for k in range(3))
    assert min(np.linalg.norm(centres[i] - centres[j]) for i, j in ((0, 1), (0, 2), (1, 2))) > inside


# --- observing ----------------------------------------------------------------------------------------------

RATE = 8000


@pytest.fixture(scope="module")
def corpus() -> SyntheticCorpus:
    return SyntheticCorpus(RATE, 3, "all", bank=4, seconds=2.0)


def seen_by(encoder: Encoder, corpus: SyntheticCorpus, *names: str, examples: int = 3) -> Observations:
    effects = [dafxhost.effect(name, provider="builtin") for name in names]
    return observe(
        encoder.eval(), effects, corpus, examples, sample_rate=RATE, seconds=0.5, workers=1, seed=2,
        reconstructor=Reconstructor(encoder),
    )  # fmt: skip


@pytest.fixture(scope="module")
def observed(corpus: SyntheticCorpus) -> Observations:
    return seen_by(LinearVAE(), corpus, "mda-overdrive", "mda-ringmod")


def test_all_effects_get_the_same_clips_and_parameters_are_known(observed: Observations) -> None:
    assert observed.labels == ["mda-overdrive", "mda-ringmod"] and list(observed.index) == [0, 0, 0, 1, 1, 1]
    assert observed.names[:3] == observed.names[3:]
    assert np.array_equal(observed.clean[:3], observed.clean[3:])
    assert not np.allclose(observed.processed[:3], observed.processed[3:])
    assert [len(s) for s in observed.settings] == [
        len(observed.effects[i].parameters) for i in observed.index
    ]
    assert observed.pictures is not None and observed.pictures.shape == (6, 8)
    assert set(observed.features) == {"centroid", "crest", "change", "brightness", "depth"}
    assert all(np.isfinite(v).all() for v in (observed.features[k] for k in ("centroid", "crest", "change")))


def test_points_are_coloured_by_native_values_of_their_own_effect(observed: Observations) -> None:
    found = colours.colourings(observed)
    drive = found["mda-overdrive.drive"]
    parameter = observed.effects[0].parameter("drive")
    column = observed.effects[0].parameter_names.index("drive")
    assert drive.values[:3] == pytest.approx(parameter.to_native(observed.values(0)[:, column]))
    assert np.isnan(drive.values[3:]).all()
    assert colours.chosen(found, ["drive"]) == [drive]
    with pytest.raises(UnknownNameError, match="drvie"):
        colours.chosen(found, ["drvie"])


def test_embeddings_that_hold_nan_are_left_out_and_counted(corpus: SyntheticCorpus) -> None:
    seen = seen_by(Linear(broken=1), corpus, "mda-overdrive", "mda-ringmod")
    assert "2 of 6 examples are left out: their embeddings hold NaN" in seen.notes  # of one clean clip
    assert list(seen.index) == [0, 0, 1, 1] and np.isfinite(seen.clean).all()


def test_an_encoder_that_gives_only_nan_is_broken(corpus: SyntheticCorpus) -> None:
    with pytest.raises(DafxhostError, match="none of the 3 embeddings is finite"):
        seen_by(Linear(broken=100), corpus, "mda-overdrive")


def test_effects_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnknownNameError):
        find_effects(["mda-overdriev"])
    monkeypatch.setattr(observing, "PAPER_EFFECTS", ("mda-overdrive", "no-such"))
    found, notes = find_effects(None, "mda-delay")
    assert [e.name for e in found] == ["mda-overdrive", "mda-delay"] and "left out" in notes[0]

    def none(name: str) -> None:
        raise EffectUnavailableError("not here")

    monkeypatch.setattr("dafxhost.registry.effect", none)
    with pytest.raises(DafxhostError, match="no effect to analyse with"):
        find_effects(None)


# --- what is said of what lacks -----------------------------------------------------------------------------


def test_what_an_encoder_lacks_is_one_sentence_each() -> None:
    assert Reconstructor(LinearVAE()).lacks() == []
    lacks = Reconstructor(Linear()).lacks()
    assert [text.split(":")[0] for text in lacks] == [
        "no reconstructions",
        "no divergence from the prior",
        "no latents and no active units",
        "no traversals and no variance along each latent",
    ]


def test_a_log_with_a_damaged_line_still_gives_curves(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    lines = [{"step": i, "loss": 1 / (i + 1), "validation": None if i == 2 else float(i)} for i in range(4)]
    path.write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 4, "lo')
    log, notes = subjects.read_log(path)
    assert len(log) == 4 and notes == (f"1 lines of {path} could not be read",)
    assert [title for title, _ in plots._panels(log)] == ["validation MR-STFT", "loss"]
    [(_, x, _)] = plots._panels(log)[0][1]
    assert list(x) == [0, 1, 3]
    assert plots.curves(()) is None
    assert "there is no log" in subjects.read_log(tmp_path / "nothing.jsonl")[1][0]


def test_what_is_no_subject(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder"):
        subjects.load_subject(tmp_path / "nothing")
    with pytest.raises(RunError, match="no controller"):
        subjects.load_subject(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match="missing"):
        subjects.load_subject(tmp_path / "x.safetensors")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="is a file"):
        report.check_folder(tmp_path / "file")
    with pytest.raises(OutputError):
        report.check_folder(tmp_path / "file" / "below")
    report.check_folder(tmp_path / "new" / "folder")
    assert not (tmp_path / "new").exists()


def test_pictures_are_reduced_by_averages() -> None:
    picture = np.arange(30.0).reshape(1, 10, 3)
    small = reduced(picture, 4)
    assert small.shape == (1, 4, 3) and small[0, 0] == pytest.approx(picture[0, :3].mean(axis=0))
    assert small[0, 3] == pytest.approx(picture[0, 9])
