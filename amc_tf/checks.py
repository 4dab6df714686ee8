"""Type checks of numeric arguments: numbers of Python and NumPy count, bools do not."""

from typing import Any

import numpy as np


def is_whole(value: Any) -> bool:
    """Whether a value has the type of a whole number: 3 and np.int64(3), but neither 3.0 nor True."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value has the type of a real number. NaN and infinity count."""
    return is_whole(value) or isinstance(value, (float, np.floating))
