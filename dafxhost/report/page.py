"""A writer of self-contained HTML pages: one file, no requests, light and dark, narrow and wide.

::

    page = Page("What the encoder hears", lead="mda-combo, 500 clips")
    page.heading("Clusters")
    page.paragraph("Each point is a clip.")
    page.table(("effect", "clips"), [("mda-combo", "250")], align="lr")
    page.figure(svg, alt="500 points in seven clusters", caption="UMAP of the embeddings.")
    page.script(javascript)
    page.write("out.html")

Every text given is escaped, except what `raw` takes. A Content-Security-Policy in the page forbids all
requests, and lets only those scripts run that `script` was given; a script inside `raw` does not run.

Drawings that should follow light and dark use the page's colours by `style="fill: var(--ink)"`: `--paper`,
`--plate` and `--sunk` (backgrounds), `--ink`, `--muted`, `--line`, `--accent`, `--good`, `--bad`, and
`--series-1` to `--series-6` for curves and points. A figure that has colours of its own is shown on white
with `plate=True`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

import dafxhost
from dafxhost.errors import OutputError, UsageError

Path_ = str | os.PathLike[str]
_ALIGN = {"l": "", "r": ' class="right"'}
_IMAGES = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg"}


@cache
def packaged(name: str) -> str:
    """The text of a file beside this module."""
    return files("dafxhost.report").joinpath(name).read_text(encoding="utf-8")


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address that needs no network, e.g. for kind "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


class Page:
    """Collects a page's parts, from top to bottom.

    Args:
        title: of the document, and its first heading. lead: a sentence under it.
    """

    def __init__(self, title: str, lead: str = "") -> None:
        self.title = title
        self._parts: list[str] = []
        self._styles: list[str] = [packaged("page.css")]
        self._scripts: list[str] = []
        self._anchors: set[str] = set()
        self.raw(f"<h1>{escape(title)}</h1>")
        if lead:
            self.raw(f'<p class="lead">{escape(lead)}</p>')

    def heading(self, text: str, level: int = 2) -> None:
        """A heading of level 2 to 4, with an anchor made of its words."""
        if level not in (2, 3, 4):
            raise UsageError(f"a heading has level 2, 3 or 4, not {level}")
        self.raw(f'<h{level} id="{self._anchor(text)}">{escape(text)}</h{level}>')

    def paragraph(self, text: str) -> None:
        self.raw(f"<p>{escape(text)}</p>")

    def code(self, text: str) -> None:
        """A command or another text in which spaces and lines count."""
        self.raw(f"<pre>{escape(text)}</pre>")

    def facts(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Names and what they are, one a line."""
        lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
        self.raw(f'<dl class="facts">{lines}</dl>')

    def table(
        self, head: Sequence[str], rows: Iterable[Sequence[str]], *, align: str = "", caption: str = ""
    ) -> None:
        """A table; the first cell of each row names it.

        Args:
            head: names of the columns. rows: texts, as many as `head` has.
            align: a letter a column, "l" or "r" (numbers); all left by default.
            caption: above the table.

        Raises:
            UsageError: a row, or `align`, of another length.
        """
        self.raw(table_html(head, [[escape(cell) for cell in row] for row in rows], align, caption))

    def figure(self, image: str | bytes, *, alt: str, caption: str = "", plate: bool = False) -> None:
        """A picture.

        Args:
            image: SVG as text, which becomes part of the page and may use its colours; or the bytes of an
                SVG, PNG or JPEG file, which stay an image of their own.
            alt: what it shows, for those who do not see it. caption: under it.
            plate: on white, for pictures that would not be readable on dark.

        Raises:
            UsageError: no alt text, or bytes of another format.
        """
        if not alt:
            raise UsageError("a figure needs an alt text: what does it show?")
        kind = ' class="plate"' if plate else ""
        under = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self.raw(f"<figure{kind}>{_image(image, alt)}{under}</figure>")

    def raw(self, html: str) -> None:
        """HTML as it is: whoever makes it has escaped what came from outside."""
        self._parts.append(html)

    def style(self, css: str) -> None:
        """CSS after the page's own; the same text is taken once."""
        if css not in self._styles:
            self._styles.append(css)

    def script(self, javascript: str) -> None:
        """A script, run when the page is there; the same text is taken once."""
        if javascript not in self._scripts:
            self._scripts.append(javascript)

    def data(self, name: str, value: Any) -> None:
        """JSON for scripts: `JSON.parse(document.getElementById(name).textContent)`."""
        self.raw(f'<script type="application/json" id="{escape(name)}">{script_json(value)}</script>')

    def html(self) -> str:
        """The whole page."""
        body = "\n".join(self._parts)
        scripts = "\n".join(f"<script>{_closed(text)}</script>" for text in self._scripts)
        return (
            "<!doctype html>\n"
            '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{self._policy()}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<meta name="generator" content="dafxhost {escape(dafxhost.__version__)}">\n'
            f'<title>{escape(self.title)}</title>\n<link rel="icon" href="data:,">\n'
            f"<style>{''.join(self._styles)}</style>\n</head>\n<body>\n<main>\n{body}\n"
            f"<footer>Made by dafxhost {escape(dafxhost.__version__)}. Everything is in this one file; it "
            f"asks no network for anything.</footer>\n</main>\n{scripts}\n</body>\n</html>\n"
        )

    def write(self, path: Path_) -> Path:
        """Write the page; it appears whole or not at all. Raises OutputError."""
        from dafxhost.settings import write_whole

        # A file's name may hold bytes that are no UTF-8; they are shown as escapes.
        return write_whole(Path(path), self.html().encode("utf-8", "backslashreplace"))

    def _anchor(self, text: str) -> str:
        words = "".join(c if c.isalnum() and c.isascii() else " " for c in text.lower()).split()
        stem = anchor = "-".join(words)[:60] or "section"
        number = 2
        while anchor in self._anchors:
            anchor, number = f"{stem}-{number}", number + 1
        self._anchors.add(anchor)
        return anchor

    def _policy(self) -> str:
        digests = (hashlib.sha256(_closed(text).encode()).digest() for text in self._scripts)
        allowed = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
        return (
            f"default-src 'none'; script-src {allowed or chr(39) + 'none' + chr(39)}; "
            "style-src 'unsafe-inline'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
        )


