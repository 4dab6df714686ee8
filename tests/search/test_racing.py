"""The stopping rule: exact, never wrong more often than it says, and quick."""

import itertools
import math
import time
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.search.rewards import NAMED, choose, negative_error, negative_error_log_cost
from amc_tf.search.scoring.racing import ERROR, Race, right_to_win
from amc_tf.search.trial import Outcome


@st.composite
def races(draw) -> Race:
    examples = draw(st.integers(64, 400))
    return Race(examples, draw(st.integers(0, examples)))


def probability(race: Race, seen: int, most: int) -> Fraction:
    """P(at most `most` right among `seen`) of a candidate that is just good enough, by counting."""
    wrong = race.examples - race.needed
    ways = sum(math.comb(race.needed, r) * math.comb(wrong, seen - r) for r in range(most + 1))
    return Fraction(ways, math.comb(race.examples, seen))


@given(races(), st.data())
def test_stops_exactly_where_counting_says(race: Race, data) -> None:
    *looks, whole = race.looks
    seen = data.draw(st.sampled_from(looks))
    right = data.draw(st.integers(0, seen))
    assert race.lost(right, seen) == (probability(race, seen, right) <= Fraction(ERROR) / len(looks))
    assert not race.lost(data.draw(st.integers(0, whole)), whole)


@given(races())
def test_the_threshold_is_the_largest_that_counting_allows(race: Race) -> None:
    """Where it lies close, which numbers at random seldom do."""
    *looks, _ = race.looks
    for seen in looks:
        losing = [right for right in range(seen + 1) if race.lost(right, seen)]
        assert losing == list(range(len(losing)))
        assert probability(race, seen, len(losing) - 1) <= Fraction(ERROR) / len(looks)
        assert len(losing) == seen + 1 or probability(race, seen, len(losing)) > Fraction(ERROR) / len(looks)


@pytest.mark.parametrize("examples", [64, 65, 257, 500, 1000, 2000])
def test_no_decision_differs_from_counting_on_a_wide_grid(examples: int) -> None:
    """On both sides of every threshold, where an inexact sum would be seen first."""
    for wanted in sorted({0, 1, 2, examples - 1, examples, *range(0, examples, max(1, examples // 41))}):
        race = Race(examples, wanted)
        *looks, _ = race.looks
        for seen in looks:
            level = Fraction(ERROR) / len(looks) * math.comb(examples, seen)
            ways = (math.comb(wanted, r) * math.comb(examples - wanted, seen - r) for r in range(seen + 1))
            losing = sum(1 for _ in itertools.takewhile(level.__ge__, itertools.accumulate(ways)))
            assert losing == 0 or race.lost(losing - 1, seen)
            assert losing > seen or not race.lost(losing, seen)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.93])
def test_a_candidate_that_would_have_won_is_stopped_no_more_often_than_stated(share: float) -> None:
    rng = np.random.default_rng(0)
    race = Race(1000, round(1000 * share))
    right, lost, before = np.zeros(100_000, np.int64), np.zeros(100_000, bool), 0
    for seen in race.looks:
        wrong = before - right
        right += rng.hypergeometric(race.needed - right, 1000 - race.needed - wrong, seen - before)
        lost |= right <= max([r for r in range(seen + 1) if race.lost(r, seen)], default=-1)
        before = seen
    assert (right == race.needed).all()
    assert 0.2 * ERROR < lost.mean() < ERROR  # or it would stop nobody


def test_looks_are_halves_of_no_less_than_32() -> None:
    assert Race(2000, 1).looks == (125, 250, 500, 1000, 2000)
    assert Race(500, 400).looks == (62, 125, 250, 500)
    assert Race(128, 1).looks == (32, 64, 128)
    assert Race(63, 1).looks == (63,)
    assert not Race(63, 63).lost(0, 63)


def test_a_poor_candidate_is_stopped_at_the_first_look_and_a_near_one_is_not() -> None:
    race = Race(2000, 1400)
    assert race.lost(round(0.5 * 125), 125)
    assert not race.lost(round(0.69 * 125), 125)
    assert not race.lost(round(0.69 * 1000), 1000)


def test_nobody_loses_what_anybody_wins_and_all_lose_what_nobody_can_win() -> None:
    assert not Race(500, 0).lost(0, 62)
    assert Race(500, 501).lost(62, 62)
    assert Race(500, 500).lost(61, 62) and not Race(500, 500).lost(62, 62)


@pytest.mark.parametrize("examples, wanted", [(0, 0), (10, -1), (10, 12)])
def test_numbers_that_contradict_each_other_are_refused(examples: int, wanted: int) -> None:
    with pytest.raises(ValueError, match=f"examples = {examples} and needed = {wanted}"):
        Race(examples, wanted)


@pytest.mark.parametrize("right, seen", [(1, 61), (63, 62), (-1, 62)])
def test_a_look_elsewhere_is_refused(right: int, seen: int) -> None:
    with pytest.raises(ValueError, match=f"{right} of {seen} are right"):
        Race(500, 300).lost(right, seen)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.76])
def test_fifty_thousand_examples_are_decided_at_once(share: float) -> None:
    race = Race(50_000, round(50_000 * share))
    race.lost(0, race.looks[0])  # SciPy is imported once
    started = time.process_time()
    for _ in range(10):
        for seen in race.looks:
            race.lost(0, seen)
    assert (time.process_time() - started) / 10 < 0.01


@pytest.mark.parametrize("name", sorted(NAMED))
@given(incumbent=st.integers(0, 300), share=st.floats(0.3, 1.5), data=st.data())
def test_needed_is_the_least_that_beats(name: str, incumbent: int, share: float, data) -> None:
    reward = choose(name, None)
    beat = reward(Outcome(incumbent / 300, 1e6, 0.9, 2e6))

    def rewarded(right: int) -> float:
        return reward(Outcome(right / 300, share * 1e6, 0.9, 2e6))

    found = right_to_win(reward, beat, share * 1e6, 0.9, 2e6, 300)
    assert found == 301 or rewarded(found) > beat
    assert found == 0 or rewarded(found - 1) <= beat


def test_under_a_budget_one_more_right_one_is_needed_whatever_the_cost() -> None:
    assert right_to_win(negative_error, negative_error(Outcome(0.5, 1.0, 0.9, 9.0)), 7.0, 0.9, 9.0, 200) == 101
    assert right_to_win(negative_error, 0.0, 7.0, 0.9, 9.0, 200) == 201


def test_a_cheaper_candidate_needs_fewer_where_the_cost_counts() -> None:
    beat = negative_error_log_cost(Outcome(0.5, 1e6, 0.9, 2e6))
    assert right_to_win(negative_error_log_cost, beat, 1e5, 0.9, 2e6, 200) < 100


def test_there_is_no_race_without_a_best_or_with_the_callers_own_reward() -> None:
    assert right_to_win(negative_error, None, 7.0, 0.9, 9.0, 200) is None
    assert right_to_win(choose(lambda outcome: outcome.accuracy, 1.0), -0.5, 7.0, 0.9, 9.0, 200) is None
