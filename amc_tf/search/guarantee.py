"""Guarantee: how far the accuracy may fall, in a search for the cheapest network that holds the accuracy."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amc_tf.errors import BudgetError
from amc_tf.search.trial import Outcome, Trial

_NEXT_COST = (0.7, 0.99)  # range of the next plan's cost limit, as a share of the best plan's cost
_SIMILAR, _FEWEST = 1.5, 16  # costs within this factor are similar; but at least so many trials are taken
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Guarantee:
    """The paper's accuracy-guaranteed protocol (arXiv 1802.03494, section 3.4).

    The reward -Error * log(cost) alone fixes how accuracy is weighed against cost. With a guarantee the best trial is
    the cheapest that holds the accuracy, and the refinement looks for cheaper ones.

    Attributes:
        max_drop: How far the accuracy may fall, as a fraction: 0.005 is half a percentage point.
    """

    max_drop: float

    def required_accuracy(self, outcome: Outcome) -> float:
        """The least accuracy that holds the guarantee; the outcome tells the base accuracy."""
        return outcome.base_accuracy - self.max_drop - _ROUNDING

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The cheapest of complete trials that holds the accuracy, of equal costs the most accurate."""
        return min(self.holding(trials), key=lambda trial: (trial.outcome.cost, -trial.outcome.accuracy), default=None)

    def holding(self, trials: Sequence[Trial]) -> list[Trial]:
        """The complete trials that hold the accuracy and were scored on all examples."""
        scored = [trial for trial in trials if trial.outcome.examples is None]
        return [trial for trial in scored if trial.outcome.accuracy >= self.required_accuracy(trial.outcome)]

    def outcome_to_beat(self, base: Outcome, cost: float) -> Outcome:
        """The outcome that a network of this cost must exceed to hold the accuracy; `base` is of any trial."""
        return Outcome(self.required_accuracy(base), cost, base.base_accuracy, base.base_cost)

    @staticmethod
    def next_cost_limit(best: float, rng: np.random.Generator) -> float:
        """Most that the next plan may cost: 0.7 to 0.99 times the best cost, uniform in the logarithm."""
        return best * float(np.exp(rng.uniform(*np.log(_NEXT_COST))))

    @staticmethod
    def of_similar_cost(trials: Sequence[Trial], cost: float) -> list[Trial]:
        """The complete trials of similar cost, in order: at least the 16 nearest. Their accuracies are comparable."""
        distance = {trial.number: abs(float(np.log(trial.outcome.cost / cost))) for trial in trials}
        reach = max([float(np.log(_SIMILAR)), *sorted(distance.values())[:_FEWEST][-1:]])
        return [trial for trial in trials if distance[trial.number] <= reach]


def negative_error_of(trial: Trial) -> float:
    """Minus the error of a trial: regression target of the refinement under a guarantee."""
    return trial.outcome.accuracy - 1


def negative_cost(outcome: Outcome) -> float:
    """The reward that ranks outcomes that hold the accuracy."""
    return -outcome.cost


def unheld(guarantee: Guarantee, trials: Sequence[Trial]) -> BudgetError:
    """The error for a search in which none of these complete trials holds the accuracy."""
    best = max(trials, key=lambda trial: (trial.outcome.examples is None, trial.outcome.accuracy)).outcome
    return BudgetError(
        f"None of {len(trials)} smaller networks keeps the accuracy within {guarantee.max_drop * 100:g} points of the "
        f"original's {best.base_accuracy:.2%}; the best has {best.accuracy:.2%}: give a larger max_drop or more "
        f"episodes."
    )
