"""Cost: what the search expects of a cost model."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Cost(Protocol):
    """The cost of a network at any widths; non-decreasing in each width.

    Attributes:
        unit: Word for what is counted: "MACs", "params", "bytes" or "us".
        full: Widths of the whole network, (units,).
    """

    @property
    def unit(self) -> str: ...

    @property
    def full(self) -> Sequence[int] | np.ndarray: ...

    def __call__(self, widths: Sequence[int] | np.ndarray) -> float:
        """The cost, in `unit`, of the network whose unit i keeps `widths[i]` channels or weights."""
