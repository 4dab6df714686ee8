"""Racing: a candidate that clearly cannot win is scored on a part of the examples only.

The examples of the reward split lie in a fixed random order. So of a candidate that has K of all N right, the number of
right ones among the first n is hypergeometric: drawn without replacement. A candidate is stopped where, even if it were
just good enough to win, so few right ones or fewer would be too unlikely; nothing is approximated (Serfling or
Hoeffding bounds, as in Hoeffding races, Maron and Moore 1994, would stop later).
"""

from bisect import bisect_right
from dataclasses import dataclass

from amc_tf.search.rewards import NAMED, Reward
from amc_tf.search.trial import Outcome

ERROR = 0.01  # at most so likely is a candidate stopped that would have won, over all looks at it
_LEAST = 32  # examples before the first look: fewer tell too little, and starting a part costs as much as scoring it
_HALVINGS = 4  # the first look is at a sixteenth; a look more costs the others next to nothing in sharpness


@dataclass(frozen=True)
class Race:
    """When to stop scoring one candidate.

    Attributes:
        examples: How many there are in all.
        needed: With so many right ones the candidate would win; `examples + 1` where it cannot win at all, and then it
            is lost at the first look, which still gives an estimate for the agent to learn from.

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
    def parts(self) -> tuple[int, ...]:
        """Where to look: so many examples in all are scored before each look, and at the end the whole."""
        halves = [self.examples >> halving for halving in range(_HALVINGS, 0, -1)]
        return (*(part for part in halves if part >= _LEAST), self.examples)

    def lost(self, right: int, seen: int) -> bool:
        """Whether to stop with `right` right ones among the first `seen` examples; never once all are seen.

        Raises:
            ValueError: `seen` is none of `parts`, to whose number the error is fitted; or `right` is no part of it.
        """
        if seen not in self.parts or not 0 <= right <= seen:
            raise ValueError(f"{right} of {seen} are right, expected a part of one of {self.parts}.")
        if seen == self.examples:
            return False
        if self.needed > self.examples:
            return True
        from scipy.stats import hypergeom  # takes a second to import

        return bool(hypergeom.cdf(right, self.examples, self.needed, seen) <= ERROR / (len(self.parts) - 1))


def needed(
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
        beat: Reward of the best so far, or None.
        cost: Of the candidate, as its outcome will have it.
        base_accuracy, base_cost: Of the unpruned network.
        examples: How many there are in all.

    Returns:
        From 0 to `examples + 1`, where even all right would not do. None where there is nothing to beat or the reward
        is the caller's own, of which it is not known that it rises with the accuracy: then all are to be scored.
    """
    if beat is None or reward not in NAMED.values():
        return None
    return bisect_right(
        range(examples + 1), beat, key=lambda right: reward(Outcome(right / examples, cost, base_accuracy, base_cost))
    )
