"""The fault table: what a plugin may do wrong, by which host, and what has to come of it.

Shared by tests/test_fault_table.py, which asserts it, and benchmarks/fault_table.py, which prints it, so that
both mean the same by "survived".
"""

from __future__ import annotations

import re
import time
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dafxhost import Executor
from dafxhost.effects import Effect
from dafxhost.errors import JobFailure
from dafxhost.execution.stats import RenderStats
from dafxhost_effects.files import from_location
from lab_faulty import faulty_effect

HOSTS = ("python", "pedalboard", "dawdreamer")
NATIVE = ("python", "pedalboard")  # for what does not depend on the host of a VST3
RATE, DEADLINE = 24000, 0.7
CLIPS, COLUMNS, GUILTY = 4, 3, (2, 1)


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        fault: value of the effect's parameter "fault".
        title: what the plugin does.
        reason: pattern of the reason in the report; "" where the render comes out and there is none.
        samples: where it comes out, "same" as from a plugin that behaves, or "other"; "same or none" where
            it may be reported instead.
        hosts: by which it is tried.
        warning: pattern of the warning that is due.
        pause: seconds after the batch in which the fault shows.
    """

    fault: str
    title: str
    reason: str = ""
    samples: str = "same"
    hosts: tuple[str, ...] = HOSTS
    warning: str = ""
    pause: float = 0.0


LATE = rf"no answer within {DEADLINE:g} s"
FAILING = (
    Row("segfault", "reads address 8", r"worker died of signal 11 \(SIGSEGV\)"),
    Row("abort", "calls abort()", r"worker died of signal 6 \(SIGABRT\)"),
    Row("throw", "throws an exception", r"raised \w+: the lab threw this"),
    Row("stack", "recurses without end", r"worker died of signal 11 \(SIGSEGV\)|raised RecursionError"),
    Row("_exit", "calls _exit(3)", r"worker exited with status 3"),
    Row("exit", "calls exit(3)", r"worker exited with status 3|raised SystemExit: 3"),
    Row(
        "interrupt",
        "raises KeyboardInterrupt",
        r"worker exited with status|KeyboardInterrupt",
        hosts=("python",),
    ),
    Row("loop", "loops for ever", LATE),
    Row("sleep", "sleeps past the deadline", LATE),
    Row("nan", "returns a NaN", r"returned NaN/Inf"),
    Row("inf", "returns an infinity", r"returned NaN/Inf"),
    Row("long", "returns a sample too many", r"raised ValueError: could not broadcast", hosts=("python",)),
    Row("short", "returns a sample too few", r"raised ValueError: could not broadcast", hosts=("python",)),
    Row("unwritten", "leaves half of its output unwritten", r"NaN|unwritten|not written", hosts=("python",)),
    Row("refused", "does not take a parameter's value", r"'gain'.*0\.125", hosts=("python",)),
    Row("self-change", "changes a parameter while it runs", r"'gain'.*0\.125", hosts=("python",)),
)
KEPT = (
    Row("huge", "returns 1e30, which is finite", samples="other", hosts=NATIVE),
    Row(
        "noise",
        "returns something else every time",
        samples="other",
        hosts=NATIVE,
        warning=r"'lab-?fault.*twice",
    ),
    # Hosts keep a copy of a VST3's values of their own and learn of the change in a message loop, which
    # neither of them runs here.
    Row("self-change", "changes a parameter while it runs", samples="other", hosts=HOSTS[1:]),
    Row("leak", "leaks 10 MB", hosts=NATIVE),
    Row("flood", "writes 40,000 lines to stdout and stderr", hosts=NATIVE),
    Row("thread", "leaves a thread running"),
    # Where renders take long it may hit the guilty one itself, both times.
    Row(
        "late",
        "leaves a thread that crashes 50 ms later",
        r"worker died of signal 11 \(SIGSEGV\)",
        samples="same or none",
        pause=0.1,
    ),
    Row("fork", "leaves a child process running"),
    Row("twin", "forks, and both go on as the worker", hosts=("python",)),
    Row("chdir", "changes the working directory", hosts=NATIVE),
    Row("signals", "catches or ignores SIGTERM, SIGCHLD, SIGHUP, SIGINT", hosts=NATIVE),
    Row(
        "close",
        "closes file descriptors 0 to 255",
        r"closed .*(socket|connection|descriptor)|worker exited with status",
        samples="same or none",
        hosts=NATIVE,
    ),
)


def cases(rows: tuple[Row, ...]) -> list[tuple[str, Row]]:
    """(host, row), grouped by host."""
    return [(host, row) for host in HOSTS for row in rows if host in row.hosts]


def lab_effect_by(host: str, bundle: Path) -> Effect:
    """The effect with the parameters "gain" and "fault"; `bundle` is what lab_plugin_build.build made."""
    if host == "python":
        return faulty_effect()
    return from_location(str(bundle), "vst3" if host == "pedalboard" else host)


def redirected(effect: Effect, bundle: Path) -> Effect:
    """The effect of the lab plugin, served by a variant of its bundle, which is not loaded to describe it."""
    key = "path" if effect.provider.name == "vst3" else "target"
    options = {**effect.provider.options, key: str(bundle)}
    return replace(effect, provider=replace(effect.provider, options=options))


def audio() -> np.ndarray:
    """`[CLIPS, 1, 2400]` float32."""
    return np.random.default_rng(0).standard_normal((CLIPS, 1, 2400)).astype(np.float32)


def settings(effect: Effect, fault: str = "none") -> np.ndarray:
    """`[CLIPS, COLUMNS, 2]`: every render has its gain, and the guilty one the fault."""
    made = np.tile(effect.setting(fault="none"), (CLIPS, COLUMNS, 1))
    made[..., 0] = np.random.default_rng(1).random((CLIPS, COLUMNS))
    made[(*GUILTY, 1)] = effect.setting(fault=fault)[1]
    return made


def expected(effect: Effect) -> np.ndarray:
    """`[CLIPS, COLUMNS, 1, 2400]`: what the plugin gives where it behaves."""
    return audio()[:, None] * settings(effect)[:, :, :1, None].astype(np.float32)


@dataclass
class Outcome:
    """What came of a batch of which one render has the fault, and of the same batch without it after it.

    Seconds are for the batch before, which has no fault either, the faulty one and the one after.
    """

    wet: np.ndarray | None = None
    error: str = ""
    failures: list[JobFailure] = field(default_factory=list)
    after: np.ndarray | None = None
    error_after: str = ""
    failures_after: list[JobFailure] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    seconds_before: float = 0.0
    seconds: float = 0.0
    seconds_after: float = 0.0
    spent: RenderStats = field(default_factory=RenderStats)

    @property
    def said(self) -> str:
        """The report in one line."""
        return "; ".join([f.reason for f in self.failures] + [self.error] * bool(self.error) + self.warned)


def open_executor(host: str, bundle: Path, folder: Path) -> Executor:
    """What the rows are tried with: parameters and repeatability are verified at every render, except by
    DawDreamer, whose renders take long and have no rows that need it.
    """
    effect = lab_effect_by(host, bundle)
    verify = "spot" if host == "dawdreamer" else "all"
    return Executor(effect, workers=2, deadline=DEADLINE, verify=verify, failure_dir=folder)


def _render(executor: Executor, rows: np.ndarray) -> tuple[np.ndarray | None, str, float]:
    began = time.monotonic()
    try:
        wet, error = executor.render(audio(), rows, RATE, on_error="nan"), ""
    except Exception as caught:  # noqa: BLE001  (whatever it is, the batch is not complete)
        wet, error = None, f"{type(caught).__name__}: {caught}"
    return wet, error, time.monotonic() - began


def run_row(executor: Executor, row: Row) -> Outcome:
    """Render the batch without the fault, with it, and without it again."""
    outcome = Outcome()
    # Its samples then lie where the next batch's will: what a plugin leaves unwritten looks right there.
    outcome.seconds_before = _render(executor, settings(executor.effect))[2]
    before = executor.stats
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        outcome.wet, outcome.error, outcome.seconds = _render(executor, settings(executor.effect, row.fault))
        outcome.failures = executor.failures
        time.sleep(row.pause)
        rows = settings(executor.effect)
        outcome.after, outcome.error_after, outcome.seconds_after = _render(executor, rows)
        outcome.failures_after = executor.failures
    outcome.warned = [str(w.message) for w in caught]
    outcome.spent = executor.stats - before
    return outcome


def others_identical(executor: Executor, outcome: Outcome) -> bool:
    """Whether all renders but the guilty one are bit for bit what they are without it."""
    others = np.ones((CLIPS, COLUMNS), bool)
    others[GUILTY] = False
    return outcome.wet is not None and np.array_equal(outcome.wet[others], expected(executor.effect)[others])


def problems(executor: Executor, row: Row, outcome: Outcome) -> list[str]:
    """In what the fault was not survived; empty if it was. The executor is of `open_executor`."""
    if outcome.wet is None:
        return [f"the batch did not complete: {outcome.error}"]
    found: list[str] = []
    clean = expected(executor.effect)
    if not others_identical(executor, outcome):
        found.append("other renders of the batch were harmed")
    if bool(row.warning) != any(re.search(row.warning, text) for text in outcome.warned):
        found.append(f"the warnings are {outcome.warned}")
    if outcome.after is None:
        found.append(f"the next batch did not complete: {outcome.error_after}")
    elif not np.array_equal(outcome.after, clean) or outcome.failures_after:
        found.append("the next batch was harmed")
    guilty = outcome.wet[GUILTY]
    if row.reason and (outcome.failures or row.samples != "same or none"):
        return found + _report_problems(executor, row, outcome, guilty)
    if outcome.failures:
        found.append(f"reported where nothing failed: {outcome.said}")
    if row.samples != "other" and not np.array_equal(guilty, clean[GUILTY]):
        found.append("the render's own samples were harmed")
    if row.samples == "other" and (not np.isfinite(guilty).all() or np.array_equal(guilty, clean[GUILTY])):
        found.append("the render's samples are not the plugin's")
    return found


def _report_problems(executor: Executor, row: Row, outcome: Outcome, guilty: np.ndarray) -> list[str]:
    if [(f.row, f.column) for f in outcome.failures] != [GUILTY]:
        return [f"reported are {[(f.row, f.column) for f in outcome.failures]}, not {[GUILTY]}"]
    [failure] = outcome.failures
    found: list[str] = []
    if not re.search(row.reason, failure.reason):
        found.append(f"the reason is {failure.reason!r}")
    setting = settings(executor.effect, row.fault)[GUILTY]
    if failure.effect != executor.effect.name or not np.allclose(failure.setting, setting):
        found.append(f"blamed are {failure.effect} and {failure.setting}")
    if not np.isnan(guilty).all():
        found.append("the failed render is not NaN")
    if outcome.spent.retried != 1 and row.samples == "same":
        found.append(f"{outcome.spent.retried} renders were tried again, not 1")
    try:
        saved = np.load(failure.saved_input)
        same = np.array_equal(saved["audio"], audio()[GUILTY[0]]) and np.allclose(saved["setting"], setting)
        found += [] if same else ["another input was saved"]
    except OSError as error:
        found.append(f"the input was not saved: {error}")
    return found
