"""dafxhost: host any audio effect plugin, estimate gradients through it, and train networks through it.

Importing this package is cheap: torch and the plugin hosts are imported only by what needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dafxhost.effects import Effect as Effect
    from dafxhost.effects import Provider as Provider
    from dafxhost.errors import DafxhostError as DafxhostError
    from dafxhost.errors import RenderError as RenderError
    from dafxhost.execution.backends import open_executor as open_executor
    from dafxhost.execution.executor import Executor as Executor
    from dafxhost.execution.ray_executor import RayExecutor as RayExecutor
    from dafxhost.layer import PluginLayer as PluginLayer
    from dafxhost.layer import PluginLoss as PluginLoss
    from dafxhost.parameters import Parameter as Parameter
    from dafxhost.parameters import Port as Port
    from dafxhost.processor import Processor as Processor
    from dafxhost.processor import RenderSpec as RenderSpec
    from dafxhost.registry import effect as effect
    from dafxhost.registry import encoder as encoder
    from dafxhost.registry import estimator as estimator
    from dafxhost.style_transfer import transfer as transfer
    from dafxhost.training.trainer import train as train

__version__ = "0.1.0"

_WHERE = {
    "Effect": "dafxhost.effects",
    "Provider": "dafxhost.effects",
    "DafxhostError": "dafxhost.errors",
    "RenderError": "dafxhost.errors",
    "Executor": "dafxhost.execution.executor",
    "RayExecutor": "dafxhost.execution.ray_executor",
    "open_executor": "dafxhost.execution.backends",
    "PluginLayer": "dafxhost.layer",
    "PluginLoss": "dafxhost.layer",
    "Parameter": "dafxhost.parameters",
    "Port": "dafxhost.parameters",
    "Processor": "dafxhost.processor",
    "RenderSpec": "dafxhost.processor",
    "effect": "dafxhost.registry",
    "encoder": "dafxhost.registry",
    "estimator": "dafxhost.registry",
    "train": "dafxhost.training.trainer",
    "transfer": "dafxhost.style_transfer",
}
__all__ = [*sorted(_WHERE), "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'dafxhost' has no attribute {name!r}")
    value = getattr(importlib.import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
