"""The phase after the supervised one: training through a learned proxy of the loss."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from dafxhost.training.proxy import DistanceMeter, DistanceProxy, Distances, fit_proxy, proxy_objective

if TYPE_CHECKING:
    from dafxhost.training.session import Session

FIT_STEPS = 2000
"""Of the proxy's own training, a few milliseconds each."""


def proxy_phase(session: Session) -> None:
    """Measure distances on clips of the pool, fit a proxy, and train the controller through it.

    Validates like the other phases and keeps the best controller. Nothing happens without a pool that holds
    audio. The proxy itself is not kept: after an interruption it is made again, alike.
    """
    config, about = session.config, session.about
    if not (config.proxy_clips and config.proxy_steps and session.pooled):
        return
    proxy = _proxy(session)
    pool, controller = session.pool(), session.controller
    timer, losses, since = time.monotonic(), [], about["step"]
    while about["step"] < config.proxy_steps and not session.group.any(time.monotonic() > session.deadline):
        step = about["step"]
        session._seed(11, step)
        rng = np.random.default_rng([config.seed, 12, step])
        batch = pool.rows(rng, config.supervised_batch, config.apply_probability)
        rows, applied, dry, reference = (x.to(session.device) for x in batch)
        session._rate(config.proxy_rate, step, config.proxy_steps)
        logits = controller(dry, reference)
        settings = pool.settings[rows.cpu()].to(session.device)
        loss, distances = proxy_objective(controller, proxy, logits, settings, dry, applied, reference)
        if config.anchor and bool(applied.any()):
            loss = loss + config.anchor * controller.supervised_loss(logits[applied], settings[applied])
        session._update(loss)
        losses.append(float(distances.mean()))
        if about["step"] % 20 == 0:
            session._event("step", phase="proxy", step=about["step"], steps=config.proxy_steps,
                           loss=float(np.mean(losses[-50:])), time_left=session._left())  # fmt: skip
        if about["step"] % config.proxy_epoch == 0:
            session._epoch("proxy", losses, timer, about["step"] - since)
            timer, losses, since = time.monotonic(), [], about["step"]
            session._save_state()
    if losses:
        session._epoch("proxy", losses, timer, about["step"] - since)


def _proxy(session: Session) -> DistanceProxy:
    config, pool = session.config, session.pool()
    rng = np.random.default_rng([config.seed, 13])
    clips = rng.permutation(len(pool.dry))[: config.proxy_clips].tolist()
    meter = DistanceMeter(
        session.executor, session.controller, sample_rate=config.sample_rate,
        excerpt=session.objective.excerpt, threads=session.threads,
    )  # fmt: skip

    def say(done: int) -> None:
        session._event("step", phase="proxy", step=0, steps=config.proxy_steps, loss=float("nan"),
                       time_left=session._left(), clips=done)  # fmt: skip

    data: Distances = meter.measure(pool, clips, rng, say)
    torch.manual_seed(config.seed)
    proxy = DistanceProxy(session.controller.cpu(), session.controller.encoder.described)
    session.about["proxy"] = {**fit_proxy(proxy, data, steps=FIT_STEPS), "renders": data.renders}
    session.controller.to(session.device)
    return proxy.to(session.device).requires_grad_(False)
