from dataclasses import replace

import pytest

from amc_tf.errors import DeviceError
from amc_tf.latency.candidate_timing import (
    EVERY,
    MARGIN,
    LatencyMeasurer,
    correction,
    finalists,
    measured_per_predicted,
    plans_near_limit,
)
from amc_tf.search.rewards import negative_error, negative_error_log_cost
from amc_tf.search.trial import Outcome, Trial
from tests.search.fakes import chain_cost, units

FULL = (16, 16)
BASE_US = 1000.0


class Slower:
    """A stopwatch on which candidates take `share` times their predicted latency: 1000 us at full width."""

    base_us = BASE_US

    def __init__(self, share: float = 1.0):
        self.share, self.measured = share, []

    def candidates(self, plans, rounds=1):
        self.measured += [(tuple(widths), rounds) for widths in plans]
        return [price(widths) * self.share for widths in plans]


def price(widths) -> float:
    return BASE_US * sum(widths) / sum(FULL)


def trial(number, widths, accuracy, cost=None, predicted=None, kind="agent") -> Trial:
    outcome = Outcome(accuracy, price(widths) if cost is None else cost, 0.9, BASE_US, predicted)
    ratios = {f"u{i}": w / 16 for i, w in enumerate(widths)}
    return Trial(number, "complete", kind, tuple(widths), ratios, str(widths), outcome, negative_error(outcome), 1.0)


def search(stopwatch, plans, accuracy, before=(), trials=()) -> list[Outcome]:
    """Measures one plan after the other, as a search does; `trials` grows, as a journal does."""
    trials = list(trials)
    measured = LatencyMeasurer(stopwatch, FULL, before, trials)
    outcomes = []
    for widths in plans:
        outcome = measured(widths, Outcome(accuracy(widths), price(widths), 0.9, BASE_US))
        outcomes.append(outcome)
        trials.append(trial(len(trials), widths, outcome.accuracy, outcome.cost, outcome.predicted))
    return outcomes


def test_the_base_costs_what_it_took_without_being_measured_again():
    stopwatch = Slower()
    (outcome,) = search(stopwatch, [FULL], lambda w: 0.9)
    assert (outcome.cost, outcome.predicted, stopwatch.measured) == (BASE_US, None, [])


def test_better_candidates_are_measured_and_worse_ones_predicted():
    outcomes = search(Slower(share=1.1), [(w, 8) for w in (4, 5, 6, 3, 7)], lambda w: w[0] / 100)
    assert [outcome.predicted is not None for outcome in outcomes] == [True, True, True, False, True]
    assert outcomes[0].cost == pytest.approx(1.1 * price((4, 8)))
    assert outcomes[3].cost == pytest.approx(1.1 * price((3, 8)))  # corrected by the three before it


def test_at_the_latest_every_tenth_is_measured():
    stopwatch = Slower()
    search(stopwatch, [(9, 9), *((4, 100 + n) for n in range(3 * EVERY))], lambda w: 0.8 if w[0] > 8 else 0.1)
    assert len(stopwatch.measured) - 1 == 3


def test_a_search_that_goes_on_knows_what_was_measured_before():
    earlier = [trial(n, (8, 8), 0.5, cost=1.2 * price((8, 8)), predicted=price((8, 8))) for n in range(1, 4)]
    stopwatch = Slower()
    (outcome,) = search(stopwatch, [(6, 6)], lambda w: 0.4, trials=earlier)
    assert not stopwatch.measured and outcome.cost == pytest.approx(1.2 * price((6, 6)))


def test_an_estimate_is_not_more_accurate_than_all_and_nothing_has_to_be_more_accurate_than_it():
    stopwatch = Slower()
    trials = [trial(1, (8, 8), 0.5)]
    measured = LatencyMeasurer(stopwatch, FULL, (), trials)
    estimate = measured((6, 6), Outcome(0.9, price((6, 6)), 0.9, BASE_US, examples=40))
    assert (stopwatch.measured, estimate.predicted, estimate.examples) == ([], None, 40)
    trials.append(replace(trial(2, (6, 6), 0.9), outcome=estimate))
    assert measured((7, 7), Outcome(0.6, price((7, 7)), 0.9, BASE_US)).predicted is not None
    tenth = [trial(n, (4, 100 + n), 0.1) for n in range(3, 12)]
    late = LatencyMeasurer(stopwatch, FULL, (), tenth)((6, 6), Outcome(0.05, price((6, 6)), 0.9, BASE_US, examples=40))
    assert late.predicted is not None and late.examples == 40


def test_one_wild_measurement_does_not_move_the_measured_per_predicted():
    shares = [1.1, 1.1, 1.1, 1.1, 5.0]
    assert measured_per_predicted([], [Outcome(0.5, s * 100, 0.9, 200, 100) for s in shares]) == pytest.approx(1.1)


def test_plans_before_the_search_correct_until_newer_ones_outweigh_them():
    assert measured_per_predicted([], []) == 1.0
    assert measured_per_predicted([1.2, 1.3, 1.1], [Outcome(0.5, 100, 0.9, 200)]) == 1.2
    assert measured_per_predicted([1.2] * 5, [Outcome(0.5, 90, 0.9, 200, 100)] * 15) == pytest.approx(0.9)


def test_the_correction_keeps_its_distance_from_the_limit():
    trials = [trial(n, (8, 8), 0.5, cost=0.9 * price((8, 8)), predicted=price((8, 8))) for n in range(4)]
    assert correction([], []) == pytest.approx(1 + MARGIN)
    assert correction([], trials) == pytest.approx(0.9 * (1 + MARGIN))
    assert correction([1.1] * 5, trials[:1]) == pytest.approx(1.1 * (1 + MARGIN))


