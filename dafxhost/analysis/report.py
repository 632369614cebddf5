"""What an analysis leaves: a page, its pictures as PNG and SVG, figures as JSON, vectors as .npz."""

from __future__ import annotations

import io
import json
import os
import struct
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dafxhost.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dafxhost.analysis.analysing import Analysis
    from dafxhost.analysis.probes import Probe
    from dafxhost.analysis.style import Picture
    from dafxhost.analysis.subjects import Subject
    from dafxhost.report.page import Page

SHARPNESS = 1.4
"""Pixels of a picture for one of the page, at most."""
PAGE, FIGURES, VECTORS = "index.html", "figures.json", "embeddings.npz"
_STYLE = """
.pictures { overflow-x: auto; }
.pictures img { display: block; width: 100%; min-width: 30rem; height: auto; border-radius: 8px; }
"""
_SECTIONS = {
    "embeddings": (
        "Clusters",
        "Every point is a clip through an effect at a random setting (of latents, a patch of one). All "
        "effects had the same clips. PCA keeps distances as they are; UMAP keeps neighbours, and distances "
        "between its clusters mean little.",
    ),
    "latents": (
        "Latents",
        "A latent that costs no divergence carries nothing. How many carry something is decided by the "
        "data and by beta, not by the latent size, once that is large enough: train with more than are "
        "used, count those that carry something, and take that size.",
    ),
    "traversals": ("Traversals", ""),
    "reconstruction": ("Reconstructions", ""),
    "training": ("Training", ""),
}


