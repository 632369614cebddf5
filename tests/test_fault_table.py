"""Plugins that misbehave, in Python and as a VST3 by two hosts: every row of the fault table is survived.

The rows, and what surviving them means, stand in lab_faults.py, lab_trials.py and lab_endings.py, which
benchmarks/fault_table.py prints as a table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lab_endings as endings
import lab_faults as lab
import lab_plugin_build
import lab_trials as trials
from dafxhost import Executor
from dafxhost.errors import PluginError
from hosting import need
from lab_faults import RATE, Row
from lab_faulty import faulty_effect
from lab_surroundings import MARK, Surroundings

BY_VST3 = ("pedalboard", "dawdreamer")
# DawDreamer takes 20 to 50 ms to load a plugin, so it has a part of the table here, and all of it in
# benchmarks/fault_table.py.
BY_DAWDREAMER = ("segfault", "_exit", "loop", "nan", "fork", "late")
FAILING, KEPT = (
    [(host, row) for host, row in lab.cases(rows) if host != "dawdreamer" or row.fault in BY_DAWDREAMER]
    for rows in (lab.FAILING, lab.KEPT)
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab plugin, built once; the descriptions of it and its variants are not kept."""
    missing = lab_plugin_build.missing()
    need(not missing, missing)
    folder = tmp_path_factory.mktemp("lab")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAFXHOST_CACHE", str(folder / "cache"))
        yield lab_plugin_build.build(folder)


@pytest.fixture(autouse=True)
def _mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MARK, "")  # put back after the test


@dataclass
class Shared:
    """One executor for each host, for the faults that end the worker or discard the processor."""

    executors: dict[str, Executor]
    around: Surroundings

    def open(self, host: str, bundle: Path, folder: Path) -> None:
        executor = self.executors[host] = lab.open_executor(host, bundle, folder)
        executor.render(lab.audio(), lab.settings(executor.effect), RATE)  # starts the workers

    def problems(self, host: str, row: Row) -> list[str]:
        # Not in the test: what fails there is kept with its variables, and an executor keeps its memory.
        executor = self.executors[host]
        return lab.problems(executor, row, lab.run_row(executor, row))

    def close(self) -> None:
        while self.executors:
            self.executors.popitem()[1].close()


