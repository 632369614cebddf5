"""Positions of echoes and carriers, against signals in which they are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from dafxhost.registry import encoder
from dafxhost_encoders.effect_peaks import COUNT, FAMILIES, RATE, Peaks, pack, unpack


def notes(seconds: float, seed: int = 0) -> np.ndarray:
    """Plucked sounds at random times: nothing repeats."""
    rng = np.random.default_rng(seed)
    out = 1e-4 * rng.standard_normal(int(seconds * RATE))
    for start in np.sort(rng.integers(0, len(out) - 2000, int(4 * seconds))):
        t = np.arange(min(len(out) - start, RATE)) / RATE
        pitch = rng.uniform(80, 900)
        tone = sum(np.sin(2 * np.pi * pitch * k * t + k) / k for k in range(1, 9))
        out[start : start + len(t)] += tone * np.exp(-t * rng.uniform(3, 12)) * rng.uniform(0.2, 1)
    return out / np.abs(out).max()


def clip(audio: np.ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(audio, dtype=np.float32))[None]


def nearest(found: Tensor, family: str, wanted: float) -> tuple[float, int]:
    """Of the highest four peaks the distance of the nearest, and its rank."""
    apart = (found[0, FAMILIES.index(family), :4, 0] - wanted).abs()
    return float(apart.min()), int(apart.argmin())


@pytest.mark.parametrize("lag", [333, 7777, 21000])
def test_an_echo_is_found_to_a_sample(lag: int) -> None:
    audio = notes(5.5)
    wet = audio.copy()
    wet[lag:] += 0.5 * audio[:-lag]
    found = Peaks()(clip(wet))
    assert found.shape == (1, len(FAMILIES), COUNT, 2)
    assert nearest(found, "echo", lag)[0] < 1.0
    assert nearest(Peaks()(clip(audio)), "echo", lag)[0] > 5.0


@pytest.mark.parametrize("carrier", [713.4, 3210.7, 9876.5])
def test_a_carrier_is_found_to_a_hertz(carrier: float) -> None:
    audio = notes(5.5, 1)
    wet = audio * np.cos(2 * np.pi * carrier * np.arange(len(audio)) / RATE)
    found = Peaks()(clip(wet))
    assert nearest(found, "mirror", carrier)[0] < 1.0
    assert nearest(Peaks()(clip(audio)), "mirror", carrier)[0] > 3.0


def test_level_and_offset_do_not_matter_and_short_clips_do() -> None:
    audio = notes(5.5, 2)
    audio[5000:] += 0.5 * audio[:-5000]
    peaks = Peaks()
    one, other = peaks(clip(audio)), peaks(clip(0.01 * audio + 0.002))
    torch.testing.assert_close(one[..., 0, :4, 0], other[..., 0, :4, 0], atol=0.2, rtol=1e-3)
    short = peaks(clip(audio[:40000]))
    assert nearest(short, "echo", 5000)[0] < 1.0


def test_what_does_not_sound_has_no_peaks_that_are_not_numbers() -> None:
    for audio in (np.zeros(40000), np.ones(40000), np.eye(1, 40000, 17)[0]):
        assert bool(torch.isfinite(Peaks()(clip(audio))).all())


def test_positions_survive_half_precision() -> None:
    position = torch.rand(3, len(FAMILIES), COUNT) * 32000
    peaks = torch.stack([position, 20 * torch.rand(3, len(FAMILIES), COUNT)], dim=-1)
    again = unpack(pack(peaks).half())
    assert float((again[..., 0] - position).abs().max()) < 0.03
    torch.testing.assert_close(again[..., 1], peaks[..., 1], atol=0.01, rtol=1e-3)


def test_the_encoder_keeps_them_apart_from_what_controllers_see() -> None:
    audio = 0.1 * torch.randn(2, 1, 40000, generator=torch.Generator().manual_seed(0))
    plain, more = encoder("effect-features", columns=16), encoder("effect-features", columns=16, peaks=True)
    a, b = plain(audio, RATE), more(audio, RATE)
    assert torch.equal(a, b[:, : plain.embedding_size]) and b.shape[1] > a.shape[1]
    assert torch.equal(plain.pair(a, a.flip(0)), more.pair(b, b.flip(0)))
    assert plain.peak_tolerances == () and len(more.peak_tolerances) == len(FAMILIES)
    assert more.peaks(b).shape == (2, len(FAMILIES), COUNT, 2)
    with pytest.raises(NotImplementedError, match="no peaks"):
        plain.peaks(a)
    assert more.config() == {"columns": 16, "peaks": True}
