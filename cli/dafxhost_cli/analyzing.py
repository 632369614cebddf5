"""dafxhost analyze: pictures and figures of what an encoder hears."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import DataOption, Json, SeedOption, WorkersOption

if TYPE_CHECKING:
    from dafxhost.analysis.analysing import Analysis
    from dafxhost.data.sources import AudioSource
    from dafxhost_cli.progress import Display

RENDERING = 0.6
"""Share of the time that rendering and embedding take, for the bar."""
EXAMPLES = 40


def analyze(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run folder, encoder weights, or the name of an encoder.")
    ],
    data: DataOption = None,
    effects: Annotated[
        str | None,
        typer.Option(
            "--effects", help="Names, separated by commas [default: the nine mda effects of the paper]."
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", help="Clips, each through every effect.", min=1)
    ] = EXAMPLES,
    colours: Annotated[
        list[str] | None,
        typer.Option(
            "--colour", help="What pictures are coloured by: effect, EFFECT.PARAMETER, centroid, ..."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write into [default: RUN/analysis].")
    ] = None,
    no_umap: Annotated[
        bool, typer.Option("--no-umap", help="PCA only; UMAP takes half of the time.")
    ] = False,
    seed: SeedOption = 0,
    workers: WorkersOption = None,
    as_json: Json = False,
) -> None:
    """Analyse what an encoder hears.

    Renders clips through effects, embeds them, and writes a page with PCA, UMAP, probes, latents,
    reconstructions and training curves; its pictures as PNG and SVG too.
    """
    from dafxhost.analysis.extras import require

    require()
    from dafxhost.analysis.analysing import analyse
    from dafxhost.analysis.observing import find_effects, observe
    from dafxhost.analysis.reconstruction import Reconstructor
    from dafxhost.analysis.report import PAGE, check_folder, figures, write
    from dafxhost.analysis.subjects import load_subject
    from dafxhost_cli.progress import Display

    began = time.monotonic()
    subject = load_subject(run)
    folder = subject.folder() if out is None else out
    check_folder(folder)
    found, notes = find_effects(_names(effects), subject.effect)
    source = _source(data, subject.sample_rate)
    wanted = list(dict.fromkeys(colours or ["effect"]))
    _check_colours(wanted, found)
    note(
        f"{subject.title}: {examples} clips of {source.description}, through {len(found)} effects, "
        f"seed {seed}"
    )
    reconstructor = Reconstructor(subject.encoder)
    try:
        with Display() as display:
            progress = _Progress(display)
            seen = observe(
                subject.encoder, found, source, examples, sample_rate=subject.sample_rate, seed=seed,
                workers=workers, reconstructor=reconstructor, progress=progress.rendered,
            )  # fmt: skip
            seen.notes[:0] = notes
            analysis = analyse(
                seen, reconstructor, log=subject.log, colours=wanted, with_umap=not no_umap, seed=seed,
                say=progress.say,
            )  # fmt: skip
    except KeyboardInterrupt:
        note(f"interrupted; nothing was written into {folder}")
        raise typer.Exit(130) from None
    about = {
        "data": source.description, "seed": seed, "examples": len(seen), "clips": examples,
        "encoder": subject.encoder.name, "embedding_size": subject.encoder.embedding_size,
        "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip
    measured = figures(subject, analysis, about)
    write(folder, subject, analysis, measured)
    for text in measured["notes"]:
        note(text)
    if as_json:
        result_json({**measured, "page": str(folder / PAGE)})
    else:
        _show(analysis)
        result(f"page: {folder / PAGE}")


def _names(effects: str | None) -> list[str] | None:
    """Of `--effects`; a chain keeps its own signs."""
    from dafxhost.errors import UsageError

    if effects is None:
        return None
    names = [name.strip() for name in effects.split(",") if name.strip()]
    if not names:
        raise UsageError("--effects names no effect; give names separated by commas")
    return names


def _source(data: Path | None, sample_rate: int) -> AudioSource:
    if data is None:
        from dafxhost.data.corpus import SyntheticCorpus
        from dafxhost_cli.measuring import OTHER_CORPUS

        return SyntheticCorpus(sample_rate, OTHER_CORPUS, "validation", bank=20)
    from dafxhost.data.sources import FolderSource

    return FolderSource(data, sample_rate)


def _check_colours(wanted: list[str], found: list[Any]) -> None:
    """Raise UnknownNameError now rather than after the work."""
    from dafxhost.analysis.sound import UNITS
    from dafxhost.errors import UnknownNameError

    full = [f"{effect.name}.{p.name}" for effect in found for p in effect.parameters]
    known = {"effect", *UNITS, *full, *(name.rpartition(".")[2] for name in full)}
    for name in wanted:
        if name not in known:
            raise UnknownNameError("colour", name, ["effect", *UNITS, *full])


class _Progress:
    """A bar where there is a terminal, else a line every half minute."""

    def __init__(self, display: Display) -> None:
        self._display, self._next = display, time.monotonic() + 30

    def rendered(self, effect: str, done: int, total: int) -> None:
        self._show("rendering", RENDERING * done / total, f"{effect}, {done}/{total} examples")

    def say(self, what: str, done: float) -> None:
        self._show(what, RENDERING + (1 - RENDERING) * done, "")

    def _show(self, phase: str, fraction: float, text: str) -> None:
        self._display.show(phase, fraction, text)
        if time.monotonic() > self._next:
            self._next = time.monotonic() + 30
            if not self._display.live:
                self._display.line(f"{phase}: {text}" if text else phase)


def _show(analysis: Analysis) -> None:
    rows = [
        (p.source, p.probe, f"{p.value:.3f}", f"{p.low:.3f} to {p.high:.3f}", f"{p.chance:.3f}")
        for p in (c.probe for c in analysis.classified)
    ]
    if rows:
        result(table(("effect recognised from", "probe", "accuracy", "95 %", "chance"), rows))
        result("")
    if analysis.reconstruction:
        r = analysis.reconstruction
        result(
            f"variance explained: {r['explained']:.3f}; RMSE {r['rmse']:.3g}, of a constant "
            f"{r['constant_rmse']:.3g}"
        )
    if analysis.latents is not None:
        result(analysis.latents.advice())
