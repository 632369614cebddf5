"""Chains: the samples of their links one after the other, names, files, faults, and use as any effect."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import dafxhost
from chain_effects import chain_lab
from command_line import small_training
from dafxhost import Executor
from dafxhost.chains import Link, chain_of, parse, relocated, to_toml
from dafxhost.effects import Effect
from dafxhost.errors import (
    DafxhostError,
    EffectUnavailableError,
    ParameterNotAppliedError,
    PluginError,
    RenderError,
)
from dafxhost.processor import Processor, RenderSpec
from lab_effects import lab_effect
from reset_effects import slow_effect

RATE = 24000
BLOCK = 512
TEXT = "mda-combo@builtin{model=2, drive=0.75} > pedalboard-delay? > pedalboard-gain"


def noise(*shape: int) -> np.ndarray:
    return 0.3 * np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def chain(*effects: Effect, bypass: tuple[int, ...] = (), fixed: dict[int, dict] | None = None) -> Effect:
    """Of effects; `bypass` names the links (from 0) with a toggle, `fixed` their fixed values."""
    fixed = fixed or {}
    links = [Link(fx.name, bypass=i in bypass, fixed=fixed.get(i, {})) for i, fx in enumerate(effects)]
    return chain_of(links, effects)


def render(fx: Effect, audio: np.ndarray, settings: np.ndarray, **options) -> np.ndarray:
    with Executor(fx, workers=1, block_size=BLOCK, **options) as executor:
        done = executor.render(audio, settings, RATE)
        assert executor.unrepeatable is None
        return done


def one_after_the_other(effects, audio, settings) -> np.ndarray:
    """`settings[i]` [B, P_i] for each effect, each in an executor of its own."""
    for fx, setting in zip(effects, settings, strict=True):
        audio = render(fx, audio, setting)
    return audio


LATE = [
    [lab_effect("Late", ("gain",), latency=n), chain_lab("Swell"), lab_effect("Late", ("gain",), latency=m)]
    for n, m in ((37, 0), (BLOCK, 5), (3 * BLOCK + 1, 700))
]
OTHERS = [
    [chain_lab("Random"), chain_lab("Random"), lab_effect("Echo", ("gain",))],
    [chain_lab("Denormal"), chain_lab("Denormal"), lab_effect("Gain", ("gain",))],
    [lab_effect("Echo", ("gain",)), chain_lab("Swell"), chain_lab("Swell")],
]


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("effects", LATE + OTHERS, ids=lambda fx: "-".join(e.name[4:] for e in fx))
def test_a_chain_is_its_links_one_after_the_other(effects: list[Effect], channels: int) -> None:
    audio = noise(2, channels, 7 * BLOCK + 123)
    settings = np.random.default_rng(1).random((2, 3))
    fx = chain(*effects)
    assert fx.parameter_names == ["lab-" + n for n in _names(effects)]
    wanted = one_after_the_other(effects, audio, [settings[:, i : i + 1] for i in range(3)])
    got = render(fx, audio, settings)
    assert np.abs(wanted).max() > 0
    assert np.array_equal(got, wanted)


def _names(effects: list[Effect]) -> list[str]:
    names = [fx.name[4:] for fx in effects]
    return [
        f"{n}{f'-{names[:i].count(n) + 1}' if names.count(n) > 1 else ''}.gain" for i, n in enumerate(names)
    ]


@pytest.mark.parametrize(
    "names",
    [
        ("pedalboard-distortion", "pedalboard-pitch-shift", "pedalboard-chorus"),
        ("pedalboard-phaser", "mda-combo@builtin", "pedalboard-delay"),
    ],
)
def test_a_chain_of_real_effects_is_its_links_one_after_the_other(names: tuple[str, ...]) -> None:
    fx = dafxhost.effect(" > ".join(names))
    effects = [dafxhost.effect(n) for n in names]
    audio, settings = noise(1, 2, RATE), np.random.default_rng(2).random((1, len(fx.parameters)))
    parts = np.split(settings, np.cumsum([len(e.parameters) for e in effects])[:-1], axis=1)
    assert np.array_equal(render(fx, audio, settings), one_after_the_other(effects, audio, parts))


def test_a_link_that_looks_ahead_sees_the_tail_before_it() -> None:
    # The one difference: alone it would see silence behind the clip's end.
    effects = [lab_effect("Echo", ("gain",)), chain_lab("LookAhead", (), latency=100)]
    audio, setting = noise(1, 1, 1000), np.array([[0.9]])
    alone = one_after_the_other(effects, audio, [setting, np.zeros((1, 0))])
    got = render(chain(*effects), audio, setting)
    assert np.array_equal(got[..., :900], alone[..., :900])
    longer = one_after_the_other(
        effects, np.pad(audio, [(0, 0), (0, 0), (0, 100)]), [setting, np.zeros((1, 0))]
    )
    assert np.array_equal(got, longer[..., :1000])
    assert not np.array_equal(got, alone)


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("effects", LATE, ids=["37", "block", "more"])
def test_bypass_equals_leaving_the_link_out(effects: list[Effect], which: int) -> None:
    fx = chain(*effects, bypass=(0, 1, 2))
    audio = noise(1, 1, 5 * BLOCK + 9)
    names = fx.parameter_names
    toggle = [n for n in names if n.endswith(".bypass")][which]
    gains = [n for n in names if n.endswith(".gain")]
    setting = fx.setting(**dict.fromkeys(gains, 0.6), **{toggle: True})
    others = [e for i, e in enumerate(effects) if i != which]
    wanted = one_after_the_other(others, audio, [np.array([[0.6]])] * 2)
    with Executor(fx, workers=1, block_size=BLOCK) as executor:
        assert np.array_equal(executor.render(audio, setting[None], RATE), wanted)
        latencies = []
        for each in (setting, fx.default_setting()):
            with executor.stream(each, RATE, 1) as stream:
                latencies.append(stream.latency)
        assert latencies[0] == latencies[1] > 0


def test_all_bypassed_is_the_input() -> None:
    fx = chain(*LATE[2], bypass=(0, 1, 2))
    setting = fx.setting(**{n: 1 for n in fx.parameter_names if n.endswith(".bypass")})
    audio = noise(1, 2, 1000)
    assert np.array_equal(render(fx, audio, setting[None]), audio)


@pytest.mark.parametrize("chunk", [BLOCK, 4 * BLOCK])
@pytest.mark.parametrize("bypassed", [0, 1])
def test_a_stream_equals_a_render(bypassed: int, chunk: int) -> None:
    fx = chain(*LATE[2], bypass=(0, 2))
    setting = np.array([0.7, bypassed, 0.8, 0.9, bypassed])
    audio = noise(2, 8 * BLOCK)
    with Executor(fx, workers=1, block_size=BLOCK) as executor:
        whole = executor.render(audio[None], setting[None], RATE)[0]
        with executor.stream(setting, RATE, 2) as stream:
            assert stream.latency == 4 * BLOCK + 700
            pieces = [stream.process(audio[:, i : i + chunk]) for i in range(0, audio.shape[1], chunk)]
            pieces.append(stream.finish())
    assert np.array_equal(np.concatenate(pieces, axis=1), whole)


def test_chunks_of_any_size_do_for_effects_that_know_no_blocks() -> None:
    fx = chain(lab_effect("Late", ("gain",), latency=37), lab_effect("Echo", ("gain",)))
    audio, setting = noise(1, 1234), np.array([0.7, 0.6])
    with Executor(fx, workers=1, block_size=BLOCK) as executor:
        whole = executor.render(audio[None], setting[None], RATE)[0]
        with executor.stream(setting, RATE, 1) as stream:
            cuts = [0, 1, 2, 40, 300, 1233, 1234]
            pieces = [stream.process(audio[:, a:b]) for a, b in itertools.pairwise(cuts)]
            pieces.append(stream.finish())
    assert np.array_equal(np.concatenate(pieces, axis=1), whole)


# -- faults


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        ("Segfault", r"SIGSEGV.* in link 2 \(lab-segfault\)"),
        ("Hang", r"no answer within 1 s in link 2 \(lab-hang\)"),
        ("Raise", r"link 2 \(lab-raise\): ValueError: the lab raised this"),
        ("Nan", r"link 2 \(lab-nan\) returned NaN/Inf"),
        ("Gap", r"link 2 \(lab-gap\) returned NaN/Inf"),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_a_link_that_fails_is_named(tmp_path: Path, processor: str, reason: str, last: bool) -> None:
    behind = [] if last else [lab_effect("Gain", ("gain",))]
    fx = chain(lab_effect("Gain", ("gain",)), lab_effect(processor), *behind)
    setting = np.full((1, len(fx.parameters)), 0.95)
    audio = noise(1, 1, 30 * BLOCK)
    where = {"failure_dir": tmp_path, "deadline": 1.0}
    with Executor(fx, workers=1, block_size=BLOCK, **where) as executor:
        with pytest.raises(RenderError) as caught:
            executor.render(audio, setting, RATE)
        if processor != "Gap":  # which forgets the 21st block of every render
            assert np.isfinite(executor.render(audio, np.full_like(setting, 0.5), RATE)).all()
    assert _matches(reason, caught.value.failures[0].reason)
    assert Path(caught.value.failures[0].saved_input).is_file()


def test_a_link_that_dies_in_a_stream_is_named() -> None:
    fx = chain(lab_effect("Gain", ("gain",)), lab_effect("Segfault"))
    with (
        Executor(fx, workers=1) as executor,
        executor.stream([0.5, 0.5, 0.95], RATE, 1) as stream,
        pytest.raises(PluginError, match=r"SIGSEGV.* in link 2 \(lab-segfault\)"),
    ):
        stream.process(noise(1, 100))


@pytest.mark.parametrize(
    ("processor", "reason"),
    [
        ("Refuse", r"link 2 \(lab-refuse\): RuntimeError: no such"),
        ("CrashAtLoad", r"SIGSEGV.* in link 2 \(lab"),
    ],
)
def test_a_link_that_does_not_load_is_named(processor: str, reason: str) -> None:
    fx = chain(lab_effect("Gain"), lab_effect(processor))
    with Executor(fx, workers=1) as executor, pytest.raises(PluginError, match=reason):
        executor.render(noise(1, 1, 100), np.full((1, 4), 0.5), RATE)


def test_a_parameter_that_is_not_taken_is_named() -> None:
    fx = chain(lab_effect("Gain", ("gain",)), lab_effect("Deaf", ("gain", "level")))
    with (
        Executor(fx, workers=1) as executor,
        pytest.raises(
            ParameterNotAppliedError, match=r"'lab-deaf.level': sent plugin value 0.9, read back 0.25"
        ),
    ):
        executor.render(noise(1, 1, 100), np.array([[0.5, 0.5, 0.9]]), RATE)
    fx = chain(
        lab_effect("Gain", ("gain",)), lab_effect("Deaf", ("gain", "level")), fixed={1: {"level": 0.9}}
    )
    with (
        Executor(fx, workers=1) as executor,
        pytest.raises(DafxhostError, match=r"link 2 \(lab-deaf\) did not take its fixed parameter 'level'"),
    ):
        executor.render(noise(1, 1, 100), np.array([[0.5, 0.5]]), RATE)


def test_each_link_has_its_own_tolerance() -> None:
    rough = lab_effect("Deaf", ("gain", "level"))
    rough = Effect(rough.name, rough.parameters, _with(rough.provider, read_back_tolerance=1.0), "", 1, 1)
    fx = chain(rough, lab_effect("Deaf", ("gain", "level")))
    with (
        Executor(fx, workers=1) as executor,
        pytest.raises(ParameterNotAppliedError, match=r"'lab-deaf-2\.level'"),
    ):
        executor.render(noise(1, 1, 100), np.full((1, 4), 0.5), RATE)


def _with(it, /, **changes):
    from dataclasses import replace

    return replace(it, **changes)


def _matches(pattern: str, text: str) -> bool:
    import re

    assert re.search(pattern, text), text
    return True


# -- resets


def test_links_are_reset_as_cheaply_as_each_of_them_allows() -> None:
    from dafxhost.chain_processor import ChainProcessor

    fx = chain(slow_effect(("reset",)), lab_effect("Gain"), slow_effect(("state", "reset")))
    assert fx.provider.cheaper_resets == ("reset", "state")
    wanted = {
        "auto": ["auto"] * 3,
        "fresh": ["fresh"] * 3,
        "reset": ["reset", "fresh", "reset"],
        "state": ["fresh", "fresh", "state"],
    }
    for policy, each in wanted.items():
        spec = RenderSpec(RATE, reset=policy, flush_denormals=False)  # this is the tests' own process
        made = ChainProcessor(dict(fx.provider.options), spec)
        assert [link._spec.reset for link in made._links] == each
        assert [_reset(link._processor) for link in made._links] == each
    assert chain(lab_effect("Gain"), lab_effect("Gain")).provider.cheaper_resets == ()


def _reset(processor: Processor) -> str:
    """The policy that a lab effect was made with."""
    return next(v.reset for v in vars(processor).values() if isinstance(v, RenderSpec))


@pytest.mark.parametrize(("leak", "policy"), [("nothing", "reset"), ("delay", "fresh")])
def test_a_cheap_reset_is_used_if_no_link_leaks(leak: str, policy: str) -> None:
    fx = chain(slow_effect(load=0.05), slow_effect(load=0.05, leak=leak), bypass=(0, 1))
    with Executor(fx, workers=1) as executor:
        assert executor.prove_reset(RATE).policy == policy


# -- a chain as any effect


def test_gradients_through_a_chain() -> None:
    fx = chain(lab_effect("Gain", ("gain",)), lab_effect("Echo", ("gain",)), bypass=(1,))
    with Executor(fx, workers=1) as executor:
        layer = dafxhost.PluginLayer(executor, estimator="fd-central")
        settings = torch.tensor([[0.5, 0.3, 0.0], [0.6, 0.2, 0.0]], requires_grad=True)
        dry = torch.from_numpy(noise(2, 1, 600))
        wet = layer(dry, settings, sample_rate=RATE)
        assert wet.shape == (2, 1, 600)
        wet.square().sum().backward()
    assert settings.grad is not None
    assert settings.grad.shape == (2, 3)
    # The energy goes with the square of the gain.
    expected = 2 * wet.detach().square().sum(dim=(1, 2)) / settings[:, 0].detach()
    assert torch.allclose(settings.grad[:, 0], expected, rtol=0.02)
    assert (settings.grad[:, 1] > 0).all()


def test_each_link_is_looked_for_on_a_node() -> None:
    fx = chain(lab_effect("Late", path="/there/a.so", latency=1), lab_effect("Gain"))
    seen = []

    def serve(effect: Effect) -> Effect:
        seen.append(effect.name)
        options = {**effect.provider.options, "path": "/here/a.so"}
        return Effect(effect.name, (), _with(effect.provider, options=options))

    here = relocated(fx, serve)
    assert seen == ["lab-late", "lab-gain"]
    assert [link["options"]["path"] for link in here.provider.options["links"]] == ["/here/a.so"] * 2
    assert here.provider.options["links"][0]["options"]["latency"] == 1
    assert here.parameters == fx.parameters
    json.dumps(here.provider.options)


def test_a_node_with_another_plugin_refuses_the_chain() -> None:
    from dafxhost.execution.ray_actor import served_here

    fx = dafxhost.effect("pedalboard-gain > pedalboard-delay?")
    assert served_here(fx) == fx
    first, second = fx.provider.options["links"]
    other = _with(fx.provider, options={"links": [first, {**second, "identity": "pedalboard 0.0"}]})
    with pytest.raises(EffectUnavailableError, match="'pedalboard-delay' by pedalboard is another one"):
        served_here(_with(fx, provider=other))


def dafxhost_command(*arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dafxhost_cli.main", *arguments],
        capture_output=True, text=True, timeout=280, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_transfer_and_evaluation_take_a_chain(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(small_training(2))
    file = tmp_path / "chain.toml"
    file.write_text(to_toml(parse(TEXT)))
    dafxhost_command("train", "--config", "small.toml", "--effect", "chain.toml", cwd=tmp_path)
    file.unlink()  # the run knows the chain itself
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("mda-combo-builtin-model-2-drive-0.75")
    assert json.loads((run / "best.json").read_text())["effect"] == TEXT
    for i in range(2):
        soundfile.write(tmp_path / f"{i}.wav", np.random.default_rng(i).uniform(-0.3, 0.3, 24000), 24000)
    dafxhost_command("transfer", "0.wav", "1.wav", "-o", "out.wav", "--effect", TEXT, cwd=tmp_path)
    made = json.loads((tmp_path / "out.wav.json").read_text())
    assert made["effect"] == TEXT
    assert {"combo.bias", "delay.bypass", "gain.gain_db"} < set(made["native"])
    table = dafxhost_command("evaluate", str(run), "--examples", "2", "--workers", "1", cwd=tmp_path)
    assert "combo.bias" in table
    shown = dafxhost_command(
        "render", "0.wav", "--effect", TEXT, "--set", "gain.gain_db=-6", "-o", "r.wav", cwd=tmp_path
    )
    assert "-6 dB" in shown
    assert "delay.bypass" in dafxhost_command("effects", TEXT, cwd=tmp_path)
