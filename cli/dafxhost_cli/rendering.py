"""dafxhost render, dafxhost transfer: one recording in, one out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dafxhost_cli import completion
from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import EFFECT_HELP, Json, ProviderOption, ReportOption, StrengthOption

if TYPE_CHECKING:
    from dafxhost.style_transfer import TransferResult

Input = Annotated[
    Path, typer.Argument(metavar="INPUT", help="Recording to work on: wav, flac, ogg, mp3, aiff.")
]


def render(
    source: Input,
    effect: Annotated[
        str, typer.Option("--effect", help=EFFECT_HELP + ".", autocompletion=completion.effects)
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where the result goes.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter in its own unit; repeatable."),
    ] = None,
    provider: ProviderOption = None,
    as_json: Json = False,
) -> None:
    """Render a recording through an effect.

    Any length; the recording's own sample rate and channel count are kept.
    """
    import dafxhost
    from dafxhost.file_rendering import check_input, check_output, render_file

    fx = dafxhost.effect(effect, provider)
    setting = fx.setting(**_assignments(settings or []))
    check_output(check_input(source), output)
    with dafxhost.Executor(fx, workers=1) as executor:
        done = render_file(source, output, executor, setting)
    if as_json:
        result_json(
            {
                "output": str(done.path),
                "effect": fx.name,
                "provider": fx.provider.name,
                "setting": fx.describe(setting),
                "sample_rate": done.sample_rate,
                "channels": done.channels,
                "frames": done.frames,
                "clipped": done.clipped,
                "latency": done.latency,
            }
        )
    else:
        result(table(("parameter", "value"), fx.table(setting)))
        result(
            f"{done.path}: {done.frames / done.sample_rate:.2f} s, {done.sample_rate} Hz, {done.channels} ch"
        )
    if done.clipped:
        note(
            f"warning: {done.clipped} samples lie beyond full scale; lower the effect's output, or the input"
        )


def transfer(
    source: Input,
    reference: Annotated[
        Path, typer.Argument(metavar="REFERENCE", help="Recording that has the wanted sound.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Where the result goes [default: INPUT-transferred.wav]."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run", help="Run folder [default: the newest in ./runs].", autocompletion=completion.runs
        ),
    ] = None,
    effect: Annotated[
        str | None,
        typer.Option("--effect", help="Newest run of this effect.", autocompletion=completion.effects),
    ] = None,
    level: Annotated[
        str, typer.Option("--level", help="Level of the output: match-input, match-reference or plugin.")
    ] = "match-input",
    refine: Annotated[
        int,
        typer.Option(
            "--refine", help="Try so many settings around the controller's and take the nearest.", min=0
        ),
    ] = 0,
    strength: StrengthOption = 1.0,
    preset: Annotated[
        Path | None,
        typer.Option("--preset", help="Also write a preset for a DAW: .vstpreset, .lv2, .fxp or .fxb."),
    ] = None,
    report: ReportOption = None,
    provider: ProviderOption = None,
    as_json: Json = False,
) -> None:
    """Make one recording sound like another.

    Uses a run that `dafxhost train` made. Writes the audio, and the setting as JSON beside it, which
    `dafxhost apply` uses on other recordings and `dafxhost preset` makes a preset of.
    """
    from dafxhost.style_transfer import transfer as run_transfer

    if output is None:
        output = source.with_name(f"{source.stem}-transferred.wav")
    if report is not None:
        from dafxhost.report.page import check_report

        beside = output.with_name(output.name + ".json")
        check_report(report, source, reference, output, beside, *([] if preset is None else [preset]))
    from dafxhost_cli.progress import Display

    with Display() as display:
        done = run_transfer(
            source,
            reference,
            output=output,
            run=run,
            effect=effect,
            level=level,
            provider=provider,
            refine=refine,
            strength=strength,
            preset=preset,
            progress=lambda tried, score: display.show(
                "refining", tried / max(refine, 1), f"{tried}/{refine} settings, score {score:.3f}"
            ),
            say=display.line,
        )
    if as_json:
        result_json({**done.to_dict(), **({} if report is None else {"report": str(report)})})
    else:
        _show_transfer(done)
    if report is not None:  # last: what was rendered is there, should it fail
        _report(done, source, reference, report)
        note(f"report: {report}")
    if done.clipped:
        note(f"warning: {done.clipped} samples lie beyond full scale; --level match-input avoids it")


def _report(done: TransferResult, source: Path, reference: Path, path: Path) -> None:
    from dafxhost.report.provenance import command_line
    from dafxhost.report.transfer import transfer_report

    transfer_report(done, source, reference, command=command_line()).write(path)


def _show_transfer(done: TransferResult) -> None:
    result(table(("parameter", "value"), _with_intervals(done)))
    result("")
    result(
        f"distance to the reference (log-mel statistics): {done.distance_before:.2f} dB before, "
        f"{done.distance_after:.2f} dB after"
    )
    if done.uncertainty and done.table != _with_intervals(done):
        result(_of_intervals(done))
    if done.refined is not None:
        result(_refined(done.refined))
    result(f"level: {done.level_text}")
    result(f"audio: {done.output}")
    result(f"setting: {done.json_path}")
    if done.preset is not None:
        result(f"preset: {done.preset}")


def _with_intervals(done: TransferResult) -> list[tuple[str, str]]:
    """Rows of the table, "0.62 (48 to 80 %)", as long as the setting is the controller's own answer."""
    if done.refined is not None or done.strength != 1.0:
        return done.table
    return [(name, f"{text} ({done.uncertainty[name]['text']})") for name, text in done.table]


def _of_intervals(done: TransferResult) -> str:
    first = next(iter(done.uncertainty.values()))
    how = "calibrated on validation examples" if first["calibrated"] else "not calibrated"
    return f"in brackets: where the controller puts {100 * first['level']:.0f} % of the probability ({how})"


def _refined(found: dict[str, Any]) -> str:
    before, after = (
        "no score" if value is None else f"{value:.3f}"
        for value in (found["score_before"], found["score_after"])
    )
    ended = ", ended by Ctrl-C" if found["interrupted"] else ""
    return (
        f"refined: {found['settings_tried']} settings tried{ended}, score {before} before, {after} after "
        "(1: as far as the input alone)"
    )


def _assignments(pairs: list[str]) -> dict[str, str]:
    """["drive=0.7"] -> {"drive": "0.7"}. Raises UsageError."""
    from dafxhost.errors import UsageError

    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not (name and equals and value):
            raise UsageError(f"--set {pair!r}: write it as NAME=VALUE, for example --set drive=0.7")
        if name in values:
            raise UsageError(f"--set {name} is given twice")
        values[name] = value
    return values
