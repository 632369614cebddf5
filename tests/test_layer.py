"""PluginLayer and PluginLoss: gradients against autograd, no render in backward, failures, memory."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dafxhost
from dafxhost.effects import Effect, Provider
from dafxhost.errors import EffectUnavailableError, ShapeError, UnknownNameError, UsageError
from dafxhost.estimators.finite_difference import CentralDifference
from dafxhost.estimators.spsa import SPSA
from dafxhost.layer import PluginLayer, PluginLoss
from dafxhost.losses import TransferLoss
from dafxhost.parameters import Parameter
from torch_effects import EFFECT, PARAMETERS, InProcessExecutor, drive, noise

RATE = 24_000
DRY = noise(3, 2, 600)
TARGET = drive(DRY, torch.tensor([[0.3, 0.4, 0.7, 0.6], [0.5, 0.1, 0.2, 0.9], [0.6, 0.6, 0.6, 0.6]]))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The tensors here are small: threads that wait for each other cost more than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def start(**options: Any) -> Tensor:
    at = [[0.5, 0.6, 0.4, 0.8], [0.7, 0.2, 0.55, 0.3], [0.0, 1.0, 0.5, 0.5]]
    return torch.tensor(at, **options).requires_grad_()


def square_error(prediction: Tensor, target: Tensor) -> Tensor:
    return (prediction - target).square().mean(dim=(-2, -1))


def true_gradient() -> Tensor:
    at = start(dtype=torch.float64)
    return torch.autograd.grad(square_error(drive(DRY.double(), at), TARGET.double()).sum(), at)[0].float()


def layer(executor: InProcessExecutor, estimator: Any = "fd-central", **options: Any) -> PluginLayer:
    return PluginLayer(executor, estimator, sample_rate=RATE, **options)


def plugin_loss(executor: InProcessExecutor, estimator: Any = "fd-central", **options: Any) -> PluginLoss:
    return PluginLoss(executor, estimator, square_error, sample_rate=RATE, **options)


@pytest.mark.parametrize("estimator", ["fd-central", "fd-forward"])
@pytest.mark.parametrize("space", ["signal", "loss"])
def test_gradient_agrees_with_autograd(estimator: str, space: str) -> None:
    executor, at = InProcessExecutor(), start()
    if space == "signal":
        value = square_error(layer(executor, estimator, step=1e-3)(DRY, at), TARGET)
    else:
        value = plugin_loss(executor, estimator, step=1e-3)(DRY, at, TARGET)
    torch.testing.assert_close(value.detach(), square_error(drive(DRY, at.detach()), TARGET))
    value.sum().backward()
    expected = true_gradient()
    assert at.grad is not None
    # First order at the bounds and for forward differences; renders and losses are float32.
    assert ((at.grad - expected).norm(dim=1) < 1e-2 * expected.norm(dim=1)).all()
    assert len(executor.calls) == 1


@pytest.mark.parametrize("space", ["signal", "loss"])
def test_mean_of_spsa_agrees_with_autograd(space: str) -> None:
    draws, at = 400, start()
    executor, many = InProcessExecutor(), at.detach()[:1].repeat(400, 1).requires_grad_()
    dry, target = DRY[:1].expand(draws, -1, -1), TARGET[:1].expand(draws, -1, -1)
    spsa = SPSA(0.01, directions=2)
    if space == "signal":
        value = square_error(layer(executor, spsa, seed=1)(dry, many), target)
    else:
        value = plugin_loss(executor, spsa, seed=1)(dry, many, target)
    value.sum().backward()
    assert many.grad is not None
    expected = true_gradient()[0]
    deviation = (expected.square().sum() - expected.square()).div(2 * draws).sqrt()
    assert ((many.grad.mean(0) - expected).abs() < 5 * deviation + 1e-2 * expected.norm()).all()
    assert executor.calls == [(draws, 5, 4)]


@pytest.mark.parametrize("space", ["signal", "loss"])
def test_backward_renders_nothing_and_works_on_another_thread(space: str) -> None:
    executor, at = InProcessExecutor(), start()
    if space == "signal":
        value = square_error(layer(executor)(DRY, at), TARGET).sum()
    else:
        value = plugin_loss(executor)(DRY, at, TARGET).sum()
    executor.closed = True
    expected = torch.autograd.grad(value, at, retain_graph=True)[0]
    failures: list[BaseException] = []

    def backward() -> None:
        try:
            value.backward()
        except BaseException as error:  # noqa: BLE001  (a thread's exception would be lost)
            failures.append(error)

    thread = threading.Thread(target=backward)
    thread.start()
    thread.join(timeout=60)
    assert not thread.is_alive() and not failures
    assert at.grad is not None and torch.equal(at.grad, expected)
    assert expected.abs().sum() > 0 and len(executor.calls) == 1


@pytest.mark.parametrize("wanted", [False, True], ids=["no_grad", "settings need none"])
def test_without_gradient_only_the_setting_itself_is_rendered(wanted: bool) -> None:
    executor = InProcessExecutor()
    at = start().requires_grad_(not wanted)
    with torch.set_grad_enabled(wanted):
        wet = layer(executor)(DRY, at)
        value = plugin_loss(executor, base=False)(DRY, at, TARGET)
    assert executor.calls == [(3, 1, 4), (3, 1, 4)]
    assert not wet.requires_grad and not value.requires_grad
    torch.testing.assert_close(wet, drive(DRY.double(), at.detach().double()).float())
    torch.testing.assert_close(value, square_error(wet, TARGET))


@pytest.mark.parametrize("space", ["signal", "loss"])
def test_second_derivative_is_refused(space: str) -> None:
    executor, at = InProcessExecutor(), start()
    if space == "signal":
        value = square_error(layer(executor)(DRY, at), TARGET).sum()
    else:
        value = plugin_loss(executor)(DRY, at, TARGET).square().sum()
    (gradient,) = torch.autograd.grad(value, at, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


class NumpyExecutor(InProcessExecutor):
    """Keeps a weak reference to the memory of its last renders."""

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: str = "raise") -> Any:
        array = np.array(super().render(audio, settings, sample_rate, on_error=on_error).numpy())
        self.memory = weakref.ref(array)
        return torch.from_numpy(array)


def test_perturbed_renders_are_freed_by_backward_and_not_held_by_the_wet_audio() -> None:
    executor, at = NumpyExecutor(), start()
    wet = layer(executor)(DRY, at)
    assert wet.untyped_storage().nbytes() == wet.numel() * 4
    assert executor.memory() is not None, "backward needs them"
    wet.sum().backward()
    assert executor.memory() is None
    value = plugin_loss(executor)(DRY, at, TARGET)
    assert executor.memory() is None and value.requires_grad


@pytest.mark.parametrize("space", ["signal", "loss"])
def test_failed_renders_leave_a_finite_gradient_from_the_others(space: str) -> None:
    executor, at = InProcessExecutor(), start()
    estimator = CentralDifference(1e-3)
    # Example 0: plus of the second parameter. Example 1: everything.
    executor.failing = {(0, 3), *((1, k) for k in range(9))}
    if space == "signal":
        wet = layer(executor, estimator, on_error="nan")(DRY, at)
        assert wet.isnan().flatten(1).all(1).tolist() == [False, True, False]
        value = square_error(wet, TARGET)
    else:
        value = plugin_loss(executor, estimator, on_error="nan")(DRY, at, TARGET)
    assert value.isnan().tolist() == [False, True, False]
    value.sum().backward()
    expected = true_gradient()
    expected[0, 1] = 0.0
    expected[1] = 0.0
    assert at.grad is not None
    assert ((at.grad - expected).norm(dim=1) <= 1e-2 * expected.norm(dim=1)).all()
    assert (estimator.dropped, estimator.empty) == (5, 1)


def test_nothing_flows_to_the_dry_audio_and_types_are_kept() -> None:
    dry = DRY.double().requires_grad_()
    at = start(dtype=torch.float16)
    wet = layer(InProcessExecutor())(dry, at)
    assert wet.dtype == torch.float64 and wet.requires_grad
    wet.sum().backward()
    assert dry.grad is None
    assert at.grad is not None and at.grad.dtype == torch.float16 and at.grad.abs().min() > 0


def test_settings_outside_the_range_are_rendered_at_the_bound() -> None:
    """The executor refuses settings outside 0..1, so this also covers what it is given."""
    at = torch.tensor([[-0.2, 1.3, 0.5, 0.5]] * 3, requires_grad=True)
    wet = layer(InProcessExecutor(), "spsa")(DRY, at)
    torch.testing.assert_close(wet, drive(DRY, at.detach().clamp(0, 1)))
    with torch.no_grad():
        torch.testing.assert_close(layer(InProcessExecutor())(DRY, at), wet)
    wet.sum().backward()
    assert at.grad is not None and at.grad.abs().min() > 0


def test_without_base_the_mean_of_the_perturbed_losses_is_reported() -> None:
    executor, at = InProcessExecutor(), start()
    value = plugin_loss(executor, SPSA(0.05, directions=2), base=False, seed=3)(DRY, at, TARGET)
    assert executor.calls == [(3, 4, 4)]
    plan = SPSA(0.05, directions=2).perturb(at, generator=torch.Generator().manual_seed(3))
    losses = square_error(drive(DRY.unsqueeze(1), plan.settings.float()), TARGET.unsqueeze(1))
    torch.testing.assert_close(value.detach(), losses.mean(dim=1))


def test_losses_that_share_their_target_and_plain_functions_agree() -> None:
    loss, at = TransferLoss((32, 128), l1_weight=1.0), start()
    gradients = []
    for given in (loss, lambda prediction, target: loss(prediction, target)):
        value = PluginLoss(InProcessExecutor(), "spsa", given, sample_rate=RATE, seed=1)(DRY, at, TARGET)
        gradients.append(torch.autograd.grad((value * torch.tensor([1.0, -2.0, 0.0])).sum(), at)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    assert gradients[0][:2].abs().min() > 0 and gradients[0][2].abs().max() == 0


def test_a_seed_repeats_the_perturbations() -> None:
    def gradient(seed: int) -> Tensor:
        at = start()
        return torch.autograd.grad(layer(InProcessExecutor(), "spsa", seed=seed)(DRY, at).sum(), at)[0]

    assert torch.equal(gradient(1), gradient(1))
    assert not torch.equal(gradient(1), gradient(2))


def test_discrete_parameters_move_by_a_bin() -> None:
    """A switch between the audio and its negative: a small step would see nothing."""
    effect = Effect("switch", (Parameter("on", kind="toggle", default=0.0),), Provider("test", "nowhere:N"))

    def switch(dry: Tensor, settings: Tensor) -> Tensor:
        return dry * torch.where(settings[..., None] >= 0.5, 1.0, -1.0)

    executor = InProcessExecutor(effect, switch)
    at = torch.tensor([[0.1], [0.45], [0.9]], requires_grad=True)
    PluginLoss(executor, "spsa", square_error, step=0.01, sample_rate=RATE)(DRY, at, DRY).sum().backward()
    assert at.grad is not None and (at.grad < 0).all()


@pytest.mark.parametrize("space", ["signal", "loss"])
def test_settings_are_learnt_through_the_effect(space: str) -> None:
    raw = torch.nn.Parameter(torch.zeros(3, 4))
    optimiser = torch.optim.Adam([raw], lr=0.1)
    executor = InProcessExecutor()
    through, losses = layer(executor, "spsa", seed=1), plugin_loss(executor, "spsa", seed=1)
    first = square_error(drive(DRY, torch.sigmoid(raw)), TARGET).mean().item()
    for _ in range(100):
        at = torch.sigmoid(raw)
        value = square_error(through(DRY, at), TARGET) if space == "signal" else losses(DRY, at, TARGET)
        optimiser.zero_grad()
        value.mean().backward()
        optimiser.step()
    assert square_error(drive(DRY, torch.sigmoid(raw)), TARGET).mean().item() < 0.1 * first


def test_bad_arguments_are_refused() -> None:
    executor, at = InProcessExecutor(), start()
    with pytest.raises(UnknownNameError, match="spsa"):
        layer(executor, "spsaa")
    with pytest.raises(UsageError, match="not both"):
        layer(executor, seed=1, generator=torch.Generator())
    with pytest.raises(UsageError, match="on_error"):
        layer(executor, on_error="ignore")
    with pytest.raises(UsageError, match="sample rate"):
        PluginLayer(executor)(DRY, at)
    with pytest.raises(ShapeError, match="dry audio"):
        layer(executor)(DRY[0], at)
    with pytest.raises(ShapeError, match=r"\[3, 4\], not \[3, 3\]"):
        layer(executor)(DRY, at[:, :3])
    with pytest.raises(ShapeError, match="target"):
        plugin_loss(executor)(DRY, at, TARGET[:1])
    with pytest.raises(ShapeError, match="one value an example"):
        PluginLoss(executor, "spsa", torch.nn.functional.mse_loss, sample_rate=RATE)(DRY, at, TARGET)
    with pytest.raises(ShapeError, match="2 steps"):
        layer(executor, step=[0.1, 0.1])
    assert executor.calls == [(3, 3, 4)], "only the bad loss may get as far as rendering"
    assert EFFECT.parameters is PARAMETERS


def test_through_the_real_executor_and_plugin() -> None:
    """mda Combo: settings move towards those of the target, in both spaces, through workers."""
    try:
        effect = dafxhost.effect("mda-combo")
    except EffectUnavailableError as error:
        pytest.skip(f"no provider of mda-combo here: {error}")
    rate, parameters = 44_100, len(effect.parameters)
    dry = noise(2, 1, 8192)
    generator = torch.Generator().manual_seed(4)
    target_at = torch.rand(2, parameters, generator=generator)
    with dafxhost.Executor(effect, workers=1) as executor:
        target = executor.render(dry, target_at, rate)
        at = torch.rand(2, parameters, generator=generator).requires_grad_()
        spsa = SPSA(0.02, directions=2)
        loss = TransferLoss((128, 512), l1_weight=1.0, level="none")
        wet = PluginLayer(executor, spsa, sample_rate=rate, seed=1)(dry, at)
        plain = executor.render(dry, at.detach(), rate)
        torch.testing.assert_close(wet.detach(), plain)
        signal = torch.autograd.grad(loss(wet, target).sum(), at)[0]
        value = PluginLoss(executor, spsa, loss, sample_rate=rate, seed=1)(dry, at, target)
        in_loss = torch.autograd.grad(value.sum(), at)[0]
        torch.testing.assert_close(value.detach(), loss(plain, target))
        zero = PluginLoss(executor, "fd-central", loss, sample_rate=rate)(dry, target_at, target)
        assert zero.max() < 1e-6
    assert torch.isfinite(signal).all() and torch.isfinite(in_loss).all()
    assert signal.abs().max() > 0 and in_loss.abs().max() > 0
