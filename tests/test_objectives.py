"""Losses besides the multi-resolution STFT: what each of them sees, and how sums of them are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dafxhost.encoders import Encoder
from dafxhost.errors import ShapeError, UnknownNameError, UsageError
from dafxhost.losses import MultiResolutionSTFT, TransferLoss, peak_normalise
from dafxhost.objectives import (
    CombinedLoss,
    EchoDistance,
    EmbeddingDistance,
    MagnitudeDistance,
    ModulationDistance,
    make_loss,
    parse_loss,
)

RATE, SAMPLES = 8000, 16000


class Bands(Encoder):
    """Energies of halves of the spectrum: an encoder with a gradient and no weights to speak of."""

    name = "test-bands"

    def __init__(self, learned: bool = True) -> None:
        super().__init__(2, RATE)
        self.weight = torch.nn.Parameter(torch.ones(2))
        self.learned = learned

    def embed(self, audio: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(audio).abs()
        half = spectrum.shape[-1] // 2
        bands = torch.stack([spectrum[:, :half].mean(dim=1), spectrum[:, half:].mean(dim=1)], dim=1)
        return (bands if self.learned else bands.detach()) * self.weight

    def config(self) -> dict[str, Any]:
        return {}


TERMS = {
    "magnitude": lambda: MagnitudeDistance((64, 256, 1024)),
    "modulation": lambda: ModulationDistance(RATE),
    "echo": lambda: EchoDistance(RATE),
    "embedding": lambda: EmbeddingDistance(Bands(), RATE),
    "sum": lambda: CombinedLoss([(1.0, MultiResolutionSTFT((64, 256))), (0.5, ModulationDistance(RATE))]),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", TERMS)
def test_a_target_is_at_no_distance_from_itself_and_a_failed_render_is_nan_alone(name: str) -> None:
    term: Any = TERMS[name]()
    target = noise(2, 1, SAMPLES)
    renders = torch.stack([target, 0.2 * noise(2, 1, SAMPLES, seed=1).cumsum(dim=-1), target], dim=1)
    renders[1, 2, 0, 50] = torch.nan
    values = term.distance(renders, term.prepare(target))
    assert values.shape == (2, 3)
    assert values[:, 0].abs().max() < 1e-5
    assert values[:, 1].min() > 0.01
    assert values.isnan().tolist() == [[False] * 3, [False, False, True]]
    silent = term.distance(torch.zeros(2, 1, 1, SAMPLES), term.prepare(target))
    assert silent.isfinite().all()
    assert silent.min() > 0
    assert term.distance(renders[:, :0], term.prepare(target)).shape == (2, 0)


@pytest.mark.parametrize("name", TERMS)
def test_gradients_lead_to_the_target_and_do_not_change_the_value(name: str) -> None:
    term: Any = TERMS[name]()
    target, other = noise(1, 1, SAMPLES), noise(1, 1, SAMPLES, seed=1).cumsum(dim=-1)
    prepared = term.prepare(target)
    start = (0.5 * target + 0.5 * other)[:, None].requires_grad_()
    value = term.distance(start, prepared)
    (slope,) = torch.autograd.grad(value.sum(), start)
    assert slope.isfinite().all()
    with torch.no_grad():
        torch.testing.assert_close(term.distance(start, prepared), value.detach())
        step = 1e-3 * start.norm() * slope / slope.norm()
        assert term.distance(start - step, prepared) < value


@pytest.mark.parametrize("name", ["modulation", "echo"])
def test_level_does_not_count(name: str) -> None:
    term: Any = TERMS[name]()
    target = noise(1, 1, SAMPLES)
    assert term(0.1 * target, target).item() < 1e-3


def tremolo(rate: float, depth: float, phase: float = 0.0, seed: int = 0) -> Tensor:
    t = torch.arange(SAMPLES) / RATE
    return noise(1, 1, SAMPLES, seed=seed) * (1 + depth * torch.sin(2 * torch.pi * rate * t + phase))


def test_modulation_sees_depth_and_rate_of_a_tremolo_and_hardly_its_phase() -> None:
    term = ModulationDistance(RATE)
    target = tremolo(4.0, 0.8)
    phase = term(tremolo(4.0, 0.8, phase=2.0), target).item()
    for wrong in (tremolo(4.0, 0.1), tremolo(11.0, 0.8)):
        assert term(wrong, target).item() > 2 * phase
    depths = [term(tremolo(4.0, d), target).item() for d in (0.7, 0.5, 0.3, 0.1)]
    assert depths == sorted(depths)
    stft = MultiResolutionSTFT((128, 512, 2048))
    assert stft(tremolo(4.0, 0.8, phase=2.0), target) > stft(tremolo(4.0, 0.1), target)  # which does see it


def echo(seconds: float, gain: float) -> Tensor:
    dry, lag = noise(1, 1, SAMPLES), int(seconds * RATE)
    wet = dry.clone()
    wet[..., lag:] += gain * dry[..., :-lag]
    return wet


def test_echo_grows_with_the_distance_of_the_echoes_long_after_they_ceased_to_overlap() -> None:
    term = EchoDistance(RATE)
    times = [term(echo(t, 0.6), echo(0.05, 0.6)).item() for t in (0.05, 0.06, 0.08, 0.12, 0.2, 0.4)]
    assert times == sorted(times)
    assert times[-1] > 1.3 * times[2]
    gains = [term(echo(0.05, g), echo(0.05, 0.6)).item() for g in (0.6, 0.45, 0.3, 0.1)]
    assert gains == sorted(gains)


def test_magnitudes_are_relative_to_the_target_and_ignore_what_is_far_below_it() -> None:
    term, target = MagnitudeDistance((256,)), noise(1, 1, SAMPLES)
    assert term(torch.zeros_like(target), target).item() == pytest.approx(1.0, abs=1e-3)
    assert term(target + 1e-4 * noise(1, 1, SAMPLES, seed=2), target).item() < 1e-3


def test_an_encoder_is_frozen_and_one_without_gradient_says_so() -> None:
    term = EmbeddingDistance(Bands(), RATE, scale=torch.tensor([1.0, 2.0])).train()
    assert not any(p.requires_grad for p in term.parameters())
    assert not term.encoder.training
    mute = EmbeddingDistance(Bands(learned=False), RATE)
    audio = noise(1, 1, 1, SAMPLES).requires_grad_()
    with pytest.raises(UsageError, match="no gradient to audio"):
        mute.distance(audio, mute.prepare(noise(1, 1, SAMPLES)))


def test_a_sum_is_the_sum_of_its_terms_at_one_level() -> None:
    loss = make_loss("0.5 echo + modulation", sample_rate=RATE, l1_weight=2.0)
    x, y = 3 * noise(1, 1, SAMPLES, seed=1), noise(1, 1, SAMPLES)
    a, b = peak_normalise(x), peak_normalise(y)
    wanted = 0.5 * EchoDistance(RATE)(a, b) + ModulationDistance(RATE)(a, b) + 2 * (a - b).abs().mean()
    torch.testing.assert_close(loss(x, y), wanted)


def test_the_stft_alone_is_the_loss_that_was_there_before() -> None:
    loss = make_loss("mr-stft", sample_rate=RATE, fft_sizes=(64, 256), l1_weight=1.0)
    assert isinstance(loss, TransferLoss)
    x, y = noise(1, 1, 4000, seed=1), noise(1, 1, 4000)
    torch.testing.assert_close(loss(x, y), TransferLoss((64, 256), l1_weight=1.0)(x, y))


def test_sums_are_read_with_and_without_weights_and_stars() -> None:
    terms = parse_loss("mr-stft+0.5*modulation + 1e-1 embedding:pretrained + 2 embedding")
    assert [(t.name, t.weight, t.encoder) for t in terms] == [
        ("mr-stft", 1.0, ""),
        ("modulation", 0.5, ""),
        ("embedding", 0.1, "pretrained"),
        ("embedding", 2.0, "style-statistics"),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no term"),
        ("mr-stft +", "is no term"),
        ("mr-stft + 0.5 modulatoin", "no term 'modulatoin'; there are mr-stft"),
        ("0 echo", "weight of echo must be a number above 0, not 0"),
        ("-1 echo", "weight of echo"),
        ("x echo", "weight of echo"),
        ("nan echo", "weight of echo"),
        ("echo + 2 echo", "names a term twice"),
        ("echo:timbral", "takes no encoder"),
        ("mr-stft 0.5 echo", "is no term"),
    ],
)
def test_what_cannot_be_read_is_said(text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_loss(text)


def test_other_bad_input() -> None:
    with pytest.raises(UnknownNameError, match="no-such"):
        make_loss("embedding:no-such", sample_rate=RATE)
    for term in (ModulationDistance(RATE), EchoDistance(RATE), MagnitudeDistance((256,))):
        with pytest.raises(ShapeError, match="too short"):
            term.prepare(noise(1, 1, 200))
        with pytest.raises(ShapeError, match=r"\[B, C, T\]"):
            term.prepare(noise(1, SAMPLES))
        with pytest.raises(ShapeError, match="expected"):
            term.distance(noise(1, 1, 1, 9000), term.prepare(noise(1, 1, SAMPLES)))
    for bad in (
        lambda: ModulationDistance(1000),
        lambda: EchoDistance(1000),
        lambda: MagnitudeDistance((7,)),
    ):
        with pytest.raises(UsageError):
            bad()
