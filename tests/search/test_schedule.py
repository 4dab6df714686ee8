"""Who decides which trial: in which order, how often, and what the agent's episodes count."""

from collections import Counter
from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.search.proposers.sensitivity import Sensitivity, samples_to_measure
from amc_tf.search.schedule import Schedule
from amc_tf.search.trial import KINDS, Outcome
from tests.search.fakes import FakeUnit, trial, units

UNITS = units(64, 96, 64, 32)
TABLE = Sensitivity(0.9, {u.name: {u.widths[0]: 0.5} for u in UNITS})
ENOUGH = 400


def kinds(schedule: Schedule) -> list[str]:
    return [schedule.kind(number) for number in range(schedule.total)]


def blocks(schedule: Schedule) -> list[str]:
    """The kinds in their order, each run of one kind once."""
    return [kind for kind, _ in groupby(kinds(schedule))]


schedules = st.one_of(
    st.builds(
        lambda channels, episodes, table, paper, thresholds: Schedule.of(
            units(*channels), episodes, TABLE if table else None, paper, thresholds=thresholds
        ),
        st.lists(st.sampled_from([8, 16, 64]), min_size=1, max_size=5),
        st.integers(0, 500),
        st.booleans(),
        st.booleans(),
        st.integers(0, 4),
    ),
    st.builds(
        lambda chosen, more, greedy, thresholds: Schedule(
            len(chosen) + greedy + thresholds + more, tuple(chosen), greedy, thresholds=thresholds
        ),
        st.lists(st.tuples(st.just(0), st.integers(1, 9)), max_size=9),
        st.integers(0, 60),
        st.booleans(),
        st.integers(0, 4),
    ),
)


