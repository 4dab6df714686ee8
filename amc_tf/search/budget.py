"""Budgets: parsing a budget, and bounding each action by it.

The bound is the paper's Algorithm 1 (arXiv 1802.03494) with two changes: it uses keep ratios instead of sparsities, and
the exact cost of rounded widths instead of a sum over layers, so that no episode can end above the limit.
"""

import contextlib
import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from amc_tf.checks import is_number, plain
from amc_tf.cost.cost_model import Cost
from amc_tf.errors import BudgetError
from amc_tf.targets import TARGETS

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)\s*(%\s*|[a-z\s]*)", re.IGNORECASE)

FLOOR = 0.97  # share of the limit that an episode spends at least: accuracy needs it, and similar costs are comparable


def parse_budget(budget: float | str, base_cost: float, unit: str, target: str) -> float:
    """The absolute limit of a budget.

    A bare number up to 1 is a fraction of the base cost; a larger one is absolute, in `unit`.

    Args:
        budget: 0.5, "50%", "280 MMAC", 280e6, "2 MB", "1.5 M", "30 ms".
        base_cost: Cost of the unpruned network, in `unit`.
        unit: Unit of the cost, for messages: "MACs", "params", "bytes", "us".
        target: "macs", "params", "size" or "latency".

    Returns:
        The limit in `unit`. `Budget` checks whether it can be reached.

    Raises:
        TypeError: The budget is neither a number nor text.
        ValueError: It is not positive, cannot be read, or its unit is unknown or of another target.
    """
    accepted = TARGETS[target].units
    how = f"write a fraction (0.5 or '50%') or {unit} (such as {TARGETS[target].example!r})"
    if not is_number(budget) and not isinstance(budget, str):
        raise TypeError(f"budget is {budget!r} of type {type(budget).__name__}, expected a number or text: {how}.")
    number_and_unit = _read(budget)
    if number_and_unit is None:
        raise ValueError(f"budget {budget!r} is not a number with an optional unit: {how}.")
    number, text = number_and_unit
    word = "".join(text.lower().split())
    if not (number > 0 and math.isfinite(number)):
        raise ValueError(f"budget {budget!r} is not a positive number: {how}.")
    if word == "%":
        return number / 100 * base_cost
    if word == "":
        if number > 1 and target == "latency":  # 30 without a unit hardly means microseconds
            raise ValueError(f"budget {budget!r} has no unit of time: {how}.")
        return number * base_cost if number <= 1 else number
    if word not in accepted:
        owners = [name for name, each in TARGETS.items() if word in each.units]
        about = f"is a unit of {' and '.join(owners)}, but the target is {target!r}" if owners else "is not known"
        if "flop" in word:
            about = "is ambiguous, since a multiply-add is one FLOP to some and two to others"
        raise ValueError(f"The unit {text!r} of budget {budget!r} {about}: {how}.")
    return number * accepted[word]


def fraction(budget: Any) -> float | None:
    """The share of the base cost that a relative budget stands for; None for an absolute or invalid one."""
    number, word = _read(budget) or (math.nan, "")
    if not 0 < number < math.inf:
        return None
    if word == "%":
        return number / 100
    return number if word == "" and number <= 1 else None


def plain_budget(budget: Any) -> Any:
    """A share or a bare number as a Python number for the journal, however it was written; any other budget as it is.

    0.5, "0.5" and "50%" are one budget.
    """
    budget, share = plain(budget), fraction(budget)
    if share is not None and share <= 1 and isinstance(budget, str):  # above, 1.5 would be one and a half MACs
        return share
    number, unit = _read(budget) or (math.nan, "")
    if not isinstance(budget, str) or unit or not math.isfinite(number):
        return budget
    return int(budget) if budget.strip().isdecimal() else number


def _read(budget: Any) -> tuple[float, str] | None:
    """The number in a budget and the text after it; None if the budget does not begin with a number."""
    if is_number(budget):
        with contextlib.suppress(OverflowError):
            return (float(budget), "") if math.isfinite(budget) else None
    match = _NUMBER.fullmatch(budget) if isinstance(budget, str) else None
    return None if match is None else (float(match[1]), match[2].strip())


def nearest_width(unit: "Unit", ratio: float, lowest: int, highest: int) -> int:
    """The allowed width in [lowest, highest] nearest to ratio * unit.size; of two equally near, the wider.

    Raises:
        ValueError: The ratio is not in (0, 1]; a float32 may be slightly above 1.
    """
    if not 0 < ratio <= 1 + 1e-6:
        raise ValueError(f"The action for unit {unit.name!r} is {ratio!r}, expected a keep ratio in (0, 1].")
    allowed = (width for width in unit.widths if lowest <= width <= highest)
    return min(allowed, key=lambda width: (abs(width - ratio * unit.size), -width))


