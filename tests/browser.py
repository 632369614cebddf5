"""A real browser for tests: Debian's chromium without a window, driven by playwright."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from hosting import need


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running `playwright.sync_api.Browser` that may play sound without a click; skips where there is
    none."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    need(found, "chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=found,
            args=["--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--mute-audio"],
        )
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any) -> Iterator[Any]:
    """A new page; whatever it logs as an error or raises fails the test at its end."""
    context = chromium.new_context()
    opened = context.new_page()
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
    yield opened
    context.close()
    assert not faults, f"the page reported errors: {faults}"
