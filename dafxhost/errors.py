"""Every error that dafxhost raises on purpose.

::

    DafxhostError                     exit code 1: the work failed
    ├── UsageError                    exit code 2: the request cannot be carried out as asked
    │   ├── UnknownNameError          no effect, encoder, estimator, provider or parameter of that name
    │   ├── ParameterError            a value outside its range, or of the wrong kind (also a ValueError)
    │   └── ShapeError                arrays whose shapes do not fit (also a ValueError)
    ├── RegistryError                 a third-party package is broken, or two share one name
    ├── EffectUnavailableError        the effect is known, but nothing on this machine can host it
    ├── PluginError                   a plugin refused to load, or broke its host's rules
    │   └── ParameterNotAppliedError  a plugin did not take the value it was given
    ├── RenderError                   jobs that failed twice; carries `failures`
    ├── AudioFileError                a file that is missing, empty, corrupt, silent or not audio
    ├── RunError                      a run folder that is missing, broken, or made for something else
    └── OutputError                   a result that could not be written

Messages are one sentence that says what happened and what to do; the command line prints them as they are.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MOST_LISTED = 20
"""Names that a message lists."""


class DafxhostError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(DafxhostError):
    exit_code = 2


class UnknownNameError(UsageError):
    """No such name. The message offers near misses and lists what there is."""

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        known = sorted(known)
        close = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.5)
        plural = "names" if " " in kind else f"{kind}s"
        text = f"unknown {kind} {name!r}"
        text += f"; did you mean {' or '.join(close)}?" if close else "."
        if len(known) <= MOST_LISTED:
            text += f" Known {plural}: {', '.join(known) or 'none'}."
        else:
            text += f" There are {len(known)} {plural}; `dafxhost plugins` lists them."
        super().__init__(text + (f" {hint}" if hint else ""))
        self.kind, self.name, self.known = kind, name, known


class ParameterError(UsageError, ValueError):
    pass


class ShapeError(UsageError, ValueError):
    pass


class RegistryError(DafxhostError):
    pass


class EffectUnavailableError(DafxhostError):
    pass


class PluginError(DafxhostError):
    pass


class ParameterNotAppliedError(PluginError):
    pass


class AudioFileError(DafxhostError):
    pass


class RunError(DafxhostError):
    pass


class OutputError(DafxhostError):
    pass


@dataclass(frozen=True)
class JobFailure:
    """One render that failed twice.

    Attributes:
        row, column: which clip of the batch (0..B-1) and which of its settings (0..K-1).
        effect: the effect's name.
        setting: the setting on 0..1, `[P]` as a tuple of floats.
        reason: what happened, e.g. "worker died of signal 11 (SIGSEGV)" or "no answer within 30 s".
        saved_input: path of a .npz with the clip, the setting and the render specification, or "".
        log: the last lines that the plugin wrote to stdout or stderr.
    """

    row: int
    column: int
    effect: str
    setting: tuple[float, ...]
    reason: str
    saved_input: str = ""
    log: str = ""


class RenderError(DafxhostError):
    """Some renders of a batch failed twice; the others are complete.

    Attributes:
        failures: one `JobFailure` a failed job.
        partial: the batch with NaN in the failed rows, or None.
    """

    def __init__(self, failures: Sequence[JobFailure], total: int, partial: object = None) -> None:
        first = failures[0]
        where = f" Its input is saved in {first.saved_input}." if first.saved_input else ""
        super().__init__(
            f"{len(failures)} of {total} renders of effect {first.effect!r} failed twice; the first, clip "
            f"{first.row} with setting {first.column} ({', '.join(f'{v:.4g}' for v in first.setting)}): "
            f"{first.reason}.{where}"
        )
        self.failures = list(failures)
        self.partial = partial


class RepeatabilityWarning(UserWarning):
    """A plugin does not give the same samples for the same clip and setting."""
