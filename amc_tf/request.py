"""What was asked for, as it stands in a journal: the same call must be known again, another one told apart."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from amc_tf.data import Split


def named(argument) -> Any:
    """An argument as it stands in the journal: another function of the same name is another argument."""
    if not callable(argument):
        return argument
    name = getattr(argument, "__qualname__", type(argument).__qualname__)
    code = getattr(argument, "__code__", None)
    if code is None:
        return name
    cells = [repr(cell.cell_contents) for cell in argument.__closure__ or ()]
    body = repr((code.co_code, [c for c in code.co_consts if not hasattr(c, "co_code")], code.co_names, cells))
    return f"{name} {hashlib.sha256(body.encode()).hexdigest()[:8]}"


def fingerprint(split: Split) -> str:
    """A digest of a split's examples and labels."""
    state = hashlib.sha256()
    for array in (*split.inputs, split.labels):
        state.update(b"" if array is None else np.ascontiguousarray(array).data)
    return state.hexdigest()[:16]


def run_name(model_name: str, asked_for: Mapping) -> str:
    """The same for the same search, also when it is prolonged or the versions have changed, which a journal allows."""
    lasting = {name: value for name, value in asked_for["arguments"].items() if name != "episodes"}
    key = repr((asked_for["model"], asked_for["seed"], sorted(lasting.items(), key=lambda item: item[0])))
    return f"{model_name}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
