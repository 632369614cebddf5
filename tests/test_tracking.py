"""Trackers: what they are told, what their files hold, and that a broken one stops nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch

import tracking_doubles as doubles
from dafxhost import registry as reg
from dafxhost import tracking
from dafxhost.errors import RegistryError, UnknownNameError, UsageError
from dafxhost.registry import Entry, Registry, TrackerSpec
from dafxhost.tracking import TrackedRun, Tracker, Tracking, make_trackers, tracker_names
from dafxhost.training import trainer
from dafxhost.training.config import TrainConfig
from dafxhost.training.pictures import spectrograms
from dafxhost.training.recording import GradientWatch
from dafxhost.training.trainer import train
from training_effects import shaper_effect, write_audio

RATE = 16000
SMALL = TrainConfig(
    effect="test-shaper", sample_rate=RATE, samples=8192, loss_samples=4096,
    encoder_options={"sample_rate": RATE}, hidden=16, depth=1, bins=12, pool=24, supervised_steps=20,
    end_to_end_steps=4, supervised_batch=8, batch=2, directions=1, alternatives=1, epoch_steps=2,
    validation=4,
    corpus_share=0.0, workers=1, max_minutes=5.0,
)  # fmt: skip
Start = Callable[..., Tracking]


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doubles' trackers beside the real ones, as if a package offered them."""
    found = Registry()
    for name in ("keeping", "no-network", "full-disk", "leaving", "hanging", "raising"):
        attribute = name if name == "raising" else "".join(w.capitalize() for w in name.split("-"))
        spec = TrackerSpec(name, f"tracking_doubles:{attribute}", "A test's.")
        found.entries.append(Entry(spec, "tests", "1"))
    found.entries.append(Entry(TrackerSpec("no-tracker", "builtins:dict"), "tests", "1"))
    monkeypatch.setattr(reg, "registry", lambda: found)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(*trackers)`: a Tracking of a run in tmp_path/run; its problems are in `.problems`."""
    made: list[Tracking] = []

    def begin(*trackers: Tracker, **options: Any) -> Tracking:
        problems: list[tuple[str, str]] = []
        named = {type(t).__name__.lower(): t for t in trackers}
        following = Tracking(
            named, tmp_path / "run", {"effect": "mda-delay"},
            on_problem=lambda *said: problems.append(said), **options,
        )  # fmt: skip
        following.problems = problems  # type: ignore[attr-defined]
        made.append(following)
        return following

    yield begin
    doubles.Hanging.release.set()
    for one in made:
        one.end("failed", patience=5)
    doubles.Keeping.told.clear()
    doubles.Hanging.release.clear()


def problems(following: Tracking) -> list[tuple[str, str]]:
    return following.problems  # type: ignore[attr-defined]


def test_a_tracker_is_told_in_order_and_only_what_is_finite(start: Start, tmp_path: Path) -> None:
    following = start(doubles.Keeping(), step=7, resumed=True)
    following.scalars(7, {"a": 1, "b": float("nan"), "c": None, "d": np.float32(2), "e": True})
    following.histograms(8, {"p": np.array([0.5, np.inf, 1.0]), "q": np.array([np.nan])})
    following.audio(8, {"x": np.array([[0.5, np.nan, 3.0]])}, 100)
    following.end("finished", patience=30)
    following.end("failed")
    told = doubles.Keeping.told["run"]
    assert [name for name, _ in told] == ["start", "scalars", "histograms", "audio", "end"]
    run = told[0][1]
    assert run == TrackedRun("run", tmp_path / "run/tracking/keeping", {"effect": "mda-delay"}, 7, True)
    assert run.folder.is_dir()
    assert told[1][1] == (7, {"a": 1.0, "d": 2.0})
    assert told[2][1][1].keys() == {"p"} and told[2][1][1]["p"].tolist() == [0.5, 1.0]
    assert told[3][1][1]["x"].tolist() == [[0.5, 0.0, 1.0]]
    assert told[4][1] == "finished" and problems(following) == []


def test_whoever_fails_is_named_once_and_left_out(start: Start) -> None:
    following = start(doubles.NoNetwork(), doubles.FullDisk(), doubles.Leaving(), doubles.Keeping())
    for step in range(50):
        following.scalars(step, {"a": step})
    following.end("finished", patience=30)
    assert sorted(problems(following)) == [
        ("fulldisk", "OSError: [Errno 28] No space left on device"),
        ("leaving", "SystemExit: 3"),
        ("nonetwork", "ConnectionError: no network"),
    ]
    assert sum(name == "scalars" for name, _ in doubles.Keeping.told["run"]) == 50


def test_one_that_hangs_holds_up_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PENDING", 20)
    following = start(doubles.Hanging())
    for step in range(40):
        following.scalars(step, {"a": step})
    assert problems(following) == [("hanging", "it hangs: 20 records are waiting for it")]
    assert not following.active
    slow = start(doubles.Hanging())
    slow.scalars(0, {"a": 0})
    slow.end("finished", patience=0.1)
    assert [name for name, _ in problems(slow)] == ["hanging"]


def test_names() -> None:
    assert tracker_names(" wandb, tensorboard ,") == ["wandb", "tensorboard"]
    assert tracker_names("") == tracker_names("none") == []
    with pytest.raises(UsageError, match="'wandb' is named twice"):
        tracker_names("wandb,wandb")


def test_what_cannot_be_made_is_said_before_anything_is_trained(
    registered: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for wrong, error, words in (
        ("tensorbord", UnknownNameError, "did you mean tensorboard"),
        ("no-tracker", RegistryError, "gave dict, which is no Tracker"),
        ("raising", RegistryError, "ValueError: not today"),
    ):
        with pytest.raises(error, match=words):
            train(TrainConfig(effect="mda-delay", track=wrong), runs_dir=tmp_path / "runs")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(RegistryError, match=r'pip install "dafxhost\[wandb\]"'):
        make_trackers("wandb")
    assert not (tmp_path / "runs").exists()


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_audio(tmp_path_factory.mktemp("audio"), files=3)


def test_training_goes_on_without_broken_trackers_and_resumes_the_others(
    audio: Path, tmp_path: Path, registered: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "find_effect", lambda name, provider=None: shaper_effect())
    events: list[dict[str, Any]] = []

    def stop(event: dict[str, Any]) -> None:
        events.append(event)
        if event["event"] == "step" and event["phase"] == "end-to-end" and event["step"] == 3:
            raise KeyboardInterrupt

    config = SMALL.replace(data=str(audio), track="keeping,no-network,full-disk,tensorboard")
    with pytest.raises(KeyboardInterrupt):
        train(config, run_dir=tmp_path / "run", on_event=stop)
    failed = [(e["name"], e["problem"].split(":")[0]) for e in events if e["event"] == "tracker"]
    assert sorted(failed) == [("full-disk", "OSError"), ("no-network", "ConnectionError")]
    told = doubles.Keeping.told.pop("run")
    assert told[-1] == ("end", "interrupted") and not told[0][1].resumed

    train(resume=tmp_path / "run")
    again = doubles.Keeping.told.pop("run")
    assert again[0][1].resumed and again[0][1].step == 20 + 3
    assert again[-1] == ("end", "finished")
    _check_told(told)
    _check_events(tmp_path / "run/tracking/tensorboard")
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert lines[0]["gradient_cosine"] is None  # of the supervised phase
    assert -1 <= lines[1]["gradient_cosine"] <= 1
    assert all(sorted(values) == values for values in lines[1]["settings"].values())
    assert set(lines[1]["settings"]) == {"tone", "mode"}
    kept = TrainConfig.from_toml(tmp_path / "run/config.toml")
    assert kept.track == config.track


def _check_told(told: list[tuple[str, Any]]) -> None:
    """What a training of 20 and 2 steps has to record."""
    scalars: dict[str, list[tuple[int, float]]] = {}
    for kind, what in told:
        for name, value in what[1].items() if kind == "scalars" else ():
            scalars.setdefault(name, []).append((what[0], value))
    assert [step for step, _ in scalars["validation/mrstft"]] == [20, 22]
    assert [step for step, _ in scalars["train/loss"]] == [20, 21, 22, 23]
    for name in ("train/gradient_norm", "train/rate", "throughput/renders_per_second"):
        assert scalars[name][-1][1] > 0
    assert [step for step, _ in scalars["train/gradient_cosine"]] == [22, 23]  # the first step has none
    ratio, own, alone = (
        scalars[f"validation/{n}"][0][1] for n in ("of_input_left_alone", "mrstft", "input_left_alone")
    )
    assert ratio == pytest.approx(own / alone)
    histograms = [what for kind, what in told if kind == "histograms"]
    assert set(histograms[0][1]) == {
        "settings/tone", "settings/mode", "settings_true/tone", "settings_true/mode",
    }  # fmt: skip
    assert len(histograms[1][1]["settings/tone"]) == 4 and len(histograms[1][1]) == 2
    heard = [what for kind, what in told if kind == "audio"]
    assert {"example_0/input", "example_0/reference", "example_0/target", "example_0/output"} <= set(
        heard[0][1]
    )
    assert {name.partition("/")[2] for name in heard[1][1]} == {"output"}
    clip = heard[0][1]["example_0/output"]
    assert clip.shape == (1, 8192) and 0.2 < np.abs(clip).max() < 0.3 and heard[0][2] == RATE
    pictures = [what for kind, what in told if kind == "pictures"]
    picture = pictures[0][1]["example_0/input_output_target"]
    assert picture.dtype == np.uint8 and picture.shape[2] == 3 and picture.std() > 10


def _check_events(folder: Path) -> None:
    """TensorBoard's own reader finds each step once, though the third was trained twice."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"audio": 0, "histograms": 0, "scalars": 0})
    reader.Reload()
    tags = reader.Tags()
    assert len(list(folder.iterdir())) == 2
    losses = [e.step for e in reader.Scalars("train/loss")]
    assert losses == sorted(set(losses)) and losses[-1] == 24
    assert "settings/tone" in tags["histograms"] and "example_0/input" in tags["audio"]
    assert reader.Histograms("settings/tone")[0].histogram_value.num == 4
    assert reader.Audio("example_0/output")[0].sample_rate == RATE
    assert "example_0/input_output_target" in tags["images"]


SERVICES = """
import json, sys, time
from pathlib import Path
import numpy as np, psutil
from dafxhost.tracking import Tracking, make_trackers
folder, started = Path(sys.argv[1]), []
for steps in ((0, 1, 2), (2, 3)):
    t = Tracking(make_trackers("wandb,trackio"), folder, {"effect": "mda-delay"}, step=steps[0],
                 resumed=steps[0] > 0, on_problem=lambda *said: print("problem", *said))
    for step in steps:
        t.scalars(step, {"train/loss": 5.0 - step})
    t.histograms(step, {"settings/tone": np.linspace(0, 1, 20)})
    t.audio(step, {"example_0/output": np.sin(np.arange(4000) / 9)[None].astype(np.float32) / 2}, 8000)
    t.pictures(step, {"example_0/picture": np.zeros((20, 30, 3), np.uint8)})
    until = time.monotonic() + 100
    while not (children := psutil.Process().children(recursive=True)) and time.monotonic() < until:
        time.sleep(0.02)
    started += [child.pid for child in children]
    t.end("finished")
from trackio.sqlite_storage import SQLiteStorage
runs = SQLiteStorage.get_runs("dafxhost")
logs = SQLiteStorage.get_logs("dafxhost", "run")
losses = [(entry["step"], entry["train/loss"]) for entry in logs if "train/loss" in entry]
Path("read.json").write_text(json.dumps({"runs": runs, "losses": losses, "started": started}))
"""


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a process of its own tracked run/, ended, and resumed it, with the real services."""
    folder = tmp_path_factory.mktemp("services")
    own = {"HOME": str(folder), "WANDB_MODE": "offline", "TRACKIO_DIR": str(folder / "trackio")}
    done = subprocess.run(
        [sys.executable, "-c", SERVICES, "run"], capture_output=True, text=True, timeout=250, cwd=folder,
        env={**os.environ, **own},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "", done.stdout  # neither problems nor what a service has to say
    return folder


def test_wandb_offline_writes_a_run_and_goes_on_with_it(services: Path) -> None:
    known = (services / "run/tracking/wandb/id").read_bytes().strip()
    written = [path.read_bytes() for path in services.glob("run/tracking/wandb/wandb/offline-run-*/*.wandb")]
    assert len(written) == 2
    assert all(b"train/loss" in data and b"settings/tone" in data and known in data for data in written)
    assert {".wav", ".png"} <= {p.suffix for p in services.glob("run/tracking/wandb/**/media/*/*/*")}


def test_the_services_processes_end_with_ours(services: Path) -> None:
    started = json.loads((services / "read.json").read_text())["started"]
    assert started, "wandb has worked in a process of its own so far"
    assert not [pid for pid in started if psutil.pid_exists(pid)]


def test_trackio_reads_back_one_run(services: Path) -> None:
    read = json.loads((services / "read.json").read_text())
    assert read["runs"] == ["run"]
    assert sorted(map(tuple, read["losses"])) == [(0, 5.0), (1, 4.0), (2, 3.0), (2, 3.0), (3, 2.0)]
    assert {p.suffix for p in services.glob("trackio/media/**/*")} >= {".wav", ".png"}


def test_wandb_without_a_key_is_given_up_and_asks_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dafxhost.trackers.wandb import WeightsAndBiases

    class NoKey:
        class settings:
            api_key = None

    class Service:
        @staticmethod
        def setup() -> type[NoKey]:
            return NoKey

    tracker = WeightsAndBiases.__new__(WeightsAndBiases)
    tracker._wandb = Service
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    following = start(tracker)
    following.end("finished", patience=30)
    [(name, problem)] = problems(following)
    assert name == "weightsandbiases" and "wandb login" in problem


def test_spectrograms_share_a_scale_and_stand_below_each_other() -> None:
    t = np.arange(RATE) / RATE
    loud = np.sin(2 * np.pi * 1000 * t)[None].astype(np.float32)
    picture = spectrograms([loud, 0.01 * loud, loud[:, :100]], RATE).astype(int)
    height = (picture.shape[0] - 2 * 4) // 3
    first, second = picture[:height].sum(axis=2), picture[height + 4 : 2 * height + 4].sum(axis=2)
    assert first.max() > second.max() + 100  # 40 dB quieter is darker
    brightest = first[:, 160].argmax()
    expected = (1 - np.log(1000 / 40) / np.log(RATE / 2 / 40)) * (height - 1)
    assert abs(brightest - expected) < 2


def test_the_tracker_in_the_docs_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: Start) -> None:
    text = (Path(__file__).resolve().parent.parent / "docs/tracking.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].partition("```")[0]
    (tmp_path / "my_tracker.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    import my_tracker  # type: ignore[import-not-found]

    [spec] = my_tracker.dafxhost_trackers()
    following = start(spec.load()())
    following.scalars(3, {"train/loss": 0.5})
    following.end("finished", patience=30)
    assert (tmp_path / "run/tracking/csvtracker/numbers.csv").read_text() == "3,train/loss,0.5\n"
    assert problems(following) == []


def test_the_gradients_cosine_is_that_of_all_of_them_together() -> None:
    module = torch.nn.Linear(3, 2)
    watch, generator, seen = GradientWatch(module), torch.Generator().manual_seed(1), []
    for _ in range(3):
        for p in module.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        seen.append(torch.cat([p.grad.flatten().clone() for p in module.parameters() if p.grad is not None]))
        watch.look()
        if len(seen) > 1:
            expected = torch.nn.functional.cosine_similarity(seen[-1], seen[-2], dim=0)
            assert watch.cosine == pytest.approx(float(expected), abs=1e-6)
        else:
            assert watch.cosine is None
    assert watch.take() is not None and watch.take() is None
