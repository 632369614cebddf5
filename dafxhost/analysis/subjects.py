"""What can be analysed: a training run, an encoder's weights file, or an encoder by its registered name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dafxhost.errors import RunError

if TYPE_CHECKING:
    from dafxhost.encoders import Encoder


@dataclass(frozen=True)
class Subject:
    """What is analysed.

    Attributes:
        title: for headings. path: the run folder or weights file; None for an encoder that was only named.
        encoder: on the CPU, in eval mode.
        sample_rate: Hz of the clips it is given.
        effect: name or location of the effect a run is for; "" otherwise.
        log: one dictionary a line of the training's log; empty where there is none.
        about: (what, value) rows for people.
        notes: what could not be had, as sentences.
    """

    title: str
    path: Path | None
    encoder: Encoder
    sample_rate: int
    effect: str = ""
    log: tuple[dict[str, Any], ...] = ()
    about: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = field(default=())

    def folder(self) -> Path:
        """Where the analysis goes if nothing else is said."""
        if self.path is None:
            return Path(f"analysis-{self.title}")
        return (
            self.path / "analysis"
            if self.path.is_dir()
            else self.path.with_name(f"{self.path.stem}-analysis")
        )


def load_subject(where: str | Path, checkpoint: str | None = None) -> Subject:
    """Find what `where` names.

    Args:
        where: a run folder; weights of an encoder (.safetensors, the suffix may be left out); or, where there
            is no such file, the name of a registered encoder, analysed as it is made, mostly untrained.
        checkpoint: of a run: "best", "supervised" or "last".

    Raises:
        RunError: neither, or damaged. UsageError: a checkpoint of that name, or one of weights, cannot be.
    """
    from dafxhost.encoders import weights_paths
    from dafxhost.registry import registry

    path = Path(where)
    if path.is_dir():
        return _run(path, checkpoint)
    weights, description = weights_paths(path.with_suffix("") if path.suffix == ".json" else path)
    if weights.is_file() or description.is_file():
        return _weights(weights)
    if str(where) in registry().names("encoder"):
        return _named(str(where))
    names = ", ".join(registry().names("encoder"))
    raise RunError(
        f"{where} is no run folder, no encoder's weights file and no encoder's name (there are {names})"
    )


def _run(path: Path, checkpoint: str | None) -> Subject:
    from dafxhost.training.runs import LOG, load_run

    run = load_run(path, checkpoint)
    log, notes = read_log(path / LOG)
    encoder = run.controller.encoder.eval()
    about = (
        ("run", str(path)),
        ("checkpoint", run.checkpoint),
        ("effect", run.effect_name),
        *_encoder_rows(encoder),
    )
    return Subject(path.name, path, encoder, run.sample_rate, run.where, log, about, notes)


def _weights(weights: Path) -> Subject:
    from dafxhost.encoders import load_encoder

    encoder = load_encoder(weights)
    candidates = (
        weights.with_suffix(".log.jsonl"),
        weights.with_suffix(".jsonl"),
        weights.with_name("log.jsonl"),
    )
    log, notes = read_log(next((c for c in candidates if c.is_file()), candidates[0]))
    about = (("weights", str(weights)), *_encoder_rows(encoder))
    return Subject(weights.stem, weights, encoder, encoder.sample_rate, "", log, about, notes)


def _named(name: str) -> Subject:
    from dafxhost.registry import encoder as make_encoder

    encoder = make_encoder(name).eval()
    trained = any(True for _ in encoder.parameters())
    notes = ("its weights are random: it is analysed as it is made, before any training",) if trained else ()
    return Subject(name, None, encoder, encoder.sample_rate, about=_encoder_rows(encoder), notes=notes)


def _encoder_rows(encoder: Encoder) -> tuple[tuple[str, str], ...]:
    inner: Any = getattr(encoder, "inner", encoder)
    name = encoder.name if inner is encoder else f"{encoder.name} ({inner.name})"
    return (
        ("encoder", name),
        ("embedding size", str(encoder.embedding_size)),
        ("its sample rate", f"{encoder.sample_rate} Hz"),
    )


def read_log(path: Path) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
    """(lines of a log, what is to be said about it). Lines that are no JSON objects are left out."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return (), (f"no training curves: there is no log {path.name} beside it",)
    except OSError as error:
        return (), (f"no training curves: {path} cannot be read ({error.strerror})",)
    entries: list[dict[str, Any]] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    damaged = len([line for line in lines if line.strip()]) - len(entries)
    notes = [f"{damaged} lines of {path} could not be read"] if damaged else []
    if not entries:
        notes.append(f"no training curves: {path} holds none")
    return tuple(entries), tuple(notes)
