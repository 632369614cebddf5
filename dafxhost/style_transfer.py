"""Making one recording sound like another, with a trained run.

The controller hears a few excerpts of both recordings, as long and prepared as those it was trained on. Each
pair of an input's and a reference's excerpt gives it a distribution over settings; their mean decides one
setting, at which the effect renders the whole input.

Levels: the input goes into the effect at a peak of -12 dBFS, where the controller was trained (a distortion's
sound depends on it); what comes out is brought to the level asked for, by default the input's own.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import dafxhost
from dafxhost.data.audio_io import SILENCE, AudioInfo, read_audio
from dafxhost.errors import AudioFileError, OutputError, RunError, UsageError
from dafxhost.file_rendering import LEVELS, Loudness, check_input, check_output, measure, render_file
from dafxhost.presets import writer as preset_writer
from dafxhost.settings import FORMAT as SETTING_FORMAT
from dafxhost.settings import at_strength, check_strength, location
from dafxhost.style_distance import LogMel, logmel_distance

if TYPE_CHECKING:
    from dafxhost.training.runs import Run

EXCERPTS = 6
"""Most excerpts of a recording that the controller hears."""
SHORTEST = 0.1
"""Seconds a recording must have."""
PEAK = 10 ** (-12 / 20)
"""Peak at which the effect gets its input, as in training."""
Path_ = str | os.PathLike[str]


@dataclass(frozen=True)
class TransferResult:
    """What a transfer did.

    Attributes:
        setting: `[P]` on 0..1. native: the same by name, in native units; table: as text for people.
        effect, provider, identity: what rendered it; run: the run folder. location: where that effect is, for
            one that has no name in the registry.
        refined: what the search did, if one was asked for: settings tried, score before and after, whether it
            was interrupted; see `dafxhost.refinement.StyleScore`.
        strength: 1 for the match itself; see `dafxhost.settings.at_strength`. preset: its file, if one was
            asked for.
        output, json_path: the audio, and this result beside it.
        sample_rate, channels, frames: of the output, as in the input.
        distance_before, distance_after: of the input and of the output from the reference, dB:
            `dafxhost.style_distance.logmel_distance`.
        level: what was asked for. input_gain_db, output_gain_db: gain before and after the effect.
        clipped: samples of the output beyond full scale.
        render_spec: the fields of `RenderSpec`, and its fingerprint.
        excerpts: pairs of an input's and a reference's excerpt that the controller heard.
        uncertainty: of the controller's own answer, before any search: parameter -> interval, entropy and
            confidence, the fields of `dafxhost.training.uncertainty.ParameterUncertainty` and its `text`.
        history: of the search: (settings tried, lowest score so far); not written beside the output.
    """

    setting: np.ndarray
    native: dict[str, Any]
    table: list[tuple[str, str]]
    effect: str
    provider: str
    identity: str
    run: Path
    output: Path
    json_path: Path
    sample_rate: int
    channels: int
    frames: int
    distance_before: float
    distance_after: float
    level: str
    input_gain_db: float
    output_gain_db: float
    clipped: int
    render_spec: dict[str, Any]
    excerpts: int
    refined: dict[str, Any] | None = None
    strength: float = 1.0
    preset: Path | None = None
    location: str = ""
    uncertainty: dict[str, dict[str, Any]] = field(default_factory=dict)
    history: tuple[tuple[int, float], ...] = ()

    @property
    def level_text(self) -> str:
        """The level choice in words."""
        return f"{self.level}, {LEVELS[self.level]} ({self.output_gain_db:+.1f} dB after the effect)"

    def to_dict(self) -> dict[str, Any]:
        """What is written beside the output: a setting as `dafxhost.settings` reads it, with more."""
        values = {"dafxhost": dafxhost.__version__, "format": SETTING_FORMAT, **asdict(self)}
        values["setting"] = dict(zip(self.native, map(float, self.setting), strict=True))
        values["distance"] = "level-matched log-mel statistics (dafxhost.style_distance), dB"
        values["level_text"] = self.level_text
        del values["history"]  # long, and of interest in a report only
        if not math.isfinite(self.distance_after):
            values["distance_after"] = None  # the effect gave silence; JSON has no infinity
        return {k: str(v) if isinstance(v, Path) else v for k, v in values.items()}


def transfer(
    input: Path_,
    reference: Path_,
    *,
    output: Path_ | None = None,
    effect: str | None = None,
    run: Path_ | None = None,
    runs_dir: Path_ = "runs",
    level: str = "match-input",
    provider: str | None = None,
    refine: int = 0,
    strength: float = 1.0,
    preset: Path_ | None = None,
    progress: Callable[[int, float], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> TransferResult:
    """Render `input` so that it sounds like `reference`.

    Any sample rate, mono or stereo, from a tenth of a second to hours: audio passes in blocks. The input's
    rate and channel count are kept, its subtype too where the output's format has it.

    Args:
        input, reference: recordings, of different content or not.
        output: where the result goes, by default INPUT-transferred.wav beside the input; the setting goes
            beside it as OUTPUT.json.
        effect: use the newest run of this effect. run: use this run folder. By default the newest run.
        runs_dir: where to look for runs.
        level: "match-input", "match-reference" (RMS), or "plugin"; see `LEVELS`.
        provider: render by this provider instead of the best one here.
        refine: settings to try around the controller's answer, each on up to three excerpts; the one that
            sounds nearest to the reference is taken, or the answer itself. Ctrl-C ends the search and keeps
            the best so far. See `dafxhost.refinement`.
        strength: 0 for the effect's neutral setting to 1 for the match, see `dafxhost.settings.at_strength`.
        preset: also write the setting as a preset that a DAW loads, see `dafxhost.presets`.
        progress: called with (settings tried, lowest score so far) while refining.
        say: called with a line of text before the work begins.

    Raises:
        AudioFileError: a recording that is missing, empty, corrupt, silent, too short or holds NaN.
        UsageError: more than two channels, an unknown level, a strength off 0..1, a negative `refine`, the
            output is one of the recordings, or no preset of that kind is written of this effect.
        OutputError: the result cannot be written (seen before the work starts where possible).
        RunError: no run, or it belongs to another effect. PluginError, RenderError: the effect failed.
    """
    check_strength(strength)
    if refine < 0:
        raise UsageError(f"refine is {refine}; it is the number of settings to try, 0 for none")
    if level not in LEVELS:
        raise UsageError(f"unknown level {level!r}; known levels: {', '.join(LEVELS)}.")
    source = Path(input)
    target = Path(output) if output is not None else source.with_name(f"{source.stem}-transferred.wav")
    info, reference_info = check_input(source), check_input(reference)
    check_output(info, target, reference)
    ours, theirs = Recording(info), Recording(reference_info)

    from dafxhost.execution.executor import Executor
    from dafxhost.refinement import refine_setting
    from dafxhost.registry import effect as find_effect
    from dafxhost.training.uncertainty import uncertainty

    chosen = _find_run(run, effect, runs_dir)
    fx = find_effect(chosen.where, provider)
    chosen.check_effect(fx)
    write_preset = None if preset is None else preset_writer(fx, preset)
    if say is not None:
        say(f"run {chosen.path}, effect {fx.name} by {fx.provider.name}")
    inputs, references = pairs(chosen, ours, theirs)
    embedded = chosen.embed_pairs(inputs, references)
    heard = chosen.logits(*embedded)
    match = chosen.decode_pairs(heard, embedded)
    doubts = {u.name: {**asdict(u), "text": u.text()} for u in uncertainty(chosen, heard)}
    gain = PEAK / ours.loudness.peak
    after = LogMel(info.sample_rate)
    wanted = {"match-input": ours.loudness, "match-reference": theirs.loudness, "plugin": None}[level]
    with Executor(fx, workers=None if refine else 1) as executor:
        found = None
        if refine:
            found = refine_setting(chosen, executor, inputs, references, match, refine, progress)
            match = found.setting
        setting = at_strength(fx, match, strength)
        done = render_file(
            source, target, executor, setting, input_gain=gain, loudness=wanted, watchers=(after.add,)
        )
        spec = executor.spec(info.sample_rate, info.channels)
    result = TransferResult(
        setting=setting,
        native=fx.describe(setting),
        table=fx.table(setting),
        effect=fx.name,
        provider=fx.provider.name,
        identity=fx.provider.identity,
        run=chosen.path,
        output=done.path,
        json_path=target.with_name(target.name + ".json"),
        sample_rate=done.sample_rate,
        channels=done.channels,
        frames=done.frames,
        distance_before=logmel_distance(ours.mel, theirs.mel),
        distance_after=_distance(after, theirs.mel),
        level=level,
        input_gain_db=20 * math.log10(gain),
        output_gain_db=done.gain_db,
        clipped=done.clipped,
        render_spec={**asdict(spec), "fingerprint": spec.fingerprint()},
        excerpts=len(inputs),
        refined=None if found is None else found.to_dict(),
        strength=strength,
        preset=None if preset is None else Path(preset),
        location=location(fx),
        uncertainty=doubts,
        history=() if found is None else tuple(found.history),
    )
    _write_json(result)
    if write_preset is not None:  # last: what is written already stays, should the plugin refuse
        write_preset(setting)
    return result


class Recording:
    """What one pass over a file tells: `loudness`, `mel` (log-mel statistics), and where it sounds.

    Raises AudioFileError: missing, corrupt, shorter than `SHORTEST`, silent, or with NaN.
    """

    def __init__(self, info: AudioInfo) -> None:
        if info.seconds < SHORTEST:
            raise AudioFileError(
                f"{info.path} is too short: {info.seconds:.3g} s, at least {SHORTEST} s are needed."
            )
        self.info = info
        self.mel = LogMel(info.sample_rate)
        self._slot = max(1, info.sample_rate // 4)
        self._rest = np.zeros(0, np.float32)
        self._power: list[float] = []
        self.loudness: Loudness = measure(info.path, self.mel.add, self._note)
        self._power.append(float(np.square(self._rest).sum()))
        if self.loudness.peak < SILENCE:
            raise AudioFileError(f"{info.path} is silent: no sample of it rises above -100 dBFS.")

    def _note(self, block: np.ndarray) -> None:
        audio = np.concatenate([self._rest, block.mean(axis=0)])
        count = audio.size // self._slot
        slots = audio[: count * self._slot].reshape(count, self._slot)
        self._power.extend(np.square(slots).sum(axis=1).tolist())
        self._rest = audio[count * self._slot :]

    def excerpts(self, samples: int, sample_rate: int) -> list[np.ndarray]:
        """Up to `EXCERPTS` clips `[1, samples]`, mono at `sample_rate`, spread over the parts that sound."""
        from dafxhost.data.features import fade, normalise_peak
        from dafxhost.data.sources import CROSSFADE_SECONDS, looped

        rate = self.info.sample_rate
        frames = math.ceil(samples / sample_rate * rate) + 1
        clips = []
        for start in self._places(frames):
            clip, _ = read_audio(
                self.info.path, sample_rate=sample_rate, start=start, frames=frames, mono=True
            )
            clip = looped(clip, 0, samples, int(CROSSFADE_SECONDS * sample_rate))
            clips.append(normalise_peak(fade(clip, sample_rate)))
        return clips

    def _places(self, frames: int) -> list[int]:
        """First frames of up to `EXCERPTS` stretches within 10 dB of the loudest, in order."""
        width = max(1, -(-frames // self._slot))
        power = np.array(self._power)
        count = max(1, len(power) // width)
        stretches = np.add.reduceat(power, np.arange(count) * width)
        good = np.flatnonzero(stretches >= 0.1 * stretches.max())
        chosen = good[np.unique(np.linspace(0, len(good) - 1, EXCERPTS).round().astype(int))]
        last = max(0, self.info.frames - frames)
        return [min(int(i) * width * self._slot, last) for i in chosen]


def _find_run(run: Path_ | None, effect: str | None, runs_dir: Path_) -> Run:
    """The run asked for, or the newest. Raises RunError."""
    from dafxhost.chains import canonical
    from dafxhost.run_folders import member
    from dafxhost.training.runs import load_run, newest_run

    effect = effect and canonical(effect)
    found = load_run(member(Path(run), effect) if run is not None else newest_run(Path(runs_dir), effect))
    if effect is not None and found.effect_name != effect:
        raise RunError(f"run {found.path} was made for effect {found.effect_name!r}, not {effect!r}")
    return found


def pairs(run: Run, ours: Recording, theirs: Recording) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Excerpts of both, paired in order; the shorter list is repeated."""
    a, b = (recording.excerpts(run.samples, run.sample_rate) for recording in (ours, theirs))
    n = max(len(a), len(b))
    return [a[i % len(a)] for i in range(n)], [b[i % len(b)] for i in range(n)]


def _distance(output: LogMel, reference: LogMel) -> float:
    try:
        return logmel_distance(output, reference)
    except AudioFileError:  # the effect gave silence: nothing to compare
        return math.inf


def _write_json(result: TransferResult) -> None:
    beside = result.json_path.with_name(f".{result.json_path.name}.tmp")
    try:
        beside.write_text(json.dumps(result.to_dict(), indent=2, ensure_ascii=False) + "\n")
        beside.replace(result.json_path)
    except OSError as error:
        raise OutputError(f"{result.json_path} cannot be written: {error.strerror}.") from error
