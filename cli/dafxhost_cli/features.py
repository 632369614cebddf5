"""dafxhost features: hardness, depth, brightness and so on of recordings."""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dafxhost_cli.console import check_writable, note, result, result_json, table, write_text
from dafxhost_cli.options import Json, WorkersOption

if TYPE_CHECKING:
    from dafxhost.timbre.analysis import Analysis
    from dafxhost.timbre.files import FileFeatures


def features(
    places: Annotated[
        list[Path], typer.Argument(metavar="FILE|DIR...", help="Recordings, or folders of them.")
    ],
    only: Annotated[
        str | None, typer.Option("--only", help="Features wanted, with commas: depth,brightness")
    ] = None,
    select: Annotated[
        int, typer.Option("--select", help="Also choose so many features that say most about all.", min=0)
    ] = 0,
    excerpt: Annotated[
        float, typer.Option("--excerpt", help="Seconds from the middle of each file; 0 is all of it.", min=0)
    ] = 30.0,
    workers: WorkersOption = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write the table as CSV too.")] = None,
    as_json: Json = False,
) -> None:
    """Measure Audio Commons timbral features of recordings.

    Hardness, depth, brightness, roughness, warmth, sharpness, boominess and reverb; over several files also
    how they vary and which go together.
    """
    import numpy as np

    from dafxhost.timbre.analysis import analyse
    from dafxhost.timbre.features import FEATURES, checked_names
    from dafxhost.timbre.files import audio_files

    names = checked_names([n.strip() for n in only.split(",")] if only is not None else FEATURES)
    if select > len(names):
        from dafxhost.errors import UsageError

        raise UsageError(f"--select {select}: there are {len(names)} features to choose from")
    files = audio_files(places)
    if csv_file is not None:
        check_writable(csv_file)
    rows = _measure(files, names, excerpt, workers, live=not as_json)
    if csv_file is not None:
        write_text(csv_file, _as_csv(names, rows))
    values = [[row.values.get(name, float("nan")) for name in names] for row in rows if not row.error]
    analysis = analyse(names, np.array(values)) if len(values) > 1 else None
    chosen = analysis.select(select) if analysis is not None and select else []
    if as_json:
        result_json(_as_dict(rows, analysis, chosen))
    elif analysis is not None:
        _show_analysis(analysis, chosen)
    _close(rows)


def _measure(
    files: list[Path], names: tuple[str, ...], excerpt: float, workers: int | None, *, live: bool
) -> list[FileFeatures]:
    """Features of all files in their order; with `live`, a line each as soon as those before it are there."""
    from dafxhost.timbre.files import each_file
    from dafxhost_cli.progress import Display

    done: dict[int, FileFeatures] = {}
    began, shown, headed = time.monotonic(), 0, False
    width = max(len(str(f)) for f in files)
    with Display() as display:
        for i, row in each_file(files, names, excerpt=excerpt, workers=workers):
            done[i] = row
            while shown in done:
                if live and not done[shown].error:
                    if not headed:
                        result("  ".join([" " * (width - 4) + "file", *[f"{name:>10}" for name in names]]))
                    headed = True
                    result(_line(done[shown], names, width))
                shown += 1
            left = (time.monotonic() - began) / len(done) * (len(files) - len(done))
            display.show("measuring", len(done) / len(files), f"{len(done)}/{len(files)}, {left:.0f} s left")
    return [done[i] for i in range(len(files))]


def _line(row: FileFeatures, names: tuple[str, ...], width: int) -> str:
    cells = [f"{row.values[name]:10.2f}" if name in row.values else f"{'-':>10}" for name in names]
    return "  ".join([f"{row.path!s:>{width}}", *cells])


def _show_analysis(analysis: Analysis, chosen: list[Any]) -> None:
    rows = [
        (name, str(analysis.counts[i]), *[f"{x[i]:.2f}" for x in (
            analysis.means, analysis.deviations, analysis.deviations**2, analysis.lowest, analysis.highest)])
        for i, name in enumerate(analysis.names)
    ]  # fmt: skip
    result("")
    result(table(("feature", "files", "mean", "deviation", "variance", "lowest", "highest"), rows))
    result("")
    correlations = [
        (name, *[f"{r:+.2f}" for r in analysis.correlations[i]]) for i, name in enumerate(analysis.names)
    ]
    result(table(("correlation", *analysis.names), correlations))
    if chosen:
        result("")
        steps = [(c.name, f"{c.redundancy:.2f}", f"{c.explained:.2f}") for c in chosen]
        result(table(("chosen", "predicted by those before", "of all features' variance explained"), steps))


def _as_dict(rows: list[FileFeatures], analysis: Analysis | None, chosen: list[Any]) -> dict[str, Any]:
    files = [
        {"file": str(r.path), "values": r.values, "undefined": r.reasons, "error": r.error or None}
        for r in rows
    ]
    out: dict[str, Any] = {"files": files}
    if analysis is not None:
        out["analysis"] = analysis.to_dict()
    if chosen:
        out["selected"] = [
            {"feature": c.name, "redundancy": c.redundancy, "explained": c.explained} for c in chosen
        ]
    return out


def _as_csv(names: tuple[str, ...], rows: list[FileFeatures]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["file", *names, "undefined"])
    for row in rows:
        why = row.error or "; ".join(f"{name}: {reason}" for name, reason in row.reasons.items())
        writer.writerow([row.path, *[repr(row.values[n]) if n in row.values else "" for n in names], why])
    return text.getvalue()


def _close(rows: list[FileFeatures]) -> None:
    """Say what has no value, and fail if nothing has one."""
    from dafxhost.errors import AudioFileError

    for row in rows:
        for name, reason in row.reasons.items():
            note(f"{row.path}: {name} is undefined: {reason}")
        if row.error:
            note(f"left out: {row.error}")
    if all(row.error for row in rows):
        raise AudioFileError(f"none of the {len(rows)} files could be read; the reasons are above.")
