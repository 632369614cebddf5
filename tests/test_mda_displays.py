"""The panels and steps of the mda effects (mda_displays) against what Debian's plugins do."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import dafxhost
from dafxhost.effects import Effect
from dafxhost.errors import ParameterError
from dafxhost.parameters import Parameter, Port
from dafxhost_effects import mda, mda_displays
from hosting import RATE, need, noise, render

PROCESSING = [
    *(
        "ambience",
        "bandisto",
        "beatbox",
        "combo",
        "deess",
        "degrade",
        "delay",
        "detune",
        "dither",
        "dubdelay",
    ),
    *(
        "dynamics",
        "image",
        "leslie",
        "limiter",
        "loudness",
        "multiband",
        "overdrive",
        "repsycho",
        "rezfilter",
    ),
    *("ringmod", "roundpan", "shepard", "splitter", "stereo", "subsynth", "thruzero", "tracker", "transient"),
]


def raw(name: str) -> Effect:
    """The effect with the port values themselves as its settings."""
    need(mda.bundle(name), "mda-lv2")
    fx = dafxhost.effect(name, provider="lv2")
    defaults = [c["default"] for c in mda.table()[name]["controls"]]
    ports = tuple(
        Parameter(p.name, default=d, port=Port(p.port.index))
        for p, d in zip(fx.parameters, defaults, strict=True)
    )
    return replace(fx, parameters=ports)


def renders(name: str, symbol: str, values: list[float], audio: np.ndarray, **context: float) -> np.ndarray:
    """`[len(values), 2, T]`: the plugin at these values of one port, the others at `context` or default."""
    fx = raw(name)
    settings = np.stack([fx.setting(**{**context, symbol: v}) for v in values])
    return render(fx, audio, settings[None])


def tone(hz: float, seconds: float = 0.5, level: float = 0.3) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    return np.tile((level * np.sin(2 * np.pi * hz * t)).astype(np.float32), (1, 2, 1))


def click(after: float = 0.0, seconds: float = 0.5) -> np.ndarray:
    audio = np.zeros((1, 2, round((after + seconds) * RATE)), dtype=np.float32)
    audio[..., round(after * RATE)] = 0.5
    return audio


def shown(name: str, symbol: str, native: float) -> float:
    reading = next(p for p in mda.parameters(name) if p.name == symbol).reading
    assert reading is not None
    return reading.shown(native)


def peak_hz(wave: np.ndarray) -> float:
    """Frequency of the strongest partial, to a fraction of a bin."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    return float(np.argmax(spectrum[8:]) + 8) * RATE / (8 * len(wave))


def test_every_continuous_parameter_of_the_28_effects_has_a_display() -> None:
    assert {f"mda-{n}" for n in PROCESSING} == set(mda_displays.DISPLAYS)
    for name, panel in mda_displays.DISPLAYS.items():
        parameters = {p.name: p for p in mda.parameters(name)}
        assert not set(panel) - set(parameters), name
        assert not set(mda_displays.STEPS.get(name, {})) - set(parameters), name
        bare = [p.name for p in parameters.values() if p.kind == "continuous" and not p.reading]
        assert not bare, (name, bare)


@pytest.mark.parametrize("name", mda_displays.DISPLAYS)
def test_what_is_shown_can_be_typed(name: str) -> None:
    """Wherever numbers are unambiguous; a step of 1 % of the range is what three digits tell apart."""
    for p in mda.parameters(name):
        for native in np.linspace(0, 1, 21) if p.kind == "continuous" else ():
            assert p.reading is not None
            text = p.reading.text(native)
            if not p.reading.unit and p.reading.word(native) is None:
                continue  # "-4" of Transient's filter: without a unit it is a native value
            try:
                back = p.parse(text)
            except ParameterError as error:
                assert "alike" in str(error), (p.name, text)
                continue
            assert p.reading.text(back) == text or abs(back - native) < 0.01, (p.name, text)


def test_defaults_are_the_ports() -> None:
    """A default setting hands over what the Turtle files say, or a value of the same step."""
    for name in mda_displays.DISPLAYS:
        for p, c in zip(mda.parameters(name), mda.table()[name]["controls"], strict=True):
            handed = float(p.to_plugin(p.to_setting(p.default)))
            steps = mda_displays.STEPS.get(name, {}).get(p.name)
            if steps is None:
                assert handed == pytest.approx(c["default"], abs=1e-6), (name, p.name)
            else:
                between = [
                    e for e in steps.edges if min(handed, c["default"]) < e <= max(handed, c["default"])
                ]
                assert not between, (name, p.name)


