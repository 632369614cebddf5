"""Our own effects, encoders and estimators keep what `dafxhost.testing` asks, and its checks can fail.

`python benchmarks/conformance_table.py` checks every effect with clips up to a minute; here are all built-in
providers, and of each host a few effects, with shorter clips.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import conformance_effects
from dafxhost.errors import UnknownNameError, UsageError
from dafxhost.registry import registry
from dafxhost.testing import assert_conformant, check_effect, check_estimator, check_names, conformance
from dafxhost.testing.effect_checks import CHECKS
from dafxhost.testing.report import Report
from dafxhost_effects import mda
from hosting import need

QUICK = {"longest": 2.0, "rates": (8000, 44100, 192000)}

test_combo = conformance("mda-combo", provider="builtin")
test_pedalboard_gain = conformance("pedalboard-gain", neutral={"gain_db": 0}, **QUICK)
test_pedalboard_reverb = conformance("pedalboard-reverb", **QUICK)
test_pedalboard_delay = conformance("pedalboard-delay", **QUICK)
test_log_mel = conformance("log-mel", kind="encoder", only=("embeds", "batch", "silence", "saved"))
test_style_statistics = conformance("style-statistics", kind="encoder", only=("embeds", "batch", "saved"))
test_spsa = conformance("spsa", kind="estimator")
test_fd_forward = conformance("fd-forward", kind="estimator")
test_fd_central = conformance("fd-central", kind="estimator")


@pytest.mark.parametrize("name", ["mda-delay", "mda-limiter"])
def test_mda_by_lv2(name: str) -> None:
    need(mda.bundle(name), "mda-lv2")
    assert_conformant(name, provider="lv2", **QUICK)


def test_every_check_has_its_name_in_order() -> None:
    from dafxhost.testing import encoder_checks, estimator_checks

    for kind, checks in (
        ("effect", CHECKS),
        ("encoder", encoder_checks.CHECKS),
        ("estimator", estimator_checks.CHECKS),
    ):
        assert check_names(kind) == tuple(checks)


def lab(behaviour: str, *only: str, **options: object) -> Report:
    return check_effect(conformance_effects.effect(behaviour), only=only or None, **{**QUICK, **options})


def test_a_good_effect_passes_all() -> None:
    report = lab("good", neutral={"gain": 1})
    assert not report.failed and not report.skipped, str(report)
    assert report.check("discrete").text == "2 of 3 values of mode differ in sound"
    assert report.check("latency").text == "0 samples reported; an impulse lines up"
    assert report.to_dict()["conformant"] is True


@pytest.mark.parametrize(
    ("behaviour", "check", "words"),
    [
        ("leaking", "resets", "after other audio"),
        ("hissing", "determinism", "differ by up to"),
        ("late", "latency", "100 samples late"),
        ("boastful", "latency", "100 samples too early"),
        ("humming", "silence", "-20.0 dBFS"),
        ("stumbling", "sample-rates", "at 192000 Hz, neither rendered nor refused by PluginError"),
        ("overflowing", "ranges", "NaN/Inf"),
        ("stubborn", "ranges", "did not take its parameter"),
        ("forgetful", "streaming", "fed in whole blocks"),
        ("crashing", "lengths", "a clip of 1 samples"),
    ],
)
def test_a_broken_effect_fails(behaviour: str, check: str, words: str) -> None:
    neutral = {"gain": 1} if check == "latency" else None
    [found] = lab(behaviour, check, neutral=neutral).checks
    assert found.status == "failed" and words in found.text, str(found)


def test_what_is_no_failure_is_remarked() -> None:
    assert lab("deaf", "live-parameters").checks[0].text == "no effect was heard of gain"
    refusal = lab("fussy", "sample-rates").checks[0]
    assert refusal.status == "passed" and "refuses 192000 Hz" in refusal.text and "96 kHz" in refusal.text
    latent = lab("latent", "latency", neutral={"gain": 1}).checks[0]
    assert (latent.status, latent.text) == ("passed", "100 samples reported; an impulse lines up")


def test_a_delay_cannot_be_told_from_a_latency_without_a_neutral_setting() -> None:
    [found] = lab("late", "latency").checks
    assert found.status == "skipped" and "neutral=" in found.text


def test_bins_that_leak_fail() -> None:
    good = conformance_effects.effect()
    leaky = conformance_effects.Unquantised(good.name, good.parameters, good.provider, "", 1, 1)
    [found] = check_effect(leaky, only=["discrete"]).checks
    assert found.status == "failed" and "within one bin" in found.text


def test_what_does_not_load_fails_once() -> None:
    report = check_effect(conformance_effects.effect("fussy"), rate=192_000, **QUICK)
    assert [c.name for c in report.failed] == ["loads"]
    assert len(report.skipped) == len(check_names()) - 1


def test_assert_names_what_failed() -> None:
    with pytest.raises(AssertionError, match=r"lab-humming is not conformant:\n.*silence"):
        assert_conformant(conformance_effects.effect("humming"), only=["loads", "silence"])


def test_an_estimator_that_forgets_the_distance_fails() -> None:
    from dafxhost.estimators.spsa import SPSA

    class Backwards(SPSA):
        def gradient(self, plan, values):  # type: ignore[no-untyped-def]
            return -super().gradient(plan, values)

    assert [c.name for c in check_estimator(Backwards).failed] == ["unbiased", "bounds"]


def test_requests_that_make_no_sense() -> None:
    with pytest.raises(UnknownNameError, match="conformance check 'silense'; did you mean silence"):
        conformance("mda-combo", skip={"silense": "it hums"})
    with pytest.raises(UsageError, match="reason"):
        conformance("mda-combo", skip={"silence": ""})
    with pytest.raises(UnknownNameError, match="kind"):
        conformance("mda-combo", kind="plugin")
    with pytest.raises(UnknownNameError):
        check_effect("no-such-effect")
    with pytest.raises(UsageError, match="rates"):
        check_effect(conformance_effects.effect(), rates=())
    assert "no-such-effect" not in registry().names("effect")


ITEMS = """
from dafxhost.testing import conformance
import conformance_effects
test_it = conformance(lambda: conformance_effects.effect("humming"), longest=0.5, only={only},
                      skip={{"latency": "no need"}})
"""


def test_pytest_items(tmp_path: Path) -> None:
    """As an author meets them: an item a check, the reason of a failure, remarks with -v."""
    (tmp_path / "test_it.py").write_text(ITEMS.format(only='["loads", "latency", "silence"]'))
    done = _pytest(tmp_path, "-v")
    assert done.returncode == 1
    for line in (
        "test_it.py::test_it[loads] PASSED",
        "test_it.py::test_it[latency] SKIPPED (no need)",
        "test_it.py::test_it[silence] FAILED",
        "effect lab-humming: with silence at its input it goes on sounding at -20.0 dBFS",
        "effect lab-humming: loads: 2 parameters, latency 0 samples at 44100 Hz",
        "1 failed, 1 passed, 1 skipped",
    ):
        assert line in done.stdout, done.stdout


def _pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Its own process, and the plugin by name where this environment was made before there was one.
    import importlib.metadata as metadata
    import os

    named = any(p.name == "dafxhost" for p in metadata.entry_points(group="pytest11"))
    plugin = [] if named else ["-p", "dafxhost.testing.pytest_plugin"]
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *arguments, "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_the_pytest_plugin_is_light() -> None:
    code = (
        "import sys, dafxhost.testing.pytest_plugin\n"
        "print(*({'numpy', 'torch', 'scipy', 'pluggy', 'pytest'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
