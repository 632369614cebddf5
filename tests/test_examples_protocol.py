"""The making of examples, against Grant's protocol; the executor is a small one in this process."""

import threading
import time
import warnings

import numpy as np
import pytest
from scipy.signal import lfilter

from dafxhost.data.examples import ExampleBatch, Examples
from dafxhost.data.features import PEAK, cosine, fade, mfcc, normalise_peak
from dafxhost.data.sources import AudioSource
from dafxhost.data.stream import ExampleStream
from dafxhost.effects import Effect, Provider
from dafxhost.errors import DafxhostError, JobFailure, UsageError
from dafxhost.execution.executor import Executor
from dafxhost.parameters import Parameter
from dafxhost.registry import effect

RATE, T = 24000, 16384


class Source(AudioSource):
    """Bursts of coloured noise, other ones in each draw."""

    names, total_seconds, description = ["bursts"], 1.0, "bursts"

    def __init__(self):
        self.drawn = 0

    def draw(self, rng, samples, sample_rate):
        self.drawn += 1
        x = lfilter([1.0], [1.0, -rng.uniform(0.95, 0.99)], rng.normal(size=samples))
        x = x * (0.1 + np.abs(np.sin(np.arange(samples) * rng.uniform(1e-4, 1e-3))))
        return (0.3 * x / np.abs(x).max())[None].astype(np.float32), f"bursts {self.drawn}"


class FakeExecutor:
    """Renders `function(clip [C, T], setting [P]) -> [C, T]` one by one."""

    def __init__(self, function, parameters=2):
        params = [Parameter(f"p{i}") for i in range(parameters - 1)]
        params.append(Parameter("mode", kind="choice", maximum=2, default=0, choices=("a", "b", "c")))
        self.effect = Effect("fake", tuple(params), Provider("none", "none:None"))
        self.function, self.calls, self.failures = function, [], []

    def render(self, audio, settings, sample_rate, *, on_error="raise"):
        assert audio.dtype == np.float32 and audio.ndim == 3 and settings.ndim == 3 and sample_rate == RATE
        self.calls.append(settings.shape)
        return np.stack([[self.function(a, s) for s in row] for a, row in zip(audio, settings, strict=True)])


def drive(x, setting):
    return np.tanh(x * (1.4 + 0.8 * setting[0])).astype(np.float32)


def examples(function=drive, **options):
    return Examples(Source(), FakeExecutor(function), sample_rate=RATE, samples=T, **options)


def same(a: ExampleBatch, b: ExampleBatch):
    for name in ("dry", "reference", "target", "settings", "applied"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name)


def test_shapes_levels_fades_and_discrete_settings():
    batch = examples().batch(1, 12)
    assert len(batch) == 12 and batch.sources == batch.names
    for audio in (batch.dry, batch.reference, batch.target):
        assert audio.shape == (12, 1, T) and audio.dtype == np.float32
        np.testing.assert_allclose(np.abs(audio).max(axis=(1, 2)), 10 ** (-12 / 20), rtol=1e-6)
        np.testing.assert_array_equal(audio[..., [0, -1]], 0)  # tanh keeps the fades
        assert np.abs(audio[..., :12]).max() < 0.02
    assert batch.settings.shape == (12, 2) and batch.settings.dtype == np.float64
    assert set(np.round(batch.settings[:, 1] * 6)) == {1, 3, 5}
    assert batch.dry.flags.c_contiguous and batch.target.flags.c_contiguous


def test_target_is_the_dry_half_and_reference_the_other_half_through_one_setting():
    made = examples()
    batch = made.batch(4, 10)
    assert batch.applied.any() and not batch.applied.all()
    for i in range(10):
        rng = np.random.default_rng(np.random.SeedSequence(4, spawn_key=(i,)))
        assert bool(rng.random() < 0.9) == batch.applied[i]
        clip, _ = Source().draw(rng, 2 * T, RATE)
        a, b = (normalise_peak(fade(half, RATE)) for half in (clip[:, :T], clip[:, T:]))
        np.testing.assert_array_equal(batch.dry[i], a)
        wet_a, wet_b = (
            (normalise_peak(drive(h, batch.settings[i])) if batch.applied[i] else h) for h in (a, b)
        )
        np.testing.assert_array_equal(batch.target[i], wet_a)
        np.testing.assert_array_equal(batch.reference[i], wet_b)


