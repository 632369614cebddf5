"""Checking and converting what callers hand to an executor."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from dafxhost.effects import Effect
from dafxhost.errors import ParameterError, ShapeError, UsageError

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000
ROUNDING = 1e-6  # by how much a setting may lie outside 0..1


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; does not import torch (nobody can hold a tensor without having done
    so).
    """
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def to_numpy(value: Any) -> np.ndarray:
    if is_tensor(value):
        value = value.detach().cpu()
        if value.is_floating_point() and value.element_size() < 4:
            value = value.float()  # numpy knows no bfloat16
        return value.numpy()
    return np.asarray(value)


def is_cuda(value: Any) -> bool:
    return is_tensor(value) and value.is_cuda


def like(result: np.ndarray, audio: Any) -> Any:
    """numpy -> what the caller gave: a tensor on the audio's device, or the array itself."""
    if not is_tensor(audio):
        return result
    return sys.modules["torch"].from_numpy(result).to(audio.device)


def check_rate(sample_rate: float) -> int:
    if isinstance(sample_rate, bool) or sample_rate % 1 != 0:  # also NaN and infinity
        raise UsageError(f"sample_rate is a whole number of Hz, not {sample_rate!r}")
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise UsageError(f"sample_rate {sample_rate} Hz lies outside {LOWEST_RATE}..{HIGHEST_RATE} Hz")
    return int(sample_rate)


def check_audio(audio: Any, dims: str, fetch: Callable[[Any], np.ndarray] = to_numpy) -> np.ndarray:
    """Floating-point array of the named dimensions ("B, C, T" or "C, N"); any float type.

    Args:
        fetch: makes the array, once the audio has been checked.

    Raises:
        ShapeError: wrong number of dimensions, channels not 1 or 2, or no samples.
        UsageError: not floating point.
    """
    if not is_tensor(audio):
        audio = np.asarray(audio)
    if not (audio.is_floating_point() if is_tensor(audio) else audio.dtype.kind == "f"):
        raise UsageError(
            f"audio has type {audio.dtype}; convert it to float32 (integer samples also to the range -1..1)"
        )
    shape = list(audio.shape)
    if len(shape) != dims.count(",") + 1:
        raise ShapeError(f"audio has shape {shape}; expected [{dims}]")
    if shape[-2] not in (1, 2):
        raise ShapeError(f"audio has {shape[-2]} channels (shape {shape}); 1 or 2 are possible")
    if shape[-1] == 0:
        raise ShapeError(f"audio has no samples (shape {shape})")
    return fetch(audio)


def check_settings(effect: Effect, settings: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Settings whose last axis is the effect's P and whose leading axes are `shape` (-1: any) -> float64 on
    0..1.

    Raises:
        ShapeError, ParameterError: names the offending parameter and value.
    """
    array = to_numpy(settings)
    if array.dtype.kind not in "fiub":
        raise ParameterError(f"settings have type {array.dtype}; they are numbers on 0..1")
    parameters = len(effect.parameters)
    if array.ndim == 0 or array.shape[-1] != parameters:
        raise ShapeError(
            f"settings have shape {list(array.shape)}; effect {effect.name!r} has {parameters} parameters "
            f"({', '.join(effect.parameter_names)}), so the last axis must be {parameters}"
        )
    leading = array.shape[:-1]
    if len(leading) != len(shape) or any(
        want not in (-1, have) for have, want in zip(leading, shape, strict=True)
    ):
        wanted = ", ".join(str(n) if n >= 0 else "K" for n in (*shape, parameters))
        raise ShapeError(f"settings have shape {list(array.shape)}; expected [{wanted}]")
    array = array.astype(np.float64)
    bad = ~((array >= -ROUNDING) & (array <= 1 + ROUNDING))  # also NaN
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ParameterError(
            f"setting {list(where[:-1])} of effect {effect.name!r} has {effect.parameter_names[where[-1]]} = "
            f"{array[where]:g}; settings lie on 0..1"
        )
    return np.clip(array, 0.0, 1.0)


def finite(audio: np.ndarray) -> bool:
    """Whether all samples are finite."""
    # Quicker than a sum; a dot product would be quicker still, but BLAS would wake its threads for it.
    return bool(np.isfinite(audio).all())
