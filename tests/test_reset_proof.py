"""Instances are kept and reset where that gives the same samples, and made anew where it does not."""

from __future__ import annotations

import numpy as np
import pytest

import dafxhost
from dafxhost import Executor
from dafxhost.errors import EffectUnavailableError, RepeatabilityWarning, UnknownNameError
from reset_effects import slow_effect

RATE = 8000


def jobs(rows: int, columns: int = 1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((rows, 1, 800)).astype(np.float32), rng.random((rows, columns, 2))


def test_an_exact_reset_is_used_and_gives_the_same_samples():
    audio, settings = jobs(16, 4)
    with Executor(slow_effect(), workers=2, reset="fresh") as executor:
        expected = executor.render(audio, settings, RATE)
        fresh = executor.stats.plugin_seconds
        assert executor.prove_reset(RATE).policy == "fresh"
    with Executor(slow_effect(), workers=2) as executor:
        assert np.array_equal(executor.render(audio, settings, RATE), expected)
        assert executor.stats.plugin_seconds < fresh / 4
        proof = executor.prove_reset(RATE)
        assert proof.policy == "reset" and proof.fresh_seconds > 0.009 > proof.seconds
        assert executor.unrepeatable is None


def test_few_renders_are_not_worth_the_trials(monkeypatch):
    audio, settings = jobs(4)
    with Executor(slow_effect(), workers=1) as executor:
        monkeypatch.setattr(type(executor), "prove_reset", lambda *_: pytest.fail("tried"))
        executor.render(audio, settings, RATE)


def test_a_delay_line_that_a_reset_leaves_is_found():
    audio, settings = jobs(16, 4)
    with Executor(slow_effect(leak="delay"), workers=2) as executor:
        wet = executor.render(audio, settings, RATE)
        proof = executor.prove_reset(RATE)
        assert proof.policy == "fresh" and "leaves state behind: samples differ" in proof.reasons["reset"]
        assert executor.unrepeatable is None
    with Executor(slow_effect(), workers=2, reset="fresh") as executor:
        assert np.array_equal(executor.render(audio, settings, RATE), wet)


def test_no_trials_where_a_new_instance_is_cheap_or_nothing_else_is_offered():
    with Executor(slow_effect(load=0.0, work=0.05), workers=1) as executor:
        proof = executor.prove_reset(RATE)
        assert proof.policy == "fresh" and proof.reasons == {"reset": "a new instance costs next to nothing"}
    with Executor(slow_effect(()), workers=1) as executor:
        assert executor.prove_reset(RATE).policy == "fresh"


def test_a_leak_that_the_trials_missed_is_found_later_and_not_trusted_again():
    audio, settings = jobs(128, 8)
    with Executor(slow_effect(leak="rarely", load=0.002), workers=1) as executor:
        assert executor.prove_reset(RATE).policy == "reset"
        with pytest.warns(RepeatabilityWarning, match="not repeatable"):
            executor.render(audio, settings, RATE)
        wet = executor.render(audio[:4], settings[:4], RATE)
    with Executor(slow_effect(), workers=1, reset="fresh") as executor:
        assert np.array_equal(executor.render(audio[:4], settings[:4], RATE), wet)


@pytest.mark.parametrize(("name", "provider", "policy"), [
    ("zam-eq2", "dawdreamer", "reset"),
    ("mda-delay", "dawdreamer", "fresh"),  # its delay line survives DawDreamer's restart
])  # fmt: skip
def test_real_plugins(name, provider, policy):
    try:
        effect = dafxhost.effect(name, provider)
    except (EffectUnavailableError, UnknownNameError) as error:
        pytest.skip(str(error))
    with Executor(effect, workers=1) as executor:
        proof = executor.prove_reset(44100)
        assert proof.policy == policy, proof
