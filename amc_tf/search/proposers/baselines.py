"""Baselines of the search: the paper's hand-made plans, the greedy plan, and an agent that acts at random.

The uniform plan is in budget.py.
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.errors import AgentError, RunDirError
from amc_tf.search.budget import check_reachable, extremes, narrowed, widest_of
from amc_tf.search.proposers.sensitivity import Sensitivity
from amc_tf.system import files

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

_SAME = 1 + 1e-9  # prices within this factor are equal but for rounding

Curve = dict[int, float]  # width -> expected accuracy, see Sensitivity.curve


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


class RandomAgent:
    """An Agent that acts at random and learns nothing: the baseline of random search within the budget.

    Each keep ratio is uniform in [low, 1] and depends only on (seed, episode, step); the environment bounds it so that
    the budget is met.

    Args:
        num_features: Length of a state.
        low: Smallest keep ratio that `act` returns, in (0, 1).
        seed: Equal seeds and equal episodes give equal actions.

    Attributes:
        last_episode: Number of the last learned episode, also of a loaded file; -1 before the first.

    Raises:
        ValueError: An argument is outside its range.
    """

    def __init__(self, num_features: int = 11, *, low: float = 0.2, seed: int = 0) -> None:
        if not 0 < low < 1:
            raise ValueError(f"low is {low!r}, expected a keep ratio between 0 and 1, both excluded.")
        if seed < 0:
            raise ValueError(f"seed is {seed!r}, expected 0 or more.")
        self.num_features, self.low, self.seed = int(num_features), float(low), int(seed)
        self.last_episode = -1
        self._rng: tuple[int, np.random.Generator] | None = None  # current episode and its random numbers

    def act(self, state: np.ndarray, episode: int) -> float:
        """The next keep ratio of an episode, in [low, 1].

        Args:
            state: (num_features,); only its shape is checked.
            episode: Number of the episode, from 0.
        """
        if np.shape(state) != (self.num_features,):
            raise ValueError(f"A state has shape {np.shape(state)}, expected {(self.num_features,)}.")
        if self._rng is None or self._rng[0] != episode:
            self._rng = episode, np.random.default_rng([self.seed, episode])
        return float(self._rng[1].uniform(self.low, 1.0))

    def learn(self, episode: int, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Records the number of the episode; the other arguments are ignored.

        Raises:
            ValueError: The episode is not later than the last learned one.
        """
        if episode <= self.last_episode:
            raise ValueError(
                f"learn() got episode {episode}, but episodes up to {self.last_episode} are learned: each may be "
                "learned once, in rising order, so pass a later one."
            )
        self.last_episode = int(episode)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the number of the last episode.

        Raises:
            AgentError: The file cannot be written.
        """
        try:
            files.write(json.dumps({**self._settings(), "last_episode": self.last_episode}).encode(), Path(path))
        except RunDirError as error:
            raise AgentError(f"The random agent cannot be saved: {error}") from error

    def load(self, path: str | os.PathLike) -> None:
        """Continues after the episode that `save` wrote.

        Raises:
            AgentError: The file cannot be read or is of an agent with other arguments. This agent keeps its state.
        """
        try:
            stored = json.loads(Path(path).read_bytes())
            last = int(stored.pop("last_episode"))
            if stored != self._settings():
                raise ValueError(f"it is of {stored}, this agent of {self._settings()}")
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise AgentError(
                f"The random agent cannot be loaded from {os.fspath(path)} ({error!r}): pass a file that save() of an "
                "agent with the same arguments wrote."
            ) from error
        self.last_episode, self._rng = last, None

    def _settings(self) -> dict[str, str | int | float]:
        return {"agent": "random", "num_features": self.num_features, "low": self.low, "seed": self.seed}
