"""Refinement: its plans hold the limit, do not repeat, and get better sooner than those of chance."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_tf.search.proposers.handmade import uniform
from amc_tf.search.proposers.refine import local_move, refined
from amc_tf.search.trial import Outcome, Trial
from tests.search.fakes import FakeUnit, ProductCost, alone, chain_cost, trial, units
from tests.search.test_budget import problems

SOME = units(*[64] * 6)  # of 7 widths each: few enough to try all plans
FULL = tuple(u.size for u in SOME)
COST = chain_cost(6)
LIMIT = 0.5 * COST(FULL)
START = uniform(SOME, COST, LIMIT)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def made(accuracy: Callable, plans: Sequence[tuple[int, ...]], kind: str = "agent") -> list[Trial]:
    return [trial(SOME, widths, Outcome(accuracy(widths), COST(widths), 0.9, COST(FULL)), n, kind)
            for n, widths in enumerate(plans, 1)]  # fmt: skip


def chance(count: int, seed: int = 0, limit: float | None = LIMIT) -> list[tuple[int, ...]]:
    """Plans of random local moves, the uniform one first."""
    source = rng(seed)
    return [START, *(local_move(SOME, COST, limit, START, 5, source) for _ in range(count - 1))]


def additive(seed: int) -> Callable:
    """Widths (..., units) -> accuracy (...): a sum over units, of which some matter ten times as much as others."""
    weights = rng([seed, 7]).permutation(np.geomspace(0.1, 1, len(SOME)))
    return lambda widths: 0.9 + 0.2 * np.log(np.divide(widths, FULL)) @ weights / weights.sum()


@settings(max_examples=40)
@given(problems(), st.integers(0, 99), st.integers(1, 9), st.booleans(), st.booleans())
def test_every_plan_is_within_the_limit_and_of_allowed_widths(
    problem: tuple[list[FakeUnit], ProductCost, float], seed: int, count: int, wide: bool, bounded: bool
) -> None:
    some, cost, limit = problem
    base, trials = cost([u.size for u in some]), []
    for number in range(count):
        widths = refined(some, cost, limit if bounded else None, trials, rng([seed, number]), wide)
        assert all(type(w) is int and w in u.widths for w, u in zip(widths, some, strict=True))
        if bounded:
            assert cost(widths) <= limit
            for i, u in enumerate(some):  # what is left over is spent
                wider = [w for w in u.widths if w > widths[i]][:1]
                assert not wider or cost([*widths[:i], *wider, *widths[i + 1 :]]) > limit
        trials.append(trial(some, widths, Outcome(sum(widths) / 1e4, cost(widths), 0.9, base), number))


def test_a_local_move_changes_few_units() -> None:
    """Those that move by themselves; others give way or take what is left over."""
    for most in (1, 3):
        free = [local_move(SOME, COST, None, START, most, rng(seed)) for seed in range(200)]
        moved = [int((np.array(widths) != START).sum()) for widths in free]
        assert max(moved) == most and 0 in moved  # a move by nothing is one
    steps = (np.array(free) - START) // 8
    assert set(np.unique(steps)) == {-2, -1, 0, 1, 2}  # of a unit's seven widths


def test_a_local_move_from_above_the_limit_comes_down_to_it() -> None:
    for seed in range(20):
        assert 0.9 * LIMIT < COST(local_move(SOME, COST, LIMIT, FULL, 3, rng(seed))) <= LIMIT


def test_the_caller_says_what_a_plan_is_worth() -> None:
    """Where the rewards say that narrow is good, and the accuracies that it is not."""
    accuracy = additive(0)
    trials = [replace(one, reward=-sum(one.widths) / 1000) for one in made(accuracy, chance(40, limit=None))]
    worths = {"reward": lambda t: t.reward, "accuracy": lambda t: t.outcome.accuracy - 1}
    found = {name: [refined(SOME, COST, None, trials, rng(seed), worth=worth) for seed in range(8)]
             for name, worth in worths.items()}  # fmt: skip
    assert found["reward"] == [refined(SOME, COST, None, trials, rng(seed)) for seed in range(8)]
    assert max(map(sum, found["reward"])) < min(map(sum, found["accuracy"]))


def test_where_nothing_can_be_narrowed_the_narrowest_is_proposed() -> None:
    narrowest = tuple(u.widths[0] for u in SOME)
    assert local_move(SOME, COST, 0.9 * COST(narrowest), FULL, 3, rng()) == narrowest


@pytest.mark.parametrize("count", [0, 2, 12])
@pytest.mark.parametrize("wide", [False, True])
def test_the_same_chance_the_same_plan(count: int, wide: bool) -> None:
    trials = made(additive(0), chance(count) if count else [])
    found = [refined(SOME, COST, LIMIT, trials, rng(seed), wide) for seed in (3, 3, 4, 5, 6)]
    assert found[0] == found[1] and len(set(found)) > 1


def plans_within(limit: float) -> np.ndarray:
    """All plans (plans, units) that the limit allows."""
    every = np.stack(np.meshgrid(*(u.widths for u in SOME), indexing="ij"), axis=-1).reshape(-1, len(SOME))
    one = np.hstack([every, np.ones((len(every), 1))])
    return every[((one @ COST.coefficients) * one).sum(axis=1) <= limit]


def missing(accuracy: Callable, propose: Callable, count: int, seed: int) -> tuple[list[float], list[tuple[int, ...]]]:
    """What the best so far lacks after each trial of what the best of all plans has; and the proposals.

    The first eight trials are of chance.
    """
    trials = made(accuracy, chance(8, seed))
    while len(trials) < count:
        widths = propose(trials, rng([seed, len(trials)]))
        outcome = Outcome(accuracy(widths), COST(widths), 0.9, COST(FULL))
        trials.append(trial(SOME, widths, outcome, len(trials) + 1, "refined"))
    best = accuracy(plans_within(LIMIT)).max()
    so_far = np.maximum.accumulate([t.outcome.accuracy for t in trials])
    return list(best - so_far), [t.widths for t in trials[8:]]


def by_refinement(trials: Sequence[Trial], source: np.random.Generator) -> tuple[int, ...]:
    return refined(SOME, COST, LIMIT, trials, source)


def by_chance(trials: Sequence[Trial], source: np.random.Generator) -> tuple[int, ...]:
    """A local move of the best one so far: random hill climbing."""
    best = max(trials, key=lambda t: t.reward)
    return local_move(SOME, COST, LIMIT, best.widths, 3, source)


@pytest.fixture(scope="module")
def runs() -> list[tuple]:
    """(what refinement lacks, its proposals, what chance lacks) of several additive problems."""
    found = []
    for seed in range(4):
        accuracy = additive(seed)
        found.append((*missing(accuracy, by_refinement, 24, seed), missing(accuracy, by_chance, 24, seed)[0]))
    return found


def test_finds_the_best_of_an_additive_problem_much_sooner_than_chance(runs: list[tuple]) -> None:
    for learned, _, climbed in runs:
        assert learned[7] == climbed[7] > 0.015
        assert learned[15] < 0.002 < 0.25 * climbed[15]  # eight trials later
        assert learned[-1] < 0.0005


def test_no_plan_is_tried_twice_while_there_are_others(runs: list[tuple]) -> None:
    for _, proposals, _ in runs:
        assert len(set(proposals)) == len(proposals)


def test_where_all_plans_were_tried_one_is_tried_again() -> None:
    some, cost = [FakeUnit("a", 2, (1, 2)), FakeUnit("b", 2, (1, 2))], chain_cost(2)
    plans = [(1, 1), (1, 2), (2, 1), (2, 2)]
    trials = [trial(some, (a, b), Outcome(0.1 * a + 0.2 * b, cost((a, b)), 0.9, cost((2, 2)))) for a, b in plans]
    for limit in (None, cost((1, 2))):
        assert refined(some, cost, limit, trials, rng()) in plans


@pytest.mark.parametrize("kind", ["base", "sensitivity"])
def test_with_a_limit_base_and_samples_are_not_learned_from(kind: str) -> None:
    trials = made(additive(0), chance(12))
    others = made(additive(1), [alone(SOME, i, 16) for i in range(6)])
    given = [replace(t, kind=kind) for t in others]
    found = refined(SOME, COST, LIMIT, trials, rng())
    assert refined(SOME, COST, LIMIT, [*given, *trials], rng()) == found
    assert refined(SOME, COST, LIMIT, [*others, *trials], rng()) != found  # or it might learn from nothing
    freely = refined(SOME, COST, None, trials, rng())
    assert refined(SOME, COST, None, [*given, *trials], rng()) != freely
    for known in (given, given[:1]):  # nothing it could start from
        assert COST(refined(SOME, COST, LIMIT, known, rng())) <= LIMIT


@pytest.mark.parametrize("limit", [LIMIT, None])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_where_nothing_has_come_of_any_plan_it_starts_from_the_narrowest(count: int, limit: float | None) -> None:
    failed = [trial(SOME, widths, None, n) for n, widths in enumerate(chance(5)[:count], 1)]
    narrowest = np.array([u.widths[0] for u in SOME])
    for seed in range(5):
        widths = refined(SOME, COST, limit, failed, rng(seed))
        assert widths == local_move(SOME, COST, limit, narrowest, 3, rng(seed))


def test_wide_changes_up_to_half_of_the_units_of_one_of_the_best() -> None:
    trials = made(additive(0), chance(20))
    best = sorted(trials, key=lambda t: -t.reward)[:8]
    for seed in range(5):
        source = rng(seed)
        parent = best[source.integers(8)].widths
        expected = local_move(SOME, COST, LIMIT, parent, 3, source)
        assert refined(SOME, COST, LIMIT, trials, rng(seed), wide=True) == expected


def test_failed_trials_teach_nothing_but_are_not_proposed_again() -> None:
    trials = made(additive(0), chance(12))
    found = refined(SOME, COST, LIMIT, trials, rng())
    elsewhere = trial(SOME, chance(1, 5)[0], None, 13)
    assert refined(SOME, COST, LIMIT, [*trials, elsewhere], rng()) == found
    assert refined(SOME, COST, LIMIT, [*trials, trial(SOME, found, None, 13)], rng()) != found


def test_without_a_limit_it_finds_what_pays() -> None:
    """A channel is worth what it adds to the accuracy less what it costs."""
    accuracy = additive(2)
    every = plans_within(float("inf"))

    def worth(widths: np.ndarray) -> np.ndarray:
        return accuracy(widths) - 0.3 * np.sum(widths, axis=-1) / sum(FULL)

    trials = made(worth, chance(8, limit=None))
    while len(trials) < 30:
        widths = refined(SOME, COST, None, trials, rng([2, len(trials)]))
        trials += made(worth, [widths])
    assert worth(every).max() - max(t.outcome.accuracy for t in trials) < 0.002


def test_what_was_scored_on_few_examples_counts_less() -> None:
    """Estimates that say the first unit is worth nothing, and the second everything, beside the truth."""
    true, false = np.array([1, 0.2, 0.5, 0.5, 0.5, 0.5]), np.array([0.2, 1, 0.5, 0.5, 0.5, 0.5])
    plans = chance(24, seed=13)

    def mean_widths(examples: int | None) -> np.ndarray:
        trials = []
        for n, widths in enumerate(plans):
            accuracy = 0.9 + 0.1 * np.log(np.divide(widths, FULL)) @ (true if n % 3 == 0 else false)
            seen = None if n % 3 == 0 else examples
            trials.append(trial(SOME, widths, Outcome(accuracy, COST(widths), 0.9, COST(FULL), examples=seen), n))
        return np.mean([refined(SOME, COST, LIMIT, trials, rng(seed)) for seed in range(6)], axis=0)

    few, many, all_of_them = (widths[0] - widths[1] for widths in map(mean_widths, (20, 100_000, None)))
    assert few > 15 and many < -15 and all_of_them < -15


def test_what_is_being_tried_is_not_proposed() -> None:
    trials = made(additive(0), chance(12))
    found = refined(SOME, COST, LIMIT, trials, rng())
    assert refined(SOME, COST, LIMIT, trials, rng(), avoid=[found]) != found
