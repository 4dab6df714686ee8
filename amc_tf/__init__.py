"""Makes trained Keras networks small and fast on phones (AMC, arXiv 1802.03494).

keras model --graph--> channel groups --pruning--> plan --graph--> smaller model --tflite--> .tflite to ship
                                         ^                           |
a DDPG agent, in a process of its own ---+--- keep ratio a unit      +--> accuracy and cost of every candidate
             ^                                                       |
             +------------------------- reward <---------------------+
"""

import importlib
from typing import TYPE_CHECKING, Any

from amc_tf.version import __version__

if TYPE_CHECKING:
    from amc_tf import callbacks, devices
    from amc_tf.api.analyze import Analysis, analyze
    from amc_tf.api.compress import compress
    from amc_tf.api.prune import prune
    from amc_tf.errors import (
        AgentError,
        AmcError,
        BudgetError,
        ConversionError,
        DeviceError,
        RunDirError,
        SetupError,
        UnsupportedModel,
    )
    from amc_tf.pruning.plan import Plan
    from amc_tf.result import Result
    from amc_tf.training.finetune import finetune

__all__ = [
    "AgentError",
    "AmcError",
    "Analysis",
    "BudgetError",
    "ConversionError",
    "DeviceError",
    "Plan",
    "Result",
    "RunDirError",
    "SetupError",
    "UnsupportedModel",
    "__version__",
    "analyze",
    "callbacks",
    "compress",
    "devices",
    "finetune",
    "prune",
]

_PLACES = {
    "Analysis": "api.analyze",
    "Plan": "pruning.plan",
    "Result": "result",
    "analyze": "api.analyze",
    "compress": "api.compress",
    "finetune": "training.finetune",
    "prune": "api.prune",
}  # of public names; the errors are in `errors`
_MODULES = ("callbacks", "devices", "errors")  # that are reached as amc_tf.NAME


def __getattr__(name: str) -> Any:
    """Imports a public name at its first use: the processes that amc_tf starts need few of them."""
    if name not in __all__ and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    value = getattr(importlib.import_module(f"{__name__}.{_PLACES.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
