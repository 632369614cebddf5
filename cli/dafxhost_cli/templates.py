"""What `dafxhost new` writes. Words between @ are filled in by `creating.py`."""

from __future__ import annotations

PYPROJECT = """\
[build-system]
requires = ["hatchling>=1.24"]
build-backend = "hatchling.build"

[project]
name = "@name@"
version = "0.1.0"
description = "An @kind@ for dafxhost."
requires-python = ">=3.11"
dependencies = ["dafxhost"]

[project.optional-dependencies]
test = ["pytest"]

# dafxhost looks for entry points of this group; the module's hook says what the package adds.
[project.entry-points.dafxhost]
@module@ = "@module@"

[tool.hatch.build.targets.wheel]
include = ["@module@.py"]
"""

README = """\
# @name@

An @kind@ for dafxhost.

```
pip install -e .
dafxhost plugins      # lists @name@, or says why it cannot be loaded
@try@
pytest                # the conformance checks, and tests of your own
```
"""

SUFFIX = {"effect": "Processor", "encoder": "Encoder", "estimator": "Estimator"}
"""Of the class, so that it never has the name of one that the module imports."""

TRY = {
    "effect": "dafxhost render in.wav --effect @name@ --set gain=6 -o out.wav",
    "encoder": "dafxhost train --encoder @name@",
    "estimator": "dafxhost train --estimator @name@",
}

EFFECT = '''\
"""@name@: an effect for dafxhost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dafxhost.effects import Effect, Provider
from dafxhost.errors import PluginError, UnknownNameError
from dafxhost.parameters import Parameter, Port
from dafxhost.processor import Processor, RenderSpec
from dafxhost.registry import EffectSpec, hookimpl

SUMMARY = "A gain."


@hookimpl
def dafxhost_effects() -> list[EffectSpec]:
    """What this package adds."""
    return [EffectSpec("@name@", "@module@:make", SUMMARY)]


def make(provider: str | None = None) -> Effect:
    """The effect as dafxhost sees it: parameters in their own units, and what renders it in a worker."""
    if provider not in (None, "@name@"):
        raise UnknownNameError("provider of @name@", provider, ["@name@"])
    return Effect(
        name="@name@",
        summary=SUMMARY,
        inputs=1,
        outputs=1,
        parameters=(
            # Port: the place in `values` below, and the value there at minimum and maximum.
            Parameter("gain", minimum=-24, maximum=24, default=0, unit="dB", port=Port(0, -24, 24)),
            Parameter("invert", "toggle", 0, 1, 0, port=Port(1)),
        ),
        provider=Provider("@name@", "@module@:@Class@", identity="0.1.0"),
    )


class @Class@(Processor):
    """Runs in a worker process. Import numpy here, torch never."""

    def __init__(self, options: Mapping[str, Any], spec: RenderSpec) -> None:
        # Refuse here, by PluginError, what cannot be rendered: a sample rate, say (spec.sample_rate).
        if options:
            raise PluginError(f"@name@ takes no options, not {dict(options)}")
        self.values = np.zeros(2)

    def prepare(self, values: np.ndarray) -> None:
        """Set the values and forget all that was rendered before."""
        self.values = np.array(values, dtype=np.float64)

    def process(self, audio: np.ndarray, out: np.ndarray) -> None:
        """[C, N] float32 into `out`, carrying on from the last call. C is 1 or 2."""
        gain, invert = self.values
        out[:] = audio * (10 ** (gain / 20) * (-1 if invert >= 0.5 else 1))

    def read_back(self) -> np.ndarray:
        return self.values
'''

EFFECT_TEST = '''\
"""@name@ keeps what dafxhost asks of an effect, and does what it should."""

import numpy as np
import pytest

import dafxhost
from dafxhost.testing import conformance

# One test item a check. neutral: values with which an impulse passes unchanged, if there are such.
test_conformance = conformance("@name@", neutral={"gain": 0})


def test_six_decibels_double() -> None:
    effect = dafxhost.effect("@name@")
    audio = np.full((1, 1, 1000), 0.25, np.float32)
    with dafxhost.Executor(effect, workers=1) as executor:
        wet = executor.render(audio, effect.setting(gain=6.0206)[None], sample_rate=44100)
    assert wet[0, 0, 500] == pytest.approx(0.5, abs=1e-4)
'''

