"""dafxhost train: long work, with what it is doing on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dafxhost_cli import completion
from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import (
    EFFECT_HELP,
    DataOption,
    ExecutorOption,
    Json,
    ProviderOption,
    ReportOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from dafxhost.training.config import TrainConfig
    from dafxhost.training.trainer import TrainResult
    from dafxhost_cli.progress import Display

RESUMABLE = ("max_minutes", "device", "workers", "track")


def train(
    effect: Annotated[
        str | None,
        typer.Option(
            "--effect", help=EFFECT_HELP + " [default: mda-combo].", autocompletion=completion.effects
        ),
    ] = None,
    effects: Annotated[
        str | None,
        typer.Option(
            "--effects", help="One controller for several effects, with commas between them.", metavar="A,B"
        ),
    ] = None,
    data: DataOption = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="When training ends at the latest [default: 8].")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu or cuda [default: cpu].")] = None,
    encoder: Annotated[
        str | None,
        typer.Option("--encoder", help="Name of the audio encoder.", autocompletion=completion.encoders),
    ] = None,
    encoder_weights: Annotated[
        Path | None, typer.Option("--encoder-weights", help="Weights file for the encoder.")
    ] = None,
    estimator: Annotated[
        str | None,
        typer.Option(
            "--estimator", help="Name of the gradient estimator.", autocompletion=completion.estimators
        ),
    ] = None,
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            help="Where gradients are estimated: loss or signal.",
            autocompletion=completion.one_of("loss", "signal"),
        ),
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(
            "--pairs",
            help="Kind of examples: ab, two-settings or parallel [default: ab].",
            autocompletion=completion.one_of("ab", "two-settings", "parallel"),
        ),
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings",
            help="How settings are drawn: uniform, even or presets [default: uniform].",
            autocompletion=completion.one_of("uniform", "even", "presets"),
        ),
    ] = None,
    presets: Annotated[
        Path | None,
        typer.Option(
            "--presets", help="Folder of settings (.json) for --settings presets; else the plugin's own."
        ),
    ] = None,
    provider: ProviderOption = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of every random draw.", min=0)] = None,
    workers: WorkersOption = None,
    executor: ExecutorOption = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file of training options.")] = None,
    track: Annotated[
        str | None,
        typer.Option(
            "--track",
            help="Also record with these: tensorboard,wandb,trackio, ... or none.",
            autocompletion=completion.trackers,
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option("--run-dir", help="New run folder [default: runs/EFFECT-TIME].")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", help="Run folder to carry on with.", autocompletion=completion.runs),
    ] = None,
    report: ReportOption = None,
    as_json: Json = False,
) -> None:
    """Train a controller for an effect.

    Needs no data: without --data it trains on a synthetic corpus. Leaves a run for `dafxhost transfer`.
    """
    flags = {
        "effect": effect,
        "data": data,
        "max_minutes": max_minutes,
        "device": device,
        "encoder": "pretrained" if encoder_weights is not None and encoder is None else encoder,
        "encoder_weights": encoder_weights,
        "estimator": estimator,
        "space": space,
        "pairs": pairs,
        "settings": "presets" if presets is not None and settings is None else settings,
        "presets": presets,
        "provider": provider,
        "seed": seed,
        "workers": workers,
        "executor": executor,
        "track": track,
    }
    given = {k: v for k, v in flags.items() if v is not None}
    wanted = _config(given, config, resume, run_dir)
    if effects is not None:
        _train_many(effects, wanted, effect, resume, report, run_dir, as_json)
        return
    if report is not None:
        from dafxhost.report.page import check_report

        check_report(report)
    from dafxhost.training.trainer import train as run_training
    from dafxhost_cli.progress import Display

    with Display() as display:
        events = _Events(display)
        try:
            done = run_training(wanted, resume=resume, run_dir=run_dir, on_event=events)
        except KeyboardInterrupt:
            done = None
    if done is None:
        _say_how_to_resume(events.run)
        raise typer.Exit(130)
    from dafxhost.training.distributed import rank

    if rank():  # of torchrun's processes, one speaks
        return
    _show_training(done, as_json)
    if report is not None:
        from dafxhost.report.provenance import command_line
        from dafxhost.report.training import training_report

        training_report(done.run, command=command_line()).write(report)
        note(f"report: {report}")


def _train_many(
    effects: str,
    config: TrainConfig | None,
    effect: str | None,
    resume: Path | None,
    report: Path | None,
    run_dir: Path | None,
    as_json: bool,
) -> None:
    """One run for several effects. Raises UsageError: with options that are for one effect."""
    from dataclasses import asdict

    from dafxhost.errors import UsageError
    from dafxhost.training.many import train_many
    from dafxhost_cli.progress import Display

    pairs = (("--effect", effect), ("--resume", resume), ("--report", report))
    if wrong := [name for name, value in pairs if value is not None]:
        raise UsageError(f"--effects trains a new run for several effects; leave out {', '.join(wrong)}")
    names = [name.strip() for name in effects.split(",") if name.strip()]
    with Display() as display:
        done = train_many(config, names, run_dir=run_dir, on_event=_Events(display))
    if as_json:
        result_json({**asdict(done), "run": str(done.run)})
        return
    rows = [
        (name, f"{f['untouched']:.3f}", f"{f['validation']:.3f}", f"{f['validation'] / f['untouched']:.2f}")
        for name, f in done.effects.items()
    ]
    result(f"run folder: {done.run}")
    result("")
    result(table(("MR-STFT on validation examples", "input alone", "controller", "ratio"), rows))
    result("")
    result(f"next: dafxhost transfer input.wav reference.wav --run {done.run} --effect {names[0]}")


def _config(
    given: dict[str, Any], file: Path | None, resume: Path | None, run_dir: Path | None
) -> TrainConfig | None:
    """Defaults, then the TOML file, then flags; None to resume a run as it was. Raises UsageError."""
    from dafxhost.errors import UsageError
    from dafxhost.training.config import TrainConfig

    if resume is None:
        start = TrainConfig.from_toml(file) if file is not None else TrainConfig()
        return start.replace(**given)
    fixed = [f"--{name.replace('_', '-')}" for name in given if name not in RESUMABLE]
    fixed += ["--config"] if file is not None else []
    fixed += ["--run-dir"] if run_dir is not None else []
    if fixed:
        raise UsageError(
            f"a resumed run keeps its own {', '.join(fixed)}; leave that out, or start a new run"
        )
    if not given or not (resume / "config.toml").is_file():
        return None
    return TrainConfig.from_toml(resume / "config.toml").replace(**given)


class _Events:
    """Shows what training reports.

    Attributes:
        run: the run folder, once it is known.
    """

    def __init__(self, display: Display) -> None:
        self.run: Path | None = None
        self._display = display
        self._minutes = 1.0

    def __call__(self, event: dict[str, Any]) -> None:
        show = {"start": self._start, "pool": self._progress, "step": self._progress, "epoch": self._epoch}
        show["tracker"] = self._tracker
        if event["event"] in show:
            show[event["event"]](event)

    def _start(self, event: dict[str, Any]) -> None:
        self.run, self._minutes = Path(event["run"]), event["minutes"]
        line = self._display.line
        line(f"run folder: {event['run']}")
        line(f"effect: {event['effect']} by {event['provider']}, {event['workers']} workers")
        line(f"data: {event['data']}")
        line(f"encoder: {event['encoder']}, networks on {event['device']}")
        line(f"time: {event['minutes']:g} min at most; Ctrl-C keeps what is trained")

    def _progress(self, event: dict[str, Any]) -> None:
        if event["event"] == "pool":
            phase, text = "preparing", f"{event['examples']} examples"
        else:
            phase, text = (
                event["phase"],
                f"step {event['step']}/{event['steps'] or '?'}, loss {event['loss']:.3f}",
            )
            if event.get("renders_per_second"):
                text += f", {event['renders_per_second']:.0f} renders/s"
        left = event["time_left"]
        self._display.show(
            phase, 1 - left / (60 * self._minutes), text, left=left,
            audio_rate=event.get("audio_seconds_per_second"),
        )  # fmt: skip

    def _epoch(self, event: dict[str, Any]) -> None:
        from dafxhost_cli.progress import clock

        text = f"{event['phase']} {event['step']}/{event['steps'] or '?'}:"
        if event["loss"] is not None:
            text += f" loss {event['loss']:.3f},"
        text += f" validation MR-STFT {event['validation']:.3f} (best {event['best']:.3f}"
        text += f", input left alone {event['untouched']:.3f})"
        if event["renders_per_second"]:
            text += f", {event['renders_per_second']:.0f} renders/s"
            text += f", {event['audio_seconds_per_second']:.0f} s of audio a second"
        if event["failures"]:
            text += f", {event['failures']} failed renders so far"
        self._display.line(f"{text}, {clock(event['time_left'])} left")

    def _tracker(self, event: dict[str, Any]) -> None:
        self._display.line(f"warning: tracker {event['name']} was given up: {event['problem']}")


def _say_how_to_resume(run: Path | None) -> None:
    if run is None or not (run / "state.safetensors").is_file():
        note("interrupted before anything was trained" + (f"; {run} can be deleted" if run else ""))
        return
    kept = next(p for p in (run / "last.safetensors", run / "state.safetensors") if p.is_file())
    note(f"interrupted; checkpoint: {kept}; go on with: dafxhost train --resume {run}")


def _show_training(done: TrainResult, as_json: bool) -> None:
    from dafxhost_cli.progress import clock

    if as_json:
        from dataclasses import asdict

        result_json({k: str(v) if isinstance(v, Path) else v for k, v in asdict(done).items()})
        return
    rows = [
        ("input left alone", done.untouched),
        ("after the supervised phase", done.supervised),
        ("controller", done.validation),
    ]
    result(f"run folder: {done.run}")
    result(f"done in {clock(done.seconds)} ({done.reason.replace('_', ' ')}), {done.steps} end-to-end steps")
    result("")
    result(
        table(
            ("MR-STFT on validation examples", "mean", "of input alone"),
            [
                (name, f"{value:.3f}", f"{value / done.untouched:.2f}")
                for name, value in rows
                if value is not None
            ],
        )
    )
    where = "" if done.run.parent == Path("runs") else f" --run {done.run}"
    result("")
    result(f"next: dafxhost transfer input.wav reference.wav -o out.wav{where}")