def table_html(head: Sequence[str], rows: Iterable[Sequence[str]], align: str = "", caption: str = "") -> str:
    """A table whose cells are HTML already; as `Page.table`. Raises UsageError."""
    align = align or "l" * len(head)
    if len(align) != len(head) or set(align) - set(_ALIGN):
        raise UsageError(f"align is {align!r}; it is one letter, l or r, for each of {len(head)} columns")
    kinds = [_ALIGN[letter] for letter in align]
    lines = []
    for row in rows:
        if len(row) != len(head):
            raise UsageError(f"a row has {len(row)} cells where the table has {len(head)} columns")
        cells = [f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], row[1:], strict=True)]
        lines.append(f'<tr><th scope="row"{kinds[0]}>{row[0]}</th>{"".join(cells)}</tr>')
    names = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>' for kind, name in zip(kinds, head, strict=True)
    )
    above = f"<caption>{escape(caption)}</caption>" if caption else ""
    # Where it is too wide for the screen it scrolls by itself, by keyboard too.
    label = escape(caption or " and ".join(name for name in head[:2] if name) or "table")
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>{above}<thead><tr>{names}'
        f"</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def script_json(value: Any) -> str:
    """JSON that may stand inside a script element, whatever texts it holds."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c").replace(">", "\\u003e")


def check_report(path: Path_, *others: Path_) -> Path:
    """See, before any work, that a report can be written at `path`.

    Args:
        others: files that are read or written by the same command.

    Raises:
        UsageError: it is one of `others`, or its name does not end in .html or .htm.
        OutputError: a folder is in the way, or its own folder is missing or read-only.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"{path}: a report is an HTML page; give it a name that ends in .html")
    for other in others:
        if path.resolve() == Path(other).resolve():
            raise UsageError(
                f"{path} is also the name of another file of this command; give the report its own."
            )
    if path.is_dir():
        raise OutputError(f"{path} cannot be written: it is a folder.")
    if not path.parent.is_dir():
        raise OutputError(f"{path} cannot be written: there is no folder {path.parent}.")
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path} cannot be written: its folder is read-only.")
    return path


def _image(image: str | bytes, alt: str) -> str:
    if isinstance(image, str):
        start = image.find("<svg")  # what stands before it (<?xml ...?>) has no place in HTML
        if start < 0:
            raise UsageError("a figure given as text is SVG; there is no <svg in it")
        label = f'<svg role="img" aria-label="{escape(alt)}"'
        return label + image[start + len("<svg") :]
    kind = next((kind for start, kind in _IMAGES.items() if image.startswith(start)), None)
    if kind is None and b"<svg" in image[:2000]:
        kind = "image/svg+xml"
    if kind is None:
        raise UsageError("a figure given as bytes is a PNG, JPEG or SVG file; this is none")
    return f'<img src="{data_uri(image, kind)}" alt="{escape(alt)}">'


def _closed(javascript: str) -> str:
    """The text so that no "</script" in it ends the element early."""
    return javascript.replace("</script", "<\\/script").replace("<!--", "<\\!--")