# The LV2 port's tracker never tracks a pitch (it uses the sample rate before it is set): these are dead.
DEAD = {"mda-tracker": ("glide", "transpose", "maximum", "trigger")}
STEPPED = [
    (name, symbol) for name, table in mda_displays.STEPS.items() for symbol in table if name not in DEAD
]


@pytest.mark.parametrize(("name", "symbol"), STEPPED)
def test_steps_begin_where_the_plugin_changes(name: str, symbol: str) -> None:
    """Both ends of a step give the same samples; the next step's, others."""
    edges = mda_displays.STEPS[name][symbol].edges
    audio = noise(2) + tone(220, level=0.1)
    # The plugin computes the edges in float32.
    ends = [0.0, *(x for e in edges for x in (max(e - 3e-6, 0.0), min(e + 3e-6, 1.0))), 1.0]
    wet = renders(name, symbol, ends, audio)
    for step in range(len(edges) + 1):
        assert np.array_equal(wet[2 * step], wet[2 * step + 1]), f"step {step} is not one"
    firsts = wet[::2]
    for step, (one, other) in enumerate(pairwise(firsts)):
        assert not np.array_equal(one, other), f"steps {step} and {step + 1} sound alike"


@pytest.mark.parametrize("name", [f"mda-{n}" for n in PROCESSING])
def test_every_choice_and_toggle_is_another_sound(name: str) -> None:
    """No two labels stand for the same samples, through the parameters that users get."""
    need(mda.bundle(name), "mda-lv2")
    fx = dafxhost.effect(name, provider="lv2")
    audio = noise(2) + tone(220, level=0.1)
    audio[:, 1] *= 0.7  # else mid and side would not differ
    for i, p in enumerate(fx.parameters):
        if not p.levels or p.name in DEAD.get(name, ()):
            continue
        settings = np.tile(fx.default_setting(), (p.levels, 1))
        settings[:, i] = p.to_setting(p.minimum + np.arange(p.levels))
        wet = render(fx, audio, settings[None])
        alike = {
            (a, b) for a in range(p.levels) for b in range(a + 1, p.levels) if np.array_equal(wet[a], wet[b])
        }
        # Recording hats and recording kicks differ in what is played afterwards, not meanwhile.
        assert alike == ({(2, 3)} if (name, p.name) == ("mda-beatbox", "record") else set()), p.name


def test_types_do_what_their_labels_say() -> None:
    """The labels that the Turtle files have at other values: SubSynth's types, Image's modes, Leslie's."""
    need(mda.bundle("mda-image"), "mda-lv2")
    audio = noise(2)
    audio[:, 1] = np.roll(audio[:, 1], 100)
    left, right = audio[0].astype(np.float64)
    image = dafxhost.effect("mda-image", provider="lv2")
    wet = render(
        image, audio, np.stack([image.setting(mode=m) for m in ("SM", "MS", "LR->LR", "LR->MS")])[None]
    )
    mid, side = (left + right) / 2, (left - right) / 2
    np.testing.assert_allclose(wet[2], [left, right], atol=1e-6)
    np.testing.assert_allclose(np.abs(wet[3]), np.abs([mid, side]), atol=1e-6)
    np.testing.assert_allclose(wet[1], [left + right, left - right], atol=1e-6)
    np.testing.assert_allclose(wet[0], [right + left, right - left], atol=1e-6)
    # A key oscillator runs at `tune` whatever comes in; a divider halves what comes in.
    synth = dafxhost.effect("mda-subsynth", provider="lv2")
    # Tuned to 160 Hz, so that the low-pass lets pass what is divided or distorted.
    kinds = [{"type": k, "level": 1, "dry_mix": 0, "tune": 0.8, "thresh": 0.2} for k in ("Key", "Divide")]
    sub = render(synth, tone(110, seconds=1), np.stack([synth.setting(**k) for k in kinds])[None])
    assert peak_hz(sub[0, 0]) == pytest.approx(shown("mda-subsynth", "tune", 0.8), rel=0.02)
    assert peak_hz(sub[1, 0]) == pytest.approx(55, rel=0.02)


