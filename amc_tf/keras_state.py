"""What Keras objects do, as plain values for a fingerprint: losses, metrics, optimizers and callbacks.

Their settings say too much, such as a name that Keras counts up, and too little, such as which function is meant.
"""

import dis
import functools
import inspect
import re
from collections.abc import Mapping
from typing import Any

from amc_tf.system.installed_code import instructions, is_installed


def configuration(value: Any) -> dict[str, Any]:
    """The settings of a Keras object, without a name that Keras made of its class and a number."""
    config = dict(value.get_config())
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(value).__name__).lower()
    if re.fullmatch(rf"{re.escape(words)}(_\d+)?", str(config.get("name"))):
        del config["name"]
    return config


def beside_configuration(value: Any) -> dict[str, Any]:
    """The attributes of a Keras object that its settings need not tell.

    Settings hold functions by name alone. Those of a class of the caller's may lack whatever that class has added.
    """
    own = {name: part for name, part in vars(value).items() if inspect.isfunction(part)}
    if is_installed(type(value).__module__):
        return own
    cls: type = type(value)
    inherited = _attributes_of_installed(cls)
    return own | {name: part for name, part in vars(value).items() if name not in inherited}


def of_callback(callback: Any) -> Any:
    """A callback of Keras without what it has counted in earlier trainings, which each training sets anew."""
    if not is_installed(type(callback).__module__):
        return callback
    methods = [
        part
        for cls in type(callback).__mro__
        for name, part in vars(cls).items()
        if inspect.isfunction(part) and name != "__init__"
    ]
    counted = {step.argval for each in methods for step in dis.get_instructions(each) if step.opname == "STORE_ATTR"}
    return [type(callback), {name: value for name, value in vars(callback).items() if name not in counted}]


def of_compile(own: Mapping[str, Any]) -> list[Any]:
    """The arguments of compile(); of the optimizer what it does, without the name that Keras counts up."""
    optimizer = own["optimizer"]
    config = {name: value for name, value in optimizer.get_config().items() if name != "name"}
    schedule = getattr(optimizer, "_learning_rate", None)  # of a schedule, the settings hold the class by name alone
    if callable(schedule) and hasattr(schedule, "get_config"):
        config["learning_rate"] = schedule
    return [type(optimizer), config, {name: value for name, value in own.items() if name != "optimizer"}]


@functools.cache
def _attributes_of_installed(cls: type) -> frozenset[str]:
    """Names of attributes that the installed base classes set, and whatever else may be such a name."""
    names: set[str] = set()
    for base in cls.__mro__:
        if base is object or not is_installed(base.__module__):
            continue
        for function in filter(inspect.isfunction, map(inspect.unwrap, vars(base).values())):
            for step in instructions(function.__code__):
                if step.opname == "STORE_ATTR" or (step.opname == "LOAD_CONST" and isinstance(step.argval, str)):
                    names.add(step.argval)
    return frozenset(names)
