"""Makes trained Keras networks small and fast on phones (AMC, arXiv 1802.03494).

keras model --graph--> channel groups --pruning--> plan --graph--> smaller model --tflite--> .tflite to ship
                                         ^                           |
a DDPG agent, in a process of its own ---+--- keep ratio a unit      +--> accuracy and cost of every candidate
             ^                                                       |
             +------------------------- reward <---------------------+
"""

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
from amc_tf.version import __version__

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
