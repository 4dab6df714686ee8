"""What a caller may want to catch. Mistakes at the door raise ValueError or TypeError instead."""


class AmcError(Exception):
    """Base of every error that this package raises on purpose."""


class UnsupportedModel(AmcError, ValueError):
    """The model is of a sort that cannot be compressed; the sentence says which layer or property is in the way."""


class BudgetError(AmcError, ValueError):
    """The budget lies outside what pruning can reach; the sentence gives the reachable range."""


class ConversionError(AmcError):
    """The TFLite converter failed, or what it made is not fit to ship."""


class DeviceError(AmcError):
    """A measurement on a device failed; the sentence names the cause."""


class RunDirError(AmcError, ValueError):
    """The run directory cannot be used: unwritable, damaged, or of another model or other arguments."""


class AgentError(AmcError):
    """The process of the DDPG agent failed; the sentence gives its last words."""


class SetupError(AmcError):
    """A package that amc_tf keeps apart from the environment is not there and could not be installed."""


class TrainingError(AmcError):
    """A fine-tuning was lost before there was anything to keep of it."""


class BadPredictions(AmcError):
    """A candidate's predictions hold NaN or infinity: a failed trial, not a failed search."""
