"""Mixed precision and torch.compile, around the networks only.

Weights, losses, audio and spectra stay in float32. What a controller gives is float32 again, so nothing
behind it knows. `benchmarks/precision_speed.py` measures what it is worth.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dafxhost.errors import UsageError
from dafxhost.training.controller import Controller

TYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


def prepare(controller: Controller, precision: str, compiled: bool, device: torch.device) -> torch.GradScaler:
    """Run a controller's body and head (and its encoder, if that is trained) in `precision`, and compile the
    body if asked to. Weights and the names of the state dictionary stay as they are.

    Returns:
        What scales losses so that the gradients of float16 do not vanish; it does nothing for other types.

    Raises:
        UsageError: an unknown precision, or float16 on a device without it.
    """
    if precision not in TYPES:
        raise UsageError(f"unknown precision {precision!r}; there are {', '.join(TYPES)}")
    if precision == "float16" and device.type != "cuda":
        raise UsageError('precision = "float16" needs device = "cuda"; on the CPU use bfloat16 or float32')
    kind = TYPES[precision]
    if kind is not None:
        _cast(controller, kind, device)
        if not controller.encoder.frozen:
            _cast(controller.encoder, kind, device)
    if compiled:
        controller.body.compile(dynamic=True)
    return torch.GradScaler(device.type, enabled=precision == "float16")


def _cast(module: nn.Module, kind: torch.dtype, device: torch.device) -> None:
    """Let `module` run under autocast and give float32."""
    forward = module.forward

    def cast(*arguments: Any) -> torch.Tensor:
        with torch.autocast(device.type, kind):
            out = forward(*arguments)
        return out.float()

    module.forward = cast
