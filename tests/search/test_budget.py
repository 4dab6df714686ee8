"""Reading a budget; the bounds, against brute force; and the uniform plan."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amc_tf.errors import BudgetError
from amc_tf.search.budget import Budget, fraction, nearest_width, parse_budget, plain_budget
from amc_tf.search.proposers.handmade import uniform
from tests.search.fakes import FakeUnit, ProductCost, chain_cost, unit, units

UNIT_OF = {"macs": "MACs", "params": "params", "size": "bytes", "latency": "us"}


@pytest.mark.parametrize(
    "budget, target, limit",
    [
        (0.5, "macs", 5e8),
        (1, "macs", 1e9),
        (np.float32(0.25), "macs", 2.5e8),
        ("0.5", "macs", 5e8),
        ("50%", "size", 5e8),
        (" 12.5 % ", "macs", 1.25e8),
        (280e6, "macs", 280e6),
        ("280e6", "macs", 280e6),
        ("280 MMAC", "macs", 280e6),
        ("280MMACs", "macs", 280e6),
        ("0.28 GMACs", "macs", 280e6),
        ("280 M", "macs", 280e6),
        ("1.5 M", "params", 1.5e6),
        ("1.5 M params", "params", 1.5e6),
        ("900 kparams", "params", 9e5),
        ("2 MB", "size", 2e6),
        ("2 MiB", "size", 2 * 1024**2),
        ("300kb", "size", 3e5),
        ("2000000 bytes", "size", 2e6),
        ("30 ms", "latency", 30_000),
        ("0.8 ms", "latency", 800),
        ("1.2 s", "latency", 1_200_000),
        ("250 us", "latency", 250),
    ],
)
def test_parse_budget(budget, target: str, limit: float) -> None:
    assert parse_budget(budget, 1e9, UNIT_OF[target], target) == pytest.approx(limit)


forms = st.sampled_from(["{}", " {} ", "+{}", "{:e}", "{:.3f}", "{}%", "{:g} %", " {:e} % ", "{} M", "{:.2f}k"])
typed = st.sampled_from([float, np.float16, np.float32, np.float64])
shares_or_more = st.one_of(st.floats(1e-3, 2), st.floats(2, 1e6), st.integers(1, 10**6))


@given(shares_or_more, st.one_of(forms, typed), st.sampled_from(["macs", "params"]), st.integers(1, 10**9))
def test_what_a_fraction_is_and_what_it_limits_agree(number, form, target: str, base: int) -> None:
    """A share is what the limit is of the base, and any other budget is of no share."""
    budget = form.format(number) if isinstance(form, str) else form(min(number, 6e4))
    if not isinstance(budget, str) or float(budget.strip(" %Mk")) > 0:  # a small one may be rounded to none
        limit = parse_budget(budget, base, UNIT_OF[target], target)
        share = fraction(budget)
        relative = parse_budget(budget, 2 * base, UNIT_OF[target], target) == 2 * limit
        assert limit == share * base if relative else share is None
        told = plain_budget(budget)
        assert parse_budget(told, base, UNIT_OF[target], target) == limit and fraction(told) == share


@pytest.mark.parametrize(
    "budget",
    ["0.3", " 0.3 ", ".3", "3e-1", "+0.30", "30%", "30 %", " 3e1 % ", 0.3, np.float64(0.3)],
)
def test_however_a_share_is_written(budget) -> None:
    assert fraction(budget) == 0.3 and parse_budget(budget, 1000, "MACs", "macs") == pytest.approx(300)


@pytest.mark.parametrize(
    "budget", [None, True, "none", "30 ms", "0.3 M", "2", 280e6, "0", -0.5, "nan", float("nan"), float("inf"), [1]]
)
def test_no_share(budget) -> None:
    assert fraction(budget) is None


def test_a_number_in_text_is_that_number() -> None:
    for budget, number in (("0.3", 0.3), (" 5 ", 5), ("1e6", 1e6), (np.float32(0.25), 0.25), (np.int64(7), 7)):
        assert plain_budget(budget) == number and type(plain_budget(budget)) is type(number)
    for budget in ("30 ms", "none", None, "1_0", "", "1e999", "150%"):
        assert plain_budget(budget) is budget


@pytest.mark.parametrize("budget", ["30%", " 30 % ", "0.3", ".3", 0.3, np.float64(0.3)])
def test_however_a_share_is_written_the_journal_has_one_number(budget) -> None:
    assert plain_budget(budget) == 0.3 and type(plain_budget(budget)) is float


@pytest.mark.parametrize("budget", ["", "1e999", 10**400, "30 parsecs", "150 parsecs"])
def test_a_budget_without_sense_is_named_as_it_was_written(budget) -> None:
    with pytest.raises(ValueError, match=re.escape(f"budget {budget!r}")):
        parse_budget(plain_budget(budget), 1000, "MACs", "macs")


@pytest.mark.parametrize(
    "budget, target, said",
    [
        ("2 MB", "macs", "The unit 'MB' of budget '2 MB' is a unit of size, but the target is 'macs'.*280 MMAC"),
        ("280 MMAC", "size", "'MMAC'.*is a unit of macs, but the target is 'size'.*2 MB"),
        (30, "latency", "no unit of time"),
        ("30 ms", "params", "is a unit of latency, but the target is 'params'"),
        ("2 M", "size", "is a unit of macs and params, but"),
        ("3 furlongs", "macs", "'furlongs' .* is not known"),
        ("280 MFLOPs", "macs", "'MFLOPs' .* is ambiguous"),
        ("half", "macs", "'half' is not a number"),
        ("", "macs", "'' is not a number"),
        ("50 MMAC or so, 2", "macs", "is not a number"),
        (0, "macs", "budget 0 is not a positive number"),
        ("-5%", "macs", "budget '-5%' is not a positive number"),
        ("1e999", "macs", "'1e999' is not a positive number"),
        (float("nan"), "macs", "budget nan is not a number"),
        (float("inf"), "macs", "budget inf is not a number"),
    ],
)
def test_parse_budget_refuses(budget, target: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_budget(budget, 1e9, UNIT_OF[target], target)


@pytest.mark.parametrize("budget", [None, True, [0.5]])
def test_parse_budget_wants_a_number_or_text(budget) -> None:
    with pytest.raises(TypeError, match="expected a number or text"):
        parse_budget(budget, 1e9, "MACs", "macs")


def test_the_error_of_a_budget_out_of_reach_gives_the_range() -> None:
    some, cost = units(64), ProductCost([[0, 1], [0, 0]])  # costs its width: 16 to 64
    with pytest.raises(BudgetError) as caught:
        Budget(some, cost, 15.9)
    message = str(caught.value)
    assert "15.9 MACs, 0.2484 of the base" in message
    assert "from 0.2500 up to" in message and "16 to 64 MACs" in message
    assert Budget(some, cost, 16.0).bounds(0, []) == (16, 16)


@pytest.mark.parametrize("limit", [64.0, 64.5, 1e9])
def test_a_budget_that_prunes_nothing_is_refused(limit: float) -> None:
    with pytest.raises(BudgetError, match=f"{limit:.10g} MACs.*nothing would be pruned.*16 to 64 MACs"):
        Budget(units(64), ProductCost([[0, 1], [0, 0]]), limit)


def test_a_limit_that_is_no_number_is_refused() -> None:
    with pytest.raises(BudgetError):
        Budget(units(64), chain_cost(1), float("nan"))


@pytest.mark.parametrize("floor", [-0.1, 1.1, 97])
def test_the_floor_is_a_share(floor: float) -> None:
    with pytest.raises(ValueError, match=f"floor is {floor}"):
        Budget(units(64), ProductCost([[0, 1], [0, 0]]), 32, floor)


def test_bounds_by_hand() -> None:
    some, cost = units(64, 64), ProductCost([[0, 0, 1], [0, 0, 1], [0, 0, 0]])  # w_0 + w_1, each 16 to 64
    budget = Budget(some, cost, 96, floor=1.0)
    assert budget.bounds(0, []) == (32, 64)  # 32 + 64 still spends all; 64 + 16 fits
    assert budget.bounds(1, [40]) == (56, 56)
    assert Budget(some, cost, 70, floor=0).bounds(0, []) == (16, 48)


def test_where_no_width_spends_the_floor_the_highest_is_taken() -> None:
    some = [FakeUnit("a", 100, (10, 100))]
    assert Budget(some, ProductCost([[0, 1], [0, 0]]), 50).bounds(0, []) == (10, 10)


def test_widths_of_another_budget_are_refused() -> None:
    budget = Budget(units(64, 64), ProductCost([[0, 0, 1], [0, 0, 1], [0, 0, 0]]), 40)
    with pytest.raises(ValueError, match=r"widths \[64\] leave unit 'unit1' no width"):
        budget.bounds(1, [64])


def test_nearest_stays_within_the_bounds() -> None:
    some, cost = units(64, 64), ProductCost([[0, 0, 1], [0, 0, 1], [0, 0, 0]])
    budget = Budget(some, cost, 96, floor=1.0)
    assert [budget.nearest(0, action, []) for action in (0.01, 0.6, 1.0)] == [32, 40, 64]


def test_nearest_width() -> None:
    one = unit(64)
    assert nearest_width(one, 0.49, 16, 64) == 32
    assert nearest_width(one, 36 / 64, 16, 64) == 40  # as near as 32
    assert nearest_width(one, 0.49, 40, 48) == 40
    assert nearest_width(one, float(np.float32(1) + np.float32(2e-7)), 16, 64) == 64


@st.composite
def problems(draw: st.DrawFn, most_units: int = 6) -> tuple[list[FakeUnit], ProductCost, float]:
    """Units with any widths, a monotone cost that joins any two of them, and a limit within reach."""
    channels = draw(st.lists(st.integers(2, 100), min_size=1, max_size=most_units))
    some = [
        FakeUnit(f"u{i}", n, tuple(sorted({*draw(st.sets(st.integers(1, n), min_size=1, max_size=8)), n})))
        for i, n in enumerate(channels)
    ]
    n = len(some) + 1
    # Thirds, so that sums are not exact in floating point.
    numbers = st.lists(st.integers(0, 3000), min_size=n * n, max_size=n * n)
    cost = ProductCost(np.reshape(draw(numbers), (n, n)) / 3)
    least, base = cost([u.widths[0] for u in some]), cost([u.size for u in some])
    limit = least + draw(st.floats(0, 0.999)) * (base - least)
    if not least <= limit < base:
        limit = least
    if not least < base:  # nothing can be pruned; make it so that something can
        some[0] = FakeUnit("u0", 100, (1, 100))
        cost = ProductCost(np.ones((n, n)))
        limit = cost([u.widths[0] for u in some])
    return some, cost, limit


@given(problems(), st.data())
def test_every_episode_ends_within_the_limit(problem, data: st.DataObject) -> None:
    some, cost, limit = problem
    budget = Budget(some, cost, limit, data.draw(st.floats(0, 1)))
    widths: list[int] = []
    for t in range(len(some)):
        widths.append(budget.nearest(t, data.draw(st.floats(0.001, 1)), widths))
        assert widths[-1] in some[t].widths
    assert cost(widths) <= limit


@given(problems(most_units=4), st.data())
def test_the_bounds_are_what_brute_force_finds(problem, data: st.DataObject) -> None:
    some, cost, limit = problem
    floor = data.draw(st.floats(0, 1))
    budget = Budget(some, cost, limit, floor)
    widths: list[int] = []
    for t, one in enumerate(some):
        narrowest = [u.widths[0] for u in some[t + 1 :]]
        widest = [u.size for u in some[t + 1 :]]
        highest = max(w for w in one.widths if cost([*widths, w, *narrowest]) <= limit)
        spending = [w for w in one.widths if cost([*widths, w, *widest]) >= floor * limit]
        lowest = min([*spending, highest])
        assert budget.bounds(t, widths) == (lowest, highest)
        widths.append(data.draw(st.sampled_from([w for w in one.widths if lowest <= w <= highest])))


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.7, 0.9])
def test_the_floor_is_met_in_most_episodes(share: float) -> None:
    some = units(*[16] * 9, *[32] * 9, *[64] * 9)  # of a ResNet-56, rounded to 8
    cost = chain_cost(len(some))
    limit = share * cost([u.size for u in some])
    budget = Budget(some, cost, limit)
    rng = np.random.default_rng(0)
    spent = []
    for _ in range(100):
        widths: list[int] = []
        for t, action in enumerate(rng.uniform(0.2, 1, len(some))):
            widths.append(budget.nearest(t, action, widths))
        spent.append(cost(widths) / limit)
    assert max(spent) <= 1
    assert np.mean(np.array(spent) >= 0.97) >= 0.9
    assert min(spent) > 0.9


def test_bounds_ask_for_few_costs() -> None:
    some = [FakeUnit(f"u{i}", 2048, tuple(range(1, 2049))) for i in range(3)]
    cost = chain_cost(3)
    budget = Budget(some, cost, 0.5 * cost([2048] * 3))
    cost.calls = 0
    budget.bounds(1, [2048])
    assert cost.calls <= 2 * 12  # bisected


@pytest.mark.parametrize("share, ratio", [(0.25, 0.5), (0.0625, 0.25), (0.5625, 0.75)])
def test_uniform_keeps_the_same_ratio_everywhere(share: float, ratio: float) -> None:
    some = units(32, 64, 128, 64)
    coefficients = np.diag([1.0] * 3, k=1)
    coefficients = np.pad(coefficients, ((0, 1), (0, 1)))
    cost = ProductCost(coefficients)
    limit = share * cost([32, 64, 128, 64])
    assert uniform(some, cost, limit) == tuple(int(ratio * n) for n in (32, 64, 128, 64))


def test_uniform_spends_what_rounding_left_on_whom_rounding_hurt_most() -> None:
    # Costs w_0 + w_1 + w_2; at a common ratio just under 0.75 the widths are 22, 8 and 8 of 30, 16 and 16.
    some = [FakeUnit("a", 30, tuple(range(2, 31))), FakeUnit("b", 16, (8, 16)), FakeUnit("c", 16, (8, 16))]
    cost = ProductCost(np.pad(np.ones((3, 1)), ((0, 1), (3, 0))))
    assert uniform(some, cost, 38) == (22, 8, 8)
    assert uniform(some, cost, 46) == (22, 16, 8)  # a step for b; one for c does not fit
    assert uniform(some, cost, 53) == (23, 16, 8)
    assert uniform(some, cost, 54) == (22, 16, 16)


def test_uniform_widens_no_unit_by_more_than_a_step() -> None:
    # A unit that costs next to nothing is not filled up with what a costly one left over.
    some = [FakeUnit("dear", 100, (50, 100)), FakeUnit("cheap", 100, tuple(range(10, 101, 10)))]
    cost = ProductCost([[0, 0, 100], [0, 0, 1], [0, 0, 0]])
    widths = uniform(some, cost, 9000)
    assert widths == (50, 80)  # 70 is nearest to the common ratio of just under 0.75


def test_uniform_of_all_is_all() -> None:
    cost = chain_cost(2)
    assert uniform(units(64, 64), cost, cost([64, 64])) == (64, 64)


def test_uniform_below_reach_is_refused() -> None:
    with pytest.raises(BudgetError, match="less than the narrowest plan"):
        uniform(units(64), ProductCost([[0, 1], [0, 0]]), 15)


@given(problems())
def test_uniform_fits_and_no_step_beyond_the_common_ratio_would(problem) -> None:
    some, cost, limit = problem
    widths = uniform(some, cost, limit)
    assert cost(widths) <= limit
    assert all(width in one.widths for width, one in zip(widths, some, strict=True))
    # Any ratio at which every unit is at least as wide as now, and one is wider, costs too much.
    ratios = sorted({(a + b) / 2 / one.size for one in some for a, b in itertools.pairwise(one.widths)})
    for ratio in ratios:
        common = [nearest_width(one, ratio, one.widths[0], one.size) for one in some]
        if all(c >= w for c, w in zip(common, widths, strict=True)) and tuple(common) != widths:
            assert cost(common) > limit


@settings(max_examples=30)
@given(st.floats(0.1, 0.95), st.integers(0, 1000))
def test_uniform_spends_the_budget_and_stays_uniform(share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    some = units(*rng.choice([64, 96, 128, 256], size=12).tolist())
    cost = chain_cost(len(some))
    limit = share * cost([u.size for u in some])
    widths = uniform(some, cost, limit)
    assert 0.97 * limit <= cost(widths) <= limit
    ratios = np.array(widths) / [u.size for u in some]
    assert np.ptp(ratios) <= 0.25  # two rounding steps of the smallest unit
