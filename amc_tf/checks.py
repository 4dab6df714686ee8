"""What counts as a number where one is expected: Python's and NumPy's alike, but no bool."""

from typing import Any

import numpy as np


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number by its type: 3, np.int64(3), but neither 3.0 nor True."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a real number by its type, NaN and infinity included."""
    return is_whole(value) or isinstance(value, (float, np.floating))
