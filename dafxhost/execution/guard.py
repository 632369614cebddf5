"""Seeing to it that nothing a plugin starts outlives its worker. Imported first by a worker, before numpy, so
that the guard stays small: standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1


def post() -> None:
    """Leave a child that kills this worker's process group when the worker has died, however it died.

    The executor does so itself as long as it lives; if its process is killed, the kernel kills the worker
    (PR_SET_PDEATHSIG), but not what the plugin has started. The guard is in the group itself, so that the
    group's number cannot be somebody else's by then.
    """
    worker, end = os.getpid(), signal.SIGTERM
    signal.pthread_sigmask(signal.SIG_BLOCK, {end})
    if os.fork():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {end})
        return
    try:
        os.closerange(0, os.sysconf("SC_OPEN_MAX"))
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, end)
        while os.getppid() == worker:
            signal.sigwait({end})
        os.killpg(worker, signal.SIGKILL)
    finally:
        os._exit(0)
