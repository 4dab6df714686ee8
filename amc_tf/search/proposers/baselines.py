"""What a search has to beat: the paper's hand-made plans, the greedy plan, and an agent that acts at random.

The uniform plan is in budget.py.
"""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.errors import AgentError, RunDirError
from amc_tf.search.budget import check_reachable, extremes, narrowed, widest_of
from amc_tf.search.proposers.sensitivity import Sensitivity
from amc_tf.system import files

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

Cost = Callable[[np.ndarray], float]  # widths (units,) -> cost, non-decreasing in each width

_SAME = 1 + 1e-9  # prices that differ by less are equal but for rounding


def shallow(units: Sequence["Unit"], cost: Cost, limit: float) -> tuple[int, ...]:
    """The plan that prunes shallow layers most: one of the paper's hand-made ones (arXiv 1802.03494, section 4.1).

    The paper does not say how much it prunes where. Here the keep ratio rises evenly from r at the first unit to 1 at
    the last, with the largest r that fits, rounded and the rest spent as for the uniform plan. Where it costs too much
    even with r as low as any unit allows, the last unit's ratio comes down as well.

    Args:
        units: In the network's order.
        cost: Widths (units,) -> cost; non-decreasing in each width.
        limit: What the plan may cost.

    Raises:
        BudgetError: Even the narrowest plan costs more than the limit.
    """
    return _sloped(units, cost, limit, np.linspace(0, 1, len(units)))


def deep(units: Sequence["Unit"], cost: Cost, limit: float) -> tuple[int, ...]:
    """The plan that prunes deep layers most: `shallow` the other way round."""
    return _sloped(units, cost, limit, np.linspace(0, 1, len(units))[::-1])


def _sloped(units: Sequence["Unit"], cost: Cost, limit: float, places: np.ndarray) -> tuple[int, ...]:
    """Keep ratios on a line over places (units,), 0 for the unit that is pruned most and 1 for that pruned least.

    One number s grows the plan: up to 1 it lifts the upper end from the lowest ratio to 1, from 1 to 2 the lower end.
    """
    low = min(unit.widths[0] / unit.size for unit in units)

    def ratio(i: int, s: float) -> float:
        lower = low + (1 - low) * max(0.0, s - 1)
        upper = low + (1 - low) * min(1.0, s)
        return lower + (upper - lower) * places[i]

    def inverse(i: int, ratio: float) -> float:
        if ratio <= low + (1 - low) * places[i]:  # place 0 has no such ratio above the lowest
            return (ratio - low) / ((1 - low) * places[i])
        return 1 + ((ratio - places[i]) / (1 - places[i]) - low) / (1 - low)

    return widest_of(units, cost, limit, ratio, inverse)


def greedy(units: Sequence["Unit"], cost: Cost, limit: float, table: Sensitivity) -> tuple[int, ...]:
    """The plan that takes away, again and again, what is expected to lose least accuracy for the cost it saves.

    It starts from the whole network and expects the losses of single units to add up. A step may take a unit over
    several widths at once, since a plateau or a dear first step may hide a cheap second one; of what the last step
    saves, only what was still too much counts. What it leaves over is spent where most accuracy is won back.

    Where costs and losses do add up, it loses no more than the best plan and one step; and exactly as little as the
    best where in addition all steps save the same and none of a unit is cheaper than the one before.

    Args:
        units, cost, limit: See shallow.
        table: With points of every unit.

    Raises:
        BudgetError: Even the narrowest plan costs more than the limit.
        ValueError: The table has no point of a unit.
    """
    narrowest, widest = extremes(units)
    if cost(widest) <= limit:
        return tuple(map(int, widest))
    check_reachable(cost, limit, narrowest, widest)
    curves = [table.curve(unit) for unit in units]
    return _spent(units, cost, limit, curves, _cut(units, cost, limit, curves, widest))


def _cut(units: Sequence["Unit"], cost: Cost, limit: float, curves: list[dict], widths: np.ndarray) -> np.ndarray:
    """Widths narrowed until they fit, the best step first.

    What a step saves shrinks as other units are narrowed, so a price of before is the least that it can be now: only
    the units that look best are priced anew before each step.
    """
    prices = [(0.0, i) for i in range(len(units))]
    while (now := cost(widths)) > limit:
        fresh: dict[int, tuple[float, np.ndarray]] = {}
        while prices and (first := min(prices))[1] not in fresh:
            prices.remove(first)
            i = first[1]
            step = _step(i, units[i], cost, limit, curves[i], widths, now)
            if step is not None:
                fresh[i] = step
                prices.append((step[0], i))
        if not prices:  # no unit saves anything alone
            return np.array(narrowed(units, cost, widths, limit))
        prices.remove(first)
        widths = fresh[first[1]][1]
        prices.append((0.0, first[1]))  # its next step may be cheaper
    return widths


