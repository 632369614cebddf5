"""What an executor gives: order, equal samples, ownership of results, kinds of input, verification,
errors.
"""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import Future

import numpy as np
import pytest
import torch

from dafxhost import Executor
from dafxhost.errors import (
    ParameterError,
    ParameterNotAppliedError,
    RepeatabilityWarning,
    ShapeError,
    UsageError,
)
from lab_effects import lab_effect

RATE = 24000


def clips(b: int, c: int = 1, t: int = 2400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((b, c, t)).astype(np.float32)


def draws(*shape: int, seed: int = 1) -> np.ndarray:
    """Settings below 0.9, so that no lab effect is triggered."""
    return np.random.default_rng(seed).random(shape) * 0.89


def scaled(audio: np.ndarray, settings: np.ndarray) -> np.ndarray:
    """What Gain gives for `[B, C, T]` and `[B, K, P]`."""
    return audio[:, None] * settings[:, :, :1, None].astype(np.float32)


@pytest.fixture(scope="module")
def gain(make_executor):
    with make_executor(lab_effect("Gain"), workers=2, deadline=10) as executor:
        yield executor


@pytest.fixture(scope="module")
def local_gain():
    """For what is said of this machine's arena."""
    with Executor(lab_effect("Gain"), workers=2, deadline=10) as executor:
        yield executor


SHAPES = [(5, 3, 1, 2400), (7, 2, 2, 1001), (40, 4, 1, 64)]


@pytest.mark.parametrize(
    "b,k,c,t", [(1, 1, 1, 1), *(pytest.param(*shape, marks=pytest.mark.slow_on_ray) for shape in SHAPES)]
)
def test_every_render_in_its_place(gain, b, k, c, t):
    audio, settings = clips(b, c, t), draws(b, k, 2)
    wet = gain.render(audio, settings, RATE)
    assert wet.dtype == np.float32 and wet.shape == (b, k, c, t) and wet.flags.c_contiguous
    assert np.array_equal(wet, scaled(audio, settings))


def test_settings_without_columns(gain):
    audio, settings = clips(4), draws(4, 2)
    assert np.array_equal(gain.render(audio, settings, RATE), scaled(audio, settings[:, None])[:, 0])


def test_empty_batches(gain):
    assert gain.render(clips(0), draws(0, 3, 2), RATE).shape == (0, 3, 1, 2400)
    assert gain.render(clips(2), draws(2, 0, 2), RATE).shape == (2, 0, 1, 2400)


def test_one_and_two_workers_give_equal_bits(make_executor):
    audio, settings = clips(9, 2, 3001), draws(9, 3, 1)
    results = []
    for workers in (1, 2):
        with make_executor(lab_effect("Echo", ("feedback",)), workers=workers) as executor:
            results.append([executor.render(audio, settings, RATE) for _ in range(2)])
    assert all(np.array_equal(results[0][0], other) for pair in results for other in pair)


def test_results_belong_to_the_caller(gain):
    audio = clips(6)
    first = gain.render(audio, draws(6, 2, 2, seed=5), RATE)
    kept, row = first.copy(), first[3, 1]
    for seed in range(6, 12):
        gain.render(audio, draws(6, 2, 2, seed=seed), RATE)
    assert np.array_equal(first, kept)
    del first  # a view of one row must keep its memory too
    gc.collect()
    for seed in range(6, 12):
        gain.render(audio, draws(6, 2, 2, seed=seed), RATE)
    assert np.array_equal(row, kept[3, 1])
    row[:] = 0  # and is the caller's to write


def test_memory_is_used_again(local_gain):
    gain = local_gain
    audio, settings = clips(8, 1, 24000), draws(8, 2, 2)
    gain.render(audio, settings, RATE)
    touched = gain._pool.arena._touched
    for _ in range(20):
        gain.render(audio, settings, RATE)
    assert gain._pool.arena._touched <= touched + 2 * audio.nbytes * 2


def test_results_outlive_the_executor(make_executor):
    audio, settings = clips(3), draws(3, 2, 2)
    with make_executor(lab_effect("Gain"), workers=1) as executor:
        wet = executor.render(audio, settings, RATE)
    del executor
    gc.collect()
    assert np.array_equal(wet, scaled(audio, settings))


def test_tensors_in_tensors_out(gain):
    audio, settings = torch.from_numpy(clips(3)), torch.from_numpy(draws(3, 2, 2))
    settings.requires_grad_()
    wet = gain.render(audio, settings, RATE)
    assert isinstance(wet, torch.Tensor) and wet.dtype == torch.float32 and not wet.requires_grad
    assert wet.device == audio.device and wet.shape == (3, 2, 1, 2400)
    assert np.array_equal(wet.numpy(), scaled(audio.numpy(), settings.detach().numpy()))
    assert isinstance(gain.render(audio.numpy(), settings, RATE), np.ndarray)


def test_other_floats_are_converted(gain):
    audio, settings = clips(2), draws(2, 1, 2)
    expected = scaled(audio, settings)
    assert np.array_equal(gain.render(audio.astype(np.float64), settings, RATE), expected)
    half = audio.astype(np.float16)
    assert np.array_equal(
        gain.render(half, settings.astype(np.float32), RATE),
        scaled(half.astype(np.float32), settings.astype(np.float32)),
    )
    assert np.array_equal(gain.render(audio[:, :, ::-1], settings, RATE), expected[..., ::-1])


def test_clips_in_the_workers_memory_are_recognised(local_gain):
    audio = local_gain.empty((4, 1, 2400))
    assert local_gain._offset(audio) is not None
    assert local_gain._offset(audio.copy()) is None


def test_clips_from_empty_and_from_results(gain):
    audio = gain.empty((4, 1, 2400))
    audio[:] = clips(4)
    settings = draws(4, 2, 2)
    assert np.array_equal(gain.render(audio, settings, RATE), scaled(audio, settings))
    again = gain.render(gain.render(audio, settings[:, 0], RATE), settings[:, 1], RATE)
    assert np.array_equal(again, scaled(scaled(audio, settings[:, :1])[:, 0], settings[:, 1:])[:, 0])


def test_submit_returns_futures_in_any_order(gain):
    audio = clips(4)
    futures: list[tuple[np.ndarray, Future]] = []
    for seed in range(8):
        settings = draws(4, 2, 2, seed=seed)
        futures.append((settings, gain.submit(audio, settings, RATE)))
    for settings, future in reversed(futures):
        assert np.array_equal(future.result(10), scaled(audio, settings))


def test_input_may_change_after_submit(gain):
    audio, settings = clips(8, 1, 24000), draws(8, 4, 2)
    expected = scaled(audio, settings)
    future = gain.submit(audio, settings, RATE)
    audio[:] = 0
    assert np.array_equal(future.result(10), expected)


def test_threads_share_an_executor(gain):
    wrong: list[int] = []

    def work(seed: int) -> None:
        for i in range(5):
            audio, settings = clips(3, 1 + seed % 2, 500 + seed, seed=i), draws(3, 2, 2, seed=seed)
            if not np.array_equal(gain.render(audio, settings, RATE), scaled(audio, settings)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("latency", [1, 100, 5000])
@pytest.mark.parametrize("channels", [1, 2])
def test_latency_is_taken_out(make_executor, latency, channels):
    audio, settings = clips(3, channels), draws(3, 2, 2)
    with make_executor(lab_effect("Late", latency=latency), workers=1) as executor:
        assert np.array_equal(executor.render(audio, settings, RATE), scaled(audio, settings))


def test_processes_are_clean_and_repeatable(make_executor):
    audio = clips(4, 1, 16)
    with make_executor(lab_effect("Inspect"), workers=2, seed=7) as executor:
        facts = executor.render(audio, draws(4, 4, 2), RATE)[:, :, 0]
    assert not facts[..., 0].any(), "a worker imported torch"
    assert facts[..., 1].all(), "denormals are not flushed to zero"
    assert len(np.unique(facts[..., 2])) == 1, "rand() does not start from one seed"
    assert not facts[..., 3].any(), "a worker imported the user's main program"
    assert (facts[..., 4] != os.getpid()).all()


def test_denormals_of_the_parent_are_left_alone(gain):
    gain.render(clips(1), draws(1, 1, 2), RATE)
    assert (np.full(1, 1e-39, np.float32) * np.float32(1))[0] > 0


def test_a_parameter_that_is_not_taken(make_executor):
    with (
        make_executor(lab_effect("Deaf"), workers=1) as executor,
        pytest.raises(ParameterNotAppliedError, match=r"'trigger': sent plugin value 0\.5, read back 0\.25"),
    ):
        executor.render(clips(1), np.full((1, 2), 0.5), RATE)


def test_verification_is_spot_all_or_off(make_executor):
    audio, settings = clips(1, 1, 8), np.full((1, 50, 2), 0.25)
    settings[0, 40] = 0.5  # beyond the first, verified renders
    for verify, fails in (("spot", False), ("all", True), ("off", False)):
        with make_executor(lab_effect("Deaf"), workers=1, verify=verify) as executor:
            if fails:
                with pytest.raises(ParameterNotAppliedError):
                    executor.render(audio, settings, RATE)
            else:
                executor.render(audio, settings, RATE)
    with make_executor(lab_effect("Deaf"), workers=1, verify="off") as executor:
        executor.render(clips(1), np.full((1, 2), 0.5), RATE)


def test_an_effect_that_is_not_repeatable_is_found(make_executor):
    """The executor relies on `prepare`: a processor whose reset leaks gives other samples, which is said."""
    audio, settings = clips(1), np.full((1, 3, 2), 0.5)
    with make_executor(lab_effect("Leaky"), workers=1, verify="off") as executor:
        wet = executor.render(audio, settings, RATE)
        assert executor.unrepeatable is None
    assert not np.array_equal(wet[0, 0], wet[0, 1])
    with make_executor(lab_effect("Leaky"), workers=1) as executor:
        with pytest.warns(RepeatabilityWarning, match="effect 'lab-leaky' is not repeatable: .* up to 0"):
            executor.render(audio, settings, RATE)
        executor.render(audio, settings, RATE)  # said once
        assert executor.unrepeatable.setting == (0.5, 0.5) and executor.unrepeatable.difference > 0


def test_stats(gain):
    before = gain.stats
    gain.render(clips(4), draws(4, 3, 2), RATE)
    spent = gain.stats - before
    assert spent.renders == 12 and spent.audio_seconds == pytest.approx(12 * 2400 / RATE)
    assert 0 < spent.plugin_seconds < spent.wall_seconds * 2
    assert 0 < spent.share_of_ideal <= 1 and spent.renders_per_second > 0
    assert (spent.retried, spent.replaced, spent.workers) == (0, 0, 2)


AUDIO, SETTINGS = clips(2), draws(2, 3, 2)
BAD_AUDIO = {
    "int16": (AUDIO.astype(np.int16), UsageError, "int16; convert it to float32"),
    "two dims": (AUDIO[0], ShapeError, r"\[1, 2400\]; expected \[B, C, T\]"),
    "three channels": (np.zeros((2, 3, 100), np.float32), ShapeError, "3 channels"),
    "no samples": (AUDIO[:, :, :0], ShapeError, "no samples"),
    "nan": (np.where(np.arange(2400) == 7, np.float32("nan"), AUDIO), ParameterError, "clip 0 holds NaN"),
    "inf": (np.stack([AUDIO[0], np.full((1, 2400), -np.inf)]), ParameterError, "clip 1 holds NaN or inf"),
    "too large for float32": (np.full((2, 1, 9), 1e300), ParameterError, "clip 0"),
    "text": (np.array([["a"]]), UsageError, "convert it"),
}
BAD_SETTINGS = {
    "P": (draws(2, 3, 4), ShapeError, r"2 parameters \(gain, trigger\), so the last axis must be 2"),
    "B": (draws(3, 3, 2), ShapeError, r"\[3, 3, 2\]; expected \[2, K, 2\]"),
    "dims": (draws(2), ShapeError, r"expected \[2, K, 2\]"),
    "above": (SETTINGS + 0.5, ParameterError, "settings lie on 0..1"),
    "nan": (
        np.where(SETTINGS[1, 2, 1] == SETTINGS, np.nan, SETTINGS),
        ParameterError,
        r"\[1, 2\].*trigger = nan",
    ),
    "text": (np.array([["a", "b"]] * 2), ParameterError, "numbers on 0..1"),
}


@pytest.mark.parametrize("audio,error,words", BAD_AUDIO.values(), ids=BAD_AUDIO)
def test_bad_audio(gain, audio, error, words):
    with pytest.raises(error, match=words):
        gain.render(audio, SETTINGS, RATE)
    assert np.array_equal(gain.render(AUDIO, SETTINGS, RATE), scaled(AUDIO, SETTINGS))


@pytest.mark.parametrize("settings,error,words", BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_settings(gain, settings, error, words):
    with pytest.raises(error, match=words):
        gain.render(AUDIO, settings, RATE)


def test_rounding_outside_the_range_is_clipped(gain):
    settings = np.array([[1 + 5e-7, -5e-7]] * 2)
    assert np.array_equal(gain.render(AUDIO, settings, RATE), AUDIO)


@pytest.mark.parametrize("rate", [0, 999, 768_001, 44100.5, float("nan"), True])
def test_bad_sample_rate(gain, rate):
    with pytest.raises(UsageError, match="sample_rate"):
        gain.render(AUDIO, SETTINGS, rate)


@pytest.mark.parametrize(
    "arguments", [{"workers": 0}, {"deadline": 0}, {"block_size": 0}, {"verify": "yes"}], ids=str
)
def test_bad_arguments(make_executor, arguments):
    with pytest.raises(UsageError, match=next(iter(arguments))):
        make_executor(lab_effect("Gain"), **arguments)


def test_a_closed_executor_says_so(make_executor):
    executor = make_executor(lab_effect("Gain"), workers=1)
    executor.close()
    executor.close()
    with pytest.raises(UsageError, match="closed"):
        executor.render(AUDIO, SETTINGS, RATE)
