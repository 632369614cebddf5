"""Plugins named by their file or URI go through the same door as registered names."""

from __future__ import annotations

import pytest

import dafxhost
from dafxhost.errors import DafxhostError, UnknownNameError
from dafxhost_effects import mda
from hosting import need

URI = "http://drobilla.net/plugins/mda/Combo"


def test_an_lv2_uri_is_an_effect() -> None:
    need(mda.bundle("mda-combo"), "mda-lv2")
    by_uri, by_name = dafxhost.effect(URI), dafxhost.effect("mda-combo", provider="lv2")
    assert by_uri.provider.options == by_name.provider.options
    assert by_uri.parameter_names == by_name.parameter_names


def test_what_is_not_there_is_said_in_one_sentence() -> None:
    for location in ("/nowhere/some.vst3", "http://nobody.example/plugin"):
        with pytest.raises(DafxhostError) as caught:
            dafxhost.effect(location)
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match="dafxhost plugins"):
        dafxhost.effect("no-such-effect")