def _step(
    i: int, unit: "Unit", cost: Cost, limit: float, curve: dict, widths: np.ndarray, now: float
) -> tuple[float, np.ndarray] | None:
    """Unit i's cheapest step down: the accuracy lost for each unit of cost that it saves, and the widths after it.

    None where none saves anything. Of equally cheap ones that which saves most, but no more than is needed.
    """
    steps = []
    for width in reversed([width for width in unit.widths if width < widths[i]]):
        after = widths.copy()
        after[i] = width
        saved = min(now - cost(after), now - limit)
        if saved > 0:
            steps.append(((curve[int(widths[i])] - curve[width]) / saved, saved, after))
    if not steps:
        return None
    best = min(price for price, _, _ in steps)
    price, _, after = max((step for step in steps if step[0] <= best * _SAME), key=lambda step: step[1])
    return price, after


def _spent(
    units: Sequence["Unit"], cost: Cost, limit: float, curves: list[dict], widths: np.ndarray
) -> tuple[int, ...]:
    """Widths grown within the limit, the step that wins most first; of equals that of the unit that was cut most."""
    while True:
        steps = []
        for i, unit in enumerate(units):
            for width in (width for width in unit.widths if width > widths[i]):
                after = widths.copy()
                after[i] = width
                if cost(after) > limit:
                    break
                won = curves[i][width] - curves[i][int(widths[i])]
                steps.append((won, -widths[i] / unit.size, after))
        if not steps:
            return tuple(map(int, widths))
        widths = max(steps, key=lambda step: step[:2])[2]


class RandomAgent:
    """Acts at random and learns nothing: as good as a search gets by trying that many plans within the budget.

    Each keep ratio is uniformly distributed in [low, 1] and depends on (seed, episode, step) alone; the environment
    bounds it so that the budget is met. It stands where a DdpgAgent does.

    Args:
        num_features: Length of a state.
        low: Smallest keep ratio that `act` returns, in (0, 1).
        seed: Same seed, same episode: same actions.

    Attributes:
        last_episode: The last episode learned, that of a loaded file included; -1 before the first.

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
        self._numbers: tuple[int, np.random.Generator] | None = None  # of the episode being acted

    def act(self, state: np.ndarray, episode: int) -> float:
        """The next keep ratio of an episode, in [low, 1].

        Args:
            state: (num_features,); not looked at.
            episode: Number of the episode, from 0.
        """
        if np.shape(state) != (self.num_features,):
            raise ValueError(f"A state has shape {np.shape(state)}, expected {(self.num_features,)}.")
        if self._numbers is None or self._numbers[0] != episode:
            self._numbers = episode, np.random.default_rng([self.seed, episode])
        return float(self._numbers[1].uniform(self.low, 1.0))

    def learn(self, episode: int, states: np.ndarray, actions: np.ndarray, reward: float) -> None:
        """Notes that the episode is over; nothing else of it matters here.

        Raises:
            ValueError: The episode is not later than all learned before.
        """
        if episode <= self.last_episode:
            raise ValueError(
                f"learn() got episode {episode}, but episodes up to {self.last_episode} are learned: each may be "
                "learned once, in rising order, so pass a later one."
            )
        self.last_episode = int(episode)

    def save(self, path: str | os.PathLike) -> None:
        """Writes which episode was the last.

        Raises:
            AgentError: It cannot be written.
        """
        try:
            files.write(json.dumps({**self._settings(), "last_episode": self.last_episode}).encode(), Path(path))
        except RunDirError as error:
            raise AgentError(f"The random agent cannot be saved: {error}") from error

    def load(self, path: str | os.PathLike) -> None:
        """Goes on after the episode that `save` wrote.

        Raises:
            AgentError: The file cannot be read or is of an agent with other arguments; this one is as it was before.
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
        self.last_episode, self._numbers = last, None

    def _settings(self) -> dict:
        return {"agent": "random", "num_features": self.num_features, "low": self.low, "seed": self.seed}
