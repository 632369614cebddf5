"""Fitting a clip of one or two channels to a plugin's own channel layout. The rules are the same for every
host.

One channel into a stereo plugin feeds both inputs and takes the mean of both outputs. Two channels into a
mono plugin go through two instances. Two channels into a plugin of one input and two outputs: the mean goes
in. A single output goes to both channels. Inputs past the second are silent, outputs past the second are
dropped.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dafxhost.errors import PluginError


def instances_needed(channels: int, inputs: int, outputs: int) -> int:
    """2 for a mono plugin given two channels, else 1. Raises PluginError where there is nothing to hear."""
    if channels not in (1, 2):
        raise PluginError(f"clips have 1 or 2 channels, not {channels}")
    if outputs < 1:
        raise PluginError("the plugin has no audio output")
    return 2 if channels == 2 and inputs == 1 and outputs == 1 else 1


def fit_inputs(audio: np.ndarray, inputs: int) -> np.ndarray:
    """`[C, N]` float32 -> `[inputs, N]`, contiguous; the same array where nothing has to change."""
    channels, length = audio.shape
    if channels == inputs:
        return np.ascontiguousarray(audio)
    if inputs == 0:
        return np.zeros((0, length), dtype=np.float32)
    if inputs == 1:
        return audio.mean(axis=0, keepdims=True, dtype=np.float32)
    fitted = np.zeros((inputs, length), dtype=np.float32)
    fitted[:2] = audio
    return fitted


def mix_outputs(wet: np.ndarray, out: np.ndarray) -> None:
    """A plugin's outputs `[outputs, N]` into `out` `[C, N]`."""
    if out.shape[0] == 1 and wet.shape[0] >= 2:
        np.add(wet[0], wet[1], out=out[0])
        out[0] *= 0.5
    else:
        out[:] = wet[: out.shape[0]]


def channels_first(plugin: Any, audio: np.ndarray, sample_rate: int, block_size: int) -> np.ndarray:
    """`[C, N]` through a pedalboard plugin, carrying on from its last call.

    pedalboard guesses which axis is which from the shape. One channel therefore goes in as a one-dimensional
    array; a stereo chunk of one or two samples is only told apart by a plugin that has seen a longer one.

    Raises:
        PluginError: a stream that begins with such a chunk.
    """
    if audio.shape[0] == 1:
        wet = plugin.process(audio[0], sample_rate, buffer_size=block_size, reset=False)
        return np.reshape(wet, (1, -1))
    if block_size <= audio.shape[0]:
        raise PluginError("pedalboard takes no stereo stream that begins with fewer than three samples")
    return plugin.process(audio, sample_rate, buffer_size=block_size, reset=False)
