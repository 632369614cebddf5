"""Files of a run: written beside their place and renamed, never unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open

from dafxhost.errors import OutputError, RunError


def write_file(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename. Raises OutputError."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        if beside.parent.is_dir():
            beside.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def append_line(path: Path, entry: dict[str, Any]) -> None:
    """Append one line of JSON. Raises OutputError."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Its state dictionary, on the CPU, each tensor with memory of its own."""
    return {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}


def save_state(path: Path, tensors: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    """Write tensors and JSON-able values into one file, so that they belong together."""
    write_file(path, safetensors.torch.save(tensors, metadata={"about": json.dumps(about)}))


def load_state(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """What `save_state` wrote. Raises RunError: missing or damaged."""
    if not path.is_file():
        raise RunError(f"{path} is missing: there is nothing to resume")
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}") from error
