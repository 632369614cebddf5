"""Plugins that crash, hang, raise or return NaN, and workers killed from outside: what it costs, what is
said.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dafxhost import Executor, RenderError
from dafxhost.errors import DafxhostError, PluginError, UsageError
from lab_effects import lab_effect
from test_executor import clips, draws, scaled

pytestmark = pytest.mark.slow_on_ray
RATE = 24000
AUDIO, SETTINGS = clips(8), draws(8, 3, 2)
BAD = {
    "Segfault": "worker died of signal 11 (SIGSEGV)",
    "Exit": "worker exited with status 3",
    "Hang": "no answer within 0.7 s",
    "Raise": "raised ValueError: the lab raised this",
    "Nan": "returned NaN/Inf",
}


def triggered(*jobs: tuple[int, int]) -> np.ndarray:
    settings = SETTINGS.copy()
    for job in jobs:
        settings[(*job, 1)] = 1.0
    return settings


@pytest.mark.parametrize("processor", BAD)
def test_a_bad_render_costs_itself_only(make_executor, processor, tmp_path):
    settings = triggered((3, 1))
    with make_executor(lab_effect(processor), workers=2, deadline=0.7, failure_dir=tmp_path) as executor:
        wet = executor.render(AUDIO, settings, RATE, on_error="nan")
        [failure] = executor.failures
        assert np.isnan(wet[3, 1]).all()
        others = np.ones((8, 3), bool)
        others[3, 1] = False
        assert np.array_equal(wet[others], scaled(AUDIO, settings)[others])
        assert (failure.row, failure.column, failure.effect) == (3, 1, f"lab-{processor.lower()}")
        assert failure.reason == BAD[processor]
        assert failure.setting == pytest.approx(tuple(settings[3, 1]))
        assert executor.stats.retried == 1
        assert executor.stats.replaced == (2 if processor in ("Segfault", "Exit", "Hang") else 0)
        saved = np.load(failure.saved_input)
        assert np.array_equal(saved["audio"], AUDIO[3]) and np.array_equal(saved["setting"], settings[3, 1])
        about = json.loads(str(saved["about"]))
        assert about["spec"]["sample_rate"] == RATE and about["reason"] == failure.reason
        # The next batch is clean, and says so.
        assert np.array_equal(executor.render(AUDIO, SETTINGS, RATE), scaled(AUDIO, SETTINGS))
        assert executor.failures == []


def test_the_log_of_a_crash_is_reported(make_executor, tmp_path):
    with (
        make_executor(lab_effect("Segfault"), workers=1, failure_dir=tmp_path) as executor,
        pytest.raises(RenderError) as caught,
    ):
        executor.render(AUDIO, triggered((0, 0), (7, 2)), RATE)
    assert [(f.row, f.column) for f in caught.value.failures] == [(0, 0), (7, 2)]
    assert "Segmentation fault" in caught.value.failures[0].log
    assert "in trigger" in caught.value.failures[0].log  # where it was
    assert "2 of 24 renders of effect 'lab-segfault' failed twice" in str(caught.value)
    assert np.isnan(caught.value.partial[7, 2]).all() and np.isfinite(caught.value.partial[1:7]).all()


@pytest.mark.parametrize("how", ["segfault", "exit", "kill", "hang"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_render_that_fails_once_is_tried_again(make_executor, how, workers, tmp_path):
    settings = triggered((2, 2))
    effect = lab_effect("Once", marker=str(tmp_path / "marker"), how=how)
    with make_executor(effect, workers=workers, deadline=0.7, failure_dir=tmp_path / "no") as executor:
        wet = executor.render(AUDIO, settings, RATE)
        assert executor.stats.retried == 1 and executor.stats.replaced == 1
    assert (tmp_path / "marker").read_text() == how
    assert np.array_equal(wet, scaled(AUDIO, settings))
    assert not (tmp_path / "no").exists()


def test_a_worker_killed_from_outside(tmp_path):
    settings = np.full((4, 4, 2), 0.03)  # sleeps 30 ms a render
    settings[:, :, 0] = draws(4, 4)
    with Executor(lab_effect("Sleeper"), workers=2, failure_dir=tmp_path) as executor:
        expected = executor.render(AUDIO[:4], settings, RATE)
        before = executor.stats
        future = executor.submit(AUDIO[:4], settings, RATE)
        time.sleep(0.1)
        os.kill(executor._pool._workers[0].pid, signal.SIGKILL)
        assert np.array_equal(future.result(20), expected)
        assert (executor.stats - before).replaced == 1
    assert np.array_equal(expected, scaled(AUDIO[:4], settings))


def test_all_workers_killed_while_idle(tmp_path):
    with Executor(lab_effect("Gain"), workers=2, failure_dir=tmp_path) as executor:
        executor.render(AUDIO, SETTINGS, RATE)
        for _ in range(3):
            for worker in list(executor._pool._workers):
                os.kill(worker.pid, signal.SIGKILL)
            assert np.array_equal(executor.render(AUDIO, SETTINGS, RATE), scaled(AUDIO, SETTINGS))


def test_a_plugin_that_does_not_load_is_said_quickly(make_executor, tmp_path):
    began = time.monotonic()
    with make_executor(lab_effect("Refuse"), workers=2, failure_dir=tmp_path) as executor:
        with pytest.raises(PluginError, match="could not be loaded by lab: RuntimeError: no such"):
            executor.render(AUDIO, SETTINGS, RATE, on_error="nan")
        with pytest.raises(PluginError, match="no such plugin file"):  # and again
            executor.render(AUDIO, SETTINGS, RATE)
    with (
        make_executor(lab_effect("CrashAtLoad"), workers=2) as executor,
        pytest.raises(PluginError, match=r"could not be loaded by lab: worker died of signal 11"),
    ):
        executor.render(AUDIO, SETTINGS, RATE)
    # Ray takes 10 s to start an actor when the machine is busy, twice; waiting in vain would take 60 s more.
    assert time.monotonic() - began < (20 if make_executor.kind == "processes" else 50)


def test_a_processor_in_the_main_script(make_executor):
    effect = lab_effect("Gain")
    object.__setattr__(effect.provider, "processor", "__main__:Gain")
    with (
        make_executor(effect, workers=1) as executor,
        pytest.raises(PluginError, match="move it to a module"),
    ):
        executor.render(AUDIO, SETTINGS, RATE)


def test_workers_that_do_not_start(monkeypatch):
    monkeypatch.setattr("dafxhost.execution.process._BOOT", "import sys; sys.exit('the lab forbids it')")
    with (
        Executor(lab_effect("Gain"), workers=2) as executor,
        pytest.raises(DafxhostError, match=r"do not start: worker exited with status 1.*the lab forbids it"),
    ):
        executor.render(AUDIO, SETTINGS, RATE)


def test_an_effect_that_always_crashes_is_given_up(make_executor, tmp_path):
    settings = np.repeat(SETTINGS, 4, axis=1)
    settings[:, :, 1] = 1.0
    with make_executor(lab_effect("Exit"), workers=2, failure_dir=tmp_path) as executor:
        wet = executor.render(AUDIO, settings, RATE, on_error="nan")
        assert np.isnan(wet).all() and len(executor.failures) == 96
        tried = [f for f in executor.failures if "not tried" not in f.reason]
        assert 8 <= len(tried) <= 16 and {f.reason for f in tried} == {"worker exited with status 3"}
        assert executor.failures[-1].reason == "not tried: the first 8 renders of this batch all failed"
        # A node sees a few of them only, and tries each twice.
        assert executor.stats.replaced <= (18 if make_executor.kind == "processes" else 2 * len(tried))
    assert 8 <= len(list(tmp_path.iterdir())) <= 16


def test_one_bad_clip_does_not_make_a_batch_hopeless(make_executor, tmp_path):
    settings = np.repeat(SETTINGS, 4, axis=1)
    settings[0, :, 1] = 1.0
    with make_executor(lab_effect("Raise"), workers=1, failure_dir=tmp_path) as executor:
        wet = executor.render(AUDIO, settings, RATE, on_error="nan")
        assert len(executor.failures) == 12 and np.isfinite(wet[1:]).all()


def test_an_input_that_cannot_be_saved_hides_nothing(make_executor, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with make_executor(lab_effect("Raise"), workers=1, failure_dir=tmp_path / "file") as executor:
        executor.render(AUDIO, triggered((1, 1)), RATE, on_error="nan")
        [failure] = executor.failures
    assert failure.reason == BAD["Raise"] and failure.saved_input == ""
    assert "could not be saved" in failure.log


def test_a_plugin_that_writes_into_its_input_spoils_nobody(make_executor, tmp_path):
    with make_executor(lab_effect("Scribble"), workers=1, failure_dir=tmp_path) as executor:
        executor.render(AUDIO[:2], SETTINGS[:2], RATE, on_error="nan")
        assert "read-only" in executor.failures[0].reason


@pytest.mark.parametrize("verify", ["spot", "all"])
def test_a_block_left_unwritten_is_found(verify, tmp_path):
    """In long clips by the marks of some renders, unless all are to be verified."""
    settings = draws(2, 64, 2)
    audio = np.ones((2, 1, 64 * 256), np.float32)
    with Executor(
        lab_effect("Gap"), workers=2, block_size=256, verify=verify, failure_dir=tmp_path
    ) as executor:
        executor.render(audio, np.full((2, 64, 2), 0.5), RATE, on_error="nan")  # what the memory then holds
        executor.render(audio, settings, RATE, on_error="nan")
        found = len(executor.failures)
        assert "returned NaN/Inf" in str(executor.failures[0])
    assert found == 128 if verify == "all" else 8 < found < 128


def test_noise_on_stdout_disturbs_nothing(capfd):
    with Executor(lab_effect("Printer"), workers=2) as executor:
        assert np.array_equal(executor.render(AUDIO, SETTINGS, RATE), scaled(AUDIO, SETTINGS))
        assert any("noise on stderr" in worker.log_tail() for worker in executor._pool._workers)
    assert capfd.readouterr() == ("", "")


def test_logs_do_not_grow_without_end():
    with Executor(lab_effect("Flood", lines=20_000), workers=1) as executor:
        executor.render(AUDIO, SETTINGS, RATE)
        assert os.fstat(executor._pool._workers[0]._log).st_size < 4 << 20


def test_closing_mid_batch_fails_the_future_and_leaves_no_process(make_executor):
    settings = np.full((8, 3, 2), 0.2)
    executor = make_executor(lab_effect("Sleeper"), workers=2)
    future = executor.submit(AUDIO, settings, RATE)
    time.sleep(0.3)
    began = time.monotonic()
    executor.close()
    assert time.monotonic() - began < 2
    with pytest.raises(UsageError, match="closed before the render was done"):
        future.result(1)
    assert make_executor.gone()


def test_an_executor_that_nobody_holds_closes_itself(make_executor):
    executor = make_executor(lab_effect("Gain"), workers=2)
    executor.render(AUDIO, SETTINGS, RATE)
    assert len(make_executor.plugin_processes()) == 2
    threads = threading.active_count()
    del executor
    assert make_executor.gone() and threading.active_count() < threads
    # Held by its unfinished work only, it finishes that first.
    future = make_executor(lab_effect("Gain"), workers=1).submit(AUDIO, SETTINGS, RATE)
    assert np.array_equal(future.result(20), scaled(AUDIO, SETTINGS))


def test_interrupted_render_leaves_the_executor_usable(make_executor):
    settings = np.full((8, 3, 2), 0.1)
    with make_executor(lab_effect("Sleeper"), workers=2) as executor:
        executor.render(AUDIO[:1], settings[:1] * 0, RATE)
        timer = threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT))
        timer.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            executor.render(AUDIO, settings, RATE)
        assert time.monotonic() - began < 1
        timer.join()
        settings[:, :, 1] = 0
        assert np.array_equal(executor.render(AUDIO, settings, RATE), scaled(AUDIO, settings))


def test_nothing_is_left_in_shared_memory():
    gc.collect()  # what earlier tests left
    before = set(os.listdir("/dev/shm"))
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with Executor(lab_effect("Gain"), workers=2) as executor:
            executor.render(AUDIO, SETTINGS, RATE)
            assert set(os.listdir("/dev/shm")) == before
        del executor
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_failure_folder_is_made_only_when_needed(make_executor, tmp_path):
    folder: Path = tmp_path / "deep" / "down"
    with make_executor(lab_effect("Raise"), workers=1, failure_dir=folder) as executor:
        executor.render(AUDIO, SETTINGS, RATE)
        assert not folder.exists()
        executor.render(AUDIO, triggered((0, 0)), RATE, on_error="nan")
        assert len(list(folder.glob("lab-raise-*.npz"))) == 1
