"""The greedy plan: step by step it narrows the unit that loses least accuracy per cost, by the sensitivity table."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.search.budget import check_reachable, extremes, narrowed
from amc_tf.search.proposers.sensitivity import Sensitivity

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

_SAME = 1 + 1e-9  # prices within this factor are equal but for rounding

Curve = dict[int, float]  # width -> expected accuracy, see Sensitivity.curve


def greedy(units: Sequence["Unit"], cost: Cost, limit: float, table: Sensitivity) -> tuple[int, ...]:
    """The plan of a greedy algorithm that lowers one unit at a time: least expected accuracy loss per saved cost first.

    It starts from the whole network and assumes that the losses of single units add up. A step may skip several widths
    of a unit, since a plateau or an expensive first step may hide a cheap second one. In the last step, a saving beyond
    the limit does not count. The rest of the limit is spent where it restores most accuracy.

    If costs and losses do add up, it loses at most one step more than the best plan. It is optimal if, in addition, all
    steps save the same cost and no step of a unit is cheaper than the one before.

    Args:
        units, cost, limit: See shallow.
        table: Has samples of every unit.

    Raises:
        BudgetError: The narrowest plan costs more than the limit.
        ValueError: The table has no sample of a unit.
    """
    narrowest, widest = extremes(units)
    if cost(widest) <= limit:
        return tuple(map(int, widest))
    check_reachable(cost, limit, narrowest, widest)
    curves = [table.curve(unit) for unit in units]
    return _spent(units, cost, limit, curves, _cut(units, cost, limit, curves, widest))


def _cut(units: Sequence["Unit"], cost: Cost, limit: float, curves: list[Curve], widths: np.ndarray) -> np.ndarray:
    """Widths narrowed until they fit, the cheapest step first.

    A step saves less as other units are narrowed. So an earlier price is a lower bound, and only the units with the
    lowest bounds are priced again before each step (lazy evaluation).
    """
    prices = [(0.0, i) for i in range(len(units))]
    while (current := cost(widths)) > limit:
        fresh: dict[int, tuple[float, np.ndarray]] = {}
        while prices and (first := min(prices))[1] not in fresh:
            prices.remove(first)
            i = first[1]
            step = _step(i, units[i], cost, limit, curves[i], widths, current)
            if step is not None:
                fresh[i] = step
                prices.append((step[0], i))
        if not prices:  # no unit saves cost alone
            return np.array(narrowed(units, cost, widths, limit))
        prices.remove(first)
        widths = fresh[first[1]][1]
        prices.append((0.0, first[1]))  # its next step may be cheaper
    return widths


def _step(
    i: int, unit: "Unit", cost: Cost, limit: float, curve: Curve, widths: np.ndarray, current: float
) -> tuple[float, np.ndarray] | None:
    """The cheapest step down of unit i: its price (accuracy lost per cost saved) and the widths after it.

    None if no step saves cost. Among equal prices the step that saves most; savings beyond the limit do not count.
    """
    steps = []
    for width in reversed([width for width in unit.widths if width < widths[i]]):
        after = widths.copy()
        after[i] = width
        saved = min(current - cost(after), current - limit)
        if saved > 0:
            steps.append(((curve[int(widths[i])] - curve[width]) / saved, saved, after))
    if not steps:
        return None
    best = min(price for price, _, _ in steps)
    price, _, after = max((step for step in steps if step[0] <= best * _SAME), key=lambda step: step[1])
    return price, after


def _spent(
    units: Sequence["Unit"], cost: Cost, limit: float, curves: list[Curve], widths: np.ndarray
) -> tuple[int, ...]:
    """Widths grown within the limit, the largest accuracy gain first; of equal gains the unit that was cut most."""
    while True:
        steps = []
        for i, unit in enumerate(units):
            for width in (width for width in unit.widths if width > widths[i]):
                after = widths.copy()
                after[i] = width
                if cost(after) > limit:
                    break
                gain = curves[i][width] - curves[i][int(widths[i])]
                steps.append((gain, -widths[i] / unit.size, after))
        if not steps:
            return tuple(map(int, widths))
        widths = max(steps, key=lambda step: step[:2])[2]
