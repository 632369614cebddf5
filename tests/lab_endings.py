"""The ways in which the parent of busy workers may end, and what is left then.

Run as a script it is that parent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

from dafxhost import Executor
from lab_faults import HOSTS, RATE, audio, lab_effect_by
from lab_surroundings import MARK, kill, left_in_shared_memory, marked, shared_memory

ENDINGS = {  # the signal, and the exit status it must have
    "success": (None, 0),
    "failure": (None, 1),
    "ctrl-c": (signal.SIGINT, -signal.SIGINT),
    "sigterm": (signal.SIGTERM, -signal.SIGTERM),
    "sigkill": (signal.SIGKILL, -signal.SIGKILL),
}
KINDS = {"loop": "plugins that loop for ever", "fork": "plugins that left child processes, then loop"}


def run_ending(kind: str, ending: str, bundle: Path, folder: Path) -> list[str]:
    """Let a parent with one worker for each host end while all three hang; what was wrong with it."""
    number, status = ENDINGS[ending]
    mark = f"{kind}-{ending}-{os.getpid()}"
    shared = shared_memory()
    command = [sys.executable, __file__, kind, ending, str(bundle), str(folder)]
    environment = {**os.environ, MARK: mark}
    parent = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )
    assert parent.stdout is not None
    try:
        first = parent.stdout.readline()
        started = len(marked(mark))
        if number is not None and first:
            time.sleep(0.2)
            os.killpg(parent.pid, number)
        _, errors = parent.communicate("end\n", timeout=20)
    except subprocess.TimeoutExpired:
        parent.kill()
        errors = "the parent did not end"
        parent.communicate()
    found = [] if started >= 4 else [f"only {started} processes were started"]
    if parent.returncode != status:
        found.append(f"the parent's status is {parent.returncode}, not {status}: {errors[-800:]}")
    if ending == "failure" and "RenderError" not in errors:
        found.append(f"no RenderError: {errors[-800:]}")
    psutil.wait_procs(marked(mark), timeout=3)
    found += kill(mark)
    return found + left_in_shared_memory(shared)


def _parent(kind: str, ending: str, bundle: str, folder: str) -> None:
    signalled = ENDINGS[ending][0] is not None
    effects = [lab_effect_by(host, Path(bundle)) for host in HOSTS]
    deadline = 60 if signalled else 0.5
    executors = [Executor(e, workers=1, deadline=deadline, failure_dir=folder) for e in effects]
    clip = audio()[:1]
    quiet = [executor.submit(clip, executor.effect.setting()[None], RATE) for executor in executors]
    for future in quiet:
        future.result()
    if kind == "fork":
        for executor in executors:
            executor.render(clip, executor.effect.setting(fault="fork")[None], RATE)
    on_error = "raise" if ending == "failure" else "nan"
    looping = [executor.effect.setting(fault="loop")[None] for executor in executors]
    if kind == "loop" or signalled or ending == "failure":
        futures = [
            executor.submit(clip, rows, RATE, on_error=on_error)
            for executor, rows in zip(executors[1:], looping[1:], strict=True)
        ]
        time.sleep(0.2)
        print("busy", flush=True)
        executors[0].render(clip, looping[0], RATE, on_error=on_error)
        for future in futures:
            future.result()
    else:
        print("busy", flush=True)
        sys.stdin.readline()  # until it has been seen what there is
    # No executor is closed: the program just ends.


if __name__ == "__main__":
    _parent(*sys.argv[1:])
