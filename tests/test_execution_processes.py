"""Processes around the executor: no orphans, forks, a light import, the arena's bookkeeping."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from dafxhost import Executor
from dafxhost.errors import UsageError
from dafxhost.execution.arena import PAGE, Arena
from lab_effects import lab_effect

HERE = Path(__file__).parent
PARENT = """
import sys
sys.path.insert(0, {here!r})
import numpy as np
from lab_effects import lab_effect
from dafxhost import Executor
executor = Executor(lab_effect({processor!r}), workers=2, deadline=60)
audio = np.zeros((4, 1, 100), np.float32)
executor.render(audio, np.zeros((4, 2)), 24000)
print(*[w.pid for w in executor._pool._workers], flush=True)
input()
{then}
"""
BUSY = "executor.render(audio, np.ones((4, 2)), 24000)"


def start(processor: str, then: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    script = PARENT.format(here=str(HERE), processor=processor, then=then)
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert parent.stdin is not None and parent.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    assert len(workers) == 2
    # It goes on only now: a worker that had ended could not be watched any more, and a second line that
    # came with the first would stay in readline's buffer, which communicate() does not see.
    parent.stdin.write("\n")
    parent.stdin.flush()
    return parent, workers


def gone(workers: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(workers, timeout=5)[1]


def finish(parent: subprocess.Popen[str]) -> tuple[int, str]:
    with parent:
        _, errors = parent.communicate(timeout=20)
    return parent.returncode, errors


@pytest.mark.parametrize("processor", ["Hang", "Sleeper"])
def test_no_orphans_when_the_parent_is_killed(processor):
    parent, workers = start(processor, BUSY)
    time.sleep(0.3)
    parent.kill()
    assert gone(workers)
    finish(parent)


def test_no_orphans_after_ctrl_c():
    parent, workers = start("Hang", BUSY)
    time.sleep(0.5)
    parent.send_signal(signal.SIGINT)
    assert gone(workers)
    code, errors = finish(parent)
    assert code == -signal.SIGINT and errors.rstrip().endswith("KeyboardInterrupt")


def test_a_program_that_never_closes_its_executor_ends():
    parent, workers = start("Gain", "")
    assert finish(parent) == (0, "")
    assert gone(workers)


def test_a_fork_cannot_use_it_and_does_it_no_harm():
    then = """
import os
child = os.fork()
if child == 0:
    try:
        executor.render(audio, np.zeros((4, 2)), 24000)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    executor.close()
    sys.exit(0)
os.waitpid(child, 0)
print(executor.render(audio, np.zeros((4, 2)), 24000).shape, flush=True)
"""
    parent, workers = start("Gain", then)
    with parent:
        out, errors = parent.communicate(timeout=20)
    assert out.splitlines() == [
        "UsageError an executor cannot be used in a forked process; make a new one there",
        "(4, 1, 100)",
    ], errors
    assert gone(workers)


def test_a_program_with_its_executor_at_the_top_needs_no_guard(tmp_path):
    """multiprocessing would import the script again in every worker; this does not."""
    script = tmp_path / "script.py"
    script.write_text(PARENT.format(here=str(HERE), processor="Gain", then="print('torch' in sys.modules)"))
    command = [sys.executable, str(script)]
    done = subprocess.run(command, input="\n", capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 and done.stdout.endswith("False\n")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one core only: nothing to spread over")
def test_workers_wait_each_on_a_core_of_its_own_and_render_on_any():
    """Woken on one core, two workers would take turns there for milliseconds while another core is idle."""
    cores = os.sched_getaffinity(0)
    with Executor(lab_effect("Inspect"), workers=len(cores)) as executor:
        wet = executor.render(np.zeros((64, 1, 100), np.float32), np.zeros((64, 2)), 24000)
        time.sleep(0.3)  # until they wait
        waiting = [os.sched_getaffinity(worker.pid) for worker in executor._pool._workers]
    assert set(wet[:, 0, 5]) == {len(cores)}
    assert sorted(min(places) for places in waiting) == sorted(cores)
    assert all(len(places) == 1 for places in waiting)


def test_regions_are_used_again_and_never_shared():
    arena = Arena(64 << 20)
    rng = np.random.default_rng(0)
    held: dict[int, tuple[np.ndarray, int]] = {}
    for i in range(300):
        size = int(rng.integers(1, 200_000))
        array = arena.region(size).array(np.uint8, (size,))
        array[:] = i % 251
        held[i] = array, i % 251
        for j in rng.choice(list(held), size=min(len(held), int(rng.integers(0, 3))), replace=False):
            held.pop(int(j))
        del array
    assert all((array == value).all() for array, value in held.values())
    held.clear()
    gc.collect()
    arena.region(1)
    assert len(arena._free) <= 2 and arena._in_use <= PAGE * 2
    arena.close()


def test_a_full_arena_says_so():
    arena = Arena(1 << 20)
    kept = arena.region(900_000)
    with pytest.raises(UsageError, match="render smaller batches"):
        arena.region(900_000)
    del kept
    arena.region(900_000)
    arena.close()


def test_large_released_regions_go_back_to_the_system():
    arena = Arena(2 << 30)
    region = arena.region(400 << 20)
    region.array(np.uint8, (400 << 20,))[:: 1 << 12] = 1
    before = os.stat(f"/proc/self/fd/{arena.fd}").st_blocks
    del region
    arena.region(PAGE)
    assert os.stat(f"/proc/self/fd/{arena.fd}").st_blocks < before / 10
    arena.close()


def test_where_an_array_lies():
    arena = Arena(1 << 20)
    array = arena.region(4096).array(np.float32, (4, 256))
    assert arena.offset_of(array[1:]) == arena.offset_of(array) + 1024
    assert arena.offset_of(array[:, ::2]) is None and arena.offset_of(np.zeros(4)) is None
    arena.close()