def test_fade_is_linear_over_50_ms():
    faded = fade(np.ones((1, RATE), np.float32), RATE)[0]
    np.testing.assert_allclose(faded[:1200], np.linspace(0, 1, 1200), atol=1e-6)
    np.testing.assert_allclose(faded[::-1][:1200], np.linspace(0, 1, 1200), atol=1e-6)
    assert (faded[1200:-1200] == 1).all()


def test_apply_probability():
    made = examples(apply_probability=0.0)
    batch = made.batch(0, 4)
    assert not batch.applied.any() and batch.counts["not_applied"] == 4 and made.executor.calls == []
    np.testing.assert_array_equal(batch.target, batch.dry)
    assert not np.allclose(batch.reference, batch.dry)
    assert examples(apply_probability=1.0).batch(0, 30).applied.all()
    assert 0.84 < examples().batch(0, 200).applied.mean() < 0.96


def test_same_seed_same_examples_in_any_pieces():
    whole = examples().batch(5, 7)
    same(whole, examples().batch(5, 7))
    pieces = list(examples().pieces(5, 7, 3))
    assert [len(p) for p in pieces] == [3, 3, 1]
    np.testing.assert_array_equal(whole.target, np.concatenate([p.target for p in pieces]))
    np.testing.assert_array_equal(whole.settings, np.concatenate([p.settings for p in pieces]))
    assert not np.allclose(whole.dry, examples().batch(6, 7).dry)


def test_all_of_a_round_is_rendered_in_one_call():
    made = examples(apply_probability=1.0)
    batch = made.batch(0, 8)
    assert made.executor.calls[0] == (16, 1, 2)
    assert sum(shape[0] for shape in made.executor.calls) == 2 * batch.counts["settings"]


def refused_below(threshold, otherwise):
    """An effect that is `otherwise` while p0 < threshold and an overdrive above."""
    return lambda x, s: (otherwise(x) if s[0] < threshold else drive(x, s)).astype(np.float32)


@pytest.mark.parametrize(
    ("fault", "otherwise"),
    [
        ("inaudible", lambda x: x + np.float32(0.003)),  # mean square 0.9e-5
        ("silent", lambda x: x * 0),
        ("silent", lambda x: x * 0.01),
        ("senseless", lambda x: 0.05 * np.sign(np.sin(np.arange(x.shape[-1]) * 2.7)) * np.ones_like(x)),
        ("failed", lambda x: x * np.nan),
        ("failed", lambda x: x + np.inf),
    ],
)
def test_refused_settings_are_redrawn_and_counted(fault, otherwise):
    batch = examples(refused_below(0.7, otherwise), apply_probability=1.0).batch(2, 10)
    assert (batch.settings[:, 0] >= 0.7).all() and batch.applied.all()
    refused = {k: batch.counts.get(k, 0) for k in ("inaudible", "silent", "senseless", "failed")}
    assert sum(refused.values()) == batch.counts["settings"] - 10
    assert refused[fault] > 5 and refused[fault] == max(refused.values())
    assert np.isfinite(batch.target).all() and np.isfinite(batch.reference).all()


def test_a_change_just_above_the_threshold_is_kept():
    made = examples(lambda x, s: x + np.float32(0.0034), apply_probability=1.0)  # mean square 1.16e-5
    assert made.batch(0, 3).counts.get("inaudible", 0) == 0


def test_an_effect_that_does_nothing_gives_one_sentence():
    made = examples(lambda x, s: x, max_redraws=10, new_clip_after=4)
    with pytest.raises(
        DafxhostError, match=r"effect 'fake': all of \d+ random settings .*\(\d+ inaudible\)\."
    ):
        made.batch(0, 4)
    made.executor.function = lambda x, s: x * np.nan
    made.executor.failures = [JobFailure(0, 0, "fake", (0.5,), "no answer within 30 s")]
    with pytest.raises(DafxhostError, match=r"failed\)\. The last failure: no answer within 30 s\."):
        made.batch(0, 4)


