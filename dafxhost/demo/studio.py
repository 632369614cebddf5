"""What the demo does, without the page: recordings are taken in, settings found, rendered and kept.

Everything is done as `dafxhost transfer` does it: the effect gets its input at a peak of -12 dBFS, and its
output is as loud as the input. What is shared by all users (plugins, runs) is here; what is one user's is in
the `Session` that every method takes.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dafxhost.data.audio_io import AudioWriter, read_audio
from dafxhost.demo.executors import Executors
from dafxhost.demo.sessions import Role, Session, Sessions
from dafxhost.errors import AudioFileError, DafxhostError, PluginError, RenderError, RunError, UsageError
from dafxhost.file_rendering import Loudness, LoudnessMeter, check_input, level_gain
from dafxhost.settings import at_strength, save_setting

if TYPE_CHECKING:
    from dafxhost.demo.settings_map import SettingsMap
    from dafxhost.effects import Effect
    from dafxhost.execution.executor import Executor
    from dafxhost.search import SearchResult
    from dafxhost.style_transfer import Recording
    from dafxhost.training.runs import Run

RATE, SAMPLES = 24000, 65536
"""Of the excerpts on which settings are tried where no run says otherwise: 2.7 s, as in training."""
PREFERRED = ("mda-combo", "mda-overdrive")
"""What is chosen at first where there is no run."""
Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Limits:
    """Of what users may drop in: megabytes of a file, seconds of a recording."""

    megabytes: float = 50.0
    seconds: float = 120.0

    def __post_init__(self) -> None:
        for name in ("megabytes", "seconds"):
            if not getattr(self, name) > 0:
                raise UsageError(f"the most {name} of a recording must be above 0")


@dataclass(frozen=True)
class Heard:
    """One render: its audio, the setting as JSON, and as (name, native value) rows for people."""

    audio: Path
    document: Path
    rows: list[tuple[str, str]]
    seconds: float
    gain_db: float


class Studio:
    """Does the work of the demo for all of its users; safe in threads. Use as a context manager.

    Args:
        folder: a temporary one, for the files of all users. cache: see `Sessions`.
        runs_dir: where trained runs are looked for. provider: which host is to serve effects.
        workers, deadline: of the executors, see `Executors`.
        named_only: refuse effects by file or URI, as must be where strangers can reach the page.
    """

    def __init__(
        self,
        folder: Path,
        *,
        cache: Path | None = None,
        runs_dir: Path = Path("runs"),
        limits: Limits | None = None,
        provider: str | None = None,
        workers: int | None = None,
        deadline: float = 60.0,
        named_only: bool = False,
    ) -> None:
        self.sessions = Sessions(folder, cache)
        self.executors = Executors(workers=workers, deadline=deadline)
        self.limits = limits or Limits()
        self.runs_dir, self.provider, self.named_only = runs_dir, provider, named_only
        self._effects: dict[str, Effect] = {}
        self._run: tuple[Any, Run] | None = None
        self._lock = threading.Lock()

    # What there is

    def names(self) -> list[str]:
        """Effects that something here can serve."""
        from dafxhost.registry import registry

        found = []
        for entry in registry().entries:
            if entry.kind != "effect":
                continue
            try:
                if entry.spec.provider_text() != "not installed":
                    found.append(entry.spec.name)
            except DafxhostError:
                continue  # a broken package is no reason not to offer the others
        return sorted(set(found))

    def first(self) -> str:
        """The effect to begin with: that of the newest run, or one that is there."""
        from dafxhost.training.runs import load_run, newest_run

        names = self.names()
        try:
            name = load_run(newest_run(self.runs_dir)).where
            self.effect(name)
            return name
        except DafxhostError:
            return next((n for n in (*PREFERRED, *names) if n in names), "")

    def effect(self, name: str) -> Effect:
        """The effect of that name, or a chain. Raises as `dafxhost.effect`."""
        from dafxhost.registry import effect

        name = (name or "").strip()
        if not name:
            raise UsageError("choose an effect first")
        if self.named_only and (set(name) & set("/\\") or Path(name.rpartition(">")[2].strip()).exists()):
            raise UsageError("this demo takes effects by name only, and chains of them")
        with self._lock:
            if name not in self._effects:
                self._effects[name] = effect(name, self.provider)
            return self._effects[name]

    def run(self, effect: Effect) -> Run:
        """The newest run of an effect. Raises RunError: there is none; says what to train."""
        from dafxhost.settings import location
        from dafxhost.training.runs import load_run, newest_run

        path = newest_run(self.runs_dir, location(effect) or effect.name)
        with self._lock:
            key = path, max((p.stat().st_mtime_ns for p in path.glob("*.safetensors")), default=0)
            if self._run is None or self._run[0] != key:
                self._run = key, load_run(path)
            run = self._run[1]
        run.check_effect(effect)
        return run

    # What a user does

    def take(self, session: Session, role: Role, path: str | os.PathLike[str]) -> str:
        """Take a recording in; returns what it is, in words. On an error the session has none.

        Raises:
            AudioFileError, UsageError: no audio, too large, too long, silent, or of more than two channels.
        """
        source = Path(path)
        session.recordings.pop(role, None)
        session.names[role] = source.name
        if source.exists() and source.stat().st_size > self.limits.megabytes * 1e6:
            size = source.stat().st_size / 1e6
            raise UsageError(
                f"{source.name} has {size:.1f} MB; this demo takes {self.limits.megabytes:g} MB at most"
            )
        with called(source, source.name):
            info = check_input(source)
            if info.seconds > self.limits.seconds:
                most = f"this demo takes {self.limits.seconds:g} s at most"
                raise UsageError(f"{source.name} lasts {info.seconds:.0f} s; {most}")
            _recording(source)
        session.count += 1
        kept = session.folder / f"{role}-{session.count}{source.suffix.lower()}"
        shutil.copyfile(source, kept)
        session.recordings[role] = kept
        channels = "mono" if info.channels == 1 else "stereo"
        return f"{source.name}: {info.seconds:.1f} s, {info.sample_rate} Hz, {channels}"

    def match(self, session: Session) -> Run:
        """Set what the newest run's controller hears in both recordings; returns that run."""
        from dafxhost.style_transfer import pairs

        effect = session.chosen()
        ours, theirs = self._both(session)
        run = self.run(effect)
        session.setting = run.predict_pairs(*pairs(run, ours, theirs))
        return run

    def refine(self, session: Session, budget: int, progress: Progress | None = None) -> SearchResult:
        """Search around the setting for one that sounds nearer to the reference, and set it.

        With a run, its encoder is one of the two judges; without, log-mel statistics judge alone.
        """
        from dafxhost.refinement import StyleScore, refine_setting
        from dafxhost.search import search
        from dafxhost.style_transfer import pairs

        effect, start = session.chosen(), session.setting.copy()
        ours, theirs = self._both(session)
        try:
            run = self.run(effect)
        except RunError:
            run = None
        with self.executors.of(effect) as executor, failing(effect):
            if run is not None:
                a, b = pairs(run, ours, theirs)
                found = refine_setting(run, executor, a, b, start, budget, progress)
            else:
                few = [r.excerpts(SAMPLES, RATE)[:3] for r in (ours, theirs)]
                score = StyleScore(executor, np.stack(few[0]), few[1], RATE)
                found = search(effect.parameters, score, start, budget=budget, progress=progress)
        if session.effect is effect:  # another may have been chosen meanwhile
            session.setting = found.setting
        return found

    def draw(self, session: Session, count: int, progress: Progress | None = None) -> SettingsMap:
        """Draw the map of the effect's settings on the input, and keep it in the session."""
        from dafxhost.demo.settings_map import explore

        effect = session.chosen()
        ours = _recording(session.recording("input"))
        excerpts = ours.excerpts(SAMPLES, RATE)
        with self.executors.of(effect) as executor, failing(effect):
            found = explore(
                executor, effect, excerpts[len(excerpts) // 2], RATE, count=count, progress=progress
            )
        if session.effect is effect:  # another may have been chosen meanwhile
            session.map = found
        return found

    def hear(self, session: Session) -> Heard:
        """Render the whole input with the setting at its strength, as loud as the input."""
        effect = session.chosen()
        source = session.recording("input")
        setting = at_strength(effect, session.setting, session.strength)
        audio, rate = read_audio(source)
        before = _loudness(audio)
        with self.executors.of(effect) as executor, failing(effect):
            wet = _render(executor, audio, setting, rate, before)
        gain = level_gain(_loudness(wet), before)
        path = session.name(".wav")
        with AudioWriter(path, rate, wet.shape[0]) as writer:
            writer.write(wet * np.float32(gain))
        document = save_setting(path.with_suffix(".json"), effect, setting)
        self.sessions.replace(session, [path, document])
        return Heard(path, document, effect.table(setting), wet.shape[1] / rate, 20 * float(np.log10(gain)))

    def preset(self, session: Session, suffix: str) -> Path:
        """The setting at its strength as a preset for a DAW; a bundle (a folder) comes as a .zip."""
        from dafxhost.presets import writer

        effect = session.chosen()
        setting = at_strength(effect, session.setting, session.strength)
        path = session.name(suffix)
        with called(path, path.name):
            writer(effect, path)(setting)
        if not path.is_dir():
            session.made.append(path)
            return path
        packed = Path(shutil.make_archive(str(path), "zip", root_dir=path.parent, base_dir=path.name))
        shutil.rmtree(path)
        session.made.append(packed)
        return packed

    def compare(self, session: Session) -> str:
        """A page as in the reports: input, reference if there is one, and output, at one loudness."""
        from dafxhost.report.page import Page
        from dafxhost.report.pictures import add_spectra, add_spectrograms
        from dafxhost.report.sound import add_player, version

        if not session.made:
            raise UsageError("render something first: match, or turn a knob")
        ours = replace(version(session.recording("input"), "Input", series=1), detail=session.names["input"])
        versions = [ours]
        if "reference" in session.recordings:
            theirs = version(session.recording("reference"), "Reference", series=2)
            versions.append(replace(theirs, detail=session.names["reference"]))
        versions.append(version(session.made[0], "Output", series=3, start=ours.start))
        page = Page("Compare", lead="The same moment of each, at one loudness.")
        played = add_player(page, versions, label="Input, reference and output")
        add_spectrograms(page, played, key="listen")
        add_spectra(page, played)
        return page.html()

    def close(self) -> None:
        """End all plugins."""
        self.executors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _both(self, session: Session) -> tuple[Recording, Recording]:
        return _recording(session.recording("input")), _recording(session.recording("reference"))


@contextmanager
def called(path: Path, name: str) -> Iterator[None]:
    """Errors inside say the user's own name of a file, not where it lies here."""
    try:
        yield
    except DafxhostError as error:
        error.args = (str(error).replace(str(path), name),)
        raise


@contextmanager
def failing(effect: Effect) -> Iterator[None]:
    """What a plugin did wrong, in a sentence for people at a page."""
    try:
        yield
    except RenderError as error:
        reason = error.failures[0].reason
        raise PluginError(
            f"{effect.name} failed at this setting ({reason}); the demo goes on: try another setting"
        ) from error


def _recording(path: Path) -> Recording:
    from dafxhost.style_transfer import Recording

    return Recording(check_input(path))


def _loudness(audio: np.ndarray) -> Loudness:
    meter = LoudnessMeter()
    meter.add(audio)
    return meter.loudness()


def _render(
    executor: Executor, audio: np.ndarray, setting: np.ndarray, rate: int, before: Loudness
) -> np.ndarray:
    from dafxhost.style_transfer import PEAK

    if before.peak <= 0:
        raise AudioFileError("the input is silent")
    scaled = audio * np.float32(PEAK / before.peak)
    return executor.render(scaled[None], setting[None], rate)[0]
