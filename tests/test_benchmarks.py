"""The benchmarks work: small runs of each, and what they compute from times. No time is judged here."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import dafxhost
from hosting import need

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import check_regression
import gradients
import measure
import page
import page_tables
import scaling
import soak
import throughput
from bench_effects import calibrated, lab
from gradients_report import distilled
from layouts import LAYOUTS, NO_THREADS, ForbiddenError
from stage import Stage

from lab_effects import lab_effect
from reset_effects import slow_effect

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f'{module} is missing: pip install "dafxhost[bench]"')


@pytest.fixture(autouse=True)
def _no_look_at_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes a second each time."""
    monkeypatch.setattr(measure, "busy_cores", lambda seconds=1.0: 0.0)


RIVALS = [name for name in LAYOUTS if name not in ("alone", "executor")]


def small_stage(layout: str, effect: dafxhost.Effect, **options: Any) -> Stage:
    settings = measure.random_settings(3, 2, len(effect.parameters)) * 0.8  # below the lab's triggers
    return Stage(layout, effect, measure.noise(3, 0.05), settings, measure.RATE, workers=2, **options)


@pytest.fixture(scope="module")
def expected() -> str:
    """SHA-256 of the executor's samples of the small batch."""
    stage = small_stage("executor", lab(passes=0.5))
    stage.close()
    return stage.digest


# ---- layouts


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(n)) if n == "joblib" else n for n in RIVALS])
def test_every_layout_gives_the_executors_samples(name: str, expected: str) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    stage = small_stage(name, lab(passes=0.5))
    wall, plugin = stage.turn(0.01)
    stage.close()
    assert stage.digest == expected
    assert 0 < wall < 60
    assert (0 < plugin <= 2 * wall) if name.startswith("executor") else np.isnan(plugin)
    assert not {c.pid for c in psutil.Process().children(recursive=True)} - before


def test_other_samples_have_another_digest(expected: str) -> None:
    stage = small_stage("loop", lab(passes=1.5))
    stage.close()
    assert stage.digest != expected


@pytest.mark.parametrize("processor", ["Late", "Echo"])
def test_latency_and_state_are_as_in_the_executor(processor: str) -> None:
    digests = set()
    for name in ("executor", "loop"):
        stage = small_stage(name, lab_effect(processor, latency=37))
        stage.close()
        digests.add(stage.digest)
    assert len(digests) == 1


def test_a_real_plugin_gives_the_same_samples() -> None:
    try:
        effect = dafxhost.effect("mda-combo", provider="lv2")
    except dafxhost.errors.EffectUnavailableError:
        need(None, "mda-lv2")
        raise
    row = throughput.compare(effect, 2, 2, 0.1, layouts=("threads", "pipes"), turns=1, turn_seconds=0.01)
    assert all(row["identical"].values())
    assert set(row["times"]) == {"threads", "pipes"}
    assert row["left_out"] == {}


def test_all_sides_reset_as_the_executor_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    effect = slow_effect()  # a new instance takes 10 ms, and a reset of it is exact
    asked: dict[str, str] = {}

    class Noted(Stage):
        def __init__(self, layout: str, *batch: Any, reset: str = "auto", **options: Any) -> None:
            asked[layout] = reset
            super().__init__(layout, *batch, reset=reset, **options)

    monkeypatch.setattr(throughput, "Stage", Noted)
    row = throughput.compare(effect, 2, 1, 0.05, layouts=("loop", "pipes"), turns=1, turn_seconds=0.01)
    assert row["reset"] == "reset"
    assert set(asked.values()) == {"reset"}
    assert {"alone", "executor", "loop", "pipes"} <= set(asked)
    assert all(row["identical"].values())


def test_the_reset_reaches_the_plugin() -> None:
    digests = set()
    for reset in ("fresh", "reset"):
        stage = small_stage("loop", slow_effect(leak="delay"), reset=reset)
        stage.close()
        digests.add(stage.digest)
    assert len(digests) == 2  # the state that this one's reset leaves behind is heard


@pytest.mark.parametrize("provider", NO_THREADS)
def test_threads_are_refused_where_a_host_forbids_them(provider: str) -> None:
    effect = lab()
    with pytest.raises(ForbiddenError, match="thread"):
        small_stage("threads", replace(effect, provider=replace(effect.provider, name=provider)))


