"""The environment: what a step executes, when an episode ends, and that its record replays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.search.agent.environment import Environment
from amc_tf.search.agent.features import Features
from amc_tf.search.budget import Budget
from tests.search.fakes import FakeUnit, chain_cost, units


def test_without_a_budget_only_rounding_and_the_lower_bound_hold() -> None:
    some = units(64, 64, 20)  # widths 16, 24 .. 64; the same; 8, 16, 20
    cost = chain_cost(3)
    environment = Environment(some, cost)
    first = environment.reset()
    np.testing.assert_array_equal(first, Features(some, cost).state(0, []))

    second, ratio, done = environment.step(0.01)
    assert (ratio, done) == (16 / 64, False)
    np.testing.assert_array_equal(second, Features(some, cost).state(1, [16]))

    _, ratio, done = environment.step(0.55)  # 35.2 channels
    assert (ratio, done) == (32 / 64, False)
    assert environment.widths == (16, 32)

    last, ratio, done = environment.step(1.0)
    assert (last, ratio, done) == (None, 1.0, True)
    assert environment.widths == (16, 32, 20)


def test_of_two_widths_equally_near_the_wider_is_taken() -> None:
    environment = Environment(units(16), chain_cost(1))
    environment.reset()
    assert environment.step(0.75)[1] == 1.0


def test_a_step_obeys_the_budget() -> None:
    some, cost = units(64, 64, 64), chain_cost(3)
    budget = Budget(some, cost, 0.12 * cost([64] * 3))
    environment = Environment(some, cost, budget)
    environment.reset()
    highest = budget.bounds(0, [])[1]
    assert highest < 64
    assert environment.step(1.0)[1] == highest / 64


@pytest.mark.parametrize("action", [0.0, -0.5, 1.01, float("nan")])
def test_an_action_outside_its_range_is_refused(action: float) -> None:
    environment = Environment(units(64), chain_cost(1))
    environment.reset()
    with pytest.raises(ValueError, match="unit 'unit0' is .*expected a keep ratio"):
        environment.step(action)
    assert environment.widths == ()


def test_a_step_past_the_end_is_refused_and_reset_starts_again() -> None:
    environment = Environment(units(64), chain_cost(1))
    environment.reset()
    environment.step(1.0)
    with pytest.raises(ValueError, match="over after 1 unit"):
        environment.step(1.0)
    environment.reset()
    assert environment.widths == ()


def test_no_units_are_refused() -> None:
    with pytest.raises(ValueError, match="no unit to decide"):
        Environment([], chain_cost(1))


def test_run_hands_index_and_state_to_the_actor() -> None:
    some, cost = units(64, 64), chain_cost(2)
    seen = []

    def act(t: int, state: np.ndarray) -> float:
        seen.append((t, state))
        return 0.5

    states, ratios = Environment(some, cost).run(act)
    assert [t for t, _ in seen] == [0, 1]
    np.testing.assert_array_equal(states, [state for _, state in seen])
    np.testing.assert_array_equal(states[1], Features(some, cost).state(1, [32]))
    assert ratios.tolist() == [0.5, 0.5]


@given(st.data())
def test_executed_ratios_replay_to_the_same_episode(data: st.DataObject) -> None:
    some = [
        FakeUnit(f"u{i}", channels, tuple(sorted({*data.draw(st.sets(st.integers(1, channels))), channels})))
        for i, channels in enumerate(data.draw(st.lists(st.integers(1, 300), min_size=1, max_size=5)))
    ]
    cost = chain_cost(len(some), fixed=1.0)
    least, base = cost([u.widths[0] for u in some]), cost([u.size for u in some])
    share = data.draw(st.floats(0, 0.99))
    limit = least + share * (base - least)
    environment = Environment(some, cost, Budget(some, cost, limit) if limit < base else None)
    actions = data.draw(st.lists(st.floats(0.01, 1), min_size=len(some), max_size=len(some)))
    states, ratios = environment.run(lambda t, state: actions[t])
    widths = environment.widths
    again, same = environment.run(lambda t, state: ratios[t])
    assert environment.widths == widths
    np.testing.assert_array_equal(again, states)
    np.testing.assert_array_equal(same, ratios)
