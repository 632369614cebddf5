"""The end-to-end objective: what the settings that the controller gives do to the sound.

The loss of a render has no gradient of its own. Two estimates replace it, all from one batch of renders:

- continuous parameters: the estimator's (SPSA's, say) around the decoded setting, in loss space or in signal
  space;
- the probabilities of values: the loss that is expected when one parameter h takes value v with the
  probability p_h(v) and the others stay as decoded, minus the decoded setting's own loss L_0, is
  sum_v p_h(v) (L_hv - L_0), in which only the values outside the mode count. Drawing few (h, v) with the
  probability q and weighing them with p_h(v) / q(h, v) estimates it without bias (importance sampling), and
  its gradient with it. This is how choices and toggles learn, and how a continuous parameter finds
  another mode.

Nothing here is called in backward: the result is an ordinary scalar of the logits.
"""

from __future__ import annotations

from concurrent.futures import Executor as Threads
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.data.examples import ExampleBatch
from dafxhost.estimators.base import Estimator, Plan
from dafxhost.losses import TransferLoss
from dafxhost.objectives.combined import CombinedLoss
from dafxhost.training.controller import Controller

_EXPLORE = 0.02
"""Added to the probability mass outside each parameter's mode: every parameter is tried now and then."""
_OUTLIER = 3.0
"""An alternative's loss counts as at most this many mean losses above or below the decoded setting's."""


@dataclass
class Trial:
    """What is rendered for a batch, column by column: the true setting, the decoded one, the estimator's, the
    alternatives.

    Attributes:
        settings: `[B, 2 + K + M, P]`, float64. plan: of the estimator, over the continuous parameters;
            None if there are none. alternatives: `[B, M]` index h * L + v. proposal: `[B, M]`, q(h, v).
    """

    settings: Tensor
    plan: Plan | None
    alternatives: Tensor
    proposal: Tensor


