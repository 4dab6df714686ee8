"""An episode: one unit a step, one keep ratio an action."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.search.agent.features import Features
from amc_tf.search.budget import Budget, nearest_width

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit


class Environment:
    """Turns a sequence of actions into widths that respect rounding, the units' lower bounds and the budget.

    It knows nothing of rewards: the candidate is evaluated once, when the episode is done.

    Args:
        units: In the order in which they are decided.
        cost: Widths (units,) -> cost.
        budget: None where only the units' own lower bounds hold.
    """

    def __init__(self, units: Sequence["Unit"], cost: Callable[[np.ndarray], float], budget: Budget | None = None):
        if not units:
            raise ValueError("There is no unit to decide: the search needs at least one.")
        self.units = tuple(units)
        self.budget = budget
        self._features = Features(units, cost)
        self._widths: list[int] = []

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels kept of each unit decided so far; of all units once the episode is done."""
        return tuple(self._widths)

    def reset(self) -> np.ndarray:
        """Starts an episode and returns its first state, (11,)."""
        self._widths = []
        return self._features.state(0, [])

    def step(self, action: float) -> tuple[np.ndarray | None, float, bool]:
        """Decides the next unit.

        Args:
            action: The keep ratio asked for, in (0, 1].

        Returns:
            The next state (11,), or None at the end; the keep ratio that was executed; whether the episode is done.

        Raises:
            ValueError: The action is no keep ratio, or the episode is over.
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
            act: (index of the unit, state) -> action.

        Returns:
            The states seen, float32 (units, 11), and the keep ratios executed, (units,).
        """
        states, ratios, state, done = [], [], self.reset(), False
        while not done:
            states.append(state)
            state, ratio, done = self.step(act(len(ratios), state))
            ratios.append(ratio)
        return np.stack(states), np.array(ratios)

    def seen(self, widths: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """What an episode of these widths would have looked like, whether the bounds allow them or not.

        Args:
            widths: Of all units.

        Returns:
            As of `run`.
        """
        states = [self._features.state(t, list(widths[:t])) for t in range(len(self.units))]
        return np.stack(states), np.array([w / unit.size for w, unit in zip(widths, self.units, strict=True)])
