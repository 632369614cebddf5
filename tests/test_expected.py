"""Settings chosen by the distance that is to be expected of them."""

from __future__ import annotations

import numpy as np
import pytest

from dafxhost import Executor
from dafxhost.expected import ExpectedDistance
from dafxhost.losses import MultiResolutionSTFT
from training_effects import shaper_effect

import torch  # isort: skip

RATE = 16000


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return (0.2 * np.random.default_rng(0).standard_normal((1, 1, 8192))).astype(np.float32)


def test_what_most_believe_in_is_chosen(clip: np.ndarray) -> None:
    soft, hard, folded = ([0.2, (k + 0.5) / 3] for k in range(3))
    with Executor(shaper_effect(), workers=1) as executor:
        believed = np.array([folded, folded, soft, [0.25, 5 / 6]])
        expected = ExpectedDistance(executor, clip, believed, RATE)
        scores = expected(np.array([soft, hard, folded]))
        assert scores.argmin() == 2
        np.testing.assert_allclose(expected.scores, expected(believed), rtol=1e-6)
        # It is the mean of the distances, all at one peak.
        wet = executor.render(clip, np.array([[soft, *believed.tolist()]]), RATE)[0]
        wet = torch.from_numpy(wet * (10 ** (-12 / 20) / np.abs(wet).max(axis=(1, 2), keepdims=True)))
        exact = MultiResolutionSTFT()(wet[:1].expand(4, -1, -1), wet[1:])
        assert scores[0] == pytest.approx(float(exact.mean()), rel=1e-5)
        weighted = ExpectedDistance(executor, clip, believed, RATE, weights=np.array([0, 0, 1.0, 0]))
        assert weighted(np.array([soft]))[0] == pytest.approx(0, abs=1e-6)


def test_failed_renders_count_as_nothing(clip: np.ndarray) -> None:
    with Executor(shaper_effect(broken=1), workers=1) as executor:
        believed = np.array([[0.2, 0.5], [0.2, 5 / 6]])
        expected = ExpectedDistance(executor, clip, believed, RATE)
        assert len(expected.believed) == 1 and len(expected.scores) == 1
        assert expected(np.array([[0.2, 0.5], [0.2, 5 / 6]])).tolist() == [np.inf, pytest.approx(0, abs=1e-6)]
