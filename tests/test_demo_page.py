"""The demo as typed, in a real browser: `dafxhost demo`, two users, Ctrl-C."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import soundfile

from command_line import make_run
from test_demo import recording

pytest.importorskip("gradio", reason="the demo's extra is not installed")
pytestmark = pytest.mark.slow
RESULT = "#result a.download-link"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, subprocess.Popen[str], Path]]:
    """(address, folder with recordings, the process, its folder for temporary files)"""
    folder = tmp_path_factory.mktemp("page")
    recording(folder / "voice.wav", 1.5)
    recording(folder / "wanted.wav", 2.0, seed=2)
    (folder / "wrong.wav").write_text("no sound")
    (folder / "runs").mkdir()
    make_run(folder / "runs")
    temporary = folder / "tmp"
    temporary.mkdir()
    options = ("--provider", "builtin", "--workers", "1", "--max-seconds", "30")
    paths = os.pathsep.join([*sys.path, os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "dafxhost_cli.main", "demo", *options],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(temporary)},
    )
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    yield address, folder, process, temporary
    process.kill()
    process.communicate()


def renewed(page: Any, act: Callable[[], object]) -> str:
    """The address of the result after it changed."""
    find = f"document.querySelector('{RESULT}')?.href"
    before = page.evaluate(find)
    act()
    page.wait_for_function(f"old => {{const now = {find}; return now && now !== old}}", arg=before)
    return page.evaluate(find)


def drop(page: Any, role: str, path: Path, words: str) -> None:
    page.set_input_files(f"#{role} input[type=file]", path)
    page.wait_for_function("w => document.querySelector('#status').innerText.includes(w)", arg=words)


def seconds(page: Any, address: str) -> float:
    return soundfile.info(io.BytesIO(page.request.get(address).body())).duration


def table(page: Any) -> dict[str, str]:
    lines = page.inner_text("#setting").strip().splitlines()
    return dict(line.split("\t", 1) for line in lines)


def saved(page: Any, button: str) -> Path:
    with page.expect_download() as waiting:
        page.click(button)
    return waiting.value.path()


def test_the_page(page: Any, demo: tuple[str, Path, subprocess.Popen[str], Path]) -> None:
    address, folder, _, _ = demo
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), demo[2].stderr
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.set_default_timeout(60_000)
    page.goto(address)
    page.wait_for_selector("#knob-drive")
    drop(page, "input", folder / "voice.wav", "voice.wav: 1.5 s, 16000 Hz, mono")
    drop(page, "reference", folder / "wanted.wav", "wanted.wav: 2.0 s")

    matched = renewed(page, lambda: page.click("#match"))
    assert seconds(page, matched) == 1.5
    assert "set by the controller of mda-combo-" in page.inner_text("#status")
    page.wait_for_function(
        "document.querySelector('#result #duration')?.innerText === '0:02'"
    )  # it is decoded
    setting = table(page)
    shown = page.input_value("#knob-drive input[type=number]")
    assert setting["drive"].split(" ")[0] == shown

    def turn() -> None:
        page.fill("#knob-drive input[type=number]", "0.93")
        page.keyboard.press("Tab")

    turned = renewed(page, turn)
    assert table(page) == {**setting, "drive": "0.93 (86 %)"}
    page.wait_for_function("document.querySelector('#knob-drive').innerText.includes('0.93 (86 %)')")
    assert not page.request.get(matched).ok  # only the newest render is kept
    assert seconds(page, turned) == 1.5

    page.click("#map-part button >> nth=0")
    page.fill("#map-part input[type=number]", "50")
    page.keyboard.press("Tab")
    page.click("#draw")
    page.wait_for_selector("#map svg circle")
    assert page.locator("#map svg circle").count() == 50
    dot = page.locator("#map svg circle").nth(7)
    title = dot.evaluate("dot => dot.textContent")  # "model " and its value
    clicked = renewed(page, lambda: dot.click(force=True))
    assert seconds(page, clicked) == 1.5 and page.locator("#map svg .chosen").count() == 1
    assert "model " + table(page)["model"] == title
    page.wait_for_function(
        "w => document.querySelector('#knob-drive').innerText.includes(w)", arg=table(page)["drive"]
    )

    assert soundfile.info(saved(page, "#save-audio")).frames == 24000
    kept = json.loads(saved(page, "#save-json").read_text())
    assert kept["effect"] == "mda-combo" and kept["native"]["model"] == table(page)["model"]

    page.click("#compare-part button >> nth=0")
    page.click("#compare")
    page.wait_for_selector(".compare iframe")
    inside = page.frame_locator(".compare iframe")
    inside.locator("h1").wait_for()
    assert inside.locator(".versions > *").count() >= 3
    assert page.evaluate("document.fonts.size") == 0 or not any("font" in url for url in asked)
    away = [u for u in asked if not u.startswith((address, "data:", "blob:", "about:"))]
    assert away == []


def test_a_wrong_file_and_another_user(
    chromium: Any, demo: tuple[str, Path, subprocess.Popen[str], Path]
) -> None:
    address, folder, _, temporary = demo
    contexts = [chromium.new_context(viewport={"width": 390, "height": 800}) for _ in range(2)]
    one, two = (context.new_page() for context in contexts)
    for page in (one, two):
        page.goto(address)
        page.wait_for_selector("#knob-drive")
    drop(one, "input", folder / "voice.wav", "1.5 s")
    drop(two, "input", folder / "wrong.wav", "wrong.wav cannot be read as audio")
    assert two.evaluate("document.documentElement.scrollWidth") <= 390
    two.click("#match")
    two.wait_for_selector(".toast-body >> text=drop in an input first")  # not the other's
    drop(two, "input", folder / "wanted.wav", "2.0 s")
    heard = renewed(one, lambda: one.check("#knob-stereo input"))
    assert seconds(one, heard) == 1.5 and table(one)["stereo"] == "on"
    heard = renewed(two, lambda: two.fill("#strength input[type=number]", "0.5"))
    assert seconds(two, heard) == 2.0 and table(two)["stereo"] == "off"
    users = next(temporary.glob("dafxhost-demo-*/users"))
    assert len(list(users.glob("*/*.wav"))) >= 4
    for context in contexts:
        context.close()


def test_ctrl_c_ends_everything(page: Any, demo: tuple[str, Path, subprocess.Popen[str], Path]) -> None:
    address, folder, process, temporary = demo
    page.goto(address)
    page.wait_for_selector("#knob-drive")
    drop(page, "input", folder / "voice.wav", "1.5 s")
    renewed(page, lambda: page.check("#knob-stereo input"))  # its plugin is loaded
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    page.goto("about:blank")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0 and err == "starting; Ctrl-C ends it\n"
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and len(gone) == len(children)
    assert list(temporary.glob("dafxhost-demo-*")) == []
