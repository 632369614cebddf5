"""The effect encoder's features as an encoder: which columns a controller gets of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dafxhost.encoders import load_encoder, save_encoder
from dafxhost.errors import UsageError
from dafxhost.registry import encoder
from dafxhost_encoders.feature_encoder import FeatureEncoder, most_telling


def test_the_columns_that_tell_are_chosen() -> None:
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(400, 200, generator=generator)
    columns[:, 7] = columns[:, 5]  # says nothing that another does not
    targets = torch.stack([columns[:, 5] + 0.1 * columns[:, 50], columns[:, 120] - columns[:, 3]], dim=1)
    chosen = most_telling(columns, targets, 40)
    assert len(set(chosen.tolist())) == 40
    assert {3, 50, 120} <= set(chosen.tolist()) and {5, 7} & set(chosen[:16].tolist())


def test_a_pair_is_standardised_and_kept(tmp_path: Path) -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(6, 1, 40000)
    heard = encoder("effect-features", columns=32)
    assert isinstance(heard, FeatureEncoder) and heard.frozen and heard.pair_size == 32
    dry, wet = heard(audio[:3], 24000), heard(audio[3:].clamp(-0.1, 0.1), 24000)
    assert dry.shape == (3, heard.embedding_size)
    heard.fit_pairs(dry, wet, torch.eye(3))
    seen = heard.pair(dry, wet)
    assert seen.shape == (3, 32) and float(seen.mean(dim=0).abs().max()) < 1e-3
    save_encoder(heard, tmp_path / "features")
    again = load_encoder(tmp_path / "features")
    assert torch.equal(again.pair(dry, wet), seen)
    with pytest.raises(UsageError, match="columns"):
        FeatureEncoder(columns=10**6)
