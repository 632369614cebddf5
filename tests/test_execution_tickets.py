"""Jobs through one pipe: order, more than it holds, tickets lost or handed out twice, slow jobs, leaks."""

from __future__ import annotations

import os
import signal
import time

import numpy as np
import psutil
import pytest

from dafxhost import Executor
from dafxhost.execution.process import WorkerProcess
from dafxhost.execution.protocol import TICKET
from dafxhost.execution.tickets import TicketPipe
from lab_effects import lab_effect
from test_executor import clips, draws, scaled

RATE = 24000


@pytest.fixture
def pipe():
    pipe = TicketPipe()
    yield pipe
    pipe.close()


def take(pipe: TicketPipe) -> tuple[int, int, int]:
    return TICKET.unpack(os.read(pipe.reader, TICKET.size))


def test_tickets_come_out_in_order_and_whole(pipe):
    assert pipe.empty()
    assert pipe.put(7, range(1000), 3)
    assert not pipe.empty()
    assert [take(pipe) for _ in range(1000)] == [(7, job, 3) for job in range(1000)]
    assert pipe.empty()


def test_more_than_the_pipe_holds_waits_in_order(pipe):
    assert not pipe.put(1, range(100_000), 1)
    assert not pipe.put(2, [0], 2)  # behind them
    seen = []
    while not pipe.empty():
        seen.append(take(pipe)[:2])
        pipe.flush()
    assert seen == [*((1, job) for job in range(100_000)), (2, 0)]


def test_a_batch_larger_than_the_pipe(monkeypatch):
    monkeypatch.setattr("dafxhost.execution.tickets.CAPACITY", 4096)
    audio, settings = clips(3, t=64), draws(3, 2000, 2)
    with Executor(lab_effect("Gain"), workers=2) as executor:
        assert np.array_equal(executor.render(audio, settings, RATE), scaled(audio, settings))


def test_one_slow_job_does_not_idle_the_others():
    settings = np.zeros((40, 2, 2))
    settings[0, 0, 1] = 1.0  # sleeps for a second
    settings[1:, :, 1] = 0.01
    with Executor(lab_effect("Sleeper"), workers=2) as executor:
        executor.render(clips(4), settings[:4] * 0, RATE)
        began = time.monotonic()
        executor.render(clips(40), settings, RATE)
        assert time.monotonic() - began < 1.6  # 1 s and 0.8 s side by side


def test_a_ticket_that_is_lost_with_a_worker_is_issued_again():
    audio, settings = clips(4), draws(4, 3, 2)
    with Executor(lab_effect("Sleeper"), workers=1, deadline=0.4) as executor:
        settings[..., 1] = 0
        executor.render(audio, settings, RATE)
        settings[..., 1] = 0.05
        future = executor.submit(audio, settings, RATE)
        # What a worker does that dies between reading and saying so.
        for _ in range(2):
            os.read(executor._pool._tickets.reader, TICKET.size)
        time.sleep(0.1)
        os.kill(executor._pool._workers[0].pid, signal.SIGKILL)
        assert np.array_equal(future.result(20), scaled(audio, settings))
        assert executor.stats.replaced == 1


def test_a_ticket_that_comes_twice_does_no_harm():
    audio, settings = clips(4), draws(4, 3, 2)
    settings[..., 1] = 0.05
    with Executor(lab_effect("Sleeper"), workers=2) as executor:
        future = executor.submit(audio, settings, RATE)
        time.sleep(0.1)
        [batch] = executor._pool.ledger.batches.values()
        executor._pool._tickets.put(batch.page, range(12), batch.number)
        assert np.array_equal(future.result(20), scaled(audio, settings))
        executor._pool._tickets.put(batch.page, range(12), batch.number)  # of a batch that is over
        assert np.array_equal(executor.render(audio, settings * 0.5, RATE), scaled(audio, settings * 0.5))
        assert executor.stats.renders <= 26  # those in work at that moment may be rendered again


def test_workers_may_be_quicker_than_the_dispatcher():
    """What they say of a batch that it has not seen yet is not lost."""
    audio, settings = clips(4), draws(4, 3, 2)
    with Executor(lab_effect("Raise"), workers=2) as executor:
        pool = executor._pool
        executor.render(audio, settings * 0, RATE)
        settings[1, 1, 1] = 1.0  # raises
        pool.post(lambda: (time.sleep(0.5), pool._crew.hear()))
        future = executor.submit(audio, settings, RATE, on_error="nan")
        assert np.isnan(future.result(20)[1, 1]).all()
        assert [(f.row, f.column) for f in executor.failures] == [(1, 1)]


def test_what_a_worker_uses_is_known():
    with Executor(lab_effect("Busy", passes=40), workers=1) as executor:
        executor.render(clips(4, t=200_000), draws(4, 4, 2), RATE)
        times = psutil.Process(executor._pool._workers[0].pid).cpu_times()
        assert executor.stats.cpu_seconds == pytest.approx(times.user + times.system, abs=0.05)
    with Executor(lab_effect("Gain"), workers=2) as executor:
        executor.render(clips(2), draws(2, 2, 2), RATE)
        total = executor.stats
        for worker in list(executor._pool._workers):
            os.kill(worker.pid, signal.SIGKILL)
        executor.render(clips(2), draws(2, 2, 2), RATE)
        assert executor.stats.renders == total.renders + 4 and executor.stats.cpu_seconds >= total.cpu_seconds


def test_a_single_worker_that_says_nothing(monkeypatch):
    """A worker for a stream that hangs where nobody watches is waited for no longer than patience."""
    from dafxhost.execution.arena import Arena
    from dafxhost.execution.process import WorkerFailedError

    arena = Arena(64 << 20)
    worker = WorkerProcess(arena)
    with pytest.raises(WorkerFailedError, match=r"no answer within 0.2 s"):
        worker.answer(b"?", 0.2)
    worker.close()
    arena.close()