def check_folder(folder: Path) -> None:
    """See, before any work, that `folder`, which need not exist, can be written to. Raises OutputError."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file; give a folder with --out")
    near = folder
    while not near.exists():
        near = near.parent
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise OutputError(
            f"nothing can be written into {folder}: {near} is read-only; choose another with --out"
        )


def figures(subject: Subject, analysis: Analysis, about: dict[str, Any]) -> dict[str, Any]:
    """Everything measured, as JSON can hold it."""
    found = analysis.latents
    seen = analysis.seen
    return {
        "subject": subject.title,
        **about,
        "effects": {name: int((seen.index == i).sum()) for i, name in enumerate(seen.labels)},
        "recordings": len(set(seen.names)),
        "effect_probes": [c.probe.to_dict() for c in analysis.classified],
        "parameter_probes": [p.to_dict() for p in analysis.parameters],
        "reconstruction": analysis.reconstruction or None,
        "latents": None
        if found is None
        else {
            "size": found.size,
            "active": found.active,
            "carrying": found.carrying,
            "carry_99_percent": found.recommended,
            "advice": found.advice(),
            "divergence": None if found.divergence is None else _rounded(found.divergence),
            "mean_variance": _rounded(found.spread),
            "output_variance": None if found.output is None else _rounded(found.output),
            "kept": list(found.kept),
            "explained_by_kept": _rounded(np.array(found.explained)),
        },
        "notes": [*subject.notes, *analysis.notes],
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{v:.5g}") for v in values]


def write(folder: Path, subject: Subject, analysis: Analysis, measured: dict[str, Any]) -> list[Path]:
    """Write everything into `folder`, the page last. Raises OutputError."""
    from dafxhost.settings import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
    written = []
    for picture in (p for section in analysis.pictures.values() for p in section):
        written.append(write_whole(folder / f"{picture.name}.png", picture.light))
        written.append(write_whole(folder / f"{picture.name}.svg", picture.svg))
    text = json.dumps(measured, indent=2, ensure_ascii=False) + "\n"
    written.append(write_whole(folder / FIGURES, text.encode()))
    written.append(write_whole(folder / VECTORS, _vectors(analysis)))
    written.append(page(subject, analysis, measured).write(folder / PAGE))
    return written


def _vectors(analysis: Analysis) -> bytes:
    """Arrays by name; settings are filled with NaN to one width. No pickles."""
    seen = analysis.seen
    width = max(len(s) for s in seen.settings)
    settings = np.full((len(seen), width), np.nan)
    for row, setting in zip(settings, seen.settings, strict=True):
        row[: len(setting)] = setting
    arrays = {
        "effect": np.array(seen.labels)[seen.index],
        "recording": np.array(seen.names),
        "setting": settings,
        "clean": seen.clean.astype(np.float32),
        "processed": seen.processed.astype(np.float32),
        **{f"feature_{k}": v for k, v in seen.features.items()},
        **{f"{s.key}_{p.name}_{n}d".lower(): x for s in analysis.spaces for p in s.projections
           for n, x in p.points.items()},
        **{f"{s.key}_row": s.rows for s in analysis.spaces if s.rows is not None},
    }  # fmt: skip
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def page(subject: Subject, analysis: Analysis, measured: dict[str, Any]) -> Page:
    """The page."""
    from dafxhost.analysis.canvas import add_cloud
    from dafxhost.report.page import Page

    out = Page(f"Analysis of {subject.title}", lead=_lead(analysis))
    out.style(_STYLE)
    seen = analysis.seen
    out.facts(
        [
            *subject.about,
            ("data", str(measured["data"])),
            ("examples", f"{len(seen)} of {len(set(seen.names))} recordings, seed {measured['seed']}"),
            ("effects", ", ".join(seen.labels)),
            ("took", f"{measured['seconds']:.0f} s"),
        ]
    )
    if analysis.classified or analysis.parameters:
        _probes(out, analysis)
    for section, (title, text) in _SECTIONS.items():
        pictures = analysis.pictures.get(section, [])
        if not pictures:
            continue
        out.heading(title)
        if text:
            out.paragraph(text)
        if section == "embeddings":
            add_cloud(out, analysis.views(), analysis.colourings)
        if section == "latents" and analysis.latents is not None:
            out.paragraph(analysis.latents.advice())
        for picture in pictures:
            _figure(out, picture, caption=section != "latents")
    if measured["notes"]:
        out.heading("What is not here, and why")
        out.raw(f"<ul>{''.join(f'<li>{escape(note)}</li>' for note in measured['notes'])}</ul>")
    return out


def _lead(analysis: Analysis) -> str:
    best = [c.probe for c in analysis.classified if c.probe.source != "clean"]
    if not best:
        return f"{len(analysis.seen)} examples of {', '.join(analysis.seen.labels)}."
    top = max(best, key=lambda p: p.value)
    return (
        f"On unseen recordings the effect is recognised in {100 * top.value:.0f} % of the examples; "
        f"chance is {100 * top.chance:.0f} %."
    )


_SOURCES = {
    "processed": "processed clip",
    "difference": "processed minus clean",
    "clean": "clean clip (control)",
}
_KINDS = {"linear": "linear probe", "forest": "random forest"}


def _probes(out: Page, analysis: Analysis) -> None:
    out.heading("What can be read from the embeddings")
    out.paragraph(
        "Cross-validated by recording: a clip is judged by probes that never met its recording. Chance is "
        "what the most frequent answer, or the mean, reaches in the same folds. The intervals hold 95 %, "
        "recordings being drawn whole. The clean clip is a control: it cannot know the effect."
    )
    if analysis.classified:
        rows = [
            (
                _SOURCES[p.source],
                _KINDS[p.probe],
                f"{100 * p.value:.1f} %",
                _between(p, 100),
                f"{100 * p.chance:.1f} %",
            )
            for p in (c.probe for c in analysis.classified)
        ]
        out.table(("effect, from the", "by", "right", "95 %", "chance"), rows, align="llrrr")
    for picture in analysis.pictures.get("probes", []):
        _figure(out, picture)
    if analysis.parameters:
        out.table(("parameter", "measure", "linear probe", "random forest", "chance", "examples"),
                  _parameter_rows(analysis.parameters), align="llrrrr")  # fmt: skip


def _parameter_rows(probes: Sequence[Probe]) -> list[tuple[str, ...]]:
    rows = []
    for target in dict.fromkeys(p.target for p in probes):
        by = {p.probe: p for p in probes if p.target == target}
        one = next(iter(by.values()))
        values = [f"{by[k].value:.2f} ({_between(by[k])})" if k in by else "" for k in _KINDS]
        rows.append(
            (
                target,
                "R²" if one.measure == "R2" else "accuracy",
                *values,
                f"{one.chance:.2f}",
                str(one.examples),
            )
        )
    return rows


def _between(probe: Probe, scale: float = 1.0) -> str:
    digits = 1 if scale > 1 else 2
    return f"{scale * probe.low:.{digits}f} to {scale * probe.high:.{digits}f}"


def _figure(out: Page, picture: Picture, *, caption: bool = True) -> None:
    from dafxhost.report.page import data_uri

    width, height = struct.unpack(">II", picture.light[16:24])  # where PNG files have them
    under = f"<figcaption>{escape(picture.caption)}</figcaption>" if caption else ""
    out.raw(
        f'<figure><div class="pictures" role="region" tabindex="0" aria-label="{escape(picture.alt)}">'
        "<picture>"
        f'<source media="(prefers-color-scheme: dark)" srcset="{data_uri(picture.dark, "image/png")}">'
        f'<img src="{data_uri(picture.light, "image/png")}" alt="{escape(picture.alt)}" width="{width}" '
        f'height="{height}" style="max-width: {round(width / SHARPNESS)}px"></picture></div>{under}</figure>'
    )
