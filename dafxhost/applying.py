"""Applying a kept setting to recordings: one match reused on other stems.

Each recording goes through the effect as `dafxhost.style_transfer` does it: in at a peak of -12 dBFS, because
that is where the setting was found, and out at its own level. Both can be chosen otherwise. Rate, channels,
length and, where the output's format has it, the subtype stay.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dafxhost.data.features import PEAK
from dafxhost.errors import OutputError, UsageError
from dafxhost.file_rendering import LoudnessMeter, check_input, check_output, measure, render_file
from dafxhost.settings import KeptSetting, at_strength

LEVELS = ("match-input", "plugin")
KEPT_SUFFIXES = (".wav", ".flac", ".aiff", ".aif")
Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class Applied:
    """One recording that a setting was applied to.

    Attributes:
        input, output: the files. sample_rate, channels, frames: of both.
        peak_before, peak_after: of input and output, dBFS, the latter before any clipping; None for silence.
        input_gain_db, output_gain_db: gain before and after the effect.
        clipped: samples of the output beyond full scale.
    """

    input: Path
    output: Path
    sample_rate: int
    channels: int
    frames: int
    peak_before: float | None
    peak_after: float | None
    input_gain_db: float
    output_gain_db: float
    clipped: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {k: str(v) if isinstance(v, Path) else v for k, v in asdict(self).items()}


def output_paths(inputs: Sequence[Path], folder: Path_ | None = None) -> list[Path]:
    """Where results go: INPUT-applied beside each input, or under the input's name in `folder`.

    A format that is not written without loss becomes .wav.

    Raises:
        UsageError: two results would have one name, or one is among the inputs.
    """
    outputs = []
    for source in inputs:
        suffix = source.suffix if source.suffix.lower() in KEPT_SUFFIXES else ".wav"
        outputs.append(
            source.with_name(f"{source.stem}-applied{suffix}")
            if folder is None
            else Path(folder) / f"{source.stem}{suffix}"
        )
    for i, output in enumerate(outputs):
        if output in outputs[:i]:
            first = inputs[outputs.index(output)]
            raise UsageError(f"{first} and {inputs[i]} would both become {output}; work on one at a time")
    return outputs


def apply(
    kept: KeptSetting,
    inputs: Iterable[Path_],
    *,
    folder: Path_ | None = None,
    strength: float = 1.0,
    level: str = "match-input",
    input_gain_db: float | None = None,
    on_done: Callable[[Applied], None] | None = None,
) -> list[Applied]:
    """Render recordings of any length through the effect at a kept setting.

    Args:
        kept: as `load_setting` reads it.
        inputs: mono or stereo recordings; they are never written to.
        folder: where results go under the inputs' names, made if it is not there; see `output_paths`.
        strength: 0 to 1, see `dafxhost.settings.at_strength`.
        level: "match-input" (RMS, lowered where the peak would pass -0.1 dBFS) or "plugin" (as the plugin
            gives it).
        input_gain_db: gain before the effect; by default what brings each recording's peak to -12 dBFS.
        on_done: called after each recording.

    Raises:
        UsageError: an unknown level, a strength off 0..1, a gain that is not finite, no input, more than two
            channels, or an output that is an input or another's output.
        AudioFileError: a recording that is missing, empty or corrupt, or holds NaN. All are looked at before
            the first is worked on. OutputError: a result cannot be written.
        PluginError, RenderError: the effect failed.
    """
    if level not in LEVELS:
        raise UsageError(f"unknown level {level!r}; known levels: {', '.join(LEVELS)}.")
    if input_gain_db is not None and not math.isfinite(input_gain_db):
        raise UsageError(f"an input gain of {input_gain_db:g} dB is no gain")
    setting = at_strength(kept.effect, kept.setting, strength)
    sources = [Path(p) for p in inputs]
    if not sources:
        raise UsageError("name at least one recording to apply the setting to")
    outputs = output_paths(sources, folder)
    infos = [check_input(source) for source in sources]
    if folder is not None:
        _make(Path(folder))
    for info, output in zip(infos, outputs, strict=True):
        check_output(info, output, *sources)

    from dafxhost.execution.executor import Executor

    done = []
    with Executor(kept.effect, workers=1) as executor:
        for source, output in zip(sources, outputs, strict=True):
            loudness = measure(source)
            gain = _gain(loudness.peak, input_gain_db)
            after = LoudnessMeter()
            rendered = render_file(
                source,
                output,
                executor,
                setting,
                input_gain=gain,
                loudness=loudness if level == "match-input" else None,
                watchers=(after.add,),
            )
            applied = Applied(
                input=source,
                output=rendered.path,
                sample_rate=rendered.sample_rate,
                channels=rendered.channels,
                frames=rendered.frames,
                peak_before=_decibels(loudness.peak),
                peak_after=_decibels(after.loudness().peak * 10 ** (rendered.gain_db / 20)),
                input_gain_db=20 * math.log10(gain),
                output_gain_db=rendered.gain_db,
                clipped=rendered.clipped,
            )
            done.append(applied)
            if on_done is not None:
                on_done(applied)
    return done


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder} cannot be made a folder for the results: {error.strerror}.") from error


def _gain(peak: float, decibels: float | None) -> float:
    if decibels is not None:
        return 10 ** (decibels / 20)
    return PEAK / peak if peak > 0 else 1.0  # a silent stem stays silent


def _decibels(peak: float) -> float | None:
    return 20 * math.log10(peak) if peak > 0 else None
