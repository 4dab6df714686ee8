"""Rewards: the paper's two by hand, the choice between them, and what a caller's own may return."""

import math

import numpy as np
import pytest

from amc_tf.search import rewards
from amc_tf.search.trial import Outcome

OUTCOME = Outcome(accuracy=0.75, cost=math.e**8, base_accuracy=0.9, base_cost=math.e**9)


def test_the_papers_rewards() -> None:
    assert rewards.negative_error(OUTCOME) == -0.25
    assert rewards.negative_error_log_cost(OUTCOME) == pytest.approx(-2.0)


@pytest.mark.parametrize("cost", [1.0, 0.5, 0.0])
def test_the_logarithm_wants_a_cost_above_one(cost: float) -> None:
    with pytest.raises(ValueError, match=f"cost is {cost}"):
        rewards.negative_error_log_cost(Outcome(0.5, cost, 0.9, 2.0))


@pytest.mark.parametrize(
    "reward, budget, expected",
    [
        (None, 1e6, -0.25),
        (None, None, -2.0),
        ("negative_error", None, -0.25),
        ("negative_error_log_cost", 1e6, -2.0),
        (lambda outcome: outcome.accuracy * 2, 1e6, 1.5),
        (lambda outcome: np.float32(0.5), None, 0.5),
        (lambda outcome: np.array(0.5), None, 0.5),
    ],
)
def test_choose(reward, budget: float | None, expected: float) -> None:
    value = rewards.choose(reward, budget)(OUTCOME)
    assert type(value) is float
    assert value == pytest.approx(expected)


@pytest.mark.parametrize("name", sorted(rewards.NAMED))
def test_named_rewards_are_returned_as_they_are(name: str) -> None:
    assert rewards.choose(name, None) is rewards.choose(rewards.NAMED[name], 1.0) is rewards.NAMED[name]
    assert rewards.choose(lambda outcome: 0.0, None) not in rewards.NAMED.values()


def test_the_error_of_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="'accuracy'.*negative_error.*negative_error_log_cost"):
        rewards.choose("accuracy", None)


def test_what_is_neither_name_nor_function_is_refused() -> None:
    with pytest.raises(TypeError, match="reward is 3"):
        rewards.choose(3, None)


@pytest.mark.parametrize("returned", [None, "0.5", math.nan, -math.inf, [0.1, 0.2], np.zeros(2)])
def test_a_callers_reward_must_return_a_finite_number(returned) -> None:
    def mine(outcome: Outcome):
        return returned

    with pytest.raises(ValueError) as caught:
        rewards.choose(mine, None)(OUTCOME)
    assert f"The reward mine returned {returned!r}" in str(caught.value)
