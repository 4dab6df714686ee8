import pytest

from amc_tf.errors import DeviceError
from amc_tf.search.measured import EVERY, MARGIN, Measured, correction, finalists, nearby, share
from amc_tf.search.outcome import Outcome, Trial
from amc_tf.search.rewards import negative_error, negative_error_log_cost
from tests.search.fakes import chain_cost, units

FULL = (16, 16)
BASE_US = 1000.0


class Slower:
    """A stopwatch on which candidates take `share` times what is foretold of them: 1000 us at full width."""

    base_us = BASE_US

    def __init__(self, share: float = 1.0):
        self.share, self.measured = share, []

    def candidates(self, plans, rounds=1):
        self.measured += [(tuple(widths), rounds) for widths in plans]
        return [price(widths) * self.share for widths in plans]


def price(widths) -> float:
    return BASE_US * sum(widths) / sum(FULL)


def evaluator(accuracy):
    """Widths -> outcome of that accuracy, priced by the table."""
    return lambda widths: Outcome(accuracy(widths), price(widths), 0.9, BASE_US)


def trial(number, widths, accuracy, cost=None, predicted=None, kind="agent") -> Trial:
    outcome = Outcome(accuracy, price(widths) if cost is None else cost, 0.9, BASE_US, predicted)
    ratios = {f"u{i}": w / 16 for i, w in enumerate(widths)}
    return Trial(number, "complete", kind, tuple(widths), ratios, str(widths), outcome, negative_error(outcome), 1.0)


def test_the_base_costs_what_it_took_without_being_measured_again():
    stopwatch = Slower()
    outcome = Measured(evaluator(lambda w: 0.9), stopwatch, FULL)(FULL)
    assert (outcome.cost, outcome.predicted, stopwatch.measured) == (BASE_US, None, [])


def test_better_candidates_are_measured_and_worse_ones_foretold():
    stopwatch = Slower(share=1.1)
    measured = Measured(evaluator(lambda w: w[0] / 100), stopwatch, FULL)
    outcomes = [measured((w, 8)) for w in (4, 5, 6, 3, 7)]
    assert [outcome.predicted is not None for outcome in outcomes] == [True, True, True, False, True]
    assert outcomes[0].cost == pytest.approx(1.1 * price((4, 8)))
    assert outcomes[3].cost == pytest.approx(1.1 * price((3, 8)))  # corrected by the three before it


def test_at_the_latest_every_tenth_is_measured():
    stopwatch = Slower()
    measured = Measured(evaluator(lambda w: 0.8 if w[0] > 8 else 0.1), stopwatch, FULL)
    measured((9, 9))
    before = len(stopwatch.measured)
    for n in range(3 * EVERY):
        measured((4, 100 + n))
    assert len(stopwatch.measured) - before == 3


def test_a_search_that_goes_on_knows_what_was_measured_before():
    earlier = [trial(n, (8, 8), 0.5, cost=1.2 * price((8, 8)), predicted=price((8, 8))) for n in range(1, 4)]
    stopwatch = Slower()
    outcome = Measured(evaluator(lambda w: 0.4), stopwatch, FULL, (), earlier)((6, 6))
    assert not stopwatch.measured and outcome.cost == pytest.approx(1.2 * price((6, 6)))


def test_one_wild_measurement_does_not_move_the_share():
    shares = [1.1, 1.1, 1.1, 1.1, 5.0]
    assert share([], [Outcome(0.5, s * 100, 0.9, 200, 100) for s in shares]) == pytest.approx(1.1)


def test_the_share_is_that_of_the_plans_before_the_search_until_newer_ones_outweigh_them():
    assert share([], []) == 1.0
    assert share([1.2, 1.3, 1.1], [Outcome(0.5, 100, 0.9, 200)]) == 1.2
    assert share([1.2] * 5, [Outcome(0.5, 90, 0.9, 200, 100)] * 15) == pytest.approx(0.9)


def test_the_correction_keeps_its_distance_from_the_limit():
    trials = [trial(n, (8, 8), 0.5, cost=0.9 * price((8, 8)), predicted=price((8, 8))) for n in range(4)]
    assert correction([], []) == pytest.approx(1 + MARGIN)
    assert correction([], trials) == pytest.approx(0.9 * (1 + MARGIN))
    assert correction([1.1] * 5, trials[:1]) == pytest.approx(1.1 * (1 + MARGIN))


