"""dafxhost data render: a fixed set of examples on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dafxhost_cli.console import note, result, result_json
from dafxhost_cli.options import EFFECT_HELP, DataOption, Json, ProviderOption, SeedOption, WorkersOption

if TYPE_CHECKING:
    from dafxhost.data.fixed_set import SetReport
    from dafxhost.data.sources import AudioSource


def render_command(
    out: Annotated[
        Path, typer.Argument(help="Folder of the set: new, or to go on with.", show_default=False)
    ],
    effect: Annotated[str, typer.Option("--effect", help=EFFECT_HELP + ".")] = "mda-combo",
    examples: Annotated[int, typer.Option("--examples", help="How many in all.", min=1)] = 1000,
    data: DataOption = None,
    split: Annotated[str, typer.Option("--split", help="Files to use: train, validation or all.")] = "all",
    pairs: Annotated[
        str, typer.Option("--pairs", help="Kind of examples: ab, two-settings or parallel.")
    ] = "ab",
    settings: Annotated[
        str, typer.Option("--settings", help="How settings are drawn: uniform, even or presets.")
    ] = "uniform",
    presets: Annotated[
        Path | None, typer.Option("--presets", help="Folder of settings (.json) for --settings presets.")
    ] = None,
    augment: Annotated[
        str,
        typer.Option(
            "--augment", help='Changes of clips, as "speed, mixing, equaliser, tilt, gain, polarity".'
        ),
    ] = "",
    stretch_bank: Annotated[
        int,
        typer.Option(
            "--stretch-bank", help="Pieces at another pitch and tempo to draw half of the clips from.", min=0
        ),
    ] = 0,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of each clip.")] = 5.0,
    rate: Annotated[int, typer.Option("--rate", help="Sample rate, Hz.", min=8000)] = 44100,
    applied: Annotated[
        float, typer.Option("--applied", help="How often the effect is applied at all, 0..1.")
    ] = 1.0,
    form: Annotated[str, typer.Option("--format", help="webdataset, arrow or folder.")] = "webdataset",
    shard: Annotated[int, typer.Option("--shard", help="Examples in a shard.", min=1)] = 64,
    bits: Annotated[int, typer.Option("--bits", help="Of a sample: 32 (floating point) or 16.")] = 32,
    seed: SeedOption = 0,
    provider: ProviderOption = None,
    workers: WorkersOption = None,
    as_json: Json = False,
) -> None:
    """Write a fixed set of examples, in shards with checksums, for use elsewhere.

    Interrupt it as you like: the same command goes on after the last whole shard, and gives the same bytes.
    """
    from dafxhost.chains import canonical
    from dafxhost.data.examples import Examples
    from dafxhost.data.fixed_set import render_set
    from dafxhost.data.setting_draws import make_draw
    from dafxhost.errors import UsageError
    from dafxhost.execution.executor import Executor
    from dafxhost.registry import effect as find_effect
    from dafxhost.training.memory import keep_memory
    from dafxhost_cli.progress import Display

    if seconds <= 0:
        raise UsageError(f"clips of {seconds:g} s cannot be made")
    if presets is not None and settings == "uniform":
        settings = "presets"
    keep_memory()
    with (
        Display() as display,
        Executor(find_effect(canonical(effect), provider), workers=workers) as executor,
    ):
        source = _source(data, split, rate, augment, stretch_bank, seed, workers)
        folder = "" if presets is None else str(presets)
        made = Examples(
            source, executor, sample_rate=rate, samples=round(seconds * rate), pairs=pairs,
            draws=make_draw(settings, executor, rate, folder), apply_probability=applied,
        )  # fmt: skip
        facts = {"augment": augment, "stretch_bank": stretch_bank, "split": split}

        def progress(done: int, total: int) -> None:
            display.show("rendering", done / total, f"{done} of {total} examples")

        try:
            report = render_set(
                out,
                made,
                examples,
                seed=seed,
                form=form,
                shard=shard,
                bits=bits,
                facts=facts,
                progress=progress,
            )
        except KeyboardInterrupt:
            note(f"interrupted; whole shards are kept in {out}, and the same command goes on from there")
            raise typer.Exit(130) from None
    _show(report, as_json)


def _source(
    data: Path | None, split: str, rate: int, augment: str, stretch_bank: int, seed: int, workers: int | None
) -> AudioSource:
    from dafxhost.data.sources import open_source

    chosen: Any = split
    if data is None:
        from dafxhost.data.corpus import SyntheticCorpus

        source: AudioSource = SyntheticCorpus(rate, split=chosen)
    else:
        source = open_source(data, rate, chosen)
    if stretch_bank:
        from dafxhost.data.stretching import StretchedSource

        source = StretchedSource(source, rate, bank=stretch_bank, seed=seed, workers=workers)
    if augment:
        from dafxhost.training.augmentation import AugmentedSource

        source = AugmentedSource(source, augment)
    return source


def _show(report: SetReport, as_json: bool) -> None:
    for name in report.broken:
        note(f"{name} was not what had been written, and was made again")
    if as_json:
        result_json(
            {
                "folder": str(report.folder),
                "examples": report.examples,
                "shards": report.shards,
                "made": report.made,
                "kept": report.kept,
                "broken": report.broken,
                "counts": report.counts,
            }
        )
        return
    counts = report.counts
    refused = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()) if n and kind != "settings")
    result(f"{report.folder}: {report.examples} examples in {report.shards} shards")
    result(f"made now: {report.made} shards; found whole: {report.kept}")
    result(f"settings drawn: {counts.get('settings', 0)}" + (f" ({refused})" if refused else ""))
    result(f"check it with: cd {report.folder} && sha256sum -c SHA256SUMS")
