"""What steady filters leave in cepstra, found again (`dafxhost.training.signatures`)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import dafxhost
from dafxhost.registry import encoder as make_encoder
from dafxhost.training import signatures
from dafxhost.training.controller import Controller
from dafxhost.training.runs import load_run, load_weights, tensors_of
from dafxhost.training.signatures import GRID, INPUTS, RANGES, Signatures, find_signatures, log_edges, match
from dafxhost.training.trainer import train
from dafxhost_encoders.effect_cepstrum import LAGS, SCALE, SIZE, SteadyCepstrum
from test_training import SMALL, Stop, stopper, weights
from training_effects import write_audio

EVERY = torch.tensor([True, True, True])


def measure(settings: Tensor) -> Tensor:
    """Signatures of a made-up room: 200 echoes at lags that grow with the first setting, their strength with
    the second; the third does nothing.
    """
    generator = torch.Generator().manual_seed(3)
    ratio = torch.rand(200, generator=generator) * 0.8 + 0.1
    sign = torch.where(torch.rand(200, generator=generator) < 0.5, -1.0, 1.0)
    at = (SIZE - 20) * ratio * (0.5 + 0.5 * settings[:, :1])
    out = torch.zeros(len(settings), SIZE)
    strength = (0.3 + settings[:, 1:2]) * sign
    low = at.long()
    for k, weight in ((0, 1 - (at - low)), (1, at - low)):
        out.scatter_add_(1, low + k, (strength * weight).to(out))
    return out


def heard(count: int, seed: int = 0, noise: float = 1.0) -> tuple[Tensor, Tensor]:
    """Settings `[N, 3]` and cepstra `[N, L]` in which one echo is far below the noise."""
    generator = torch.Generator().manual_seed(seed)
    settings = torch.rand(count, 3, generator=generator)
    return settings, measure(settings) + noise * torch.randn(count, SIZE, generator=generator)


def nothing(count: int) -> Tensor:
    return torch.randn(count, SIZE, generator=torch.Generator().manual_seed(9))


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def found() -> Signatures:
    settings, cepstra = heard(600)
    return find_signatures(settings, EVERY, cepstra, nothing(75), measure, torch.Generator().manual_seed(0))


def test_the_parameter_is_found_and_its_value_in_new_examples(found: Signatures) -> None:
    assert found.main.tolist() == [0]
    settings, cepstra = heard(200, seed=1)
    answer, put = found.locate(cepstra, torch.full_like(settings, 0.5))
    assert put[:, 1:].sum() == 0 and (answer[:, 1:] == 0.5).all()
    assert put[:, 0].float().mean() > 0.5
    error = (answer - settings)[put[:, 0], 0].abs()
    assert (error < 2 / GRID).float().mean() > 0.8


def test_where_there_is_no_filter_little_is_said(found: Signatures) -> None:
    noise = torch.randn(200, SIZE, generator=torch.Generator().manual_seed(5))
    _, put = found.locate(noise, torch.zeros(200, 3))
    assert put[:, 0].float().mean() < 0.2


def test_values_between_those_of_the_table_are_found(found: Signatures) -> None:
    settings = torch.tensor([[0.4 + 0.37 / GRID, 0.9, 0.1]])
    values, evidence, strengths = found.weigh(measure(settings))
    assert abs(float(values) - float(settings[0, 0])) < 1 / GRID
    assert float(evidence) > float(found.threshold) and strengths.shape == (1, 1, RANGES)


def test_strengths_follow_the_filter(found: Signatures) -> None:
    weak, strong = (found.weigh(measure(torch.tensor([[0.5, s, 0.5]])))[2].sum() for s in (0.0, 1.0))
    assert strong > 2 * weak > 0


def test_what_no_filter_makes_is_not_learned() -> None:
    settings, cepstra = heard(300)
    shuffled = settings[torch.randperm(300, generator=torch.Generator().manual_seed(1))]
    choice = torch.tensor([False, True, True])
    for known, continuous in ((shuffled, EVERY), (settings, choice)):
        generator = torch.Generator().manual_seed(0)
        assert len(find_signatures(known, continuous, cepstra, nothing(9), measure, generator)) == 0


def test_silence_and_nothing_are_no_evidence(found: Signatures) -> None:
    values, evidence, strengths = found.weigh(torch.zeros(2, SIZE))
    assert all(bool(x.isfinite().all()) for x in (values, evidence, strengths))
    assert float(evidence.max()) < 1e-3
    assert found.inputs(torch.zeros(2, SIZE)).shape == (2, INPUTS)
    flat = match(torch.zeros(1, SIZE), torch.zeros(GRID, SIZE), [0, 100, SIZE])
    assert all(bool(x.isfinite().all()) for x in flat)


def test_the_cepstrum_of_an_echo_is_at_its_lag_whatever_is_played() -> None:
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(2, 65536, generator=generator)
    audio[1] = torch.nn.functional.avg_pool1d(audio[1:2, None], 5, 1, 2)[0, 0] + 0.1 * audio[1]
    lag, gain = 700, 0.5
    wet = audio.clone()
    wet[:, lag:] += gain * audio[:, :-lag]
    steady = SteadyCepstrum()
    added = steady(wet) - steady(audio)
    assert added.shape == (2, SIZE) and added.argmax(dim=1).tolist() == [lag - LAGS[0]] * 2
    # The logarithm of the power of 1 + g z^-n has 2 g / 2 at n (once at n, once at -n).
    assert torch.allclose(added.amax(dim=1) / SCALE, torch.tensor(gain), atol=0.1)


def test_a_controller_keeps_them_and_puts_what_they_locate(found: Signatures) -> None:
    encoder = make_encoder("effect-features", columns=32, cepstrum=True)
    parameters = dafxhost.effect("mda-combo").parameters[:3]
    one, other = (Controller(encoder, parameters, hidden=16, depth=1) for _ in range(2))
    one.eval()
    other.eval()
    one.signatures = found
    settings, cepstra = heard(40, seed=2)
    embedded = torch.zeros(40, encoder.embedding_size)
    embedded[:, encoder.described :] = cepstra
    answer, put = one.settle(one(embedded, embedded), embedded, embedded)
    assert put[:, 0].any() and not put[:, 1:].any()
    assert (answer[:, 0] - settings[:, 0])[put[:, 0]].abs().median() < 2 / GRID
    load_weights(other, tensors_of(one), "here")  # type: ignore[arg-type]
    assert torch.equal(other.answer(embedded, embedded), one.answer(embedded, embedded))


def test_training_learns_them_for_a_room_and_resumes(
    audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signatures, "_TRIED", 1)
    config = SMALL.replace(
        effect="mda-ambience", provider="builtin", encoder="effect-features",
        encoder_options={"columns": 64, "cepstrum": True}, sample_rate=24000, samples=65536, loss_samples=0,
        pool=160, supervised_steps=4, end_to_end_steps=4, epoch_steps=2, data=str(audio),
    )  # fmt: skip
    whole = train(config, run_dir=tmp_path / "whole")
    run = load_run(whole.run)
    assert run.controller.signatures is not None
    assert [run.parameters[j].name for j in run.controller.signatures.main.tolist()] == ["size"]
    with pytest.raises(Stop):
        train(config, run_dir=tmp_path / "cut", on_event=stopper("end-to-end", 3, Stop))
    resumed = train(resume=tmp_path / "cut")
    a, b = weights(whole.run), weights(resumed.run)
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_encoder_gives_the_cepstrum_beside_its_features() -> None:
    encoder = make_encoder("effect-features", columns=32, peaks=True, cepstrum=True)
    rng = np.random.default_rng(0)
    audio = torch.from_numpy(rng.standard_normal((1, 1, 48000)).astype(np.float32) * 0.1)
    embedded = encoder(audio, 24000)
    assert embedded.shape == (1, encoder.embedding_size)
    assert torch.allclose(encoder.cepstrum(embedded), encoder.cepstrum_of(encoder.prepare(audio, 24000)))
    assert encoder.peaks(embedded).shape[1:] == (2, 12, 2)
    assert encoder.config() == {"columns": 32, "peaks": True, "cepstrum": True}
    plain = make_encoder("effect-features", columns=32)
    assert plain.described == plain.embedding_size and torch.equal(
        plain(audio, 24000)[0], embedded[0, : plain.embedding_size]
    )
    for ask in (plain.cepstrum, plain.cepstrum_of):
        with pytest.raises(NotImplementedError, match="no cepstrum"):
            ask(embedded)


def test_ranges_cover_all_lags() -> None:
    edges = log_edges(SIZE, RANGES)
    assert edges[0] == 0 and edges[-1] == SIZE and edges == sorted(edges)
    assert math.isclose((edges[2] + 24) / (edges[1] + 24), (edges[8] + 24) / (edges[7] + 24), rel_tol=0.05)
