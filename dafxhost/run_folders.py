"""Runs as folders: which there are, what is in them, deleting one.

Reads text files only and imports no torch; `dafxhost.training.runs` loads the controllers that they hold.
"""

from __future__ import annotations

import json
import os
import shutil
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dafxhost.errors import OutputError, RunError, UsageError

CONFIG, LOG, STATE, POOL = "config.toml", "log.jsonl", "state.safetensors", "pool.safetensors"
CHECKPOINTS = ("best", "supervised", "last")
CONTROLLERS = Path(__file__).parent / "controllers"
"""Runs that come with dafxhost, a folder an effect; docs/controllers.md says how they were trained."""
MANY, MEMBERS = "effects.json", "effects"
"""Of a run for several effects: what it holds, and the folder of ordinary runs, one an effect."""


@dataclass
class RunInfo:
    """A run folder as a list shows it; what a run has not got yet is None.

    Attributes:
        name: of its folder. path: of its folder. effect, provider, encoder, data: what was trained, on what.
        minutes: of training, all sittings together; budget: minutes that were given.
        steps: end to end. best: lowest mean MR-STFT on validation examples. untouched: that of the input left
            alone; ratio: best / untouched. failures: renders that failed.
        size: bytes. written: when something of it was written last, seconds since 1970.
        checkpoints: controllers it holds. problem: why it cannot be used, or "".
        config: the training options that it kept.
    """

    name: str
    path: Path
    effect: str | None = None
    provider: str | None = None
    encoder: str | None = None
    data: str | None = None
    minutes: float | None = None
    budget: float | None = None
    steps: int | None = None
    best: float | None = None
    untouched: float | None = None
    ratio: float | None = None
    failures: int | None = None
    size: int = 0
    written: float = 0.0
    checkpoints: tuple[str, ...] = ()
    problem: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path), "checkpoints": list(self.checkpoints)}


