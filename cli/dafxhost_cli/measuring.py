"""dafxhost evaluate: how good a run is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dafxhost_cli import completion
from dafxhost_cli.console import check_writable, note, result, table, write_text
from dafxhost_cli.options import ExecutorOption, Json, ProviderOption, ReportOption, SeedOption, WorkersOption

if TYPE_CHECKING:
    from dafxhost.data.sources import AudioSource
    from dafxhost.training.evaluation import Evaluation
    from dafxhost_cli.progress import Display

OTHER_CORPUS = 1000
"""Seed of the synthetic corpus measured on: training's own validation pieces have decided its checkpoints."""


def evaluate(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="Run folder, or an effect whose controller comes with dafxhost.",
            autocompletion=completion.runs,
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Recordings it never heard: folder, data set, manifest; else synthetic."),
    ] = None,
    examples: Annotated[int, typer.Option("--examples", help="How many.", min=1)] = 1000,
    seed: SeedOption = 0,
    provider: ProviderOption = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = None,
    refine: Annotated[
        int, typer.Option("--refine", help="Also measure a search of so many renders an example.", min=0)
    ] = 0,
    search: Annotated[
        list[int] | None,
        typer.Option("--search", help="Also measure a search of so many renders alone; repeatable.", min=1),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", help='Names with commas: "default,pesq", "mel,crest", "all".'),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="grant: all at one peak; level-matched: at the target's RMS, where gain does not count.",
            autocompletion=completion.one_of("grant", "level-matched"),
        ),
    ] = "grant",
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs",
            help="ab: another performance is the reference; parallel: the same one; or two-settings.",
            autocompletion=completion.one_of("ab", "parallel", "two-settings"),
        ),
    ] = "ab",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a report in Markdown too.")
    ] = None,
    report: ReportOption = None,
    as_json: Json = False,
) -> None:
    """Measure a run on recordings it never heard.

    The controller beside the input left alone, random settings, one constant setting and the true one, by
    MR-STFT and other metrics; Grant's protocol unless another is asked for.
    """
    from dafxhost.data.pairs import pair_kind
    from dafxhost.execution.backends import check_kind
    from dafxhost.metrics import choose
    from dafxhost.run_folders import shipped_run
    from dafxhost.training.evaluation import evaluate as run_evaluation
    from dafxhost.training.protocols import find_protocol
    from dafxhost.training.runs import load_run
    from dafxhost_cli.progress import Display

    check_kind(executor or "processes")
    names = [name.strip() for name in metrics.split(",") if name.strip()] if metrics else None
    choose(names)  # these three before a run is loaded: a mistyped name is said at once
    find_protocol(protocol)
    pair_kind(pairs)
    if output is not None:
        check_writable(output)
    if report is not None:
        from dafxhost.report.page import check_report

        check_report(report, *([] if output is None else [output]))
    own = shipped_run(str(run)) if not run.exists() else None
    loaded = load_run(own or run)
    source = _source(data, loaded.sample_rate)
    note(f"run {run}, effect {loaded.effect_name}; {examples} examples of {source.description}, seed {seed}")
    with Display() as display:
        done = run_evaluation(
            loaded, source, examples, seed, provider=provider, workers=workers,
            executor=executor or "processes", refine=refine, search=search or (), metrics=names,
            protocol=protocol, pairs=pairs,
            progress=_Progress(display, loaded.samples / loaded.sample_rate),
        )  # fmt: skip
    if output is not None:
        write_text(output, done.to_markdown())
    if as_json:
        result(done.to_json())
    else:
        _show(done)
    if report is not None:  # last: nothing that was measured is lost, should it fail
        from dafxhost.report.evaluation import evaluation_report
        from dafxhost.report.provenance import command_line

        evaluation_report(done, loaded, source, command=command_line()).write(report)
        note(f"report: {report}")


def _source(data: Path | None, sample_rate: int) -> AudioSource:
    if data is None:
        from dafxhost.data.corpus import SyntheticCorpus

        return SyntheticCorpus(sample_rate, OTHER_CORPUS, "validation", bank=40)
    from dafxhost.data.dataset import open_dataset
    from dafxhost.data.sources import open_source

    dataset = open_dataset(data)
    # What a data set keeps for tests is what a run is measured on.
    return open_source(dataset, sample_rate, "test" if "test" in dataset.parts else "all")


class _Progress:
    """Shows how many examples are done; `clip` is the length of each in seconds."""

    def __init__(self, display: Display, clip: float) -> None:
        self._display, self._clip, self._began = display, clip, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        rate = done * self._clip / max(time.monotonic() - self._began, 1e-9)
        self._display.show("evaluating", done / total, f"{done}/{total} examples", audio_rate=rate)


def _show(done: Evaluation) -> None:
    """The main table, the other metrics, the parameters."""
    from dafxhost.training import results

    rows = [
        (
            r.name,
            f"{r.mean:.3f}",
            f"{r.low:.3f} to {r.high:.3f}",
            f"{r.median:.3f}",
            f"{r.ratio:.3f}",
            f"{r.ratio_low:.3f} to {r.ratio_high:.3f}",
        )
        for r in done.rows
    ]
    result(table(("MR-STFT", "mean", "95 %", "median", "of input alone", "95 %"), rows))
    others = [m for m in done.metrics if m["name"] != "mr-stft" and m["name"] in done.rows[0].metrics]
    if others:
        head = [
            f"{m['name']} {m['unit']}".strip() + (" ↑" if m["better"] == "higher" else "") for m in others
        ]
        result("")
        result(
            table(
                ("means (↑: more is better)", *head),
                [
                    (
                        r.name,
                        *(f"{r.metrics[m['name']].mean:.{results.digits_of(m['unit'])}f}" for m in others),
                    )
                    for r in done.rows
                ],
            )
        )
    result("")
    parameters = [
        (
            name,
            *(results.number(measures.get(m)) if m in measures else "" for m in results.MEASURES),
            "unidentifiable" if name in done.unidentifiable else "",
        )
        for name, measures in done.parameters.items()
    ]
    result(table(("parameter", *results.MEASURES, ""), parameters))
    if done.parameters:
        result(done.identification_text())
    for name, why in done.skipped.items():
        result(f"{name} not measured: {why}")
    failed = f", {done.failed} failed" if done.failed else ""
    result(f"\n{done.examples} examples, {done.applied} of them with the effect{failed}")
