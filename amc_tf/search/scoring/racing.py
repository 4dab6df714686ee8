"""Racing: early stopping of the scoring of a candidate that almost certainly does not become the best.

The examples of the reward split are in a fixed random order. If a candidate predicts K of all N examples right, the
number of right ones among the first n is hypergeometric (drawn without replacement). Scoring stops when so few right
examples would be too unlikely for a candidate just good enough to win. The test is exact; Serfling or Hoeffding bounds,
as in Hoeffding races (Maron and Moore 1994), would stop later.
"""

from bisect import bisect_right
from dataclasses import dataclass

from amc_tf.search.rewards import NAMED, Reward
from amc_tf.search.trial import Outcome

ERROR = 0.01  # largest probability that a winning candidate is stopped, over all looks together
_LEAST = 32  # examples before the first look: fewer tell too little, and each look has a cost of its own
_HALVINGS = 4  # the first look is after 1/16 of the examples; more looks hardly weaken the test at the others


@dataclass(frozen=True)
class Race:
    """When to stop scoring one candidate.

    Attributes:
        examples: Number of examples.
        needed: Number of right examples with which the candidate wins. `examples + 1` if it cannot win at all: then it
            is lost at the first look, which still gives an estimate that the agent can learn from.

    Raises:
        ValueError: The numbers contradict each other.
    """

    examples: int
    needed: int

    def __post_init__(self):
        if self.examples < 1 or not 0 <= self.needed <= self.examples + 1:
            raise ValueError(
                f"A Race has examples = {self.examples} and needed = {self.needed}, expected one example or more and "
                "needed from 0 to one more than there are examples."
            )

    @property
    def looks(self) -> tuple[int, ...]:
        """Number of examples scored before each look, rising; the last is all of them."""
        halves = [self.examples >> halving for halving in range(_HALVINGS, 0, -1)]
        return (*(count for count in halves if count >= _LEAST), self.examples)

    def lost(self, right: int, scored: int) -> bool:
        """Whether to stop with `right` right ones among the first `scored` examples; False if all are scored.

        Raises:
            ValueError: `scored` is none of `looks`, over which the error is divided; or `right` is more than `scored`.
        """
        if scored not in self.looks or not 0 <= right <= scored:
            raise ValueError(f"{right} of {scored} are right, expected a part of one of {self.looks}.")
        if scored == self.examples:
            return False
        if self.needed > self.examples:
            return True
        from scipy.stats import hypergeom  # takes a second to import

        return bool(hypergeom.cdf(right, self.examples, self.needed, scored) <= ERROR / (len(self.looks) - 1))


def right_to_win(
    reward: Reward,
    beat: float | None,
    cost: float,
    base_accuracy: float,
    base_cost: float,
    examples: int,
) -> int | None:
    """The least number of right examples with which a candidate's reward is above `beat`.

    Args:
        reward: See rewards.choose.
        beat: Reward of the best candidate so far, or None.
        cost: Cost of the candidate, as in its outcome.
        base_accuracy, base_cost: Those of the unpruned network.
        examples: Number of examples.

    Returns:
        From 0 to `examples + 1`; the latter if the candidate cannot win. None if all examples must be scored: there is
        nothing to beat, or the reward is the caller's own and may not rise with the accuracy.
    """
    if beat is None or reward not in NAMED.values():
        return None
    return bisect_right(
        range(examples + 1), beat, key=lambda right: reward(Outcome(right / examples, cost, base_accuracy, base_cost))
    )
