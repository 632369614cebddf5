"""Settings, native values and plugin values: the ways between them, and what people may type."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dafxhost.effects import Effect, Provider
from dafxhost.errors import ParameterError, ShapeError, UnknownNameError
from dafxhost.parameters import Parameter, Port, plugin_values
from dafxhost.readings import Reading

units = st.floats(0, 1)


@st.composite
def parameters(draw: st.DrawFn) -> Parameter:
    kind = draw(st.sampled_from(["continuous", "log", "integer", "choice", "toggle"]))
    if kind == "continuous":
        low = draw(st.floats(-1e4, 1e4))
        high = low + draw(st.floats(1e-3, 1e4))
        return Parameter("p", minimum=low, maximum=high, default=low)
    if kind == "log":
        low = draw(st.floats(1e-3, 1e3))
        high = low * draw(st.floats(1.01, 1e4))
        return Parameter("p", minimum=low, maximum=high, default=high, scale="log", unit="Hz")
    if kind == "integer":
        low = draw(st.integers(-100, 100))
        high = low + draw(st.integers(0, 200))
        return Parameter("p", "integer", low, high, high)
    if kind == "choice":
        n = draw(st.integers(1, 40))
        values = tuple(draw(st.permutations(range(n)))) if draw(st.booleans()) else ()
        labels = tuple(f"label {i}." for i in range(n))
        return Parameter("p", "choice", 0, n - 1, 0, choices=labels, port=Port(0, values=values))
    return Parameter("p", "toggle", default=1)


@given(parameters(), units)
def test_a_setting_survives_the_way_to_native_values_and_back(p: Parameter, u: float) -> None:
    native = p.to_native(u)
    assert p.minimum - 1e-9 * abs(p.minimum) <= native <= p.maximum + 1e-9 * abs(p.maximum)
    back = p.to_setting(native)
    np.testing.assert_allclose(back, p.quantise(u), atol=1e-6)
    if not p.levels:
        np.testing.assert_allclose(back, u, atol=1e-6)
    assert float(p.to_native(back)) == pytest.approx(float(native), rel=1e-9, abs=1e-9)


@given(parameters(), st.lists(units, min_size=1, max_size=20))
def test_any_shape_gives_the_same_numbers(p: Parameter, us: list[float]) -> None:
    block = np.array(us)[None, :, None]
    for way in (p.to_native, p.to_setting, p.to_plugin, p.quantise):
        whole = way(block)
        assert whole.shape == block.shape
        np.testing.assert_array_equal(whole.ravel(), [float(way(u)) for u in us])


@given(parameters(), units)
def test_what_is_described_can_be_typed_again(p: Parameter, u: float) -> None:
    effect = Effect("e", (p,), Provider("test", "m:c"))
    described = effect.describe([u])
    np.testing.assert_allclose(effect.setting(**described), p.quantise([u]), atol=1e-6)


@given(parameters())
def test_a_uniform_draw_of_settings_is_a_uniform_draw_of_values(p: Parameter) -> None:
    if not p.levels:
        return
    u = (np.arange(p.levels * 50) + 0.5) / (p.levels * 50)
    _, counts = np.unique(p.to_native(u), return_counts=True)
    assert list(counts) == [50] * p.levels


@given(parameters(), st.floats(allow_nan=False))
def test_settings_beyond_the_ends_are_the_ends(p: Parameter, u: float) -> None:
    assert p.to_native(u) == p.to_native(min(max(u, 0.0), 1.0))


@given(parameters(), st.text(max_size=8))
def test_whatever_is_typed_gives_a_value_in_range_or_one_sentence(p: Parameter, text: str) -> None:
    try:
        native = p.parse(text)
    except ParameterError as error:
        assert p.range_text() in str(error)
    else:
        assert p.minimum <= native <= p.maximum
        assert not p.levels or native == round(native)


def test_plugin_values_by_port() -> None:
    hz = Parameter(
        "f", minimum=20, maximum=20000, default=100, scale="log", port=Port(0, 20, 20000, space="native")
    )
    raw = Parameter("g", minimum=20, maximum=20000, default=100, scale="log", port=Port(1))
    steps = Parameter("m", "choice", 0, 2, 0, choices=("a", "b", "c"), port=Port(2, values=(0.0, 0.4, 1.0)))
    switch = Parameter("s", "toggle", default=0, port=Port(3, -1, 1))
    whole = Parameter("i", "integer", 1, 5, 3, port=Port(4, 1, 5, space="native"))
    got = plugin_values(
        (hz, raw, steps, switch, whole), np.array([[0.5, 0.5, 0.5, 0.9, 0.5], [1, 1, 1, 0, 0]])
    )
    np.testing.assert_allclose(got, [[632.4555, 0.5, 0.4, 1, 3], [20000, 1, 1, -1, 1]], rtol=1e-6)
    assert plugin_values((), np.zeros((3, 0))).shape == (3, 0)


def test_a_parameter_with_one_value_is_no_division_by_zero() -> None:
    fixed = Parameter("x", minimum=2, maximum=2, default=2, port=Port(0, 2, 2, space="native"))
    assert fixed.to_native(0.3) == 2 and fixed.to_setting(2) == 0 and fixed.to_plugin(0.3) == 2
    assert fixed.to_plugin(np.array([0.1, 0.9])).tolist() == [2, 2]


def test_choices_are_named_by_label_index_or_beginning() -> None:
    model = Parameter(
        "model", "choice", 0, 3, 0, choices=("Speaker simulation", "Small radio", "Stack front", "Stack side")
    )
    assert model.parse("small radio") == 1
    assert model.parse("Small") == 1
    assert model.parse(2) == model.parse("2") == model.parse(2.0) == 2
    for bad in ("St", "", "4", "-1", "nan", "1.5", "tube"):
        with pytest.raises(ParameterError, match=r"one of 0 \(Speaker simulation\)"):
            model.parse(bad)


def test_labels_that_begin_with_digits() -> None:
    bits = Parameter("bits", "choice", 0, 2, 0, choices=("1 bit", "8 bit", "16 bit"))
    assert bits.parse("1") == 1  # an index before a beginning
    assert bits.parse("8") == 1 and bits.parse("16") == 2 and bits.parse("1 bit") == 0
    order = Parameter("order", "choice", 0, 2, 0, choices=("2", "1", "0"))
    assert [order.parse(c) for c in ("2", "1", "0")] == [0, 1, 2]  # a label before an index


def test_toggles_units_and_numpy_numbers() -> None:
    toggle = Parameter("stereo", "toggle", default=0)
    assert [toggle.parse(v) for v in ("on", "YES", True, 1, "off", False, 0)] == [1, 1, 1, 1, 0, 0, 0]
    with pytest.raises(ParameterError, match="on or off"):
        toggle.parse("0.5")
    gain = Parameter("gain", minimum=-20, maximum=20, default=0, unit="dB")
    assert gain.parse("-6 dB") == gain.parse("-6db") == gain.parse(np.float32(-6)) == -6
    for bad in ("dB", "inf", "nan", "21", "loud", True):
        with pytest.raises(ParameterError, match="-20 to 20 dB, default 0"):
            gain.parse(bad)


def test_what_people_read() -> None:
    drive = Parameter("drive", default=0.5, display=(-100, 100, "%"))
    assert drive.text(0.7) == "0.7 (40 %)"
    cutoff = Parameter("f", minimum=20, maximum=20000, default=100, unit="Hz", scale="log")
    assert cutoff.text(12345.6) == "12346 Hz" and cutoff.text(0.00123) == "0.00123 Hz"


HERTZ = Reading("Hz", tuple((k / 256, 20 * 1000 ** (k / 256)) for k in range(257)))
OFF = Reading("dB", ((0.0, -20.0), (1.0, 20.0)), ((0.9, 1.0, "off"),))
FOLDED = Reading("Hz", ((0.0, 100.0), (0.5, 1000.0), (1.0, 100.0)))


def test_what_a_panel_shows_can_be_typed() -> None:
    cutoff = Parameter("f", default=0.5, display=HERTZ)
    assert cutoff.text(0.5) == "0.5 (632 Hz)" and cutoff.text(0.6) == "0.6 (1.26 kHz)"
    assert cutoff.parse("632 Hz") == pytest.approx(0.5, abs=1e-3)
    assert cutoff.parse("1.26 kHz") == cutoff.parse("1260hz") == pytest.approx(0.6, abs=1e-3)
    assert cutoff.parse("20 kHz") == 1 and cutoff.parse("0.5") == 0.5
    assert cutoff.range_text() == "0 to 1, default 0.5, shown as 20 Hz to 20 kHz"
    for bad in ("5 Hz", "30 kHz", "3 dB", "3 ms", "Hz", "kHz"):
        with pytest.raises(ParameterError, match="shown as 20 Hz to 20 kHz"):
            cutoff.parse(bad)
    gain = Parameter("gain", default=0.5, display=(-20, 20, "dB"))
    assert gain.parse("12 dB") == pytest.approx(0.8) and gain.parse("-20db") == 0


def test_words_of_a_panel() -> None:
    limit = Parameter("limit", default=0.5, display=OFF)
    assert limit.text(0.95) == "0.95 (off)" and limit.text(0.5) == "0.5 (0 dB)"
    assert limit.parse("off") == limit.parse("OFF") == 1
    assert limit.parse("10 dB") == pytest.approx(0.75)
    with pytest.raises(ParameterError, match="out of range"):
        limit.parse("18 dB")  # lies where the panel says off


def test_what_several_values_show_is_refused_with_their_places() -> None:
    rate = Parameter("rate", default=0.5, display=FOLDED)
    assert rate.parse("1 kHz") == 0.5
    with pytest.raises(ParameterError, match=r"shown at 0.25 and 0.75 alike"):
        rate.parse("550 Hz")
    level = Reading("dB", ((0.0, -10.0), (0.4, 0.0), (0.6, 0.0), (1.0, 10.0)))
    assert Parameter("l", default=0, display=level).parse("0 dB") == pytest.approx(0.5)


@given(st.floats(0, 1))
def test_a_reading_follows_its_law_and_back(native: float) -> None:
    assert HERTZ.shown(native) == pytest.approx(20 * 1000**native, rel=2e-4)
    back = HERTZ.native(HERTZ.text(native))
    assert back is not None and HERTZ.shown(back) == pytest.approx(HERTZ.shown(native), rel=6e-3)


def test_readings_are_plain_data() -> None:
    assert pickle.loads(pickle.dumps(OFF)) == OFF and hash(OFF) == hash(pickle.loads(pickle.dumps(OFF)))
    assert json.loads(json.dumps(OFF.to_dict())) == {
        "unit": "dB",
        "minimum": -20.0,
        "maximum": 20.0,
        "words": [[0.9, 1.0, "off"]],
    }


def test_an_integer_may_have_a_plugin_value_for_each() -> None:
    bits = Parameter("bits", "integer", 4, 6, 5, port=Port(0, values=(0.0, 0.3, 1.0)))
    assert bits.to_plugin(bits.to_setting(np.arange(4, 7))).tolist() == [0.0, 0.3, 1.0]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"kind": "knob"}, "none of continuous"),
        ({"kind": "choice"}, "labels"),
        ({"kind": "choice", "choices": ("a", "b", "c"), "maximum": 1}, "ranges over 0..2"),
        ({"minimum": 1, "maximum": 0}, "is not a range"),
        ({"maximum": float("nan")}, "is not a range"),
        ({"maximum": float("inf")}, "is not a range"),
        ({"default": 2}, "outside"),
        ({"default": float("nan")}, "outside"),
        ({"scale": "log"}, "positive minimum"),
        ({"kind": "toggle", "maximum": 2}, "a toggle ranges over 0..1"),
        ({"kind": "integer", "maximum": 1.5}, "whole numbers"),
        (
            {"kind": "choice", "choices": ("a", "b"), "default": 0, "port": Port(0, values=(1.0,))},
            "1 plugin values",
        ),
    ],
)
def test_senseless_parameters_are_refused(fields: dict, word: str) -> None:
    with pytest.raises(ParameterError, match=word):
        Parameter("p", **fields)


def test_settings_of_an_effect() -> None:
    effect = Effect(
        "e",
        (Parameter("drive", default=0.25), Parameter("mode", "choice", 0, 1, 1, choices=("low", "high"))),
        Provider("test", "m:c"),
    )
    assert effect.setting().tolist() == [0.25, 0.75]
    assert effect.setting(mode="low", drive=1).tolist() == [1, 0.25]
    assert effect.describe(effect.setting()) == {"drive": 0.25, "mode": "high"}
    assert effect.table([1, 0]) == [("drive", "1"), ("mode", "low")]
    with pytest.raises(UnknownNameError, match="did you mean drive"):
        effect.setting(drvie=0.3)
    with pytest.raises(ShapeError):
        effect.describe([0.5])
    with pytest.raises(ParameterError, match="several parameters named drive"):
        Effect("e", (Parameter("drive"), Parameter("drive")), Provider("test", "m:c"))
