"""The 11 state features of the paper (arXiv 1802.03494, section 3.2), each in [0, 1]."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

# previous_action is the paper's a_{t-1}: the executed keep ratio, after bounds and rounding.
NAMES = ("t", "n", "c", "h", "w", "stride", "k", "cost", "reduced", "rest", "previous_action")


class Features:
    """The state of the agent before it decides unit t.

    | feature | definition |
    |---|---|
    | t | index of the unit, from 0 |
    | n, c, h, w, stride, k | of the layer that outputs the unit's channels: kernel n x c x k x k, input c x h x w |
    | cost | most that unit t alone can save: (base - cost with only t at its narrowest) / base |
    | reduced | saved so far: (base - cost with the undecided units at their widest) / base |
    | rest | most that the undecided units, t included, can still save: (widest - narrowest of them) / base |
    | previous_action | executed keep ratio of unit t - 1; 1 for the first unit |

    The first eight are min-max scaled over the units (0 if all units have the same value); the others are fractions.
    Savings are differences of the exact cost, not sums over layers: neighbouring units share the cost of a layer.

    Args:
        units: In the order in which they are decided.
        cost: Cost of a plan.
    """

    def __init__(self, units: Sequence["Unit"], cost: Cost):
        self._cost = cost
        self._channels = [unit.size for unit in units]
        self._narrowest = np.array([unit.widths[0] for unit in units])
        self._widest = np.array([unit.widths[-1] for unit in units])
        self._base = cost(self._widest)
        columns = [
            (t, unit.filters, unit.inputs, unit.height, unit.width, unit.stride, unit.kernel, self._removable(t))
            for t, unit in enumerate(units)
        ]
        self._fixed = _min_max(np.array(columns, dtype=np.float64))  # (units, 8)

    def state(self, t: int, widths: Sequence[int]) -> np.ndarray:
        """The state before unit t is decided.

        Args:
            t: Index of the unit.
            widths: Widths of the units before t.

        Returns:
            float32 array (11,), ordered as NAMES.
        """
        widest, narrowest = self._widest.copy(), self._narrowest.copy()
        widest[:t] = narrowest[:t] = widths
        most = self._cost(widest)
        reduced = (self._base - most) / self._base
        rest = (most - self._cost(narrowest)) / self._base
        previous = widths[t - 1] / self._channels[t - 1] if t else 1.0
        # The clip only corrects rounding to float32.
        return np.clip([*self._fixed[t], reduced, rest, previous], 0, 1).astype(np.float32)

    def _removable(self, t: int) -> float:
        widths = self._widest.copy()
        widths[t] = self._narrowest[t]
        return (self._base - self._cost(widths)) / self._base


def _min_max(columns: np.ndarray) -> np.ndarray:
    low, high = columns.min(axis=0), columns.max(axis=0)
    return (columns - low) / np.where(high > low, high - low, 1)