def test_plans_nearby_are_different_and_just_hold_the_limit():
    some = units(16, 32, 64, step=2)
    cost = chain_cost(3)
    limit = 0.5 * cost([16, 32, 64])
    plans = nearby(some, cost, limit)
    assert len(set(plans)) == len(plans) == 5
    assert all(0.8 * limit < cost(widths) <= limit for widths in plans)


def narrower(widths, us):
    """One channel fewer of the first unit, at the same accuracy."""
    narrow = (widths[0] - 1, *widths[1:])
    return (narrow, Outcome(0.6, price(narrow), 0.9, BASE_US)) if narrow[0] else None


def none(widths, us):
    return None


def test_finalists_are_those_that_hold_the_limit_when_measured():
    trials = [trial(0, FULL, 0.9, kind="base"), trial(1, (8, 8), 0.3), trial(2, (9, 8), 0.6), trial(3, (4, 4), 0.5)]
    found = list(finalists(trials, Slower(share=1.05), limit=550.0, reward=negative_error, narrower=none))
    assert [widths for widths, _ in found] == [(4, 4), (8, 8)]  # 9 + 8 channels take 557 us
    assert [us for _, us in found] == pytest.approx([1.05 * 250, 1.05 * 500])


def test_finalists_further_down_are_measured_only_when_wanted():
    stopwatch = Slower()
    trials = [trial(n, (n, 8), 0.9 - n / 100) for n in range(2, 14)]
    found = finalists(trials, stopwatch, limit=1000.0, reward=negative_error, narrower=none, count=5)
    next(found)
    assert len(stopwatch.measured) == 5
    assert len(list(found)) == 11 and len(stopwatch.measured) == 12


def test_without_a_limit_the_measured_cost_decides():
    """A candidate that was foretold to be cheap and is not."""

    class Wrong(Slower):
        def candidates(self, plans, rounds=1):
            return [900.0 if tuple(widths) == (4, 4) else 300.0 for widths in plans]

    trials = [trial(1, (4, 4), 0.50), trial(2, (6, 6), 0.49)]
    (best, us), _ = finalists(trials, Wrong(), limit=None, reward=negative_error_log_cost, narrower=none)
    assert (best, us) == ((6, 6), 300.0)


def test_the_same_plan_is_no_two_finalists():
    trials = [trial(n, (8, 8), 0.5) for n in range(1, 5)]
    assert len(list(finalists(trials, Slower(), None, negative_error, none))) == 1


def test_a_good_one_just_above_the_limit_is_narrowed_until_it_holds_it():
    trials = [trial(1, (10, 8), 0.6), trial(2, (4, 4), 0.5)]
    found = list(finalists(trials, Slower(), limit=510.0, reward=negative_error, narrower=narrower))
    assert [widths for widths, _ in found] == [(8, 8), (4, 4)]


def test_narrowing_ends():
    stopwatch = Slower()
    assert not list(finalists([trial(1, (16, 15), 0.6)], stopwatch, 10.0, negative_error, narrower))
    assert len(stopwatch.measured) == 4


def test_a_finalist_that_fails_the_device_is_left_out():
    class Choosy(Slower):
        def candidates(self, plans, rounds=1):
            if (8, 8) in map(tuple, plans):
                raise DeviceError("It cannot.")
            return super().candidates(plans, rounds)

    some = [trial(1, (8, 8), 0.6), trial(2, (4, 4), 0.5)]
    assert [widths for widths, _ in finalists(some, Choosy(), None, negative_error, none)] == [(4, 4)]
    with pytest.raises(DeviceError, match="cannot"):
        list(finalists(some[:1], Choosy(), None, negative_error, none))


def test_a_plan_proposed_again_counts_again_as_it_does_after_a_restart():
    score = evaluator(lambda w: w[0] / 100)
    one = Measured(score, Slower(share=1.5), FULL, [1.0])
    trials = []
    for number, widths in enumerate([(8, 8), (8, 8), (8, 8)], 1):
        outcome = one(widths)
        trials.append(trial(number, widths, outcome.accuracy, outcome.cost, outcome.predicted))
    again = Measured(score, Slower(share=1.5), FULL, [1.0], trials)
    assert one((4, 8)) == again((4, 8))
    assert one((4, 8)).cost == pytest.approx(1.5 * price((4, 8)))  # three shares of 1.5 outweigh the one before


def test_what_was_measured_once_is_not_foretold_again():
    stopwatch = Slower(share=1.3)
    measured = Measured(evaluator(lambda w: w[0] / 100), stopwatch, FULL)
    first = measured((8, 8))
    measured((9, 8))
    assert measured((8, 8)) == first and len(stopwatch.measured) == 2
