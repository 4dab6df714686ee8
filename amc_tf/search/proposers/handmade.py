"""The paper's hand-made plans, shallow and deep: what a search has to beat. The uniform plan is in budget.py."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.search.budget import widest_of

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit


def shallow(units: Sequence["Unit"], cost: Cost, limit: float) -> tuple[int, ...]:
    """The paper's hand-made plan that prunes shallow layers most (arXiv 1802.03494, section 4.1).

    The paper does not give the ratios. Here the keep ratio rises linearly from r at the first unit to 1 at the last,
    with the largest r that fits; rounding and the rest of the limit are handled as for the uniform plan. If the plan
    costs too much even with the least r of any unit, the last unit's ratio is lowered as well.

    Args:
        units: In the network's order.
        cost: Cost of a plan.
        limit: Most that the plan may cost.

    Raises:
        BudgetError: The narrowest plan costs more than the limit.
    """
    return _sloped(units, cost, limit, np.linspace(0, 1, len(units)))


def deep(units: Sequence["Unit"], cost: Cost, limit: float) -> tuple[int, ...]:
    """The paper's hand-made plan that prunes deep layers most: `shallow` with the units reversed."""
    return _sloped(units, cost, limit, np.linspace(0, 1, len(units))[::-1])


def _sloped(units: Sequence["Unit"], cost: Cost, limit: float, places: np.ndarray) -> tuple[int, ...]:
    """Keep ratios linear in places (units,): 0 for the unit that is pruned most, 1 for the unit that is pruned least.

    One number s grows the plan: from 0 to 1 it raises the ratio at place 1 from the least ratio to 1, from 1 to 2 the
    ratio at place 0.
    """
    low = min(unit.widths[0] / unit.size for unit in units)

    def ratio(i: int, s: float) -> float:
        lower = low + (1 - low) * max(0.0, s - 1)
        upper = low + (1 - low) * min(1.0, s)
        return lower + (upper - lower) * places[i]

    def inverse(i: int, ratio: float) -> float:
        if ratio <= low + (1 - low) * places[i]:  # at place 0 this only holds for the least ratio, which has no inverse
            return (ratio - low) / ((1 - low) * places[i])
        return 1 + ((ratio - places[i]) / (1 - places[i]) - low) / (1 - low)

    return widest_of(units, cost, limit, ratio, inverse)
