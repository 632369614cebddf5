"""A differentiable effect in torch, and an executor that renders it in this process.

Estimated gradients are checked against autograd through it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dafxhost.effects import Effect, Provider
from dafxhost.parameters import Parameter

PARAMETERS = (
    Parameter("gain", minimum=-12.0, maximum=12.0, default=0.0, unit="dB"),
    Parameter("drive", minimum=0.0, maximum=30.0, default=10.0, unit="dB"),
    Parameter("tilt", minimum=-1.0, maximum=1.0, default=0.0),
    Parameter("mix"),
)
EFFECT = Effect("torch-drive", PARAMETERS, Provider("test", "nowhere:Nothing"), inputs=1, outputs=1)


def drive(dry: Tensor, settings: Tensor) -> Tensor:
    """Tilt filter, tanh drive, dry/wet mix, gain: `[..., C, T]` and `[..., P]` on 0..1 -> `[..., C, T]`.

    Smooth in every parameter. The filter has one zero, 1 + t z^-1: dull for t above 0, bright below.
    """
    gain, amount, tilt, mix = (settings[..., i, None, None] for i in range(4))
    delayed = torch.nn.functional.pad(dry, (1, 0))[..., :-1]
    shaped = torch.tanh((dry + (2.0 * tilt - 1.0) * delayed) * 10.0 ** (30.0 * amount / 20.0))
    return (mix * shaped + (1.0 - mix) * dry) * 10.0 ** ((24.0 * gain - 12.0) / 20.0)


class InProcessExecutor:
    """The part of `dafxhost.Executor` that the layers use, without workers.

    Attributes:
        calls: shape of the settings of every call to `render`.
        closed: rendering raises while it is true, to catch renders during backward.
        failing: (row, column) pairs that come back as NaN.
    """

    def __init__(self, effect: Effect = EFFECT, function: Any = drive) -> None:
        self.effect = effect
        self.function = function
        self.calls: list[tuple[int, ...]] = []
        self.closed = False
        self.failing: set[tuple[int, int]] = set()

    def render(self, audio: Any, settings: Any, sample_rate: int, *, on_error: str = "raise") -> Any:
        assert not self.closed, "rendered while rendering was forbidden"
        assert audio.device.type == "cpu" and settings.device.type == "cpu"
        assert audio.dtype == torch.float32 and settings.dtype == torch.float64
        assert ((settings >= 0) & (settings <= 1)).all()
        self.calls.append(tuple(settings.shape))
        with torch.no_grad():
            out = self.function(audio.double().unsqueeze(1), settings).float()
        for row, column in self.failing:
            assert on_error == "nan"
            if column < out.shape[1]:
                out[row, column] = torch.nan
        return out


def noise(*shape: int, seed: int = 0) -> Tensor:
    """White noise of RMS 0.2, float32."""
    return 0.2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
