"""The writer of self-contained pages: what it writes, and what it refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dafxhost.errors import OutputError, UsageError
from dafxhost.report.page import Page, check_report

NASTY = "<script>window.hurt = 1</script><img src=x onerror='window.hurt = 2'>\" & </style>"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


def made() -> Page:
    page = Page(f"A title {NASTY}", lead=NASTY)
    page.heading(NASTY)
    page.heading("Same words")
    page.heading("Same words", 3)
    page.paragraph(NASTY)
    page.code(f"dafxhost {NASTY}")
    page.facts([(NASTY, NASTY)])
    page.table(("name", "value"), [(NASTY, "1.0")], align="lr", caption=NASTY)
    page.figure('<?xml version="1.0"?><svg viewBox="0 0 10 10"><path d="M0 0h5"/></svg>', alt=NASTY)
    page.figure(PNG, alt="one point", caption=NASTY, plate=True)
    page.data("numbers", {"text": "</script>" + NASTY, "list": [1, 2.5]})
    page.script(
        "window.ran = JSON.parse(document.getElementById('numbers').textContent).list[1]; '</script>'"
    )
    page.raw("<script>window.hurt = 3</script>")  # not by script(): must not run
    return page


def test_a_page_in_a_browser(page: Any, tmp_path: Path) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    html = made().html()
    assert html.count("window.hurt = 3") == 1
    calm = html.replace("<script>window.hurt = 3</script>", "")  # its refusal would be logged as an error
    where = tmp_path / "out.html"
    where.write_text(calm, encoding="utf-8")
    page.goto(where.as_uri())
    assert page.evaluate("window.ran") == 2.5
    assert page.evaluate("window.hurt") is None
    assert page.title().startswith("A title <script>")
    assert page.locator("h1").inner_text() == page.title()
    assert page.locator("tbody th").inner_text() == NASTY
    assert page.locator("svg").get_attribute("aria-label") == NASTY
    assert page.locator("figure img").evaluate("i => i.naturalWidth") == 1
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids)) and "same-words-2" in ids
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def test_a_script_that_was_not_given_does_not_run(chromium: Any, tmp_path: Path) -> None:
    where = made().write(tmp_path / "out.html")
    opened = chromium.new_page()
    opened.goto(where.as_uri())
    assert opened.evaluate("[window.ran, window.hurt]") == [2.5, None]
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(page: Any, tmp_path: Path, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 390, "height": 800})
    wide = Page("w" * 200)
    wide.table(tuple("abcdefghij"), [tuple("a long enough cell" for _ in range(10))])
    wide.code("x" * 300)
    page.goto(wide.write(tmp_path / "out.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    contrast = """() => {
      const light = c => { const v = c.match(/[\\d.]+/g).slice(0, 3).map(x => x / 255)
        .map(x => x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
        return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
      const probe = document.body.appendChild(document.createElement('i'));
      const seen = name => { probe.style.color = `var(--${name})`;
        return light(getComputedStyle(probe).color); };
      const paper = seen('paper');
      return ['ink', 'muted', 'accent', 'good', 'bad', ...[1, 2, 3, 4, 5, 6].map(i => 'series-' + i)].map(n =>
        { const [a, b] = [seen(n), paper].sort((x, y) => y - x); return [n, (a + .05) / (b + .05)]; });
    }"""
    assert {name: ratio for name, ratio in page.evaluate(contrast) if ratio < 4.5} == {}


def test_requests_that_make_no_page(tmp_path: Path) -> None:
    page = Page("x")
    with pytest.raises(UsageError, match="2 cells"):
        page.table(("a", "b", "c"), [("1", "2")])
    with pytest.raises(UsageError, match="align"):
        page.table(("a", "b"), [], align="l")
    with pytest.raises(UsageError, match="alt"):
        page.figure("<svg></svg>", alt="")
    with pytest.raises(UsageError, match="no <svg"):
        page.figure("nothing", alt="x")
    with pytest.raises(UsageError, match="PNG"):
        page.figure(b"GIF89a", alt="x")
    with pytest.raises(UsageError, match="level"):
        page.heading("x", 7)


def test_where_a_report_cannot_go(tmp_path: Path) -> None:
    sound = tmp_path / "a.html"
    sound.write_text("kept")
    with pytest.raises(UsageError, match="its own"):
        check_report(tmp_path / "." / "a.html", sound)
    with pytest.raises(UsageError, match=r"ends in \.html"):
        check_report(tmp_path / "a.wav")
    with pytest.raises(OutputError, match="no folder"):
        check_report(tmp_path / "nowhere" / "a.html")
    (tmp_path / "b.html").mkdir()
    with pytest.raises(OutputError, match="folder"):
        check_report(tmp_path / "b.html")
    with pytest.raises(OutputError, match="cannot be written"):
        Page("x").write(tmp_path / "nowhere" / "a.html")
    with pytest.raises(OutputError, match="cannot be written"):
        Page("x").write(tmp_path / "b.html")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "b.html"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b"take-\xff.wav")
    assert "take-\\udcff.wav" in Page(name).write(tmp_path / "a.html").read_text(encoding="utf-8")
