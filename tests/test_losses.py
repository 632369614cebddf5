"""The losses against auraloss, and the rules about level, silence, short clips and failed renders."""

from __future__ import annotations

from collections.abc import Iterator

import auraloss
import pytest
import torch

from dafxhost.errors import ShapeError, UsageError
from dafxhost.losses import (
    GRANT_FFT_SIZES,
    MultiResolutionSTFT,
    TransferLoss,
    match_level,
    peak_normalise,
)

SMALL = (32, 128, 512)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The tensors here are small: threads that wait for each other cost more than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> torch.Tensor:
    """Noise whose level moves over several decades along time, so that the log magnitudes differ too."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * level
    return x * torch.logspace(0, -5, shape[-1])


def auraloss_stft(sizes: tuple[int, ...]) -> auraloss.freq.MultiResolutionSTFTLoss:
    return auraloss.freq.MultiResolutionSTFTLoss(
        fft_sizes=list(sizes),
        hop_sizes=[n // 2 for n in sizes],
        win_lengths=list(sizes),
        w_sc=0,
        w_log_mag=1,
        w_lin_mag=1,
        w_phs=0,
    )


@pytest.mark.parametrize(("channels", "samples"), [(1, 40_000), (2, 20_001)])
def test_stft_equals_auraloss_for_every_example_and_for_the_batch(channels: int, samples: int) -> None:
    x, y = noise(3, channels, samples, seed=1), noise(3, channels, samples, seed=2)
    theirs = auraloss_stft(GRANT_FFT_SIZES)
    ours = MultiResolutionSTFT()(x, y)
    assert ours.shape == (3,)
    torch.testing.assert_close(ours, torch.stack([theirs(x[i : i + 1], y[i : i + 1]) for i in range(3)]))
    torch.testing.assert_close(ours.mean(), theirs(x, y))
    assert ours.min() > 0.1


@pytest.mark.parametrize("shape", [(2, 3, 1, 4000), (1, 2, 2, 200_000), (40, 2, 1, 4000), (2, 0, 1, 4000)])
def test_renders_share_their_target_whatever_the_pieces_worked_on(shape: tuple[int, ...]) -> None:
    renders, target = noise(*shape, seed=3), noise(shape[0], *shape[2:], seed=4)
    loss = MultiResolutionSTFT(SMALL)
    values = loss.distance(renders, loss.prepare(target))
    assert values.shape == shape[:2]
    for k in range(shape[1]):
        torch.testing.assert_close(values[:, k], loss(renders[:, k], target))


def test_gradient_equals_auraloss_and_the_value_is_the_same_without_gradient() -> None:
    x, y = noise(2, 1, 6000, seed=5), noise(2, 1, 6000, seed=6)
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    loss = MultiResolutionSTFT(SMALL)
    value = loss(a, y)
    torch.testing.assert_close(value.detach(), loss(x, y))
    value.mean().backward()
    auraloss_stft(SMALL)(b, y).backward()
    assert a.grad is not None and b.grad is not None
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-7)
    assert a.grad.abs().max() > 1e-4
    assert torch.equal(a, x), "the input must not be written to"


def test_sizes_that_do_not_fit_are_left_out() -> None:
    x, y = noise(1, 1, 100), noise(1, 1, 100, seed=1)
    torch.testing.assert_close(MultiResolutionSTFT()(x, y), MultiResolutionSTFT((32, 128))(x, y))
    with pytest.raises(ShapeError, match="too short"):
        MultiResolutionSTFT()(x[..., :16], y[..., :16])
    assert MultiResolutionSTFT()(x[..., :17], y[..., :17]) > 0


def test_silence_is_zero_from_itself_and_finite_from_anything() -> None:
    silence = torch.zeros(1, 1, 3000)
    loss = TransferLoss(SMALL)
    assert loss(silence, silence).item() == 0
    prediction = silence.clone().requires_grad_()
    value = loss(prediction, noise(1, 1, 3000))
    value.backward()
    assert torch.isfinite(value) and value > 0
    assert prediction.grad is not None and torch.isfinite(prediction.grad).all()


@pytest.mark.parametrize("level", ["peak", "rms", "none"])
def test_a_failed_render_is_nan_in_its_own_place_only(level: str) -> None:
    renders, target = noise(2, 3, 1, 3000, seed=7), noise(2, 1, 3000, seed=8)
    loss = TransferLoss(SMALL, level=level)  # pyright: ignore[reportArgumentType]
    expected = loss.distance(renders, loss.prepare(target))
    renders[1, 2] = torch.nan
    values = loss.distance(renders, loss.prepare(target))
    assert values.isnan().tolist() == [[False, False, False], [False, False, True]]
    torch.testing.assert_close(
        values.nan_to_num(0), expected.index_put((torch.tensor(1), torch.tensor(2)), torch.zeros(()))
    )


@pytest.mark.parametrize("dbfs", [-12.0, 0.0, -30.0])
def test_peak_normalise(dbfs: float) -> None:
    audio = torch.cat([noise(2, 2, 500), torch.zeros(1, 2, 500)])
    out = peak_normalise(audio, dbfs)
    peaks = out.abs().amax(dim=(1, 2))
    torch.testing.assert_close(peaks, torch.tensor([1.0, 1.0, 0.0]) * 10 ** (dbfs / 20))
    # One gain for both channels: their balance stays.
    torch.testing.assert_close(out[0] * (audio[0, 1, 0] / out[0, 1, 0]), audio[0])
    assert torch.equal(peak_normalise(audio[0], dbfs), out[0])


def test_match_level() -> None:
    prediction, target = noise(2, 3, 1, 500, seed=1), noise(2, 1, 1, 500, seed=2, level=0.7)
    out = match_level(prediction, target)
    rms = out.square().mean(dim=(-2, -1)).sqrt()
    torch.testing.assert_close(rms, target.square().mean(dim=(-2, -1)).sqrt().expand(2, 3))
    silence = torch.zeros(1, 500)
    assert torch.equal(match_level(silence, target[0, 0]), silence)
    assert torch.equal(match_level(prediction, silence), prediction)
    x = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(match_level, (x, y))


def test_transfer_loss_is_stft_plus_weighted_l1_at_one_level() -> None:
    x, y = noise(2, 1, 3000, seed=1), noise(2, 1, 3000, seed=2)
    a, b = peak_normalise(x), peak_normalise(y)
    expected = MultiResolutionSTFT(SMALL)(a, b) + 7 * (a - b).abs().mean(dim=(1, 2))
    torch.testing.assert_close(TransferLoss(SMALL, l1_weight=7)(x, y), expected)
    plain = MultiResolutionSTFT(SMALL)(x, y)
    torch.testing.assert_close(TransferLoss(SMALL, l1_weight=0, level="none")(x, y), plain)


@pytest.mark.parametrize("level", ["peak", "rms"])
def test_an_output_gain_alone_costs_nothing_once_levels_are_matched(level: str) -> None:
    x = noise(1, 2, 3000)
    matched = TransferLoss(SMALL, level=level)(x * 0.3, x)  # pyright: ignore[reportArgumentType]
    assert matched < 1e-3 < 0.1 < TransferLoss(SMALL, level="none")(x * 0.3, x)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="level"):
        TransferLoss(level="loud")  # pyright: ignore[reportArgumentType]
    with pytest.raises(UsageError, match="weight"):
        TransferLoss(l1_weight=-1)
    with pytest.raises(UsageError, match="FFT sizes"):
        MultiResolutionSTFT((33,))
    loss = TransferLoss(SMALL)
    with pytest.raises(ShapeError, match="fit a target"):
        loss(noise(1, 1, 100), noise(1, 2, 100))
    with pytest.raises(ShapeError, match="B, C, T"):
        loss.prepare(noise(1, 100))