class Objective:
    """Estimates the loss and its gradient for batches of examples.

    Args:
        controller: whose logits are judged. executor: renders. estimator: of continuous parameters.
        loss: of a render against its target.
        space: "loss" or "signal". alternatives: M. sample_rate: Hz.
        excerpt: samples of an example that are rendered; 0 is all of them.
        threads: examples are judged side by side.
    """

    def __init__(
        self,
        controller: Controller,
        executor: Any,
        estimator: Estimator,
        loss: TransferLoss | CombinedLoss,
        *,
        space: str,
        alternatives: int,
        sample_rate: int,
        excerpt: int,
        threads: Threads,
    ) -> None:
        self.controller, self.executor, self.estimator, self.loss = controller, executor, estimator, loss
        self.space, self.alternatives = space, alternatives
        self.sample_rate, self.excerpt = sample_rate, excerpt
        self._threads = threads

    def __call__(
        self,
        logits: Tensor,
        batch: ExampleBatch,
        generator: torch.Generator,
        rng: np.random.Generator,
        embedded: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Logits `[B, P, L]` of a batch -> (a scalar whose gradient is the estimate, losses `[B]`).

        With the embeddings `[B, D]` of inputs and references, parameters that landmarks locate stay there.
        An example whose render failed has a loss of NaN and adds nothing to the gradient.
        """
        if embedded is None:
            decoded = self.controller.decode(logits)
            fixed = torch.zeros_like(decoded, dtype=torch.bool)
        else:
            decoded, fixed = self.controller.settle(logits, *embedded)
        trial = self._trial(logits.detach().cpu(), decoded.detach().cpu(), fixed.cpu(), batch, generator)
        dry, target = (x.to(self.controller.values.device) for x in self._excerpts(batch, rng))
        # Example by example, so that the first are judged while the others are rendered.
        futures = [
            self.executor.submit(dry[i : i + 1], trial.settings[i : i + 1], self.sample_rate, on_error="nan")
            for i in range(len(dry))
        ]

        def one(i: int) -> tuple[Tensor, Tensor]:
            renders = futures[i].result()[0]
            wanted = target[i]
            if self.excerpt or not batch.complete:
                wanted = renders[0] if batch.applied[i] else dry[i]
            return self._judge(renders, wanted, trial, i)

        rows = list(self._threads.map(one, range(len(dry))))
        losses, gradients = (torch.stack(column) for column in zip(*rows, strict=True))
        return self._surrogate(logits, decoded, trial, losses, gradients), losses[:, 0]

    def _trial(
        self,
        logits: Tensor,
        decoded: Tensor,
        fixed: Tensor,
        batch: ExampleBatch,
        generator: torch.Generator,
    ) -> Trial:
        base = decoded.double()
        columns = [torch.from_numpy(batch.settings)[:, None], base[:, None]]
        continuous = self.controller.continuous.cpu()
        plan = None
        if continuous.any():
            plan = self.estimator.perturb(base[:, continuous], generator=generator)
            around = base[:, None].repeat(1, plan.settings.shape[1], 1)
            around[..., continuous] = plan.settings
            around = torch.where(fixed[:, None], base[:, None], around)
            columns.append(around)
        chosen, proposal = self._alternatives(logits, generator)
        length = logits.shape[2]
        tried = base[:, None].repeat(1, chosen.shape[1], 1)
        values = self.controller.values.cpu().flatten()[chosen].double()
        tried.scatter_(2, (chosen // length)[..., None], values[..., None])
        columns.append(tried)
        return Trial(torch.cat(columns, dim=1), plan, chosen, proposal)

    def _alternatives(self, logits: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Values outside the modes -> (index `[B, M]`, probability `[B, M]` with which each was drawn)."""
        where = self.controller
        outside = (where.mask & ~where.window(where.likeliest(logits.to(where.values.device)))).cpu()
        p = logits.double().softmax(dim=-1) * outside
        mass = p.sum(dim=-1, keepdim=True)
        q = (p + 1e-9 * outside) / (mass + 1e-9) * (mass + _EXPLORE) * outside.any(dim=-1, keepdim=True)
        q = q.flatten(1)
        if self.alternatives == 0 or not bool((q.sum(dim=1) > 0).all()):
            empty = torch.zeros(len(q), 0)
            return empty.long(), empty.double()
        q = q / q.sum(dim=1, keepdim=True)
        chosen = torch.multinomial(q, self.alternatives, replacement=True, generator=generator)
        return chosen, q.gather(1, chosen)

    def _excerpts(self, batch: ExampleBatch, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        dry, target = torch.from_numpy(batch.dry), torch.from_numpy(batch.target)
        if not self.excerpt:
            return dry, target
        rows = [_excerpt(clip, self.excerpt, rng) for clip in dry]
        return torch.stack(rows), target

    def _judge(self, renders: Tensor, target: Tensor, trial: Trial, row: int) -> tuple[Tensor, Tensor]:
        """Losses `[1 + K + M]` of one example's renders `[2 + K + M, C, T]` without the true one, and the
        gradient `[P]` to the continuous parameters (0 for the others).
        """
        audio = renders[None, 1:]
        with torch.no_grad():
            prepared: Any = self.loss.prepare(target[None])
        gradient = torch.zeros(trial.settings.shape[2], dtype=torch.float64)
        k = trial.plan.settings.shape[1] if trial.plan is not None else 0
        if self.space == "loss" or trial.plan is None:
            with torch.no_grad():
                losses = self.loss.distance(audio, prepared)[0].double().cpu()
            values = losses[1 : 1 + k]
        else:
            base = audio[:, :1].clone().requires_grad_()
            with torch.enable_grad():
                loss = self.loss.distance(base, prepared)
                slope = torch.autograd.grad(loss.sum(), base)[0]
            values = (audio[0, 1 : 1 + k] * slope[0]).flatten(1).double().sum(dim=1).cpu()
            with torch.no_grad():
                others = (
                    self.loss.distance(audio[:, 1 + k :], prepared)[0]
                    if audio.shape[1] > 1 + k
                    else audio.new_zeros(0)
                )
            losses = torch.cat([loss.detach()[0], audio.new_zeros(k), others]).double().cpu()
        if trial.plan is not None:
            plan = trial.plan
            one = Plan(plan.settings[row : row + 1], plan.base, plan.distances[row : row + 1])
            gradient[self.controller.continuous.cpu()] = self.estimator.gradient(one, values[None])[0]
        return losses, gradient

    def _surrogate(
        self, logits: Tensor, decoded: Tensor, trial: Trial, losses: Tensor, gradients: Tensor
    ) -> Tensor:
        base = losses[:, :1]
        good = base.isfinite()
        gradients = torch.where(good, gradients, 0.0).to(decoded)
        total = (gradients * decoded).sum()
        if trial.alternatives.shape[1]:
            excess = losses[:, losses.shape[1] - trial.alternatives.shape[1] :] - base
            limit = _OUTLIER * base[good].mean() if good.any() else base.new_ones(())
            excess = torch.where(excess.isfinite(), excess, 0.0).clamp(-limit, limit)
            p = logits.softmax(dim=-1).flatten(1).gather(1, trial.alternatives.to(logits.device))
            weight = (excess / trial.proposal / trial.alternatives.shape[1]).to(logits)
            total = total + (p * weight).sum()
        return total / len(logits)


def _excerpt(clip: Tensor, samples: int, rng: np.random.Generator) -> Tensor:
    """`[C, samples]` of `[C, T]`: of four random places the first that sounds, or the loudest."""
    last = clip.shape[-1] - samples
    if last <= 0:
        return clip
    fair = 0.2 * float(clip.square().mean())
    places = [int(x) for x in rng.integers(0, last + 1, 4)]
    powers = [float(clip[..., k : k + samples].square().mean()) for k in places]
    best = next((i for i, power in enumerate(powers) if power >= fair), int(np.argmax(powers)))
    return clip[..., places[best] : places[best] + samples]