# Parameters that scale the output, and where others must stand for that.
GAINS: list[tuple[str, str, dict[str, float]]] = [
    *((f"mda-{n}", "output", {}) for n in ("ambience", "combo", "degrade", "delay", "detune", "dubdelay")),
    *(
        (f"mda-{n}", "output", {})
        for n in ("image", "leslie", "overdrive", "rezfilter", "shepard", "splitter")
    ),
    *((f"mda-{n}", "output", {}) for n in ("transient", "loudness")),
    ("mda-dynamics", "output", {"limiter": 1.0}),
    ("mda-limiter", "output", {"thresh": 1.0}),
    *(
        (n, f"{b}_out", {"listen": v})
        for n in ("mda-bandisto", "mda-multiband")
        for b, v in (("l", 0.0), ("m", 0.4), ("h", 0.6))
    ),
    ("mda-beatbox", "thru_mix", {"hat_mix": 0.0, "kik_mix": 0.0, "snr_mix": 0.0}),
]


@pytest.mark.parametrize(("name", "symbol", "context"), GAINS)
def test_decibels_are_the_gains_heard(name: str, symbol: str, context: dict[str, float]) -> None:
    values = [0.3, 0.45, 0.6]
    wet = renders(name, symbol, values, noise(2), **context).astype(np.float64)
    level = [10 * math.log10(np.mean(w**2)) for w in wet]
    panel = [shown(name, symbol, v) for v in values]
    np.testing.assert_allclose(np.diff(level), np.diff(panel), atol=0.05)


@pytest.mark.parametrize(
    ("name", "symbol", "values", "context", "after"),
    [
        ("mda-delay", "l_delay", [0.2, 0.5, 0.7], {"fx_mix": 1.0, "feedback": 0.0}, 0.0),
        # Its delay glides to its length, a tenth of the way in 25 ms.
        ("mda-dubdelay", "delay", [0.1, 0.2], {"fx_mix": 1.0, "feedback": 0.5}, 4.0),
    ],
)
def test_delays_come_when_they_are_shown(
    name: str, symbol: str, values: list[float], context: dict[str, float], after: float
) -> None:
    wet = renders(name, symbol, values, click(after), **context)[..., round(after * RATE) :]
    for w, value in zip(wet, values, strict=True):
        heard = 1e3 / RATE * int(np.argmax(np.abs(w[0])))
        assert heard == pytest.approx(shown(name, symbol, value), abs=0.1, rel=1e-3)


def test_delays_right_channel_keeps_the_shown_ratio() -> None:
    values = [0.25, 0.45, 0.52, 0.56, 0.62, 0.68, 0.73, 0.8, 0.85, 0.9, 1.0]
    context = {"l_delay": 0.4, "fx_mix": 1.0, "feedback": 0.0}
    wet = renders("mda-delay", "r_delay", values, click(), **context)
    right = next(p for p in mda.parameters("mda-delay") if p.name == "r_delay")
    for w, value in zip(wet, values, strict=True):
        ratio = int(np.argmax(np.abs(w[1]))) / int(np.argmax(np.abs(w[0])))
        assert right.reading is not None
        assert right.reading.text(value).endswith(" %")
        assert 100 * ratio == pytest.approx(float(right.reading.text(value)[:-2]), abs=0.6)


def test_stereo_delay() -> None:
    wet = renders("mda-stereo", "delay", [0.2, 0.5, 0.9], click(), width=0.0)
    for w, value in zip(wet, [0.2, 0.5, 0.9], strict=True):
        late = 1e3 / RATE * int(np.argmax(np.abs(w[1])))
        assert late == pytest.approx(shown("mda-stereo", "delay", value), abs=0.1)