class Budget:
    """Bounds each unit's width so that every episode ends within the limit, exactly.

    Args:
        units: In the order in which they are decided.
        cost: Exact cost of a plan.
        limit: Most that a plan may cost, in the unit of the cost.
        floor: Least share of the limit that an episode spends, in [0, 1]; with 0 the agent may spend less.

    Raises:
        BudgetError: The narrowest plan costs more than the limit, or the whole network costs no more than it.
    """

    def __init__(self, units: Sequence["Unit"], cost: Cost, limit: float, floor: float = FLOOR):
        if not 0 <= floor <= 1:
            raise ValueError(f"floor is {floor!r}, expected a share of the limit in [0, 1].")
        self.units, self.cost, self.limit, self.floor = tuple(units), cost, limit, floor
        self._narrowest, self._widest = extremes(units)
        check_reachable(cost, limit, self._narrowest, self._widest)

    def bounds(self, t: int, widths: Sequence[int]) -> tuple[int, int]:
        """The lowest and the highest width that unit t may take.

        With the highest width, the plan fits if all undecided units take their narrowest. With the lowest width, the
        plan still reaches the floor if they take their widest. If the lowest is above the highest, it is lowered.

        Args:
            t: Index of the unit.
            widths: Widths of the units before t.

        Raises:
            ValueError: No width fits the limit after these widths, so they did not come from this budget.
        """
        allowed = self.units[t].widths
        fitting = bisect_right(allowed, self.limit, key=lambda width: self._cost(t, widths, width, self._narrowest))
        if fitting == 0:
            raise ValueError(
                f"The widths {list(widths)} leave unit {self.units[t].name!r} no width within the limit of "
                f"{self.limit:.10g}: take each width from bounds()."
            )
        spending = bisect_left(
            allowed, self.floor * self.limit, key=lambda width: self._cost(t, widths, width, self._widest)
        )
        return allowed[min(spending, fitting - 1)], allowed[fitting - 1]

    def nearest(self, t: int, action: float, widths: Sequence[int]) -> int:
        """The width within the bounds that is nearest to the action, a keep ratio in (0, 1]."""
        return nearest_width(self.units[t], action, *self.bounds(t, widths))

    def _cost(self, t: int, decided: Sequence[int], width: int, undecided: np.ndarray) -> float:
        widths = undecided.copy()
        widths[:t] = decided
        widths[t] = width
        return self.cost(widths)


def narrowed(units: Sequence["Unit"], cost: Cost, widths: Sequence[int], limit: float) -> tuple[int, ...]:
    """Widths narrowed until they fit the limit: each step narrows the unit of the largest keep ratio by one width.

    If even the narrowest plan does not fit, the narrowest plan.
    """
    narrow = np.array(widths)
    while cost(narrow) > limit:
        reducible = [i for i, unit in enumerate(units) if narrow[i] > unit.widths[0]]
        if not reducible:
            break
        i = max(reducible, key=lambda i: narrow[i] / units[i].size)
        narrow[i] = units[i].widths[bisect_left(units[i].widths, narrow[i]) - 1]
    return tuple(map(int, narrow))


def too_large(limit: float) -> BudgetError:
    """The error for plans whose counted bytes fit the limit but whose files do not."""
    return BudgetError(
        f"No written file has at most {limit:,.0f} bytes, although fewer were counted; give a larger budget."
    )


def extremes(units: Sequence["Unit"]) -> tuple[np.ndarray, np.ndarray]:
    """The widths of the narrowest plan and of the whole network, each (units,)."""
    return np.array([unit.widths[0] for unit in units]), np.array([unit.widths[-1] for unit in units])


def check_reachable(cost: Cost, limit: float, narrowest: np.ndarray, widest: np.ndarray) -> None:
    """Raises BudgetError if the narrowest plan does not fit, or if the whole network fits."""
    least, base = cost(narrowest), cost(widest)
    budget = f"The budget is {limit:.10g} {cost.unit}, {limit / base:.4g} of the base"
    reach = f"budgets from {math.ceil(least / base * 1e4) / 1e4:.4f} up to, not including, 1 of the base can be met"
    absolute = f"{least:.10g} to {base:.10g} {cost.unit}"
    if limit >= base:
        raise BudgetError(f"{budget}: nothing would be pruned; {reach} ({absolute}).")
    if not limit >= least:
        raise BudgetError(f"{budget}, which is less than the narrowest plan costs; {reach} ({absolute}).")