def members(path: Path) -> dict[str, Path]:
    """Effect -> its run, of a run for several effects; empty for any other. Raises RunError: damaged."""
    try:
        kept = json.loads((path / MANY).read_text(encoding="utf-8"))
        return {str(name): path / MEMBERS / Path(folder).name for name, folder in kept["effects"].items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise RunError(f"cannot read {path / MANY}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path / MANY} is damaged: {error!r}") from error


def member(path: str | Path, effect: str | None) -> Path:
    """The run to load for an effect: of a run for several effects the part of that one, else `path` itself.

    Raises:
        RunError: it is for several effects, and none or another one is named.
    """
    found = members(Path(path))
    if not found:
        return Path(path)
    if effect not in found:
        wanted = "name one of them with --effect" if effect is None else f"not for {effect!r}"
        raise RunError(f"run {path} is for {', '.join(found)}; {wanted}")
    return found[effect]


def is_run(path: Path) -> bool:
    """Whether training has begun to write there."""
    return any((path / name).is_file() for name in (CONFIG, *(f"{c}.json" for c in CHECKPOINTS)))


def shipped_run(effect: str) -> Path | None:
    """The run of an effect that comes with dafxhost, or None."""
    return CONTROLLERS / effect if effect in shipped_effects() else None


def shipped_effects() -> list[str]:
    """Effects whose controllers come with dafxhost, in order."""
    return sorted(p.name for p in CONTROLLERS.iterdir() if is_run(p)) if CONTROLLERS.is_dir() else []


def list_runs(folder: str | Path = "runs") -> list[RunInfo]:
    """All runs in `folder`, the newest first. Raises RunError: there is no such folder."""
    try:
        paths = sorted(path for path in Path(folder).iterdir() if path.is_dir() and is_run(path))
    except OSError as error:
        raise RunError(
            f"there are no runs: folder {folder} cannot be read ({error.strerror}); train one: dafxhost train"
        ) from error
    return sorted((read_info(path) for path in paths), key=lambda run: -run.written)


def find_run(name: str | Path, folder: str | Path = "runs") -> Path:
    """The run of that name in `folder`, at that path, or, for an effect's name, the one that comes with
    dafxhost. Raises RunError naming what there is.
    """
    for path in (Path(folder) / name, Path(name)):
        if path.is_dir() and is_run(path):
            return path
    shipped = shipped_run(str(name))
    if shipped is not None:
        return shipped
    try:
        known = [run.name for run in list_runs(folder)][:5]
    except RunError:
        known = []
    newest = f"; the newest in {folder}: {', '.join(known)}" if known else f"; there are none in {folder}"
    raise RunError(f"{name} is no run{newest}")


def read_info(path: Path) -> RunInfo:
    """What the files of a run folder say; what is damaged is told in `problem`."""
    info = RunInfo(path.name, path)
    info.size, info.written = _weigh(path)
    info.checkpoints = tuple(c for c in CHECKPOINTS if (path / f"{c}.safetensors").is_file())
    try:
        info.config = tomllib.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        info.problem = f"{CONFIG}: {error}"
    info.effect, info.encoder = info.config.get("effect"), info.config.get("encoder")
    info.data, info.budget = info.config.get("data") or "synthetic corpus", info.config.get("max_minutes")
    lines = _log(path / LOG)
    info.minutes = _minutes(lines)
    if lines:
        last = lines[-1]
        info.best, info.untouched = last.get("best"), last.get("untouched")
        info.failures = last.get("failures")
        info.steps = last.get("step") if last.get("phase") == "end-to-end" else 0
    _read_card(info)
    if info.best is not None and info.untouched:
        info.ratio = info.best / info.untouched
    if not info.checkpoints and not info.problem:
        info.problem = "no controller yet"
    return info


def _read_card(info: RunInfo) -> None:
    name = next((c for c in CHECKPOINTS if (info.path / f"{c}.json").is_file()), None)
    if name is None:
        return
    try:
        card = json.loads((info.path / f"{name}.json").read_text(encoding="utf-8"))
        info.effect, info.provider = card["effect"], card["provider"]["name"]
        info.encoder = card["encoder"]["name"]
        figures = card.get("figures") or {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        info.problem = f"{name}.json is damaged ({type(error).__name__})"
        return
    if info.best is None and name == "best":
        info.best, info.untouched = figures.get("validation_mrstft"), figures.get("untouched_mrstft")


def _log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log that can be read: the last may have been cut off."""
    lines: list[dict[str, Any]] = []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return lines
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            lines.append(entry)
    return lines


def _minutes(lines: list[dict[str, Any]]) -> float | None:
    """Minutes of all sittings: each counts its own time from 0. None where the log does not say."""
    times = [line["elapsed"] for line in lines if isinstance(line.get("elapsed"), int | float)]
    if not times:
        return None
    ends = [a for a, b in zip(times, [*times[1:], -1.0], strict=True) if b < a]
    return sum(ends) / 60


def _weigh(path: Path) -> tuple[int, float]:
    """Bytes of what is in a folder, and when a file of it was written last; links are not followed."""
    size, written = 0, 0.0
    for here, _, names in os.walk(path):
        for name in names:
            try:
                facts = os.lstat(os.path.join(here, name))
            except OSError:
                continue
            size, written = size + facts.st_size, max(written, facts.st_mtime)
    return size, written


def check_deletable(name: str | Path, folder: str | Path = "runs") -> Path:
    """The run of that name, if it may be deleted: a real folder, directly in `folder`, that is a run.

    Raises:
        UsageError: it lies elsewhere, or is a link. RunError: there is no such run.
    """
    path = find_run(name, folder)
    inside = Path(folder).resolve()
    # The parent is resolved, not the run: a link would be resolved to what it points to.
    if path.name in ("", ".", "..") or path.parent.resolve() != inside:
        raise UsageError(
            f"{path} does not lie directly in the runs folder {folder}, and is not deleted; name its folder "
            f"with --folder {path.parent}"
        )
    if path.is_symlink():
        raise UsageError(f"{path} is a link to {path.resolve()}, and is not deleted; remove it with rm")
    return path


def delete_run(name: str | Path, folder: str | Path = "runs") -> Path:
    """Delete a run and all that is in its folder; links in it are removed, not followed.

    Raises:
        UsageError, RunError: as `check_deletable`. OutputError: it could not be deleted.
    """
    path = check_deletable(name, folder)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise OutputError(f"{path} could not be deleted: {error.strerror} ({error.filename})") from error
    return path
