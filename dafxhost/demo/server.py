"""Serving the demo: on this machine alone unless asked, with nothing fetched from or sent to anybody."""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dafxhost.demo.studio import Limits, Studio
from dafxhost.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
WAITING = 32
"""Requests that may wait for their turn."""


@dataclass(frozen=True)
class DemoOptions:
    """How the demo is served.

    Attributes:
        effect: chosen at first; "" for that of the newest run. runs_dir, provider: see `Studio`.
        host, port: where; None for the first free port from 7860 on.
        limits: of recordings. workers, deadline: of the plugins.
    """

    effect: str = ""
    runs_dir: Path = Path("runs")
    provider: str | None = None
    host: str = "127.0.0.1"
    port: int | None = None
    limits: Limits = field(default_factory=Limits)
    workers: int | None = None
    deadline: float = 60.0


def serve(options: DemoOptions, ready: Callable[[str], None], stop: threading.Event | None = None) -> None:
    """Serve until Ctrl-C, a termination signal, or until `stop` is set; then end plugins and delete files.

    Args:
        ready: called with the address when the page can be opened.
        stop: for callers that are no main program: no signal is handled then.

    Raises:
        UsageError: Gradio is not installed, or the port is taken. Those of `dafxhost.effect`, of `effect`.
    """
    if importlib.util.find_spec("gradio") is None:
        raise UsageError('the demo needs Gradio: pip install "dafxhost[demo]"')
    with tempfile.TemporaryDirectory(prefix="dafxhost-demo-", ignore_cleanup_errors=True) as folder:
        cache, files = Path(folder) / "gradio", Path(folder) / "users"
        cache.mkdir()
        files.mkdir()
        with (
            _environment(GRADIO_ANALYTICS_ENABLED="False", GRADIO_TEMP_DIR=str(cache), HF_HUB_OFFLINE="1"),
            Studio(
                files, cache=cache, runs_dir=options.runs_dir, limits=options.limits,
                provider=options.provider, workers=options.workers, deadline=options.deadline,
                named_only=options.host not in LOOPBACK,
            ) as studio,
        ):  # fmt: skip
            first = options.effect or studio.first()
            if first:
                studio.effect(first)  # a wrong name is said now, not on the page
            with _until(stop) as ended:
                page, address = _launch(studio, first, options)
                try:
                    ready(address)
                    while not ended.wait(0.5):
                        pass
                finally:
                    studio.close()  # first: renders that are still waited for end
                    page.close(verbose=False)


def _launch(studio: Studio, first: str, options: DemoOptions) -> tuple[Any, str]:
    from dafxhost.demo.app import build
    from dafxhost.demo.looks import CSS, theme

    page = build(studio, first)
    page.queue(max_size=WAITING, default_concurrency_limit=4)
    try:
        _, address, _ = page.launch(
            server_name=options.host, server_port=options.port, prevent_thread_lock=True, quiet=True,
            share=False, inbrowser=False, ssr_mode=False, enable_monitoring=False, run_history=False,
            pwa=False, mcp_server=False, footer_links=[], max_file_size=int(options.limits.megabytes * 1e6),
            theme=theme(), css=CSS,
        )  # fmt: skip
    except OSError as error:
        where = f"port {options.port}" if options.port else "a port from 7860 on"
        raise UsageError(f"{where} of {options.host} cannot be served; choose another with --port") from error
    return page, address


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Environment variables as Gradio reads them, put back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _until(stop: threading.Event | None) -> Iterator[threading.Event]:
    """An event that is set when the demo is to end: the caller's, or one that signals set."""
    if stop is not None:
        yield stop
        return
    ended = threading.Event()
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {kind: signal.signal(kind, lambda *_: ended.set()) for kind in kinds}
    try:
        yield ended
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
