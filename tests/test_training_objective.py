"""The controller's distributions, and the gradient estimates that teach it, against exact answers."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import dafxhost
from dafxhost.data.examples import ExampleBatch
from dafxhost.data.sources import FolderSource, is_silent
from dafxhost.effects import Effect, Provider
from dafxhost.errors import UsageError
from dafxhost.losses import TransferLoss
from dafxhost.parameters import Parameter, Port
from dafxhost.training.augmentation import AugmentedSource
from dafxhost.training.controller import Controller
from dafxhost.training.objective import Objective
from training_effects import write_audio

PARAMETERS = (
    Parameter("amount", default=0.5, port=Port(0)),
    Parameter("mode", "choice", 0, 2, 0, choices=("a", "b", "c"), port=Port(1, values=(0.0, 1.0, 2.0))),
    Parameter("on", "toggle", 0, 1, 0, port=Port(2)),
)
LEVELS = torch.tensor([0.3, 1.0, 0.2])


class Analytic:
    """An effect that only scales, by a smooth function of `amount` and a table over `mode`."""

    effect = Effect("analytic", PARAMETERS, Provider("test", "nowhere:Nothing"))

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: str = "raise") -> Tensor:
        mode = (settings[..., 1] * 3).long().clamp(max=2)
        gain = (0.5 + (settings[..., 0] - 0.3) ** 2) * LEVELS[mode]
        return torch.as_tensor(audio)[:, None] * gain[..., None, None].float()

    def submit(self, *arguments: Any, **options: Any) -> Future[Tensor]:
        future: Future[Tensor] = Future()
        future.set_result(self.render(*arguments, **options))
        return future


def controller() -> Controller:
    return Controller(
        dafxhost.encoder("style-statistics", mels=4, linear=4), PARAMETERS, hidden=8, depth=1, bins=11
    )


def batch(n: int = 2, samples: int = 1024) -> ExampleBatch:
    dry = np.random.default_rng(0).standard_normal((n, 1, samples)).astype(np.float32) * 0.1
    settings = np.tile([0.3, 0.5, 0.25], (n, 1))
    return ExampleBatch(dry, dry, 0.5 * dry, settings, np.ones(n, bool), ["x"] * n, {})


def objective(c: Controller, **options: Any) -> Objective:
    loss = TransferLoss((64, 256), l1_weight=0.0, level="none")
    settings: dict[str, Any] = {"space": "loss", "alternatives": 4, "sample_rate": 16000, "excerpt": 0}
    estimator = dafxhost.estimator("fd-central", step=0.02)
    return Objective(c, Analytic(), estimator, loss, threads=ThreadPoolExecutor(1), **{**settings, **options})


def mean_gradient(o: Objective, logits: Tensor, draws: int) -> Tensor:
    total = torch.zeros_like(logits)
    for k in range(draws):
        leaf = logits.clone().requires_grad_()
        value, _ = o(leaf, batch(), torch.Generator().manual_seed(k), np.random.default_rng(k))
        total += torch.autograd.grad(value, leaf)[0]
    return total / draws


def exact_gradient(c: Controller, o: Objective, logits: Tensor) -> Tensor:
    """The gradient of what is estimated: every value outside the modes, weighed with its probability."""
    made = batch()
    target = o.loss.prepare(torch.from_numpy(made.target))
    leaf = logits.clone().requires_grad_()
    decoded, p = c.decode(leaf), leaf.softmax(-1)
    outside = c.mask & ~c.window(c.likeliest(leaf))

    def losses(settings: Tensor) -> Tensor:
        return o.loss.distance(Analytic().render(made.dry, settings[:, None], 16000), target)[:, 0]

    base = losses(decoded.detach())
    up, down = decoded.detach().clone(), decoded.detach().clone()
    up[:, 0], down[:, 0] = up[:, 0] + 0.001, down[:, 0] - 0.001
    total = (((losses(up) - losses(down)) / 0.002).detach() * decoded[:, 0]).sum()
    for h in range(3):
        for v in range(leaf.shape[2]):
            if outside[:, h, v].any():
                tried = decoded.detach().clone()
                tried[:, h] = c.values[h, v]
                total = total + (p[:, h, v] * (losses(tried) - base) * outside[:, h, v]).sum()
    return torch.autograd.grad(total / len(leaf), leaf)[0]


@pytest.mark.parametrize("space", ["loss", "signal"])
def test_the_estimate_is_unbiased(space: str) -> None:
    c = controller().eval()
    torch.manual_seed(1)
    logits = torch.randn(2, *c.values.shape).masked_fill(~c.mask, -1e9)
    o = objective(c, space=space)
    exact, estimate = exact_gradient(c, o, logits), mean_gradient(o, logits, 400)
    assert exact.abs().max() > 0.01
    # 400 draws of 4 alternatives: what is left is the draws' own scatter.
    assert (estimate - exact).abs().max() < 0.08 * exact.abs().max()
    assert torch.nn.functional.cosine_similarity(estimate.flatten(), exact.flatten(), dim=0) > 0.99


def test_following_the_gradient_finds_the_right_choice() -> None:
    c = controller().eval()
    logits = torch.zeros(2, *c.values.shape).masked_fill(~c.mask, -1e9)
    logits[:, 0, 4] = 3.0  # not far from the right amount
    logits[:, 1, 0] = 2.0  # but at the wrong mode
    o = objective(c)
    leaf = logits.clone().requires_grad_()
    optimiser = torch.optim.Adam([leaf], lr=0.1)
    for k in range(120):
        value, losses = o(leaf, batch(), torch.Generator().manual_seed(k), np.random.default_rng(k))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    decoded = c.decode(leaf)
    assert (decoded[:, 1] == 0.5).all()  # "b", whose level fits the target
    assert (decoded[:, 0] - 0.3).abs().max() < 0.15
    assert losses.mean() < 0.1


def test_failed_renders_add_nothing() -> None:
    class Failing(Analytic):
        first = True

        def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: str = "raise") -> Tensor:
            out = super().render(audio, settings, sample_rate)
            # All renders of the first example, one alternative of the second.
            out[:, slice(None) if self.first else -1] = torch.nan
            self.first = False
            return out

    c = controller().eval()
    o = objective(c)
    o.executor = Failing()
    leaf = torch.randn(2, *c.values.shape).masked_fill(~c.mask, -1e9).requires_grad_()
    value, losses = o(leaf, batch(), torch.Generator().manual_seed(0), np.random.default_rng(0))
    value.backward()
    assert losses[0].isnan() and losses[1].isfinite()
    assert leaf.grad is not None and bool(leaf.grad.isfinite().all())
    assert not leaf.grad[0].any() and leaf.grad[1].any()


def test_excerpts_are_rendered_with_their_own_target() -> None:
    c = controller().eval()
    o = objective(c, excerpt=512)
    made = batch()
    settings = torch.from_numpy(made.settings)
    logits = (c.labels(settings) + 1e-6).log().masked_fill(~c.mask, -1e9)
    _, losses = o(logits, made, torch.Generator(), np.random.default_rng(0))
    # The true setting's loss is that of decoding alone: the target was rendered from the same excerpt.
    assert losses.max() < 0.02


def test_labels_and_decoding_invert_each_other() -> None:
    c = controller()
    settings = torch.tensor([[0.0, 1 / 6, 0.25], [0.42, 0.5, 0.75], [1.0, 5 / 6, 0.75]])
    labels = c.labels(settings)
    assert torch.allclose(labels.sum(-1), torch.ones(3, 3))
    assert labels[0, 1].argmax() == 0 and labels[0, 1].max() > 0.999
    decoded = c.decode(labels.clamp(min=1e-12).log().masked_fill(~c.mask, -1e9))
    assert (decoded - settings)[:, 1:].abs().max() < 1e-6
    assert (decoded - settings)[:, 0].abs().max() < 0.08  # the bell is cut off at the bounds


def test_two_modes_give_one_of_them_not_their_mean() -> None:
    c = controller()
    logits = torch.full((1, *c.values.shape), -8.0).masked_fill(~c.mask, -1e9)
    logits[0, 0, 1], logits[0, 0, 9] = 3.0, 2.9
    assert abs(float(c.decode(logits)[0, 0]) - 0.1) < 0.02


def test_settings_are_the_same_in_training_mode_and_alone() -> None:
    c = controller().train()
    audio = torch.randn(3, 1, 16384)
    together = c.setting(audio, audio.flip(0), 24000)
    assert c.training
    alone = torch.cat([c.setting(audio[i : i + 1], audio.flip(0)[i : i + 1], 24000) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert ((together >= 0) & (together <= 1)).all()


def test_an_effect_without_parameters_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing to learn"):
        Controller(dafxhost.encoder("style-statistics"), ())


def test_style_statistics_encoder_sees_sound_not_level() -> None:
    encoder = dafxhost.encoder("style-statistics")
    audio = torch.randn(2, 2, 30000)
    a = encoder(audio, 24000)
    assert a.shape == (2, encoder.embedding_size) and bool(a.isfinite().all())
    assert torch.equal(a, encoder(audio * 0.25, 24000))
    assert encoder.frozen
    assert bool(encoder(torch.zeros(1, 1, 5), 44100).isfinite().all())


def test_augmented_clips_follow_their_rng_and_sound(tmp_path: Any) -> None:
    source = AugmentedSource(FolderSource(write_audio(tmp_path), 16000))
    clips = [source.draw(np.random.default_rng(k), 8192, 16000)[0] for k in range(20)]
    again, _ = source.draw(np.random.default_rng(7), 8192, 16000)
    assert np.array_equal(clips[7], again)
    assert all(c.shape == (1, 8192) and c.dtype == np.float32 and not is_silent(c) for c in clips)
    assert len({c.tobytes() for c in clips}) == 20
