"""Streams: state kept between chunks, latency taken out, bounded memory, death said clearly."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch

from dafxhost import Executor
from dafxhost.errors import ParameterError, ParameterNotAppliedError, PluginError, ShapeError, UsageError
from lab_effects import lab_effect

RATE = 24000


def noise(channels: int, samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((channels, samples)).astype(np.float32)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("effect", ["Echo", "Late"])
def test_a_stream_equals_a_render(make_executor, effect, channels):
    audio = noise(channels, 5 * 1000 + 317)
    fx = lab_effect(effect, ("gain",), **({"latency": 1234} if effect == "Late" else {}))
    with make_executor(fx, workers=1) as executor:
        whole = executor.render(audio[None], np.array([[0.7]]), RATE)[0]
        with executor.stream(np.array([0.7]), RATE, channels) as stream:
            assert stream.latency == (1234 if effect == "Late" else 0)
            pieces = [stream.process(audio[:, i : i + 1000]) for i in range(0, audio.shape[1], 1000)]
            pieces.append(stream.finish())
        assert np.array_equal(np.concatenate(pieces, axis=1), whole)
        # A second stream starts from the beginning again.
        with executor.stream(np.array([0.7]), RATE, channels) as stream:
            assert np.array_equal(stream.process(audio[:, :1000]), pieces[0])


def test_streams_and_renders_side_by_side(make_executor):
    audio = noise(1, 3000)
    with make_executor(lab_effect("Echo", ("gain",)), workers=1) as executor:
        with executor.stream([0.5], RATE, 1) as a, executor.stream([0.1], RATE, 1) as b:
            first = [a.process(audio[:, :1000]), b.process(audio[:, :1000])]
            whole = executor.render(audio[None, :, :], np.array([[[0.5], [0.1]]]), RATE)[0]
            second = [a.process(audio[:, 1000:]), b.process(audio[:, 1000:])]
        for i in range(2):
            assert np.array_equal(np.concatenate([first[i], second[i]], axis=1), whole[i])


def test_memory_does_not_grow():
    with Executor(lab_effect("Gain"), workers=1) as executor, executor.stream([0.5, 0], RATE, 2) as stream:
        stream.process(noise(2, 24000))
        touched = executor._pool.arena._touched
        for _ in range(50):
            stream.process(noise(2, 24000))
        assert executor._pool.arena._touched == touched


def test_tensors_and_bad_chunks(make_executor):
    with (
        make_executor(lab_effect("Gain"), workers=1) as executor,
        executor.stream([0.5, 0], RATE, 1) as stream,
    ):
        assert isinstance(stream.process(torch.zeros(1, 10)), torch.Tensor)
        with pytest.raises(ShapeError, match="2 channels; this stream has 1"):
            stream.process(noise(2, 10))
        with pytest.raises(ShapeError, match=r"expected \[C, N\]"):
            stream.process(noise(1, 10)[0])
        with pytest.raises(ParameterError, match="NaN"):
            stream.process(np.full((1, 10), np.nan))
        assert stream.process(np.ones((1, 3))).tolist() == [[0.5, 0.5, 0.5]]
        assert stream.finish().shape == (1, 0)
        with pytest.raises(UsageError, match="finished"):
            stream.process(noise(1, 10))
    with pytest.raises(UsageError, match="not open"):
        executor.stream([0.5, 0], RATE, 1).process(noise(1, 10))
    with pytest.raises(ShapeError, match=r"\[3\].*2 parameters"):
        executor.stream([0.5, 0, 0], RATE, 1)
    with pytest.raises(ShapeError, match="channels is 3"):
        executor.stream([0.5, 0], RATE, 3)


@pytest.mark.parametrize(
    "processor,words",
    [
        ("Segfault", r"broke off: worker died of signal 11 \(SIGSEGV\)"),
        ("Exit", "broke off: worker exited with status 3"),
        ("Hang", r"broke off: no answer within 0\.5 s"),
        ("Raise", "broke off: raised ValueError: the lab raised this"),
        ("Nan", "broke off: returned NaN/Inf"),
    ],
)
def test_a_stream_that_breaks_off(make_executor, processor, words):
    with make_executor(lab_effect(processor), workers=1, deadline=0.5) as executor:
        with executor.stream([0.5, 1.0], RATE, 1) as stream:
            with pytest.raises(PluginError, match=words):
                stream.process(noise(1, 100))
            with pytest.raises(UsageError, match="not open"):
                stream.process(noise(1, 100))
        assert make_executor.gone()


@pytest.mark.parametrize(
    "processor,error,words",
    [
        ("Refuse", PluginError, "no such plugin file"),
        ("CrashAtLoad", PluginError, "SIGSEGV"),
        ("Deaf", ParameterNotAppliedError, "trigger"),
    ],
)
def test_a_stream_that_does_not_open(make_executor, processor, error, words):
    with (
        make_executor(lab_effect(processor), workers=1) as executor,
        pytest.raises(error, match=words),
        executor.stream([0.5, 0], RATE, 1),
    ):
        pass
    assert make_executor.gone()


def test_a_stream_killed_from_outside():
    with Executor(lab_effect("Gain"), workers=1) as executor, executor.stream([0.5, 0], RATE, 1) as stream:
        stream.process(noise(1, 100))
        os.kill(stream._worker.pid, signal.SIGKILL)
        with pytest.raises(PluginError, match="SIGKILL"):
            stream.process(noise(1, 100))