def test_ring_modulators_frequency() -> None:
    audio = np.full((1, 2, RATE // 2), 0.5, dtype=np.float32)
    wet = renders("mda-ringmod", "freq", [0.02, 0.0625, 0.3], audio)
    for w, value in zip(wet, [0.02, 0.0625, 0.3], strict=True):
        assert peak_hz(w[0]) == pytest.approx(shown("mda-ringmod", "freq", value), abs=2)


def test_subsynth_and_detune_pitches() -> None:
    for value in (0.3, 0.9):
        wet = renders(
            "mda-subsynth",
            "tune",
            [value],
            tone(110, seconds=2),
            type=1.0,
            level=1.0,
            dry_mix=0.0,
            thresh=0.2,
        )
        assert peak_hz(wet[0, 0]) == pytest.approx(shown("mda-subsynth", "tune", value), rel=0.02)
    wet = renders("mda-detune", "detune", [0.7, 1.0], tone(1000, seconds=2), mix=1.0)
    for w, value in zip(wet, (0.7, 1.0), strict=True):
        # One channel is raised as much as the other is lowered.
        cents = 600 * math.log2(peak_hz(w[0]) / peak_hz(w[1]))
        assert abs(cents) == pytest.approx(shown("mda-detune", "detune", value), rel=0.05)


def test_the_trackers_pitch_parameters_are_dead() -> None:
    """Were they not, the list above would hide untested steps."""
    for symbol in DEAD["mda-tracker"]:
        wet = renders("mda-tracker", symbol, [0.1, 0.9], tone(220), dynamics=0.0)
        assert np.array_equal(wet[0], wet[1]), symbol


def test_degrade_keeps_as_many_bits_as_it_says() -> None:
    fx = dafxhost.effect("mda-degrade", provider="lv2") if mda.bundle("mda-degrade") else None
    need(fx, "mda-lv2")
    assert fx is not None
    plain = {"headroom": 1, "rate": 0.5, "post_filt": 1, "non_lin": 0.5}
    ramp = np.tile(np.linspace(-0.45, 0.45, RATE // 2, dtype=np.float32), (1, 2, 1))
    wet = render(fx, ramp, np.stack([fx.setting(quant=q, **plain) for q in (4, 6, 8)])[None])
    steps = [float(np.abs(np.diff(w[0, 2000:-2000].astype(np.float64))).max()) for w in wet]
    # Two bits more: steps a quarter as high. (How high they are depends on the filter behind.)
    np.testing.assert_allclose([steps[0] / steps[1], steps[1] / steps[2]], 4, rtol=0.01)


def _period(wave: np.ndarray) -> float:
    """Seconds a cycle of a slow wave, from its crossings of the mean."""
    above = wave > wave.mean()
    ups = np.flatnonzero(above[1:] & ~above[:-1])
    return float(np.diff(ups).mean()) / RATE


def test_roundpan_turns_at_the_shown_speed() -> None:
    audio = np.full((1, 2, 12 * RATE), 0.5, dtype=np.float32)
    for value in (0.2, 0.8, 1.0):
        wet = renders("mda-roundpan", "auto", [value], audio)
        # The gain is a sine of half the angle.
        degrees = 720 / _period(wet[0, 0].astype(np.float64))
        assert degrees == pytest.approx(abs(shown("mda-roundpan", "auto", value)), rel=0.05)


def test_the_resonant_filters_oscillator_runs_at_the_corrected_rate() -> None:
    """Its panel would say 10 Hz at 0.75, and 0.1 Hz at 0.25."""
    audio = noise(2, seconds=4)
    audio[:] = np.random.default_rng(1).standard_normal(audio.shape) * 0.1
    for value in (0.6, 0.75):
        wet = renders("mda-rezfilter", "lfo_rate", [value], audio, lfo_vcf=1.0, env_vcf=0.5, freq=0.5)
        power = np.convolve(wet[0, 0].astype(np.float64) ** 2, np.ones(441) / 441, "same")
        cycles = peak_hz((power - power.mean())[:: RATE // 441]) / (RATE // 441)
        assert cycles == pytest.approx(shown("mda-rezfilter", "lfo_rate", value), rel=0.1)


def test_the_tables_need_no_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LV2_PATH", str(tmp_path))
    monkeypatch.setenv("VST3_PATH", str(tmp_path))
    limiter = dict(
        zip((p.name for p in mda.parameters("mda-limiter")), mda.parameters("mda-limiter"), strict=True)
    )
    assert limiter["thresh"].text(0.6) == "0.6 (-16 dB)"
    assert limiter["release"].parse("100 ms") == pytest.approx(0.602, abs=0.002)
    ringmod = mda.parameters("mda-ringmod")[0]
    assert ringmod.text(0.0625) == "0.0625 (1 kHz)" and ringmod.parse("1.2 kHz") == pytest.approx(0.075)