@pytest.fixture(scope="module")
def shared(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    for host in lab.HOSTS:
        lab.lab_effect_by(host, bundle)  # imports what may open files of its own
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(MARK, "")
        made = Shared({}, Surroundings("shared"))
        folder = tmp_path_factory.mktemp("inputs")
        for host in lab.HOSTS:
            made.open(host, bundle, folder)
    yield made
    made.close()


def slow_by_dawdreamer(cases: list[tuple[str, Row]]) -> list[Any]:
    """The same plugin by the other host of VST3 shows the same faults."""
    slow = {"dawdreamer": [pytest.mark.slow]}
    return [pytest.param(h, row, id=f"{row.fault}-{h}", marks=slow.get(h, [])) for h, row in cases]


@pytest.mark.parametrize(("host", "row"), slow_by_dawdreamer(FAILING))
def test_a_fault_costs_its_render_only(host: str, row: Row, shared: Shared) -> None:
    assert shared.problems(host, row) == []


def test_nothing_is_left_of_the_workers_that_were_ended(shared: Shared) -> None:
    """After all of the above; it closes what they share."""
    shared.close()
    assert shared.around.problems() == []


@pytest.mark.parametrize(("host", "row"), slow_by_dawdreamer(KEPT))
def test_a_fault_that_costs_nothing(host: str, row: Row, bundle: Path, tmp_path: Path) -> None:
    lab.lab_effect_by(host, bundle)
    around = Surroundings(f"{row.fault}-{host}")
    with lab.open_executor(host, bundle, tmp_path) as executor:
        found = lab.problems(executor, row, lab.run_row(executor, row))
    del executor
    assert found + around.problems() == []


@pytest.mark.parametrize("host", BY_VST3)
def test_a_vst3_that_crashes_once_is_tried_again(host: str, bundle: Path, tmp_path: Path) -> None:
    marker = tmp_path / "crashed"
    copy = lab_plugin_build.variant(bundle, tmp_path, once=marker)
    effect = lab.redirected(lab.lab_effect_by(host, bundle), copy)
    with Executor(effect, workers=2, failure_dir=tmp_path / "no") as executor:
        wet = executor.render(lab.audio(), lab.settings(effect, "segfault"), RATE)
        assert (executor.stats.retried, executor.stats.replaced) == (1, 1)
    assert marker.exists() and not (tmp_path / "no").exists()
    assert np.array_equal(wet, lab.expected(effect))


@pytest.mark.parametrize("host", BY_VST3)
def test_the_latency_that_a_vst3_reports_is_taken_out(host: str, bundle: Path, tmp_path: Path) -> None:
    copy = lab_plugin_build.variant(bundle, tmp_path, latency=480)
    effect = lab.redirected(lab.lab_effect_by(host, bundle), copy)
    with Executor(effect, workers=1) as executor:
        assert np.array_equal(executor.render(lab.audio(), lab.settings(effect), RATE), lab.expected(effect))
        with executor.stream(lab.settings(effect)[0, 0], RATE, 1) as stream:
            assert stream.latency == 480


# ---- loading

DESCRIBED = {
    "refuse": r"LabFault\.vst3",
    "crash": r"LabFault\.vst3 ended its process by signal 11 when loaded",
    "display": r"LabFault\.vst3 ended its process by exit code 1 when loaded: LabFault: cannot open display",
}


@pytest.mark.parametrize("host", lab.HOSTS)
@pytest.mark.parametrize("load", trials.LOADS)
def test_a_plugin_that_does_not_load(
    load: str, host: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    lab.lab_effect_by(host, bundle)
    around = Surroundings(f"{load}-{host}")
    assert trials.run_load(host, load, bundle, tmp_path)[1] + around.problems() == []
    assert not (tmp_path / "inputs").exists()


@pytest.mark.parametrize("load", DESCRIBED)
def test_a_vst3_that_does_not_load_cannot_be_described(
    load: str, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    copy = lab_plugin_build.variant(bundle, tmp_path, load=load)
    with pytest.raises(PluginError, match=DESCRIBED[load]):
        lab.lab_effect_by("pedalboard", copy)


def test_a_vst3_that_is_cut_short_says_so(bundle: Path, tmp_path: Path) -> None:
    copy = lab_plugin_build.variant(bundle, tmp_path)
    [library] = copy.glob("Contents/*/*.so")
    library.write_bytes(library.read_bytes()[:20])
    with pytest.raises(PluginError, match=r"cannot load the VST3 plugin .*file too short"):
        lab.lab_effect_by("pedalboard", copy)


@pytest.mark.parametrize("host", lab.HOSTS)
def test_loading_slowly_is_no_overrun(host: str, bundle: Path, tmp_path: Path) -> None:
    """The deadline is for a render. A VST3 is loaded anew for every render; that is loading, too."""
    assert trials.run_slow_load(host, bundle, tmp_path) == []


# ---- memory


@pytest.mark.parametrize("host", lab.NATIVE)
def test_a_worker_past_its_memory_limit_is_recycled(host: str, bundle: Path, tmp_path: Path) -> None:
    lab.lab_effect_by(host, bundle)
    around = Surroundings(f"memory-{host}")
    assert trials.run_leak(host, bundle, tmp_path)[1] + around.problems() == []


def test_a_plugin_that_leaks_little_is_left_alone(tmp_path: Path) -> None:
    effect = faulty_effect()
    with Executor(effect, workers=1, memory_limit=trials.LIMIT, failure_dir=tmp_path) as executor:
        lab.run_row(executor, Row("leak", ""))
        assert executor.stats.recycled == 0


# ---- how the parent ends

# A failure leaves as success does, SIGTERM ends as SIGKILL does: once is enough for what takes longest.
ENDINGS = [("loop", ending) for ending in endings.ENDINGS] + [
    ("fork", e) for e in ("success", "ctrl-c", "sigkill")
]


@pytest.mark.parametrize(("kind", "ending"), ENDINGS)
def test_nothing_outlives_the_parent(kind: str, ending: str, bundle: Path, tmp_path: Path) -> None:
    assert endings.run_ending(kind, ending, bundle, tmp_path) == []


def test_the_table_names_every_fault_of_the_lab(bundle: Path) -> None:
    """No fault is written and never tried."""
    tried = {
        host: {row.fault for h, row in lab.cases(lab.FAILING + lab.KEPT) if h == host} for host in lab.HOSTS
    }
    for host in ("python", "pedalboard"):
        [fault] = [p for p in lab.lab_effect_by(host, bundle).parameters if p.name == "fault"]
        assert tried[host] == set(fault.choices) - {"none"}
