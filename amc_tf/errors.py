"""The errors that a caller may want to catch. Wrong arguments raise ValueError or TypeError instead."""


class AmcError(Exception):
    """Base of all errors that this package raises on purpose."""


class UnsupportedModel(AmcError, ValueError):
    """The model cannot be compressed. The message names the layer or the property that prevents it."""


class BudgetError(AmcError, ValueError):
    """Pruning cannot reach the budget. The message gives the reachable range."""


class ConversionError(AmcError):
    """The TFLite converter failed, or its file is not fit to ship."""


class DeviceError(AmcError):
    """A measurement on a device failed. The message names the cause."""


class RunDirError(AmcError, ValueError):
    """The run directory cannot be used: it is not writable, damaged, or belongs to another model or other arguments."""


class AgentError(AmcError):
    """The process of the DDPG agent failed. The message ends with the last line that it printed."""


class SetupError(AmcError):
    """An isolated package is missing and could not be installed."""


class TrainingError(AmcError):
    """A fine-tuning failed before it had a result to keep."""


class BadPredictions(AmcError):
    """A candidate predicts NaN or infinity. The trial fails, the search goes on."""