def test_base_and_uniform_come_first_then_the_table_and_greedy_then_agent_and_refinement_in_turns() -> None:
    schedule = Schedule.of(UNITS, ENOUGH)
    found, chosen = kinds(schedule), samples_to_measure(UNITS)
    assert schedule.samples == chosen and len(chosen) == 12
    assert found[:15] == ["base", "uniform", *["sensitivity"] * 12, "greedy"]
    rest = found[15:]
    last = len(rest) - rest[::-1].index("agent")  # the refinement has the rest for itself
    assert rest[:last] == ["agent", "refined"] * (last // 2) + ["agent"] * (last % 2)
    assert 0.2 < 1 - last / len(rest) < 0.5
    assert schedule.total == len(found) == ENOUGH + 2


def test_the_papers_are_all_the_agents() -> None:
    schedule = Schedule.of(UNITS, ENOUGH, paper=True)
    assert schedule == Schedule.of(UNITS, ENOUGH, TABLE, paper=True) == Schedule(ENOUGH, paper=True)
    assert kinds(schedule) == ["base", "uniform", *["agent"] * ENOUGH]
    assert (schedule.first_learned, schedule.warmup, schedule.acting) == (2, 100, 400)  # as the paper says


def test_with_a_known_table_there_is_nothing_to_measure() -> None:
    schedule = Schedule.of(UNITS, ENOUGH, TABLE)
    assert schedule.samples == ()
    assert blocks(schedule)[:4] == ["base", "uniform", "greedy", "agent"]
    assert schedule.total == ENOUGH + 2


def test_a_table_is_measured_only_where_it_takes_a_small_part_of_the_episodes() -> None:
    measured = [bool(Schedule.of(UNITS, episodes).samples) for episodes in range(ENOUGH)]
    least = measured.index(True)
    assert measured == [False] * least + [True] * (ENOUGH - least)
    assert 0.1 < len(samples_to_measure(UNITS)) / least < 0.3
    counted = [Counter(kinds(Schedule.of(UNITS, episodes))) for episodes in (least - 1, least)]
    assert [(count["sensitivity"], count["greedy"]) for count in counted] == [(0, 0), (12, 1)]


def test_where_no_unit_has_a_choice_there_is_no_table() -> None:
    assert not Schedule.of([FakeUnit("a", 8, (8,))], ENOUGH).greedy


@pytest.mark.parametrize("table", [None, TABLE])
@pytest.mark.parametrize(
    "episodes, expected",
    [
        (0, []),
        (1, ["agent"]),
        (2, ["agent", "refined"]),
        (3, ["agent", "refined", "refined"]),
        (4, ["agent", "refined", "agent", "refined"]),
    ],
)
def test_few_episodes(episodes: int, expected: list[str], table: Sensitivity | None) -> None:
    schedule = Schedule.of(UNITS, episodes, table)
    assert schedule.greedy == (table is not None and episodes > 0)
    if schedule.greedy:  # what is best known comes first
        expected = ["greedy", *kinds(Schedule.of(UNITS, episodes - 1))[2:]]
    assert kinds(schedule) == ["base", "uniform", *expected]
    assert Schedule.of(UNITS, episodes, paper=True).total == schedule.total == 2 + episodes


def test_the_plans_of_one_threshold_come_before_the_table() -> None:
    schedule = Schedule.of(UNITS, ENOUGH, thresholds=3)
    assert kinds(schedule)[:18] == ["base", "uniform", *["threshold"] * 3, *["sensitivity"] * 12, "greedy"]
    assert schedule.first_sample == 5 and Schedule.of(UNITS, ENOUGH).first_sample == 2
    assert schedule.total == ENOUGH + 2
    plain = Schedule.of(UNITS, ENOUGH - 3)  # so many trials less to take turns in, else the same
    assert (schedule.warmup, schedule.acting) == (plain.warmup + 3, plain.acting + 3)


def test_the_papers_schedule_has_no_threshold() -> None:
    assert Schedule.of(UNITS, ENOUGH, paper=True, thresholds=3) == Schedule(ENOUGH, paper=True)


@pytest.mark.parametrize("table", [None, TABLE])
@pytest.mark.parametrize("episodes", range(4))
def test_few_episodes_and_thresholds(episodes: int, table: Sensitivity | None) -> None:
    expected = ["threshold", "threshold", "agent" if table is None else "greedy"]
    schedule = Schedule.of(UNITS, episodes, table, thresholds=2)
    assert kinds(schedule) == ["base", "uniform", *expected[:episodes]]
    assert schedule.thresholds == min(episodes, 2) and schedule.greedy == ("greedy" in kinds(schedule))


def test_there_is_room_for_the_table_behind_the_thresholds() -> None:
    one = [FakeUnit("a", 16, (8, 16))]
    for episodes in range(12):
        schedule = Schedule.of(one, episodes, thresholds=4)
        assert Counter(kinds(schedule))["greedy"] == schedule.greedy == (episodes > 5)


@given(schedules)
def test_the_kinds_add_up_and_come_in_order(schedule: Schedule) -> None:
    found = kinds(schedule)
    assert set(found) <= set(KINDS) and len(found) == schedule.total == 2 + schedule.episodes
    count = Counter(found)
    assert (count["base"], count["uniform"]) == (1, 1)
    assert count["sensitivity"] == len(schedule.samples)
    assert count["greedy"] == schedule.greedy
    assert count["threshold"] == schedule.thresholds
    given_first = [kind for kind in KINDS[:5] if count[kind]]
    assert blocks(schedule)[: len(given_first)] == given_first
    assert not {"agent", "refined"} & set(found[: sum(count[kind] for kind in given_first)])


@given(schedules)
def test_the_agents_episodes_are_those_it_may_learn_from(schedule: Schedule) -> None:
    """And warm-up is over, and exploring, before the agent has acted for the last time."""
    numbers = [number for number, kind in enumerate(kinds(schedule)) if kind == "agent"]
    assert schedule.acting >= (0 if schedule.paper else 1) and 0 <= schedule.warmup <= schedule.acting
    for number in numbers:
        assert 0 <= number - schedule.first_learned < schedule.acting
    if numbers:
        random = [number for number in numbers if number - schedule.first_learned < schedule.warmup]
        assert len(random) <= 1 + len(numbers) / (4 if schedule.paper else 2)
        # The noise decays until then, see DdpgAgent.episodes.
        assert numbers[-1] - schedule.first_learned >= schedule.acting - 2
    if len(numbers) > 4:
        assert random


@given(schedules)
def test_the_agent_learns_from_uniform_and_greedy_but_where_it_is_the_papers(schedule: Schedule) -> None:
    first = schedule.kind(schedule.first_learned) if schedule.first_learned < schedule.total else None
    assert first == ("uniform" if not schedule.paper else "agent" if schedule.episodes else None)


def test_a_search_that_is_given_more_episodes_does_not_change_its_mind_about_the_table() -> None:
    def begun(schedule: Schedule, count: int = 6) -> list:
        outcome = Outcome(0.5, 1.0, 0.9, 2.0)
        return [trial(UNITS, [64, 96, 64, 32], outcome, n, schedule.kind(n)) for n in range(count)]

    measured, plain = Schedule.of(UNITS, ENOUGH), Schedule(20)
    assert measured.samples
    assert Schedule.of(UNITS, 4, trials=begun(measured)).samples == measured.samples
    assert not Schedule.of(UNITS, ENOUGH, trials=begun(plain)).samples
    assert Schedule.of(UNITS, ENOUGH, trials=begun(plain, 2)) == measured
    more, few = Schedule.of(UNITS, ENOUGH, thresholds=2), Schedule(20, thresholds=2)
    for count in (2, 3, 4):  # the plans of one threshold say nothing of the table
        assert Schedule.of(UNITS, ENOUGH, trials=begun(few, count), thresholds=2) == more
    assert Schedule.of(UNITS, 4, trials=begun(more), thresholds=2).samples == measured.samples
    assert not Schedule.of(UNITS, ENOUGH, trials=begun(few), thresholds=2).samples