@pytest.mark.parametrize("name", ["executor", "loop", "pipes"])
def test_a_layout_that_cannot_start_says_why_and_leaves_nothing(name: str) -> None:
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with pytest.raises(RuntimeError, match=r"no such plugin file|EOFError"):
        small_stage(name, lab_effect("Refuse"))
    assert not {c.pid for c in psutil.Process().children(recursive=True)} - before


# ---- what is computed from times


def test_measurements_are_taken_in_turn() -> None:
    order: list[str] = []
    seen = measure.in_turn({n: lambda n=n: order.append(n) or len(order) for n in "abc"}, turns=2)
    assert "".join(order) == "abcabc"
    assert seen == {"a": [1, 4], "b": [2, 5], "c": [3, 6]}


def test_a_spent_budget_ends_the_turns_but_not_before_the_least() -> None:
    assert len(measure.in_turn({"a": lambda: 0}, turns=9, budget=0.0, least=3)["a"]) == 3


def test_ratios_are_of_the_same_turn() -> None:
    # The machine halves its speed in the middle: each ratio stays.
    assert measure.ratios([2, 2, 4, 4], [1, 1, 2, 2]) == {"median": 2, "low": 2, "high": 2}
    assert measure.summary([1.0, 3.0, float("nan")]) == {"median": 2.0, "low": 1.0, "high": 3.0}
    assert measure.finite_json({"a": [float("nan"), 1 / 3]}) == {"a": [None, 0.33333]}


@pytest.mark.parametrize("wanted", [0.3, 2.0, 5.0])
def test_calibration_hits_its_target(wanted: float) -> None:
    rng = np.random.default_rng(0)

    def plugin_milliseconds(effect: dafxhost.Effect) -> float:
        # Not linear, and 2 % off at random.
        passes = effect.provider.options["passes"]
        return (0.05 + 0.12 * passes + 0.001 * passes**2) * rng.uniform(0.98, 1.02)

    effect, took = calibrated(wanted, plugin_milliseconds)
    passes = effect.provider.options["passes"]
    assert 0.05 + 0.12 * passes + 0.001 * passes**2 == pytest.approx(wanted, rel=0.07)
    assert took == pytest.approx(wanted, rel=0.04)


def test_a_target_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def took(effect: dafxhost.Effect, *batch: float) -> float:
        return 0.5 + 0.1 * effect.provider.options["passes"]

    monkeypatch.setattr(throughput, "plugin_milliseconds", took)
    _, remark = throughput.find("lab 0.3 ms", 1, 1, 0.1)
    assert "more than 10 % off" in remark


def test_the_work_effect_takes_a_fraction_of_a_pass() -> None:
    clips = measure.noise(1, 1.0)
    half, one = np.zeros((2, clips.shape[2]), np.float32), np.zeros((2, clips.shape[2]), np.float32)
    with dafxhost.Executor(lab(passes=0.5), workers=1) as executor:
        half = executor.render(clips, np.full((1, 1, 1), 1.0), measure.RATE)[0, 0, 0]
    with dafxhost.Executor(lab(passes=1.0), workers=1) as executor:
        one = executor.render(clips, np.full((1, 1, 1), 1.0), measure.RATE)[0, 0, 0]
    assert np.mean(half == one) == pytest.approx(0.5, abs=0.15)


# ---- the programs


def test_throughput_writes_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(throughput, "find", lambda *batch: (lab(passes=0.5), "a remark"))
    out = tmp_path / "out.json"
    given = ["--effect", "lab 2 ms", "--layouts", "loop", "--batch", "2", "--seconds", "0.05", "--turns", "2"]
    assert throughput.main([*given, "--turn-seconds", "0.01", "--json", str(out)]) == 0
    [row] = json.loads(out.read_text())["rows"]
    assert row["identical"] == {"alone": True, "executor": True, "executor, no copy": True, "loop": True}
    assert row["share_of_ideal"]["median"] > 0
    assert "a remark" in capsys.readouterr().out


def test_throughput_fails_where_samples_differ(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    rates = {"ideal": 1.0, "executor": 1.0}
    one = {"median": 1.0, "low": 1.0, "high": 1.0}
    row = {
        "name": "x",
        "remark": "",
        "plugin_ms": one,
        "share_of_ideal": one,
        "share_of_ideal_no_copy": one,
        "renders_per_second": rates,
        "identical": {"executor": True, "joblib": False},
    }
    report = {"machine": measure.machine(), "clips": 1, "seconds": 1.0, "settings": 1, "rows": [row]}
    monkeypatch.setattr(throughput, "run", lambda options: report)
    assert throughput.main([]) == 1
    assert "x: joblib" in capsys.readouterr().err


def test_start_up_is_measured_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "STARTED", ("executor", "loop"))
    found = throughput.startup(lab(), clips=2, seconds=0.05, turns=1, preload=("wave",))
    assert found["times"]["executor"]["median"] == 1.0
    assert found["seconds"]["executor"]["median"] > found["seconds"]["loop"]["median"] > 0