def test_plans_near_the_limit_are_different_and_just_hold_the_limit():
    some = units(16, 32, 64, step=2)
    cost = chain_cost(3)
    limit = 0.5 * cost([16, 32, 64])
    plans = plans_near_limit(some, cost, limit)
    assert len(set(plans)) == len(plans) == 5
    assert all(0.8 * limit < cost(widths) <= limit for widths in plans)


def narrower(widths, us):
    """One channel fewer of the first unit, at the same accuracy."""
    narrow = (widths[0] - 1, *widths[1:])
    return (narrow, Outcome(0.6, price(narrow), 0.9, BASE_US)) if narrow[0] else None


def none(widths, us=None):
    return None


def test_finalists_are_those_that_hold_the_limit_when_measured():
    trials = [trial(0, FULL, 0.9, kind="base"), trial(1, (8, 8), 0.3), trial(2, (9, 8), 0.6), trial(3, (4, 4), 0.5)]
    found = list(finalists(trials, Slower(share=1.05), limit=550.0, reward=negative_error, narrower=none, rescore=none))
    assert [widths for widths, _ in found] == [(4, 4), (8, 8)]  # 9 + 8 channels take 557 us
    assert [us for _, us in found] == pytest.approx([1.05 * 250, 1.05 * 500])


def test_finalists_further_down_are_measured_only_on_demand():
    stopwatch = Slower()
    trials = [trial(n, (n, 8), 0.9 - n / 100) for n in range(2, 14)]
    found = finalists(trials, stopwatch, limit=1000.0, reward=negative_error, narrower=none, rescore=none, count=5)
    next(found)
    assert len(stopwatch.measured) == 5
    assert len(list(found)) == 11 and len(stopwatch.measured) == 12


def test_without_a_limit_the_measured_cost_decides():
    """A candidate that was foretold to be cheap and is not."""

    class Wrong(Slower):
        def candidates(self, plans, rounds=1):
            return [900.0 if tuple(widths) == (4, 4) else 300.0 for widths in plans]

    trials = [trial(1, (4, 4), 0.50), trial(2, (6, 6), 0.49)]
    (best, us), _ = finalists(trials, Wrong(), limit=None, reward=negative_error_log_cost, narrower=none, rescore=none)
    assert (best, us) == ((6, 6), 300.0)


def test_the_same_plan_is_no_two_finalists():
    trials = [trial(n, (8, 8), 0.5) for n in range(1, 5)]
    assert len(list(finalists(trials, Slower(), None, negative_error, none, none))) == 1


def test_a_good_one_just_above_the_limit_is_narrowed_until_it_holds_it():
    trials = [trial(1, (10, 8), 0.6), trial(2, (4, 4), 0.5)]
    found = list(finalists(trials, Slower(), limit=510.0, reward=negative_error, narrower=narrower, rescore=none))
    assert [widths for widths, _ in found] == [(8, 8), (4, 4)]


def test_narrowing_ends():
    stopwatch = Slower()
    assert not list(finalists([trial(1, (16, 15), 0.6)], stopwatch, 10.0, negative_error, narrower, none))
    assert len(stopwatch.measured) == 4


def test_a_finalist_that_fails_the_device_is_left_out():
    class Choosy(Slower):
        def candidates(self, plans, rounds=1):
            if (8, 8) in map(tuple, plans):
                raise DeviceError("It cannot.")
            return super().candidates(plans, rounds)

    some = [trial(1, (8, 8), 0.6), trial(2, (4, 4), 0.5)]
    assert [widths for widths, _ in finalists(some, Choosy(), None, negative_error, none, none)] == [(4, 4)]
    with pytest.raises(DeviceError, match="cannot"):
        list(finalists(some[:1], Choosy(), None, negative_error, none, none))


def test_a_plan_proposed_again_counts_again():
    shares = search(Slower(share=1.5), [(8, 8), (8, 8), (8, 8), (4, 8)], lambda w: w[0] / 100, [1.0])
    assert shares[-1].cost == pytest.approx(1.5 * price((4, 8)))  # three shares of 1.5 outweigh the one before


def test_what_was_measured_once_is_not_predicted_again():
    """The search knows plans that it proposes again, but not one that is in flight."""
    stopwatch = Slower(share=1.3)
    first, _, again = search(stopwatch, [(8, 8), (9, 8), (8, 8)], lambda w: w[0] / 100)
    assert again == first and len(stopwatch.measured) == 2


def stopped(number, widths, accuracy) -> Trial:
    whole = trial(number, widths, accuracy)
    return replace(whole, outcome=replace(whole.outcome, examples=40))


def test_a_candidate_that_was_stopped_early_is_no_finalist_before_all_others():
    asked = []

    def rescore(widths):
        asked.append(widths)
        return None if widths == (7, 7) else Outcome(0.2 + widths[0] / 100, price(widths), 0.9, BASE_US)

    trials = [trial(1, (8, 8), 0.3), stopped(2, (6, 6), 0.99), stopped(3, (7, 7), 0.98), stopped(4, (9, 9), 0.1)]
    found = finalists(trials, Slower(), None, negative_error, none, rescore)
    assert next(found)[0] == (8, 8) and not asked
    assert [widths for widths, _ in found] == [(9, 9), (6, 6)]  # by what they are worth on all examples
    assert asked == [(6, 6), (7, 7), (9, 9)]


def test_where_none_that_was_stopped_can_be_scored_there_is_no_finalist():
    assert not list(finalists([stopped(1, (8, 8), 0.5)], Slower(), None, negative_error, none, none))