ENCODER = '''\
"""@name@: an audio encoder for dafxhost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dafxhost.registry import EncoderSpec, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@hookimpl
def dafxhost_encoders() -> list[EncoderSpec]:
    """What this package adds."""
    return [EncoderSpec("@name@", "@module@:make", "Levels of frames.")]


def make(frame: int = 512, sample_rate: int = 24_000) -> Any:
    """A new encoder with these options.

    torch is imported here, and not above: this module is imported by every dafxhost command.
    """
    import torch

    from dafxhost.encoders import Encoder, check_option

    class @Class@(Encoder):
        """Mean and deviation of the level of frames, in bels."""

        name = "@name@"

        def __init__(self) -> None:
            check_option("frame", frame, 16, 8192)
            super().__init__(embedding_size=2, sample_rate=sample_rate, minimum_samples=frame)

        def config(self) -> dict[str, Any]:
            """The options that make it again."""
            return {"frame": frame, "sample_rate": self.sample_rate}

        def embed(self, audio: Tensor) -> Tensor:
            """Mono audio [B, T] at self.sample_rate, at a peak of -12 dBFS -> [B, 2]."""
            frames = audio.unfold(-1, frame, frame)  # [B, frames, frame]
            level = (frames.square().mean(-1) + 1e-8).log10()
            deviation = (level.var(-1, unbiased=False) + 1e-6).sqrt()
            return torch.stack([level.mean(-1), deviation], dim=1)

    return @Class@()
'''

ENCODER_TEST = '''\
"""@name@ keeps what dafxhost asks of an encoder, and does what it should."""

import torch

import dafxhost
from dafxhost.testing import conformance

test_conformance = conformance("@name@"@arguments@)  # one test item a check


def test_a_steady_tone_varies_less_than_bursts() -> None:
    encoder = dafxhost.encoder("@name@").eval()
    steady = torch.sin(torch.arange(24_000) * 0.1)
    bursts = steady * (torch.arange(24_000) % 8000 < 4000)
    embedding = encoder(torch.stack([steady, bursts])[:, None], 24_000)
    assert embedding[0, 1] < 0.1 < embedding[1, 1]
'''

ESTIMATOR = '''\
"""@name@: a gradient estimator for dafxhost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dafxhost.registry import EstimatorSpec, hookimpl

if TYPE_CHECKING:
    from torch import Generator, Tensor


@hookimpl
def dafxhost_estimators() -> list[EstimatorSpec]:
    """What this package adds."""
    return [EstimatorSpec("@name@", "@module@:make", "One parameter at random.")]


def make(step: float = 0.05) -> Any:
    """A new estimator with these options.

    torch is imported here, and not above: this module is imported by every dafxhost command.
    """
    import torch

    from dafxhost.estimators.base import Estimator, Plan, divide

    class @Class@(Estimator):
        """The central difference of one parameter drawn at random, times the number of parameters."""

        def renders(self, parameters: int, *, base: bool) -> int:
            return 2 + int(base)

        def perturb(
            self,
            settings: Tensor,
            *,
            base: bool = False,
            steps: Tensor | None = None,
            generator: Generator | None = None,
        ) -> Plan:
            centre, step = self._start(settings, steps)  # [B, P] on 0..1 and [P], checked
            rows, parameters = centre.shape
            chosen = torch.randint(0, parameters, (rows,), generator=generator)
            move = torch.nn.functional.one_hot(chosen, parameters).to(torch.float64) * step
            plus, minus = (centre + move).clamp(0, 1), (centre - move).clamp(0, 1)
            columns = [centre, plus, minus] if base else [plus, minus]
            # Distances as they are after clipping, [B, 1, P]: one difference.
            return Plan(torch.stack(columns, dim=1), base, (plus - minus).unsqueeze(1))

        def gradient(self, plan: Plan, values: Tensor) -> Tensor:
            values = self._values(plan, values)[:, int(plan.base) :]  # checked; failed renders are NaN
            difference = values[:, :1] - values[:, 1:]
            self._count(difference.isnan())
            # `divide` gives 0 where the distance is 0, and where the render failed.
            distance = plan.distances[:, 0]
            return distance.shape[1] * divide(difference.expand_as(distance), distance)

    return @Class@(step)
'''

ESTIMATOR_TEST = '''\
"""@name@ keeps what dafxhost asks of an estimator, and does what it should."""

import torch

import dafxhost
from dafxhost.testing import conformance

test_conformance = conformance("@name@"@arguments@)  # one test item a check


def test_one_entry_is_estimated() -> None:
    estimator = dafxhost.estimator("@name@")
    plan = estimator.perturb(torch.full((5, 4), 0.5))
    gradient = estimator.gradient(plan, plan.settings.sum(-1))
    torch.testing.assert_close(gradient.sum(-1), torch.full((5,), 4.0, dtype=torch.float64))
    assert ((gradient != 0).sum(-1) == 1).all()
'''

MODULES = {"effect": EFFECT, "encoder": ENCODER, "estimator": ESTIMATOR}
TESTS = {"effect": EFFECT_TEST, "encoder": ENCODER_TEST, "estimator": ESTIMATOR_TEST}
