"""The effect encoder: what its features see, what its loss wants, and its training as a command."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from command_line import Call
from dafxhost.data.sources import AudioSource
from dafxhost.encoders import load_encoder
from dafxhost.errors import UsageError
from dafxhost.testing.encoder_checks import CHECKS, EncoderSession
from dafxhost_encoders import contrastive, contrastive_data
from dafxhost_encoders.contrastive import fit, supervised_contrastive
from dafxhost_encoders.contrastive_data import Chunk, Chunks, TwoRecordings, joined
from dafxhost_encoders.effect_bands import Ranges, averaging, log_bands, power
from dafxhost_encoders.effect_encoder import EffectEncoder
from dafxhost_encoders.effect_features import RATE, Echoes, EffectFeatures, Movements
from dafxhost_encoders.effect_motion import Motion


class Noises(AudioSource):
    """Bursts of coloured noise, any number of recordings."""

    def __init__(self) -> None:
        self.names, self.total_seconds, self.description = ["noise"], 1.0, "noise"

    def draw(self, rng: np.random.Generator, samples: int, sample_rate: int) -> tuple[np.ndarray, str]:
        level = np.exp(-rng.uniform(2, 8) * (np.arange(samples) / sample_rate % rng.uniform(0.2, 0.5)))
        noise = np.convolve(rng.standard_normal(samples), rng.uniform(0.1, 1, 3), "same")
        return (0.2 * noise * level).astype(np.float32)[None], f"noise {rng.integers(1000)}"


def noise(samples: int = 65_536, seed: int = 0) -> Tensor:
    return 0.2 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("lag", [100, 700, 6000])
def test_an_echo_shows_at_its_lag(lag: int) -> None:
    dry = noise()
    wet = dry.clone()
    wet[:, lag:] += 0.3 * dry[:, :-lag]
    echoes = Echoes()
    change = (echoes(wet) - echoes(dry))[0, : 3 * len(echoes.long_bands) : 3]
    a, b = echoes.long_bands[int(change.argmax())]
    assert a <= lag < b


def test_a_tremolo_shows_at_its_rate() -> None:
    rate = 5.0
    dry = noise(131_072)
    wet = dry * (1 + 0.6 * torch.sin(2 * math.pi * rate * torch.arange(131_072) / RATE))
    movements = Movements()
    change = (movements(wet) - movements(dry))[0, : 16 * len(movements.slow)].reshape(-1, 2, 8)[:, 0, 7]
    a, b = movements.slow[int(change.argmax())]
    # 513 rates of up to 50 Hz.
    assert a - 2 <= rate / 50 * 512 <= b + 2


def test_slopes_are_shares_of_frames() -> None:
    """A level that rises by exactly 1.5 a frame counts below that edge, as in the shipped weights."""
    rising = (1.5 * torch.arange(64)).expand(1, 8, 64).clone()
    rising[:, 1] = 0.0
    rising[:, 2, 1::2] = 5.0
    movements = Movements()
    edges = movements.get_buffer("edges")
    shares = movements._slopes(rising).exp() - 3e-3
    shares = shares.reshape(5, len(edges) + 1, 8)
    for i, lag in enumerate((1, 2, 4, 8, 16)):
        slopes = rising[0, :, lag:] - rising[0, :, :-lag]
        wanted = torch.stack([(torch.bucketize(slopes, edges) == k).float().mean(dim=1) for k in range(14)])
        torch.testing.assert_close(shares[i], wanted, rtol=1e-4, atol=1e-5)


def test_a_carrier_shows_at_twice_its_frequency() -> None:
    carrier = 300.0
    dry = noise()
    wet = dry * torch.sin(2 * math.pi * carrier * torch.arange(65_536) / RATE)
    movements = Movements()
    count = len(movements.fast)
    change = (movements(wet) - movements(dry))[0, -count:]
    a, b = movements.fast[int(change.argmax())]
    assert a - 2 <= 2 * carrier / RATE * 32_768 < b + 2


def test_a_sweeping_comb_moves_the_shape_of_the_spectrum() -> None:
    """A flanger's comb sweeps, an equaliser's does not: only the first persists over frames."""
    samples = 131_072
    dry = noise(samples)
    time = torch.arange(samples)

    def comb(delay: Tensor) -> Tensor:
        place = (time - delay).clamp(min=0)
        low = place.floor().long()
        part = place - low
        return dry + 0.8 * (dry[:, low] * (1 - part) + dry[:, (low + 1).clamp(max=samples - 1)] * part)

    motion = Motion()
    spread = len(motion.cuts) - 2
    first = spread + 6 * len(motion.rates)  # correlations of each band with itself one frame later

    def persists(clip: Tensor) -> float:
        return float(motion(clip)[0, first : first + 3].amax())

    sweeping = comb(20 + 15 * torch.sin(2 * math.pi * 0.4 * time / RATE))
    assert persists(sweeping) > persists(comb(torch.full((samples,), 20.0))) + 0.1


def test_bands_are_even_and_cover() -> None:
    ranges = log_bands(4, 16_383, 96)
    assert ranges[0][0] == 4
    assert ranges[-1][1] == 16_383
    assert all(a < b and b == c for (a, b), (c, _) in itertools.pairwise(ranges))


@pytest.mark.parametrize("pairs", [log_bands(4, 400, 30), [(0, 1)], [(5, 9), (2, 400), (7, 8), (40, 47)]])
def test_ranges_give_the_mean_and_the_maximum_of_each(pairs: list[tuple[int, int]]) -> None:
    values = torch.randn(3, 2, 400, generator=torch.Generator().manual_seed(0)) * 1e-4
    ranges = Ranges(pairs)
    assert list(ranges) == pairs
    means = torch.stack([values[..., a:b].mean(dim=-1) for a, b in pairs], dim=-1)
    maxima = torch.stack([values[..., a:b].amax(dim=-1) for a, b in pairs], dim=-1)
    torch.testing.assert_close(ranges.maxima(values), maxima, rtol=0, atol=0)
    torch.testing.assert_close(ranges.means(values), means, rtol=1e-5, atol=1e-11)
    torch.testing.assert_close(values @ averaging(pairs, 400).T, means, rtol=1e-4, atol=1e-10)


def test_means_of_ranges_do_not_drown_in_what_lies_before_them() -> None:
    """The first value of a cepstrum to the fourth power is 10^17 times the others."""
    values = torch.full((1, 64), 1e-12)
    values[0, 0] = 1e5
    torch.testing.assert_close(Ranges([(4, 20), (20, 64)]).means(values), torch.full((1, 2), 1e-12))


def test_power_is_that_of_a_short_time_fourier_transform() -> None:
    window, clip = torch.hann_window(960), noise(4000)
    spectrum = torch.stft(clip, 960, 240, 960, window, center=False, return_complex=True)
    wanted = spectrum.abs().square().transpose(1, 2)
    torch.testing.assert_close(power(clip, window, 240), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(power(clip, window, 240, 20), wanted[..., :20], rtol=1e-4, atol=1e-5)


def test_features_hold_for_any_level_and_for_long_clips() -> None:
    features = EffectFeatures()
    clip = torch.cat([noise(33_000), 0.1 * noise(33_000, 1)], dim=1)
    torch.testing.assert_close(features(0.01 * clip), features(clip), rtol=1e-2, atol=1e-2)
    long = clip.repeat(1, 20)  # 55 s, in three pieces
    assert features(long).shape == (1, features.size)
    silent = features(torch.zeros(1, 40_000))
    assert torch.isfinite(silent).all()


@pytest.fixture(scope="module")
def encoder() -> EffectEncoder:
    torch.manual_seed(2)
    return EffectEncoder(embedding_size=16, hidden=8).eval()


@pytest.mark.parametrize("check", [c for c in CHECKS if c != "sample-rates"])
def test_it_conforms(encoder: EffectEncoder, check: str) -> None:
    CHECKS[check](EncoderSession(encoder, True))


def test_the_loss_is_khoslas() -> None:
    torch.manual_seed(4)
    z, groups = torch.randn(5, 3), torch.tensor([0, 0, 1, 1, 2])
    unit = (z / z.norm(dim=1, keepdim=True)).tolist()
    dot = [[sum(a * b for a, b in zip(p, q, strict=True)) / 0.1 for q in unit] for p in unit]
    terms = []
    for i, j in ((0, 1), (1, 0), (2, 3), (3, 2)):
        others = sum(math.exp(dot[i][k]) for k in range(5) if k != i)
        terms.append(-math.log(math.exp(dot[i][j]) / others))
    expected = torch.tensor(sum(terms) / 4)
    torch.testing.assert_close(supervised_contrastive(z, groups), expected, rtol=1e-4, atol=1e-5)
    assert float(supervised_contrastive(z, torch.arange(5))) == 0.0


def test_training_tells_apart_what_can_be_told() -> None:
    """Synthetic features: three effects, groups within them, content as noise. Chance is 1/3."""
    generator = torch.Generator().manual_seed(1)
    size = EffectFeatures().size
    directions = torch.randn(3, size, generator=generator)

    def data(n: int, first: int) -> Chunk:
        groups = torch.arange(n).repeat_interleave(2) + first
        effects = groups % 3
        settings = torch.randn(n, size, generator=generator).repeat_interleave(2, dim=0)
        content = torch.randn(2 * n, size, generator=generator)
        return Chunk(0.6 * directions[effects] + 0.3 * settings + content, content, effects, groups)

    seen: list[int] = []
    options = {"hidden": 32, "embedding_size": 8}
    encoder, figures = fit(
        data(60, 1),
        data(40, 1000),
        3,
        epochs=20,
        options=options,
        on_epoch=lambda event: seen.append(event["epoch"]),
    )
    assert seen == list(range(1, 21))
    assert figures["effect_recognised"] > 0.8
    assert figures["recognised_beside_dry"] > 0.8
    assert not encoder.training


@pytest.fixture(scope="module")
def chunks() -> Iterator[Chunks]:
    with Chunks(TwoRecordings(Noises()), ("mda-overdrive", "mda-delay"), 3, pairs=2, samples=36_000) as made:
        yield made


def test_a_chunk_pairs_recordings_by_setting(chunks: Chunks) -> None:
    chunk = chunks.chunk(1)
    again = chunks.chunk(1)
    assert torch.equal(chunk.features, again.features)
    assert chunk.effects.tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2]
    assert chunk.groups.tolist() == [5, 6, 5, 6, 7, 8, 7, 8, 0, 0, 0, 0]
    assert not torch.allclose(chunk.features[0], chunk.features[2])
    assert not set(chunks.chunk(0).groups.tolist()) & set(chunk.groups.tolist()) - {0}
    assert len(joined([chunk, again])) == 24


def test_effects_share_recordings_and_dry_clips_stay_dry(chunks: Chunks) -> None:
    chunk = chunks.chunk(2)
    assert torch.equal(chunk.dry[:4], chunk.dry[4:8])
    assert torch.equal(chunk.features[8:], chunk.dry[8:])
    assert not torch.allclose(chunk.features[:8], chunk.dry[:8])


def test_two_effects_are_needed() -> None:
    with pytest.raises(UsageError, match="two effects or more"):
        Chunks(Noises(), ("mda-delay",), 1)


def test_by_one_command(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive_data, "PAIRS", 2)
    monkeypatch.setattr(contrastive_data, "make_source", lambda *_: TwoRecordings(Noises()))
    monkeypatch.setattr(contrastive, "make_source", lambda *_: TwoRecordings(Noises()))
    monkeypatch.setattr(contrastive, "EPOCHS", 2)
    monkeypatch.setattr(contrastive, "HELD_OUT", 1)
    options = ("--effects", "mda-overdrive,mda-delay", "--max-steps", "2", "--latent", "24", "--json")
    code, out, words = call("pretrain", "effect-encoder", "--out", "fx", *options)
    assert code == 0, words
    told = json.loads(out)
    assert told["effects"] == ["mda-overdrive", "mda-delay"]
    assert told["chunks"] == 2
    encoder = load_encoder(tmp_path / told["weights"])
    assert encoder.embedding_size == 24
    assert (tmp_path / told["weights"]).stat().st_size < 3e6
    assert torch.isfinite(encoder(noise()[None], RATE)).all()