def test_what_finds_no_setting_gets_another_clip_and_is_left_dry_in_the_end():
    source_tilt = {}

    def picky(x, s):
        """Works on half of the clips only."""
        key = x.tobytes()[2000:2100]
        source_tilt.setdefault(key, len(source_tilt) % 4 < 2)
        return drive(x, s) if source_tilt[key] else x

    batch = examples(picky, apply_probability=1.0, new_clip_after=2, max_redraws=30).batch(0, 8)
    assert batch.applied.all() and batch.counts["new_clips"] > 0
    # now on the first example's clips only: the others are given up
    first: list[bytes] = []

    def only_first(x, s):
        first.append(x.tobytes())
        return drive(x, s) if x.tobytes() in (first[0], *first[4:5]) else x

    batch = examples(only_first, apply_probability=1.0, max_redraws=3).batch(0, 4)
    assert batch.applied.tolist() == [True, False, False, False] and batch.counts["given_up"] == 3
    np.testing.assert_array_equal(batch.target[1:], batch.dry[1:])


def test_bad_arguments_give_one_sentence():
    for options in ({"samples": 100}, {"apply_probability": 1.5}, {"max_redraws": 0}):
        with pytest.raises(UsageError):
            Examples(Source(), FakeExecutor(drive), **{"samples": T, **options})
    with pytest.raises(UsageError, match="n >= 1"):
        examples().batch(0, 0)
    with pytest.raises(UsageError, match="seed >= 0"):
        examples().batch(-1, 1)


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_a_stream_resumes_exactly(ahead):
    with ExampleStream(examples(), 2, seed=10, ahead=ahead) as stream:
        batches = [next(stream) for _ in range(5)]
        assert stream.index == 5
    for i, batch in enumerate(batches):
        same(batch, examples().batch(10 + i, 2))
    with ExampleStream(examples(), 2, seed=10, start=3, ahead=ahead) as stream:
        for batch in batches[3:]:
            same(batch, next(stream))


def test_a_stream_is_bounded_passes_errors_on_and_closes():
    made = examples()
    stream = ExampleStream(made, 1, seed=0, ahead=2)
    deadline = time.monotonic() + 10
    while made.source.drawn < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert made.source.drawn <= 4  # two ready, one waiting for a place
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("dafxhost-examples")]
    with pytest.raises(StopIteration):
        next(stream)
    stream.close()
    broken = examples(lambda x, s: x, max_redraws=2)
    for ahead in (0, 2):
        with ExampleStream(broken, 2, seed=0, ahead=ahead) as stream:
            with pytest.raises(DafxhostError, match="no example could be made"):
                next(stream)
            with pytest.raises(StopIteration):
                next(stream)
    assert not [t for t in threading.enumerate() if t.name.startswith("dafxhost-examples")]


def test_the_real_executor_gives_the_same_examples_whatever_the_number_of_workers():
    made = []
    for workers in (1, 2):
        with Executor(effect("mda-combo"), workers=workers) as executor:
            made.append(Examples(Source(), executor, samples=T, apply_probability=1.0).batch(3, 4))
            wet = executor.render(made[-1].dry, made[-1].settings, RATE)
            np.testing.assert_array_equal(made[-1].target, normalise_peak(wet))
    same(*made)


def test_mfcc_is_torchaudios():
    import torch
    import torchaudio

    audio = Source().draw(np.random.default_rng(0), T, RATE)[0][0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of empty low bands
        theirs = torchaudio.transforms.MFCC(RATE, n_mfcc=30, melkwargs={"n_mels": 60})(
            torch.from_numpy(audio)
        )
    ours = mfcc(audio, RATE)
    np.testing.assert_allclose(ours, theirs.numpy().T, atol=2e-2)
    np.testing.assert_allclose(cosine(ours, -2 * ours), -1, atol=1e-5)


def test_peak_normalisation():
    audio = np.random.default_rng(0).normal(size=(3, 2, 50)).astype(np.float32)
    audio[1] = 0
    out = normalise_peak(audio)
    np.testing.assert_allclose(np.abs(out).max(axis=(1, 2)), [PEAK, 0, PEAK], rtol=1e-6)
