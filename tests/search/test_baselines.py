"""The plans that a search has to beat: hand-made, greedy (against brute force), and at random."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_tf.errors import AgentError, BudgetError
from amc_tf.search.agent.random_agent import RandomAgent
from amc_tf.search.budget import nearest_width
from amc_tf.search.journal import Journal, header
from amc_tf.search.proposers.greedy import greedy
from amc_tf.search.proposers.handmade import deep, shallow, uniform
from amc_tf.search.proposers.sensitivity import Sensitivity
from tests.contracts.agent import EPISODES, FEATURES, ActingContract, act_out, states
from tests.search.fakes import FakeUnit, FunctionCost, ProductCost, chain_cost, evaluator, measured_table, study, units
from tests.search.test_budget import problems

STATE = states(0)[0]


def fine(*channels: int, least: float = 0.2) -> list[FakeUnit]:
    """Units of every width from a least keep ratio on."""
    return [FakeUnit(f"u{i}", n, tuple(range(round(least * n), n + 1))) for i, n in enumerate(channels)]


def added(*prices: float) -> ProductCost:
    """Costs that add up: a price for each channel of a unit."""
    coefficients = np.zeros((len(prices) + 1, len(prices) + 1))
    coefficients[:-1, -1] = prices
    return ProductCost(coefficients)


def table_of(some: Sequence[FakeUnit], *losses: Sequence[float]) -> Sensitivity:
    """A table of every width: what each unit loses at its widths below full, narrowest first."""
    return Sensitivity(
        0.9, {u.name: {w: 0.9 - lost for w, lost in zip(u.widths[:-1], own, strict=True)}
              for u, own in zip(some, losses, strict=True)},
    )  # fmt: skip


def lost(some: Sequence[FakeUnit], table: Sensitivity, widths: Sequence[int]) -> float:
    return sum(table.base - table.curve(u)[w] for u, w in zip(some, widths, strict=True))


def brute_force(some: Sequence[FakeUnit], cost: ProductCost, limit: float, table: Sensitivity) -> float:
    """The least that a plan within the limit is expected to lose."""
    plans = itertools.product(*(u.widths for u in some))
    return min(lost(some, table, widths) for widths in plans if cost(widths) <= limit)


# ---- shallow and deep


def test_shallow_and_deep_by_hand() -> None:
    some, cost = fine(100, 100, 100), added(1, 1, 1)
    assert shallow(some, cost, 225) == (50, 75, 100)
    assert deep(some, cost, 225) == (100, 75, 50)
    assert shallow(some, cost, 180) == (20, 60, 100)  # as low as it gets in front: now the back comes down
    assert shallow(some, cost, 120) == (20, 40, 60)
    assert deep(some, cost, 120) == (60, 40, 20)
    assert deep(some, cost, 60) == (20, 20, 20)


def test_what_rounding_left_over_is_spent_on_whom_rounding_hurt_most() -> None:
    # At r just under 0.6 the units want 0.6, 0.8 and 1 and get 0.6, 0.75 and 1, or 235 of 240.
    some = [FakeUnit("a", 100, (50, 60, 70, 100)), FakeUnit("b", 100, (75, 80, 100)), FakeUnit("c", 100, (50, 100))]
    assert shallow(some, added(1, 1, 1), 235) == (60, 75, 100)
    assert shallow(some, added(1, 1, 1), 241) == (60, 80, 100)


def test_a_single_unit_is_pruned_as_uniformly() -> None:
    some, cost = fine(100), added(1)
    assert shallow(some, cost, 55.5) == deep(some, cost, 55.5) == uniform(some, cost, 55.5) == (55,)


@settings(max_examples=30)
@given(st.integers(2, 12), st.floats(0.3, 0.97), st.floats(0, 1))
def test_ratios_lie_on_a_line(count: int, share: float, own_least: float) -> None:
    some, cost = fine(*[1000] * count, least=0.01 + 0.2 * own_least), chain_cost(count)
    limit = share * cost([1000] * count)
    for plan, order in ((shallow, 1), (deep, -1)):
        ratios = np.array(plan(some, cost, limit)[::order]) / 1000
        line = np.linspace(ratios[0], ratios[-1], count)
        assert np.abs(ratios - line).max() < 0.0051  # rounded, and each a step wider where that fits
        assert ratios[-1] > ratios[0]
        assert ratios[-1] > 0.998 or ratios[0] < some[0].widths[0] / 1000 + 0.002  # the back stays whole while it can
        assert cost(plan(some, cost, limit)) > limit * 0.99


@given(problems())
def test_shallow_and_deep_fit_and_nothing_wider_on_their_line_does(problem) -> None:
    some, cost, limit = problem
    low, places = min(u.widths[0] / u.size for u in some), np.linspace(0, 1, len(some))
    ends = [(low, up) for up in np.linspace(low, 1, 30)] + [(down, 1.0) for down in np.linspace(low, 1, 30)]
    for plan, order in ((shallow, 1), (deep, -1)):
        widths = plan(some, cost, limit)
        assert cost(widths) <= limit
        assert all(type(width) is int and width in one.widths for width, one in zip(widths, some, strict=True))
        for first, last in ends:
            ratios = (first + (last - first) * places)[::order]
            # A hair less, as at a ratio between two widths rounding decides.
            line = [nearest_width(u, k * (1 - 1e-9), 0, u.size) for u, k in zip(some, ratios, strict=True)]
            if all(a >= b for a, b in zip(line, widths, strict=True)) and tuple(line) != widths:
                assert cost(line) > limit


# ---- greedy


def test_greedy_takes_what_loses_least_for_what_it_saves() -> None:
    some = [FakeUnit("a", 30, (10, 20, 30)), FakeUnit("b", 30, (10, 20, 30))]
    table = table_of(some, [0.3, 0.1], [0.15, 0.06])
    assert greedy(some, added(1, 1), 50, table) == (30, 20)
    assert greedy(some, added(1, 1), 40, table) == (30, 10)
    assert greedy(some, added(2, 1), 70, table) == (20, 30)  # a costs twice as much: 0.1 / 20 against 0.06 / 10


def test_greedy_sees_a_cheap_step_behind_a_dear_one() -> None:
    some = [FakeUnit("a", 30, (10, 20, 30)), FakeUnit("b", 30, (10, 20, 30))]
    table = table_of(some, [0.3, 0.3], [0.4, 0.2])
    assert greedy(some, added(1, 1), 40, table) == (10, 30)


def test_greedy_sees_a_saving_behind_a_step_that_saves_nothing() -> None:
    cost = FunctionCost(lambda widths: sum(math.ceil(width / 16) for width in widths))  # kernels of 16 channels
    some = [FakeUnit("a", 32, (8, 16, 24, 32)), FakeUnit("b", 32, (8, 16, 24, 32))]
    table = table_of(some, [0.5, 0.02, 0.01], [0.9, 0.4, 0.2])
    assert greedy(some, cost, 3, table) == (16, 32)


def test_of_the_last_step_only_what_was_too_much_counts() -> None:
    some = [FakeUnit("a", 100, (50, 100)), FakeUnit("b", 20, (10, 20))]
    table = table_of(some, [0.5], [0.2])  # 0.01 for each channel of a, 0.02 of b
    assert greedy(some, added(1, 1), 110, table) == (100, 10)
    assert greedy(some, added(1, 1), 90, table) == (50, 20)


def test_what_is_left_over_is_spent_where_it_wins_most() -> None:
    some = [FakeUnit(name, 100, (50, 80, 100)) for name in "abc"]
    table = table_of(some, [0.1, 0.09], [0.5, 0.3], [0.2, 0.15])
    widths = greedy(some, added(1, 1, 1), 230, table)
    assert widths == (50, 100, 80)
    assert lost(some, table, widths) == pytest.approx(brute_force(some, added(1, 1, 1), 230, table))


def test_what_is_left_over_and_wins_nothing_goes_to_the_unit_that_was_cut_most() -> None:
    some = [FakeUnit("a", 100, (50, 60, 100)), FakeUnit("b", 100, (20, 30, 100)), FakeUnit("c", 200, (10, 200))]
    table = table_of(some, [0, 0], [0, 0], [0.5])
    assert greedy(some, added(1, 1, 1), 95, table) == (50, 30, 10)  # 10 of the 15 left over


def test_what_is_left_over_goes_to_whom_it_wins_most_though_another_was_cut_more() -> None:
    some = [FakeUnit("a", 100, (50, 60, 100)), FakeUnit("b", 100, (20, 30, 100)), FakeUnit("c", 200, (10, 200))]
    table = table_of(some, [0.03, 0], [0.01, 0], [1.0])
    assert greedy(some, added(1, 1, 1), 95, table) == (60, 20, 10)


def test_where_no_unit_saves_anything_alone_the_plan_still_fits() -> None:
    some = [FakeUnit("a", 30, (10, 20, 30)), FakeUnit("b", 30, (10, 20, 30))]
    assert greedy(some, FunctionCost(max), 20, table_of(some, [0.2, 0.1], [0.2, 0.1])) == (20, 20)


def test_a_sensitive_unit_stays_wider() -> None:
    some, cost = units(*[64] * 8), chain_cost(8)
    table = measured_table(some, evaluator(cost, some), most=2)  # whose units weigh more the deeper they are
    widths = greedy(some, cost, 0.4 * cost([64] * 8), table)
    assert np.mean(widths[:4]) < np.mean(widths[4:])


@st.composite
def additive(draw: st.DrawFn) -> tuple[list[FakeUnit], ProductCost, Sensitivity, float]:
    """Few units of any widths, costs and losses, both of which add up."""
    some, losses = [], []
    for i in range(draw(st.integers(1, 4))):
        widths = sorted(draw(st.sets(st.integers(1, 40), min_size=2, max_size=4)))
        some.append(FakeUnit(f"u{i}", widths[-1], tuple(widths)))
        steps = draw(st.lists(st.integers(0, 50), min_size=len(widths) - 1, max_size=len(widths) - 1))
        losses.append(np.cumsum(steps)[::-1] / 100)
    cost = added(*draw(st.lists(st.integers(1, 30), min_size=len(some), max_size=len(some))))
    least, base = cost([u.widths[0] for u in some]), cost([u.size for u in some])
    return some, cost, table_of(some, *losses), draw(st.integers(int(least), int(base) - 1))


@given(additive())
def test_greedy_loses_no_more_than_the_best_plan_and_one_step(problem) -> None:
    some, cost, table, limit = problem
    widths = greedy(some, cost, limit, table)
    assert cost(widths) <= limit
    step = max(table.base - table.curve(u)[u.widths[0]] for u in some)
    assert lost(some, table, widths) <= brute_force(some, cost, limit, table) + step + 1e-9


@given(st.lists(st.lists(st.integers(0, 50), min_size=3, max_size=3), min_size=1, max_size=4), st.data())
def test_greedy_is_the_best_plan_where_steps_save_the_same_and_rise(steps: list[list[int]], data) -> None:
    some = [FakeUnit(f"u{i}", 40, (10, 20, 30, 40)) for i in range(len(steps))]
    table = table_of(some, *(np.cumsum(sorted(own))[::-1] / 100 for own in steps))
    cost = added(*[1] * len(some))
    limit = data.draw(st.integers(10 * len(some), 40 * len(some) - 1))
    widths = greedy(some, cost, limit, table)
    assert lost(some, table, widths) == pytest.approx(brute_force(some, cost, limit, table), abs=1e-9)


@given(problems(), st.data())
def test_greedy_fits_and_leaves_no_step_over(problem, data) -> None:
    some, cost, limit = problem
    accuracies = st.floats(0, 1)
    table = Sensitivity(
        0.9, {u.name: {w: data.draw(accuracies) for w in {u.widths[0], u.widths[len(u.widths) // 2]}} for u in some}
    )
    widths = greedy(some, cost, limit, table)
    assert cost(widths) <= limit
    assert all(type(width) is int and width in one.widths for width, one in zip(widths, some, strict=True))
    for i, one in enumerate(some):
        for width in one.widths:
            if width > widths[i]:
                assert cost([*widths[:i], width, *widths[i + 1 :]]) > limit


@pytest.mark.parametrize("seed", range(5))
def test_pricing_only_what_looks_best_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = units(*rng.choice([32, 64, 96], size=8).tolist())
    cost = ProductCost(rng.random((9, 9)))  # every unit's saving depends on all others' widths
    table = table_of(some, *(np.sort(rng.random(len(u.widths) - 1))[::-1] for u in some))
    curves = [table.curve(u) for u in some]
    limit = 0.4 * cost([u.size for u in some])
    widths = [u.size for u in some]

    def gain(i: int, width: int) -> float:
        return curves[i][width] - curves[i][widths[i]]

    def price(i: int, width: int) -> float:
        saved = cost(widths) - cost([*widths[:i], width, *widths[i + 1 :]])
        return -gain(i, width) / min(saved, cost(widths) - limit)

    while cost(widths) > limit:
        steps = [(i, width) for i, u in enumerate(some) for width in u.widths if width < widths[i]]
        i, width = min(steps, key=lambda step: price(*step))
        widths[i] = width
    while True:  # what is left over
        steps = [(i, width) for i, u in enumerate(some) for width in u.widths if width > widths[i]]
        steps = [(i, width) for i, width in steps if cost([*widths[:i], width, *widths[i + 1 :]]) <= limit]
        if not steps:
            break
        i, width = max(steps, key=lambda step: gain(*step))
        widths[i] = width
    assert greedy(some, cost, limit, table) == tuple(widths)


def test_greedy_asks_for_few_costs() -> None:
    some = fine(*[64] * 30, least=0.25)
    cost = chain_cost(30)
    table = measured_table(some, evaluator(cost, some))
    cost.calls = 0
    greedy(some, cost, 0.5 * cost([64] * 30), table)
    assert cost.calls < 20_000  # all of the 1440 steps anew before each of some 60 would be 86 000


def test_one_table_serves_every_budget(tmp_path: Path) -> None:
    some, cost = units(32, 64, 64, 96), chain_cost(4)
    evaluate, asked = evaluator(cost, some), []
    measured_table(some, lambda widths: asked.append(widths) or evaluate(widths)).save(tmp_path / "table.json")
    evaluations = len(asked)
    table = Sensitivity.load(tmp_path / "table.json")
    base = cost([u.size for u in some])
    plans = [greedy(some, cost, share * base, table) for share in (0.2, 0.35, 0.5, 0.65, 0.8)]
    assert len(asked) == evaluations and len(set(plans)) == 5
    for share, widths in zip((0.2, 0.35, 0.5, 0.65, 0.8), plans, strict=True):
        assert 0.8 * share * base < cost(widths) <= share * base
        assert lost(some, table, widths) <= lost(some, table, uniform(some, cost, share * base))


def test_greedy_needs_all_units() -> None:
    some = units(64, 64)
    with pytest.raises(ValueError, match="no sample of unit 'unit1'"):
        greedy(some, chain_cost(2), 0.5 * chain_cost(2)([64, 64]), Sensitivity(0.9, {"unit0": {16: 0.5}}))


@pytest.mark.parametrize(
    "plan", [shallow, deep, lambda *some: greedy(*some, Sensitivity(0.9, {"unit0": {16: 0.5}}))]
)
def test_out_of_reach_and_nothing_to_prune(plan: Callable) -> None:
    some, cost = units(64), added(1)
    with pytest.raises(BudgetError, match="less than the narrowest plan"):
        plan(some, cost, 15.9)
    assert plan(some, cost, 16) == (16,)
    assert plan(some, cost, 64) == plan(some, cost, 1e9) == (64,)


# ---- random


def build(**changes) -> RandomAgent:
    return RandomAgent(FEATURES, **{"low": 0.2, "seed": 3, **changes})


class TestContract(ActingContract):
    """The random agent has nothing to say against what could not be learned: it learns nothing."""

    @pytest.fixture
    def make_agent(self) -> Callable[[], RandomAgent]:
        return build


def test_acts_uniformly_between_low_and_one() -> None:
    """Over the steps of an episode, and over the first steps of episodes."""
    one = build()
    for actions in ([one.act(STATE, 0) for _ in range(1000)], [one.act(STATE, episode) for episode in range(1, 1001)]):
        distance = np.abs(np.sort(actions) - np.linspace(0.2, 1.0, 1000)).max() / 0.8  # Kolmogorov and Smirnov's
        assert distance < 0.052  # 1 % of uniform samples lie further off
        assert abs(np.corrcoef(actions[:-1], actions[1:])[0, 1]) < 0.1


def test_an_action_depends_on_seed_episode_and_step_alone() -> None:
    one, other = build(), build()
    forwards = [act_out(one, episode) for episode in range(EPISODES)]
    backwards = [[other.act(1 - state, episode) for state in states(episode)] for episode in reversed(range(EPISODES))]
    assert np.array_equal(forwards, backwards[::-1])
    assert len(np.unique(forwards)) == np.size(forwards)
    assert not set(np.ravel(forwards)) & set(act_out(build(seed=4), 0))


def test_acts_anew_on_an_episode_that_was_cut_short() -> None:
    one = build()
    first = [one.act(STATE, 0), one.act(STATE, 0)]
    one.act(STATE, 1)
    assert [one.act(STATE, 0), one.act(STATE, 0)] == first


@pytest.mark.parametrize("changes", [{"low": 0.0}, {"low": 1.0}, {"low": float("nan")}, {"seed": -1}])
def test_arguments_out_of_range_are_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(changes))} is"):
        build(**changes)


def test_what_does_not_fit_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "agent"
    one = build()
    expected = act_out(one, 0)
    one.act(STATE, 1)
    for other in (build(seed=4), build(low=0.3), RandomAgent(FEATURES + 1, low=0.2, seed=3)):
        other.save(path)
        with pytest.raises(AgentError, match="cannot be loaded from .*agent .*same arguments"):
            one.load(path)
    np.savez(tmp_path / "ddpg.npz", a=np.zeros(3))
    (tmp_path / "list").write_text("[1, 2]")
    for name in ("ddpg.npz", "list", "missing"):
        with pytest.raises(AgentError, match=f"cannot be loaded from .*{name}"):
            one.load(tmp_path / name)
    assert one.last_episode == 0
    fresh = build()
    assert np.array_equal(act_out(fresh, 0), expected)
    fresh.act(STATE, 1)
    assert one.act(STATE, 1) == fresh.act(STATE, 1)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="cannot be saved.*Could not write"):
        build().save(tmp_path / "none" / "agent")


@pytest.mark.parametrize("in_flight", [1, 2])
def test_searches_where_the_other_agent_does(in_flight: int, tmp_path: Path) -> None:
    some, cost = units(64, 96, 64, 32), chain_cost(4)
    limit = 0.5 * cost([u.size for u in some])

    def trials(folder: str, episodes: int) -> list[tuple[int, ...]]:
        with Journal(tmp_path / folder, header("0", 0, {})) as journal:
            search = study(some, cost, evaluator(cost, some), RandomAgent(seed=1), journal, limit=limit,
                            schedule=episodes, in_flight=in_flight).run()  # fmt: skip
            return [trial.widths for trial in search.trials]

    whole = trials("whole", 12)
    assert trials("stopped", 5) == whole[:7]
    assert trials("stopped", 12) == whole
    assert len(set(whole[2:])) > 8 and all(cost(widths) <= limit for widths in whole[1:])