@pytest.mark.slow
@needs("matplotlib")
def test_scaling_measures_and_draws(tmp_path: Path) -> None:
    report = scaling.run(["lab"], turns=1, small=True)
    assert [p["x"] for p in report["curves"]["lab"]["batch"]["points"]] == [1, 2, 4]
    assert not report["worker"]["facts"]["torch"]
    cost = report["worker"]["nothing loaded"]
    assert 0 < cost["start_seconds"]["median"] < 30
    assert 5 < cost["uss_mib"] <= cost["pss_mib"] <= cost["rss_mib"]
    files = scaling.plot(measure.finite_json(report), tmp_path)
    assert len(files) == 4
    for file in files:
        check_plot(file)
    assert "length of a clip (s)" in (tmp_path / "clip_length.svg").read_text()


def check_plot(file: Path) -> None:
    """Valid SVG, text as text, nothing black or white that one of the two kinds of page would swallow."""
    text = file.read_text()
    ElementTree.fromstring(text)
    assert "<text" in text
    assert not [colour for colour in ("#ffffff", "#000000") if colour in text]


@needs("matplotlib")
def test_plots_do_not_change_with_the_day(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        page.plots.draw(tmp_path / name, lambda axes: axes.plot([1, 2], [1, 2]))
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


SOAK = ["--renders", "2400", "--clips", "4", "--settings", "8", "--seconds", "0.01"]


@pytest.mark.slow
@needs("matplotlib")
def test_the_soak_finds_a_leak(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "soak.json"
    assert soak.main([*SOAK, "--effect", "lab:Leak", "--json", str(out), "--plots", str(tmp_path)]) == 1
    assert "anonymous of lab:Leak, worker 1 grows" in capsys.readouterr().err
    check_plot(tmp_path / "soak.svg")
    slopes = json.loads(out.read_text())["slopes"]
    # 32 KB of each render, shared out among the workers; at first out of memory that was free already.
    total = sum(s["anonymous"]["slope"] for name, s in slopes.items() if "worker" in name)
    assert total == pytest.approx(32_000, rel=0.15)


@pytest.mark.slow
def test_the_soak_passes_what_does_not_leak() -> None:
    assert soak.main([*SOAK, "--effect", "lab:Work"]) == 0


def test_slopes_and_their_errors() -> None:
    rng = np.random.default_rng(0)
    renders = np.arange(1, 401) * 500.0
    hits = 0
    for _ in range(200):
        # Correlated noise of 100 KiB around a slope of 5 KiB in 1,000 renders.
        noise = np.zeros(400)
        for i, step in enumerate(rng.standard_normal(400)):
            noise[i] = 0.8 * (noise[i - 1] if i else 0.0) + 60.0 * step
        s = soak.fit(renders, 5e-3 * renders + noise)
        hits += abs(s.slope - 5.0) < 2.0 * s.error
    assert 180 <= hits <= 198  # about 95 %: plain least squares would hit about half of the time
    flat = soak.fit(renders, np.where(renders < 20000, 0.0, 1000.0))
    assert flat.slope == pytest.approx(0.0, abs=1e-9)
    assert not flat.exceeds(20.0)
    assert np.isnan(soak.fit(renders[:5], renders[:5]).slope)


def test_a_soak_too_short_for_a_slope_is_no_success(capsys: Any) -> None:
    given = ["--renders", "64", "--clips", "4", "--settings", "8", "--seconds", "0.01"]
    assert soak.main([*given, "--effect", "lab:Work"]) == 1
    assert "too few samples" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "chosen"),
    [
        ("bench_gradients.py", "test_estimated_gradient and K and 1 and loss"),
        ("bench_executor.py", "test_many_short_clips"),
    ],
)
def test_pytest_benchmark_files(file: str, chosen: str, tmp_path: Path) -> None:
    if file == "bench_gradients.py":
        need(_installed("mda-combo"), "mda-lv2")
    raw = tmp_path / "raw.json"
    # pytest-benchmark measures nothing beside other tests, unless it does not know of them.
    alone = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(BENCHMARKS / file)]
    done = subprocess.run(
        [*command, "-k", chosen, f"--benchmark-json={raw}"],
        env={**alone, "DAFXHOST_BENCH_SMALL": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout
    report = json.loads(raw.read_text())
    if file == "bench_gradients.py":
        [(name, own)] = distilled(report)["estimators"].items()
        assert name == "SPSA, K = 1"
        assert own["renders"] == 3
        assert own["loss"]["median"] > 0
    else:
        [one] = report["benchmarks"]
        assert {"share of ideal", "times loop", "times pipes"} <= set(one["extra_info"])


def _installed(name: str) -> bool:
    try:
        dafxhost.effect(name)
    except dafxhost.errors.DafxhostError:
        return False
    return True


# ---- the page


def test_the_page_is_what_the_results_say() -> None:
    assert page.main(["--check"]) == 0


def section(text: str, name: str) -> str:
    return text.partition(f"<!-- begin {name} -->")[2].partition(f"<!-- end {name} -->")[0]


def results() -> dict[str, Any]:
    def three(x: float) -> dict[str, float]:
        return {"median": x, "low": x - 0.01, "high": x + 0.01}

    row = {
        "name": "lab 2 ms",
        "effect": "lab 2 ms",
        "reset": "state",
        "remark": "it drifted",
        "plugin_ms": three(2.0),
        "plugin_ms_in_parallel": three(2.1),
        "renders_per_second": {"executor": 900.0, "ideal": 1000.0, "pipes": 280.0},
        "share_of_ideal": three(0.9),
        "share_of_ideal_no_copy": three(0.96),
        "share_seen_by_workers": three(0.97),
        "times": {"loop": three(1.9), "pipes": three(3.2)},
        "identical": {"executor": True, "loop": True},
        "left_out": {"threads": "they are forbidden"},
    }
    return {
        "throughput": {
            "machine": measure.machine(),
            "clips": 32,
            "settings": 1,
            "seconds": 5.0,
            "sample_rate": 44100,
            "allocator_of_rivals": "worker",
            "rows": [row],
            "missing": {"zam-comp": "it is not installed"},
            "startup": {
                "effect": "lab 2 ms",
                "clips": 32,
                "clip_seconds": 5.0,
                "seconds": {n: three(2.0) for n in throughput.STARTED},
                "times": {n: three(3.0) for n in throughput.STARTED},
            },
        },
        "gradients": {"estimators": {"SPSA, K = 1": {"renders": 3, "loss": three(0.97)}}, "losses": {}},
    }


def test_the_page_is_made_from_results_and_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    before = page.PAGE.read_text()
    text = page.written(before, results(), tmp_path)
    strip = page.re.compile(r"(<!-- begin \w+ -->).*?(<!-- end)", page.re.S)
    assert strip.sub(r"\1\2", text) == strip.sub(r"\1\2", before)
    table = section(text, "throughput")
    for part in (
        "0.90 (0.89 to 0.91)",
        "proven reset 'state'",
        "it drifted",
        "they are forbidden",
        "it is not installed",
        "bit for bit",
    ):
        assert part in table
    aims = section(text, "aims")
    assert "0.90, **missed** (0.95)" in aims
    assert "0.97, met (0.95)" in aims
    assert "| 3.57 |" in aims  # what no layout could exceed
    assert "3.20, met (3.00)" in aims
    assert "3.00, **missed** (3.20)" in aims  # no more with start-up than without
    assert "0.97 (0.96 to 0.98)" in section(text, "gradients")
    assert page_tables.NOT_YET in section(text, "soak")
    assert page.written(text, results(), tmp_path) == text


def test_other_samples_are_told_on_the_page(tmp_path: Path) -> None:
    found = results()
    found["throughput"]["rows"][0]["identical"]["loop"] = False
    assert "Other samples than the executor's: lab 2 ms by loop" in page_tables.throughput(found, tmp_path)


def test_a_page_without_its_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no section"):
        page.written("# Benchmarks\n", {}, tmp_path)


@needs("matplotlib")
def test_a_stale_page_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "page.md"
    copy.write_text(page.PAGE.read_text().replace("<!-- end soak -->", "0.99\n<!-- end soak -->"))
    given = ["--page", str(copy), "--check"]
    assert page.main(given) == 1
    assert page.main(["--page", str(copy), "--plots", str(tmp_path)]) == 0


def test_a_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(page, "busy_cores", lambda seconds: 1.0 * measure.cores())
    monkeypatch.setattr(page, "run", lambda *step: pytest.fail("it measured"))
    assert page.main(["--run"]) == 2
    assert "--anyway" in capsys.readouterr().err


def test_a_step_leaves_its_results_and_how_calm_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(page.STEPS, "soak", ["soak.py", *SOAK, "--effect", "lab:Work"])
    assert page.run(["soak"], tmp_path) == 0
    steps = json.loads((tmp_path / "run.json").read_text())["steps"]
    assert 0 < steps["soak"]["minutes"] < 2
    assert 0 <= steps["soak"]["others_cores"] <= (psutil.cpu_count() or 1)
    assert "2,4" in page_tables.soak(page.load(tmp_path), tmp_path)


# ---- the regression check


RATIOS = {"share of ideal": 0.9, "times pipes": 3.0}


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the check against a baseline of `RATIOS`, with the ratios given for each measurement; `check.left`
    are those that were not asked for."""
    monkeypatch.setattr(check_regression, "calm", lambda: True)
    monkeypatch.setattr(check_regression, "confine", lambda: True)
    monkeypatch.setattr(check_regression, "PAUSE", 0.0)
    baseline = tmp_path / "baseline.json"
    baseline.write_text(json.dumps({"machine": measure.machine(), "ratios": RATIOS}))

    def run(*measured: dict[str, float], more: tuple[str, ...] = ()) -> int:
        left = run.left = list(measured)  # type: ignore[attr-defined]
        monkeypatch.setattr(check_regression, "GROUPS", [lambda: left.pop(0)])
        return check_regression.main(["--baseline", str(baseline), *more])

    run.baseline = baseline  # type: ignore[attr-defined]
    return run


SLOW = {"share of ideal": 0.72, "times pipes": 3.3}


def test_a_lost_tenth_passes_and_a_lost_fifth_fails(check: Any, capsys: Any) -> None:
    assert check({"share of ideal": 0.81, "times pipes": 3.3}, SLOW) == 0
    assert check.left == [SLOW], "what passes is not measured again"
    assert check(*[SLOW] * 5) == 1
    assert check.left == [SLOW] * 2, "after three of five there is nothing to find out"
    assert "worse than 0.85 of the baseline's lowest" in capsys.readouterr().out


def test_bad_moments_are_forgiven_and_a_lucky_one_is_no_pass(check: Any) -> None:
    assert check(SLOW, RATIOS, SLOW, RATIOS, RATIOS) == 0
    assert check.left == []
    assert check(SLOW, RATIOS, RATIOS, RATIOS, SLOW) == 0
    assert check.left == [SLOW]
    assert check(SLOW, RATIOS, SLOW, RATIOS, SLOW) == 1


def test_a_missing_ratio_or_none_at_all_is_not_forgiven(check: Any) -> None:
    missing = {"share of ideal": 0.9}
    assert check(missing) == 1
    nothing = {"share of ideal": float("nan"), "times pipes": 3.0}
    assert check(*[nothing] * 3) == 1
    assert check(nothing, *[RATIOS] * 3) == 0


def test_only_the_group_that_is_worse_is_measured_again(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def take(name: str, value: float) -> dict[str, float]:
        calls.append(name)
        return {name: value}

    groups = [lambda: take("share of ideal", 0.5), lambda: take("times pipes", 3.0)]
    monkeypatch.setattr(check_regression, "GROUPS", groups)
    now = check_regression.settled(RATIOS)
    assert calls == ["share of ideal"] * 3 + ["times pipes"]
    assert check_regression.worse(now, RATIOS) == ["share of ideal"]


def test_noise_that_the_baseline_has_met_is_no_slowdown(check: Any) -> None:
    report = {"machine": measure.machine(), "ratios": RATIOS, "lowest": {**RATIOS, "share of ideal": 0.8}}
    check.baseline.write_text(json.dumps(report))
    assert check({"share of ideal": 0.69, "times pipes": 3.0}) == 0
    assert check(*[{"share of ideal": 0.67, "times pipes": 3.0}] * 3) == 1


def test_a_baseline_without_its_lowest_is_read(check: Any, capsys: Any) -> None:
    ratios = {**RATIOS, "autograd over SPSA, loss space": 1.4}
    report = {"machine": measure.machine(), "ratios": ratios, "spread": {"share of ideal": 0.9}}
    check.baseline.write_text(json.dumps(report))
    assert check({**RATIOS, "share of ideal": 0.9 * 0.9 * 0.86, "parts": 0.8}) == 0
    assert "parts" in (out := capsys.readouterr().out)
    assert "not in the baseline" in out
    assert check(*[{**RATIOS, "share of ideal": 0.9 * 0.9 * 0.84}] * 3) == 1


def test_a_baseline_keeps_how_sure_it_is(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_regression, "WRITTEN", 3)
    each = [{"a": 1.8}, {"a": 2.0}, {"a": 1.9}]
    assert check(*each, more=("--write",)) == 0
    written = json.loads(check.baseline.read_text())
    assert written["ratios"] == {"a": 1.9}
    assert written["lowest"] == {"a": 1.8}
    assert written["spread"] == {"a": 0.9}


def test_no_baseline_is_made_of_measurements_far_apart(
    check: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(check_regression, "WRITTEN", 3)
    before = check.baseline.read_text()
    assert check({"a": 1.0}, {"a": 2.0}, {"a": 1.5}, more=("--write",)) == 1
    assert "nothing written" in capsys.readouterr().out
    assert check.baseline.read_text() == before


def test_a_missing_baseline_is_no_success(check: Any, capsys: Any) -> None:
    check.baseline.unlink()
    assert check() == 1
    assert "--write" in capsys.readouterr().out


def test_a_check_that_cannot_be_made_says_so(
    check: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(check_regression, "calm", lambda: False)
    assert check() == 0
    assert "passed over" in capsys.readouterr().out
    monkeypatch.setattr(check_regression, "confine", lambda: False)
    assert check() == 0
    assert "one core" in capsys.readouterr().out


def test_another_processor_is_not_compared_with(check: Any, capsys: Any) -> None:
    check.baseline.write_text(json.dumps({"machine": {"processor": "another"}, "ratios": RATIOS}))
    slow = {"share of ideal": 0.1, "times pipes": 0.1}
    assert check() == 0
    assert "the baseline is of another" in capsys.readouterr().out
    assert check(*[slow] * 3, more=("--anyway",)) == 1


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measurements of all ratios in seconds, with more noise than the real ones have."""
    small = {"LONG": (1.0, 2, 1, 0.05), "SHORT": (0.0, 2, 1, 0.05), "TINY": (0.0, 4, 1, 0.01)}
    for name, value in {**small, "TURNS": 1, "TURN_SECONDS": 0.01, "PAIRS": 2}.items():
        monkeypatch.setattr(check_regression, name, value)
    monkeypatch.setattr(check_regression, "PAUSE", 0.0)


@pytest.mark.usefixtures("quickly")
def test_the_ratios_can_be_measured_and_are_those_of_the_baseline() -> None:
    found = check_regression.measure()
    assert np.float32(1e-39) * np.float32(1.0) > 0, "denormals are flushed in this process from now on"
    assert all(value > 0 for value in found.values())
    if not check_regression.BASELINE.exists():
        pytest.skip("no baseline yet: python benchmarks/check_regression.py --write, on a calm machine")
    compared = check_regression.lowest_of(json.loads(check_regression.BASELINE.read_text()))
    assert compared.keys() <= found.keys()


@pytest.mark.usefixtures("quickly")
def test_a_step_that_takes_half_as_much_again_is_found(
    check: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Nothing but the slowdown is made up: the step burns half of its own processor time once more."""
    name = "parts over SPSA step, loss space"
    monkeypatch.setattr(check_regression, "GROUPS", [check_regression.loss_ratios])
    monkeypatch.setattr(check_regression, "PAIRS", 10)
    monkeypatch.setattr(check_regression, "MEASURED", 1)  # it is in every measurement
    before = check_regression.loss_ratios()[name]
    check.baseline.write_text(json.dumps({"machine": measure.machine(), "ratios": {name: before}}))
    real = gradients.estimated_step

    def slower(*given: Any) -> Any:
        step = real(*given)

        def both() -> None:
            began = time.process_time()
            step()
            until = time.process_time() + 0.5 * (time.process_time() - began)
            while time.process_time() < until:
                pass

        return both

    monkeypatch.setattr(gradients, "estimated_step", slower)
    assert check_regression.main(["--baseline", str(check.baseline)]) == 1
    assert f"{name} " in capsys.readouterr().out
