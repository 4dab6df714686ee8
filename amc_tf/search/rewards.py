"""Reward functions: Outcome -> float, the larger the better."""

import math
from collections.abc import Callable

from amc_tf.search.trial import Outcome

Reward = Callable[[Outcome], float]


def negative_error(outcome: Outcome) -> float:
    """-Error: for a search with a budget, which already bounds the cost (the paper's R_err)."""
    return -(1 - outcome.accuracy)


def negative_error_log_cost(outcome: Outcome) -> float:
    """-Error * log(cost): for a search without a budget (the paper's R_FLOPs and R_Param).

    Raises:
        ValueError: The cost is at most 1; its logarithm would reverse the sign of the reward.
    """
    if outcome.cost <= 1:
        raise ValueError(f"The cost is {outcome.cost!r}, expected more than 1 for log(cost): use MACs or params.")
    return -(1 - outcome.accuracy) * math.log(outcome.cost)


# Racing relies on this: at a given cost each of them rises with the accuracy.
NAMED: dict[str, Reward] = {reward.__name__: reward for reward in (negative_error, negative_error_log_cost)}


def named(name: str) -> Reward:
    """The reward of that name.

    Raises:
        ValueError: There is none.
    """
    if name not in NAMED:
        raise ValueError(f"reward is {name!r}, expected one of {sorted(NAMED)} or a function of an Outcome.")
    return NAMED[name]


def choose(reward: str | Reward | None, budget: float | str | None) -> Reward:
    """The reward function of a search.

    Args:
        reward: A name, the caller's own function, or None for the paper's choice: -Error with a budget, else
            -Error * log(cost).
        budget: The limit, or None.

    Returns:
        A function of NAMED itself, or the caller's function in a check: it raises ValueError if the caller's function
        does not return a finite number.

    Raises:
        TypeError, ValueError: `reward` is none of these.
    """
    if reward is None:
        reward = negative_error_log_cost if budget is None else negative_error
    elif isinstance(reward, str):
        reward = named(reward)
    elif not callable(reward):
        raise TypeError(f"reward is {reward!r}, expected one of {sorted(NAMED)} or a function of an Outcome.")

    if reward in NAMED.values():  # needs no check, and racing compares it by identity
        return reward

    def checked(outcome: Outcome) -> float:
        value = reward(outcome)
        try:
            number = math.nan if isinstance(value, str) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            name = getattr(reward, "__name__", repr(reward))
            raise ValueError(f"The reward {name} returned {value!r} for {outcome}, expected a finite number.")
        return number

    return checked
