"""Guarantee: how far the accuracy may fall, where the search is for the cheapest network that holds it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amc_tf.errors import BudgetError
from amc_tf.search.trial import Outcome, Trial

_CHEAPER = (0.7, 0.99)  # of the cost of the best plan so far, what the next may cost
_ALIKE, _FEWEST = 1.5, 16  # plans of up to so many times more or less cost are compared, but so many at least
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Guarantee:
    """The paper's accuracy-guaranteed protocol (arXiv 1802.03494, section 3.4).

    The reward alone, -Error * log(cost), weighs accuracy against cost as it likes. So among the networks that were
    tried the cheapest that holds the accuracy is taken, and the refinement looks for cheaper ones still.

    Attributes:
        max_drop: how far the accuracy may fall, as a fraction: 0.005 is half a point.
    """

    max_drop: float

    def least(self, outcome: Outcome) -> float:
        """The accuracy that has to be held."""
        return outcome.base_accuracy - self.max_drop - _ROUNDING

    def best(self, trials: Sequence[Trial]) -> Trial | None:
        """The cheapest of complete trials that holds it, of equal ones the most accurate."""
        return min(self.holding(trials), key=lambda trial: (trial.outcome.cost, -trial.outcome.accuracy), default=None)

    def holding(self, trials: Sequence[Trial]) -> list[Trial]:
        """Of complete trials those that hold it, as all examples say."""
        whole = [trial for trial in trials if trial.outcome.examples is None]
        return [trial for trial in whole if trial.outcome.accuracy >= self.least(trial.outcome)]

    def beat(self, base: Outcome, cost: float) -> Outcome:
        """The outcome that a network of this cost has to be better than, to hold it; `base` is of any trial."""
        return Outcome(self.least(base), cost, base.base_accuracy, base.base_cost)

    @staticmethod
    def cheaper(best: float, rng: np.random.Generator) -> float:
        """What the next plan may cost: less than the best by a little or by much, as chance has it."""
        return best * float(np.exp(rng.uniform(*np.log(_CHEAPER))))

    @staticmethod
    def alike(trials: Sequence[Trial], cost: float) -> list[Trial]:
        """Of complete trials those of about this cost, in their order: among them accuracies can be compared."""
        far = {trial.number: abs(float(np.log(trial.outcome.cost / cost))) for trial in trials}
        reach = max([float(np.log(_ALIKE)), *sorted(far.values())[:_FEWEST][-1:]])
        return [trial for trial in trials if far[trial.number] <= reach]


def accuracy(trial: Trial) -> float:
    """Minus the error of a trial: what a refinement for the sake of accuracy is of."""
    return trial.outcome.accuracy - 1


def cheap(outcome: Outcome) -> float:
    """The reward by which those that hold the accuracy are told apart."""
    return -outcome.cost


def unheld(guarantee: Guarantee, trials: Sequence[Trial]) -> BudgetError:
    """What there is to say where none of these complete trials holds the accuracy."""
    best = max(trials, key=lambda trial: (trial.outcome.examples is None, trial.outcome.accuracy)).outcome
    return BudgetError(
        f"None of {len(trials)} smaller networks keeps the accuracy within {guarantee.max_drop * 100:g} points of the "
        f"original's {best.base_accuracy:.2%}; the best has {best.accuracy:.2%}: give a larger max_drop or more "
        f"episodes."
    )
