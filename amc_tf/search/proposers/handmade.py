"""Hand-made plans, which a search has to beat: uniform, and the paper's shallow and deep ones."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.search.budget import check_reachable, extremes

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit


def uniform(units: Sequence["Unit"], cost: Cost, limit: float) -> tuple[int, ...]:
    """The plan that keeps the same ratio everywhere and just fits: the baseline of the search.

    Raises:
        BudgetError: Even the narrowest plan costs more than the limit.
    """
    return widest_of(units, cost, limit, lambda i, ratio: ratio, lambda i, ratio: ratio)


def widest_of(
    units: Sequence["Unit"],
    cost: Cost,
    limit: float,
    ratio: Callable[[int, float], float],
    inverse: Callable[[int, float], float],
) -> tuple[int, ...]:
    """The widest plan that fits, of a family of plans that grow with one number s.

    For the uniform plan s is the keep ratio. Every unit takes its width nearest to ratio(i, s), for the largest s that
    fits. The rest of the limit is spent on the units furthest below their ratio: one wider width each, while it fits.

    Args:
        units, cost, limit: See Budget.
        ratio: (unit's index, s) -> keep ratio of that unit; non-decreasing in s.
        inverse: (unit's index, keep ratio) -> the least s at which the unit has that ratio.

    Raises:
        BudgetError: Even the narrowest plan costs more than the limit.
    """
    narrowest, widest = extremes(units)
    if cost(widest) <= limit:
        return tuple(map(int, widest))
    check_reachable(cost, limit, narrowest, widest)
    # The values of s at which each unit takes its next wider width.
    thresholds = [[inverse(i, (a + b) / 2 / u.size) for a, b in pairwise(u.widths)] for i, u in enumerate(units)]

    def plan_at(s: float) -> np.ndarray:
        return np.array([unit.widths[bisect_right(own, s)] for unit, own in zip(units, thresholds, strict=True)])

    all_thresholds = sorted({s for own in thresholds for s in own})
    fitting = bisect_right(all_thresholds, limit, key=lambda s: cost(plan_at(s)))
    widths = plan_at(all_thresholds[fitting - 1]) if fitting else narrowest
    s = all_thresholds[fitting]  # the least that does not fit; at the last threshold all units are whole
    for i in sorted(range(len(units)), key=lambda i: widths[i] / units[i].size - ratio(i, s)):
        wider = widths.copy()
        wider[i] = next((width for width in units[i].widths if width > widths[i]), widths[i])
        if cost(wider) <= limit:
            widths = wider
    return tuple(map(int, widths))


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
