"""Choosing a setting by the distance that is to be expected, when the target is not known but believed.

A controller gives a distribution over settings. Drawing settings from it and rendering the input with them
gives sounds that the target may have; the setting whose render lies nearest to all of them on average is the
decision of least expected loss (minimum Bayes risk: Berger, "Statistical Decision Theory", 1985), where loss
is the distance by which a transfer is judged. It differs from the likeliest setting wherever several are
plausible, and needs no target and no reference of the same performance.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dafxhost.data.features import normalise_peak
from dafxhost.losses import MultiResolutionSTFT, Spectra, spectral_difference


class ExpectedDistance:
    """Mean MR-STFT of an input's renders from what the target is believed to be.

    Args:
        executor: renders the effect.
        inputs: excerpts `[E, 1, T]`, at the level the effect is to get.
        believed: settings `[M, P]` drawn from what is believed. Those whose render fails are left out.
        sample_rate: Hz.
        weights: `[M]`, how much each counts; all alike by default.
        threads: renders judged side by side.

    Attributes:
        believed: settings that were rendered.
        scores: `[M]`, of the believed settings themselves; worked out when they are first asked for.
    """

    def __init__(
        self,
        executor: Any,
        inputs: np.ndarray,
        believed: np.ndarray,
        sample_rate: int,
        weights: np.ndarray | None = None,
        threads: int = 1,
    ) -> None:
        self._executor, self._inputs, self._rate = executor, inputs, sample_rate
        self._threads = threads
        self._distance = MultiResolutionSTFT()
        wet = self._render(believed)  # [E, M, 1, T]
        good = np.isfinite(wet).all(axis=(0, 2, 3))
        self.believed = believed[good]
        share = np.ones(len(believed)) if weights is None else np.asarray(weights, dtype=np.float64)
        self._weights = torch.from_numpy(share[good] / share[good].sum()).float()
        self._targets = [self._distance.prepare(torch.from_numpy(clips[good])) for clips in wet]
        self._wet = wet[:, good]

    @cached_property
    def scores(self) -> np.ndarray:
        return self._scores(self._wet)

    def __call__(self, settings: np.ndarray) -> np.ndarray:
        """Settings `[N, P]` -> expected distances `[N]`; infinite where a render failed."""
        return self._scores(self._render(settings))

    def _render(self, settings: np.ndarray) -> np.ndarray:
        many = np.repeat(np.asarray(settings, dtype=np.float64)[None], len(self._inputs), axis=0)
        return normalise_peak(self._executor.render(self._inputs, many, self._rate, on_error="nan"))

    def _scores(self, wet: np.ndarray) -> np.ndarray:
        """Renders `[E, N, 1, T]` at one peak -> `[N]`."""
        with ThreadPoolExecutor(self._threads) as threads:
            return np.array(list(threads.map(lambda i: self._score(wet[:, i]), range(wet.shape[1]))))

    @torch.no_grad()
    def _score(self, clips: np.ndarray) -> float:
        if not np.isfinite(clips).all():
            return np.inf
        each = [self._from_all(torch.from_numpy(c), t) for c, t in zip(clips, self._targets, strict=True)]
        return float(torch.stack(each).mean())

    def _from_all(self, clip: Tensor, targets: Spectra) -> Tensor:
        """Weighted distance of one clip `[1, T]` from all targets; its spectra are taken once."""
        total = torch.zeros(len(self._weights))
        for n, magnitudes, logs in zip(targets.sizes, targets.magnitudes, targets.logs, strict=True):
            mine = self._distance.magnitude_and_log(clip[None, None], n)
            for k in range(len(total)):  # one at a time stays in the cache
                total[k] += spectral_difference((magnitudes[k], logs[k]), (mine[0][0], mine[1][0]))
        return (total * self._weights).sum() / len(targets.sizes)
