"""Environment: an episode decides one unit per step; an action is a keep ratio."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.search.agent.features import Features
from amc_tf.search.budget import Budget, nearest_width

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit


class Environment:
    """Turns a sequence of actions into widths that respect rounding, the units' lower bounds and the budget.

    It gives no rewards: the candidate is evaluated once, after the episode.

    Args:
        units: In the order in which they are decided.
        cost: Cost of a plan.
        budget: None if only the units' lower bounds hold.
    """

    def __init__(self, units: Sequence["Unit"], cost: Cost, budget: Budget | None = None):
        if not units:
            raise ValueError("There is no unit to decide: the search needs at least one.")
        self.units = tuple(units)
        self.budget = budget
        self._features = Features(units, cost)
        self._widths: list[int] = []

    @property
    def widths(self) -> tuple[int, ...]:
        """Widths of the units decided so far; of all units after the episode."""
        return tuple(self._widths)

    def reset(self) -> np.ndarray:
        """Starts an episode and returns its first state, (11,)."""
        self._widths = []
        return self._features.state(0, [])

    def step(self, action: float) -> tuple[np.ndarray | None, float, bool]:
        """Decides the next unit.

        Args:
            action: Requested keep ratio, in (0, 1].

        Returns:
            The next state (11,), or None at the end; the executed keep ratio; whether the episode is done.

        Raises:
            ValueError: The action is not a keep ratio, or the episode is over.
        """
        t = len(self._widths)
        if t == len(self.units):
            raise ValueError(f"The episode is over after {t} units: call reset() first.")
        unit = self.units[t]
        if self.budget is None:
            width = nearest_width(unit, action, unit.widths[0], unit.widths[-1])
        else:
            width = self.budget.nearest(t, action, self._widths)
        self._widths.append(width)
        done = t + 1 == len(self.units)
        return None if done else self._features.state(t + 1, self._widths), width / unit.size, done

    def run(self, act: Callable[[int, np.ndarray], float]) -> tuple[np.ndarray, np.ndarray]:
        """Runs a whole episode.

        Args:
            act: (unit's index, state) -> action.

        Returns:
            The states, float32 (units, 11), and the executed keep ratios, (units,).
        """
        states, ratios, state, done = [], [], self.reset(), False
        while not done:
            states.append(state)
            state, ratio, done = self.step(act(len(ratios), state))
            ratios.append(ratio)
        return np.stack(states), np.array(ratios)

    def replay(self, widths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The states and keep ratios of an episode that ends with these widths; the bounds need not allow them.

        Args:
            widths: Widths of all units.

        Returns:
            The same as `run`.
        """
        states = [self._features.state(t, list(widths[:t])) for t in range(len(self.units))]
        return np.stack(states), np.array([w / unit.size for w, unit in zip(widths, self.units, strict=True)])
