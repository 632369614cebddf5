"""dafxhost apply, dafxhost preset: what can be done with a setting that was kept as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dafxhost_cli.console import note, result, result_json, table
from dafxhost_cli.options import Json, ProviderOption, StrengthOption

if TYPE_CHECKING:
    from dafxhost.applying import Applied
    from dafxhost.settings import KeptSetting

SettingFile = Annotated[
    Path, typer.Argument(metavar="SETTING.json", help="What transfer wrote beside its result.")
]


def apply(
    setting: SettingFile,
    inputs: Annotated[list[Path], typer.Argument(metavar="INPUT...", help="Recordings to work on.")],
    folder: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the results [default: INPUT-applied beside each]."),
    ] = None,
    strength: StrengthOption = 1.0,
    level: Annotated[
        str, typer.Option("--level", help="Level of the output: match-input or plugin.")
    ] = "match-input",
    input_gain: Annotated[
        float | None,
        typer.Option(
            "--input-gain", help="Gain before the effect, dB [default: to a peak of -12 dBFS, as transfer]."
        ),
    ] = None,
    provider: ProviderOption = None,
    as_json: Json = False,
) -> None:
    """Apply a setting to other recordings.

    Any length; each recording's sample rate and channel count are kept, and no input is written to.
    """
    from dafxhost.applying import apply as apply_setting
    from dafxhost.errors import UsageError

    if folder is not None and folder.suffix.lower() in (".wav", ".flac", ".aiff", ".aif", ".ogg", ".mp3"):
        raise UsageError(f"-o {folder}: name a folder; each result keeps its recording's name there")
    done = apply_setting(
        _load(setting, provider),
        inputs,
        folder=folder,
        strength=strength,
        level=level,
        input_gain_db=input_gain,
        on_done=None if as_json else _show,
    )
    if as_json:
        result_json([a.to_dict() for a in done])
    for applied in done:
        if applied.clipped:
            note(f"warning: {applied.clipped} samples of {applied.output} lie beyond full scale")


def _show(applied: Applied) -> None:
    seconds = applied.frames / applied.sample_rate
    result(
        f"{applied.output}: {seconds:.2f} s, {applied.sample_rate} Hz, {applied.channels} ch, "
        f"peak {_peak(applied.peak_before)} before, {_peak(applied.peak_after)} after"
    )


def _peak(decibels: float | None) -> str:
    return "silence" if decibels is None else f"{decibels:.1f} dBFS"


def preset(
    setting: SettingFile,
    output: Annotated[
        Path, typer.Argument(metavar="OUT", help="Preset to write: .vstpreset, .lv2, .fxp or .fxb.")
    ],
    strength: StrengthOption = 1.0,
    provider: ProviderOption = None,
    as_json: Json = False,
) -> None:
    """Make a preset that a DAW loads.

    .vstpreset for a VST3 plugin, a .lv2 bundle for LV2 (put it into ~/.lv2), .fxp or .fxb for VST2. Effects
    without a plugin (pedalboard's and dafxhost's own) have none.
    """
    from dafxhost.presets import writer
    from dafxhost.settings import at_strength

    kept = _load(setting, provider)
    write = writer(kept.effect, output)
    values = at_strength(kept.effect, kept.setting, strength)
    write(values)
    if as_json:
        result_json(
            {
                "preset": str(output),
                "effect": kept.effect.name,
                "provider": kept.effect.provider.name,
                "native": kept.effect.describe(values),
            }
        )
    else:
        result(table(("parameter", "value"), kept.effect.table(values)))
        result(f"preset: {output}")


def _load(path: Path, provider: str | None) -> KeptSetting:
    """The setting, with a warning where its effect is another one now."""
    from dafxhost.settings import load_setting

    kept = load_setting(path, provider=provider)
    if difference := kept.difference():
        note(f"warning: {difference}")
    return kept
