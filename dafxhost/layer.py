"""Plugins as parts of a network: `PluginLayer` (signal space) and `PluginLoss` (loss space).

Every render happens in forward, all of a batch in one call to the executor. Backward only combines numbers,
so it may run on any thread; a plugin called from autograd's device thread is what made training on a GPU
freeze in Grant 2023. Settings are perturbed on the CPU, wherever the network is, and gradients go back to the
settings' own device and dtype.

Signal space multiplies the gradient of the waveform with differences of waveforms; any loss may follow. Loss
space takes the loss at every perturbed render instead. It is right where a parameter moves the phase (delay,
flanger, ring modulator): there the waveform is far from linear in the parameter, and the loss is smoother.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from dafxhost.errors import ShapeError, UsageError
from dafxhost.estimators.base import Estimator, Plan, steps_for
from dafxhost.parameters import Parameter
from dafxhost.registry import estimator as new_estimator

OnError = Literal["raise", "nan"]


class HasParameters(Protocol):
    @property
    def parameters(self) -> Sequence[Parameter]: ...


class Renderer(Protocol):
    """What the layers need of an executor."""

    @property
    def effect(self) -> HasParameters: ...

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: OnError = "raise") -> Any:
        """Audio `[B, C, T]` and settings `[B, K, P]`, both on the CPU -> `[B, K, C, T]`."""
        ...


@runtime_checkable
class PreparedLoss(Protocol):
    """A loss that shares what depends on the target between the renders of an example (see losses.py)."""

    def prepare(self, target: Tensor) -> Any: ...

    def distance(self, prediction: Tensor, target: Any) -> Tensor: ...


class _PluginModule(nn.Module):
    """What both layers share: an executor, an estimator with its steps, a generator."""

    def __init__(
        self,
        executor: Renderer,
        estimator: str | Estimator = "spsa",
        *,
        step: float | Sequence[float] | Tensor | None = None,
        sample_rate: int | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__()
        if seed is not None and generator is not None:
            raise UsageError("give a seed or a generator, not both")
        if on_error not in ("raise", "nan"):
            raise UsageError(f'on_error must be "raise" or "nan", not {on_error!r}')
        self.executor = executor
        self.estimator: Estimator = new_estimator(estimator) if isinstance(estimator, str) else estimator
        parameters = executor.effect.parameters
        self.steps = steps_for(parameters, self.estimator.step if step is None else step)
        self.sample_rate = sample_rate
        self.generator = generator
        if seed is not None:
            self.generator = torch.Generator().manual_seed(seed)
        self.on_error: OnError = on_error

    def _rate(self, sample_rate: int | None) -> int:
        rate = self.sample_rate if sample_rate is None else sample_rate
        if rate is None:
            raise UsageError("no sample rate: give one in the call or when the layer is made")
        return int(rate)

    def _check(self, dry: Tensor, settings: Tensor) -> None:
        parameters = len(self.executor.effect.parameters)
        if dry.ndim != 3:
            raise ShapeError(f"dry audio has shape [B, C, T], not {list(dry.shape)}")
        if settings.shape != (dry.shape[0], parameters):
            raise ShapeError(
                f"settings have shape [B, P] = [{dry.shape[0]}, {parameters}], not {list(settings.shape)}"
            )

    def _plan(self, settings: Tensor, *, base: bool) -> Plan:
        return self.estimator.perturb(settings, base=base, steps=self.steps, generator=self.generator)

    def _render(self, dry: Tensor, settings: Tensor, rate: int) -> Tensor:
        """Dry audio on any device, settings `[B, K, P]` on the CPU -> `[B, K, C, T]` float32 on the CPU."""
        audio = dry.detach().to("cpu", torch.float32)
        return self.executor.render(audio, settings, rate, on_error=self.on_error)

    def _render_unperturbed(self, dry: Tensor, settings: Tensor, rate: int) -> Tensor:
        """`[B, 1, C, T]` float32 on the CPU."""
        clipped = settings.detach().to("cpu", torch.float64).clamp(0.0, 1.0)
        return self._render(dry, clipped.unsqueeze(1), rate)


class PluginLayer(_PluginModule):
    """An effect as a layer: `(dry, settings) -> wet`, with estimated gradients to the settings.

    No gradient flows to `dry`: it would need a render a sample, and a straight-through guess is left to those
    who want one. Without gradient (`torch.no_grad`, or settings that require none) only the setting itself is
    rendered. The perturbed renders are kept as float32 on the CPU until backward frees them.

    Args:
        executor: a `dafxhost.Executor`, or anything with its `render` and `effect.parameters`.
        estimator: "spsa", "fd-forward", "fd-central", any registered name, or an `Estimator`.
        step: on 0..1, a number or `[P]`; by default the estimator's own. Discrete parameters move by at least
            one bin.
        sample_rate: Hz, used when a call names none.
        seed, generator: make the perturbations repeatable; by default torch's global generator draws them.
        on_error: "raise" stops at a failed render; "nan" lets its wet audio be NaN, and takes the gradient
            from the renders that did not fail.
    """

    def forward(self, dry: Tensor, settings: Tensor, sample_rate: int | None = None) -> Tensor:
        """Dry audio `[B, C, T]` and settings `[B, P]` on 0..1 -> wet audio `[B, C, T]` on dry's device.

        Settings outside 0..1 are rendered at the nearest bound. A second derivative is refused.

        Raises:
            ShapeError, ParameterError, UsageError: arguments that do not fit. RenderError: a render failed.
        """
        self._check(dry, settings)
        rate = self._rate(sample_rate)
        if not (torch.is_grad_enabled() and settings.requires_grad):
            return self._render_unperturbed(dry, settings, rate)[:, 0].to(dry)
        plan = self._plan(settings, base=True)
        renders = self._render(dry, plan.settings, rate)
        return _SignalSpace.apply(settings, renders, plan, self.estimator, dry)  # pyright: ignore[reportReturnType]


class _SignalSpace(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, settings: Tensor, renders: Tensor, plan: Plan, estimator: Estimator, dry: Tensor
    ) -> Tensor:
        ctx.plan, ctx.estimator = plan, estimator
        ctx.device, ctx.dtype = settings.device, settings.dtype
        ctx.save_for_backward(renders)
        # A copy: a view would keep all renders alive for as long as the wet audio.
        return renders[:, 0].clone().to(dry)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        (renders,) = ctx.saved_tensors
        gradient = ctx.estimator.gradient(ctx.plan, _inner_products(renders, grads[0].to("cpu")))
        return gradient.to(ctx.device, ctx.dtype), None, None, None, None


def _inner_products(renders: Tensor, grad: Tensor) -> Tensor:
    """`[B, K, C, T]` and `[B, C, T]` -> `[B, K]`.

    In float64, because close values are subtracted next; an example at a time, to keep it small.
    """
    rows = [r.flatten(1).double() @ g.flatten().double() for r, g in zip(renders, grad, strict=True)]
    return torch.stack(rows) if rows else renders.new_zeros(renders.shape[:2], dtype=torch.float64)


class PluginLoss(_PluginModule):
    """The loss of an effect's output, `(dry, settings, target) -> loss`; gradients estimated from losses.

    The loss is taken at every perturbed render, in forward and without gradient of its own; backward
    multiplies the estimate with the incoming gradient. Only the estimate, `[B, P]`, is kept for it.

    Args:
        executor, estimator, step, sample_rate, seed, generator, on_error: see `PluginLayer`.
        loss: a loss with `prepare` and `distance` (see losses.py; the cheap way), or any callable
            `(prediction [N, C, T], target [N, C, T]) -> [N]`. It runs on the target's device.
        base: render the setting itself too and report its loss. False saves that render and reports the mean
            of the perturbed losses, which the perturbations make a little larger.
    """

    def __init__(
        self,
        executor: Renderer,
        estimator: str | Estimator,
        loss: PreparedLoss | Callable[[Tensor, Tensor], Tensor],
        *,
        base: bool = True,
        step: float | Sequence[float] | Tensor | None = None,
        sample_rate: int | None = None,
        seed: int | None = None,
        generator: torch.Generator | None = None,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(
            executor,
            estimator,
            step=step,
            sample_rate=sample_rate,
            seed=seed,
            generator=generator,
            on_error=on_error,
        )
        self.loss = loss
        self.base = base

    def forward(
        self, dry: Tensor, settings: Tensor, target: Tensor, sample_rate: int | None = None
    ) -> Tensor:
        """Dry audio `[B, C, T]`, settings `[B, P]` on 0..1, target `[B, C, T]` -> loss `[B]`.

        With on_error="nan" the loss of an example whose reported render failed is NaN; its gradient is still
        estimated from the renders that did not. A second derivative is refused.

        Raises:
            ShapeError, ParameterError, UsageError: arguments that do not fit. RenderError: a render failed.
        """
        self._check(dry, settings)
        if target.shape != dry.shape:
            raise ShapeError(
                f"the target must have the dry audio's shape {list(dry.shape)}, not {list(target.shape)}"
            )
        rate = self._rate(sample_rate)
        if not (torch.is_grad_enabled() and settings.requires_grad):
            return self._losses(self._render_unperturbed(dry, settings, rate), target)[:, 0]
        plan = self._plan(settings, base=self.base)
        losses = self._losses(self._render(dry, plan.settings, rate), target)
        gradient = self.estimator.gradient(plan, losses).to(settings.device, settings.dtype)
        reported = losses[:, 0] if plan.base else losses.nanmean(dim=1)
        return _LossSpace.apply(settings, reported, gradient)  # pyright: ignore[reportReturnType]

    @torch.no_grad()
    def _losses(self, renders: Tensor, target: Tensor) -> Tensor:
        """`[B, K, C, T]` and `[B, C, T]` -> `[B, K]`."""
        renders = renders.to(target)
        shape = renders.shape[:2]
        if isinstance(self.loss, PreparedLoss):
            losses = self.loss.distance(renders, self.loss.prepare(target))
        else:
            repeated = target.unsqueeze(1).expand_as(renders).flatten(0, 1)
            losses = self.loss(renders.flatten(0, 1), repeated)
            if losses.numel() == shape.numel():
                losses = losses.reshape(shape)
        if losses.shape != shape:
            raise ShapeError(
                f"the loss must give one value an example, {shape.numel()} in all, not {list(losses.shape)}"
            )
        return losses


class _LossSpace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, settings: Tensor, losses: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return losses.clone()

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grads[0].to(gradient).unsqueeze(1), None, None
