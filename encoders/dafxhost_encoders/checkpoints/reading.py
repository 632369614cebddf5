"""Tensors of a checkpoint file, without ever running what is in it."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from dafxhost.errors import RunError

WRAPPINGS = ("state_dict", "model", "model_state_dict")
"""Under which of a checkpoint's entries its tensors may lie; the first that is there is taken."""


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Name -> tensor, of a .safetensors file or of one that `torch.save` wrote (.ckpt, .pth, .pt).

    Files of `torch.save` are pickles, which can run any code: they are read with `weights_only=True`, which
    takes tensors and plain containers and refuses the rest.

    Raises:
        RunError: the file is missing, damaged, holds other objects than tensors, or no tensors at all.
    """
    path = Path(path)
    if not path.is_file():
        raise RunError(f"no checkpoint at {path}: give the file that you downloaded")
    content = _safetensors(path) if path.suffix == ".safetensors" else _torch(path)
    for key in WRAPPINGS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(name): value for name, value in items if isinstance(value, Tensor)}
    if not tensors:
        raise RunError(f"{path} holds no tensors by name, so it is no checkpoint of a network")
    return tensors


def without_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with `prefix`, without it; all of them if there are none."""
    found = {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
    return found or dict(tensors)


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is no safetensors file: {error}") from error


def _torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # of a pickle's protocol; it is read or refused all the same
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path} is not read: it is damaged, or a pickle that holds more than tensors, which could run "
            "any code. If you trust it, load it once yourself and write its tensors with "
            "safetensors.torch.save_file"
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} cannot be read as a checkpoint: {str(error).splitlines()[0]}") from error
