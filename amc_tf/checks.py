"""Type checks of numeric arguments: numbers of Python and NumPy count, bools do not."""

import os
from pathlib import Path
from typing import Any

import numpy as np


def is_whole(value: Any) -> bool:
    """Whether a value has the type of a whole number: 3 and np.int64(3), but neither 3.0 nor True."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value has the type of a real number. NaN and infinity count."""
    return is_whole(value) or isinstance(value, (float, np.floating))


def whole(name: str, value: Any, least: int) -> int:
    """An argument as an int; ValueError unless it is a whole number of `least` or more."""
    if not is_whole(value) or value < least:
        raise ValueError(f"{name} is {value!r}; a whole number of {least} or more is expected.")
    return int(value)


def switch(name: str, value: Any) -> bool:
    """An argument as a bool; TypeError unless it is one."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; True or False is expected.")
    return bool(value)


def path_or_none(name: str, value: Any, kind: str) -> Path | None:
    """An argument as a Path, or None; TypeError for all else: "the path of `kind` is expected"."""
    if value is None:
        return None
    if not isinstance(value, (str, os.PathLike)):
        raise TypeError(f"{name} is {value!r}; the path of {kind} is expected.")
    return Path(value)


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's own number, which goes into JSON; all else as it is."""
    return value.item() if isinstance(value, np.generic) else value
