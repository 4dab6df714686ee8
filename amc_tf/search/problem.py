"""SearchProblem: what a search decides, what a plan may cost, and which trial is the best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from amc_tf.cost.cost_model import Cost
from amc_tf.search.best_trial import best_trial
from amc_tf.search.budget import FLOOR, extremes
from amc_tf.search.guarantee import Guarantee
from amc_tf.search.rewards import Reward, choose, negative_error
from amc_tf.search.trial import Outcome, Trial

if TYPE_CHECKING:
    from amc_tf.pruning.unit import Unit

_UNIFORM_SHARE = 0.5  # share of the base cost for the uniform plan if there is no budget: the usual one of the paper


@dataclass(frozen=True)
class SearchProblem:
    """The units, their cost, the budget, and what makes one trial better than another.

    Attributes:
        units: In the order in which they are decided. Their names differ.
        cost: Cost of a plan: exact, or a prediction that `measure` and `correction` improve.
        limit: Most that a plan may cost, in the unit of `cost`; None for no budget.
        floor: Least share of the limit that an episode of the agent spends, see Budget.
        reward: See rewards.choose. Always a function after construction.
        guarantee: How far the accuracy may fall. The best trial is then the cheapest that holds the accuracy, and the
            refinement looks for cheaper ones. Only without a limit.
        measure: (widths, outcome) -> the outcome with a measured cost, or None to keep the outcome. May raise what
            `evaluate` of the Study may raise.
        correction: Trials so far -> measured cost per predicted cost, with a margin. The limit of the next proposal is
            divided by it. None if `cost` is exact.

    Raises:
        ValueError: Two units have the same name.
        TypeError, ValueError: The reward is none.
    """

    units: Sequence["Unit"]
    cost: Cost
    limit: float | None = None
    floor: float = FLOOR
    reward: str | Reward | None = None
    guarantee: Guarantee | None = None
    measure: Callable[[tuple[int, ...], Outcome], Outcome | None] | None = None
    correction: Callable[[Sequence[Trial]], float] | None = None

    def __post_init__(self):
        names = [unit.name for unit in self.units]
        if len(set(names)) < len(names):
            raise ValueError(f"The names of units are {names}: each needs its own, for the journal.")
        object.__setattr__(self, "units", tuple(self.units))
        object.__setattr__(self, "reward", choose(self.reward, self.limit))

    @property
    def full(self) -> tuple[int, ...]:
        """Widths of the unpruned network."""
        return tuple(unit.size for unit in self.units)

    @property
    def base_cost(self) -> float:
        """Cost of the unpruned network."""
        return self.cost(np.array(self.full))

    @property
    def least_cost(self) -> float:
        """Cost of the narrowest plan."""
        return self.cost(extremes(self.units)[0])

    def limit_after(self, known: Sequence[Trial]) -> float | None:
        """Most that a proposal with these known trials may cost, by `cost`; None for no budget."""
        if self.limit is None or self.correction is None:
            return self.limit
        return max(self.least_cost, self.limit / self.correction(known))

    def uniform_limit_after(self, known: Sequence[Trial]) -> float:
        """The same for the uniform plan and its like, which need a limit: without a budget half of the base cost."""
        limit = self.limit_after(known)
        return max(_UNIFORM_SHARE * self.base_cost, self.least_cost) if limit is None else limit

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The best of the trials, see Study.best."""
        # Sensitivity samples are candidates only if there is no budget and costs are exact.
        return best_trial(trials, self.limit, self.guarantee, self.limit is None and self.measure is None)

    def merit(self, trial: Trial) -> float:
        """What `best` maximises: the reward or, with a guarantee, minus the share of the base cost."""
        return trial.reward if self.guarantee is None else -trial.outcome.cost / trial.outcome.base_cost

    def reward_to_beat(self, known: Sequence[Trial], widths: tuple[int, ...]) -> float | None:
        """The reward that a candidate must exceed to become the best; None if that is not known before measuring."""
        best = self.best(known)
        if best is None:
            return None
        if self.guarantee is None:
            return None if self.measure and self.reward is not negative_error else best.reward
        if self.measure:
            return None
        return self.reward(self.guarantee.outcome_to_beat(best.outcome, self.cost(np.array(widths))))
