"""The tremolo keeps what dafxhost asks of an effect, and does what a tremolo does."""

import numpy as np

import dafxhost
from dafxhost.testing import conformance

# One test item a check. With a depth of 0 an impulse passes unchanged.
test_conformance = conformance("example-tremolo", neutral={"depth": 0}, longest=5)


def test_full_depth_reaches_silence() -> None:
    effect = dafxhost.effect("example-tremolo")
    audio = np.full((1, 1, 44100), 0.5, np.float32)
    with dafxhost.Executor(effect, workers=1) as executor:
        wet = executor.render(audio, effect.setting(depth=100, rate=5)[None], sample_rate=44100)
    assert wet.min() < 1e-3 and wet.max() > 0.499
