"""The sensitivity table: what is measured, what is made of noisy points, and that nothing is measured twice."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.errors import ConversionError, RunDirError
from amc_tf.search.outcome import Outcome
from amc_tf.search.sensitivity import Sensitivity, measure, points
from tests.search.fakes import FakeUnit, unit, units

ONE = FakeUnit("u", 32, (8, 16, 24, 32))


class Recorder:
    """Evaluates widths by the share of channels kept, squared; remembers them, and fails where told to."""

    def __init__(self, some: list[FakeUnit], failing: dict[tuple[int, ...], Exception] | None = None):
        self.full, self.failing, self.asked = tuple(u.channels for u in some), failing or {}, []

    def accuracy(self, widths: tuple[int, ...]) -> float:
        return 0.9 * float(np.prod(np.array(widths) / self.full)) ** 0.5

    def __call__(self, widths: tuple[int, ...]) -> Outcome:
        self.asked.append(widths)
        if widths in self.failing:
            raise self.failing[widths]
        return Outcome(self.accuracy(widths), float(sum(widths)), 0.9, float(sum(self.full)))


def alone(some: list[FakeUnit], i: int, width: int) -> tuple[int, ...]:
    widths = [u.channels for u in some]
    widths[i] = width
    return tuple(widths)


def curve(points: dict[int, float], one: FakeUnit = ONE) -> dict[int, float]:
    return Sensitivity(0.9, {one.name: points}).curve(one)


@pytest.mark.parametrize(
    "measured, expected",
    [
        ({8: 0.3, 16: 0.6, 24: 0.8}, [0.3, 0.6, 0.8, 0.9]),
        ({8: 0.3}, [0.3, 0.5, 0.7, 0.9]),  # a line to the base
        ({24: 0.8}, [0.6, 0.7, 0.8, 0.9]),  # as steep below what was measured
        ({12: 0.5, 20: 0.7}, [0.4, 0.6, 0.7 + 0.2 / 3, 0.9]),  # widths that are not the unit's
        ({8: 0.3, 16: 0.8, 24: 0.6}, [0.3, 0.7, 0.7, 0.9]),  # noise is averaged
        ({8: 0.8, 16: 0.6, 24: 0.4}, [0.6, 0.6, 0.6, 0.9]),
        ({8: 0.5, 16: 0.95, 24: 0.91}, [0.5, 0.9, 0.9, 0.9]),  # none above the base
        ({8: 0.5, 24: 0.98}, [0.5, 0.7, 0.9, 0.9]),
        ({16: 0.9}, [0.9, 0.9, 0.9, 0.9]),
        ({8: 0.3, 32: 0.1}, [0.3, 0.5, 0.7, 0.9]),  # all channels are the base, whatever was measured
    ],
)
def test_curves_by_hand(measured: dict[int, float], expected: list[float]) -> None:
    found = curve(measured)
    assert list(found) == [8, 16, 24, 32]
    assert list(found.values()) == pytest.approx(expected)


def test_a_curve_may_be_negative_where_the_metric_is() -> None:
    assert list(Sensitivity(-1.0, {"u": {24: -2.0}}).curve(ONE).values()) == pytest.approx([-4, -3, -2, -1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0, 1))
def test_a_curve_is_the_least_squares_fit_of_those_that_rise(values: list[float], base: float) -> None:
    """By the min-max formula of isotonic regression (Robertson, Wright and Dykstra, 1988, theorem 1.4.4)."""
    n = len(values)
    one = FakeUnit("u", n + 1, tuple(range(1, n + 2)))
    found = list(Sensitivity(base, {"u": dict(enumerate(values, 1))}).curve(one).values())
    for i in range(n):
        fit = max(min(np.mean(values[j : k + 1]) for k in range(i, n)) for j in range(i + 1))
        assert found[i] == pytest.approx(min(fit, base), abs=1e-12)
    assert found[-1] == base


@given(
    st.dictionaries(st.integers(1, 99), st.floats(-1, 1), min_size=1, max_size=5),
    st.sets(st.integers(1, 99), max_size=9),
    st.floats(-1, 1),
)
def test_a_curve_has_all_widths_rises_and_ends_at_the_base(measured, widths: set[int], base: float) -> None:
    one = FakeUnit("u", 100, (*sorted(widths), 100))
    found = Sensitivity(base, {"u": measured}).curve(one)
    assert tuple(found) == one.widths
    assert all(a <= b for a, b in itertools.pairwise(found.values()))
    assert found[100] == base


def test_a_unit_without_points_has_no_curve() -> None:
    with pytest.raises(ValueError, match="no point of unit 'other', but of .'u'"):
        Sensitivity(0.9, {"u": {8: 0.5}}).curve(unit(32, name="other"))
    with pytest.raises(ValueError, match="no point of unit 'u'"):
        curve({32: 0.9})


@pytest.mark.parametrize(
    "base, points",
    [(float("nan"), {8: 0.5}), (0.9, {8: float("inf")}), (0.9, {0: 0.5}), (0.9, {8.5: 0.5}), (0.9, {True: 0.5})],
)
def test_what_is_no_table_is_refused(base: float, points: dict) -> None:
    with pytest.raises(ValueError, match="nan|inf|unit 'u' is"):
        Sensitivity(base, {"u": points})


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = Sensitivity(np.float32(0.9), {"b": {np.int64(24): 1 / 3, 8: np.float64(0.1)}, "a/conv": {16: 0.5}})
    table.save(tmp_path / "table.json")
    assert Sensitivity.load(tmp_path / "table.json") == table
    assert list(table.accuracy["b"]) == [8, 24]


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b'{"format": 1, "base": 0.9, "accu',
        b"PK\x03\x04\xff",
        b"[]",
        b'{"format": 2, "base": 0.9, "accuracy": {}}',
        b'{"base": 0.9, "accuracy": {}}',
        b'{"format": 1, "base": null, "accuracy": {}}',
        b'{"format": 1, "base": NaN, "accuracy": {}}',
        b'{"format": 1, "base": 0.9, "accuracy": [1]}',
        b'{"format": 1, "base": 0.9, "accuracy": {"u": [["8", 0.5]]}}',
        b'{"format": 1, "base": 0.9, "accuracy": {"u": [[8]]}}',
    ],
)
def test_a_damaged_file_is_refused(contents: bytes, tmp_path: Path) -> None:
    (tmp_path / "table.json").write_bytes(contents)
    with pytest.raises(RunDirError, match="table.json is no sensitivity table .*remove the file"):
        Sensitivity.load(tmp_path / "table.json")


def test_a_missing_file_and_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="table.json is no sensitivity table"):
        Sensitivity.load(tmp_path / "table.json")
    with pytest.raises(RunDirError, match="Could not write"):
        Sensitivity(0.9, {}).save(tmp_path / "none" / "table.json")


def test_points_by_hand() -> None:
    some = [FakeUnit("a", 80, tuple(range(10, 81, 10))), FakeUnit("b", 3, (1, 3)), FakeUnit("c", 9, (9,))]
    assert points(some, 1) == ((0, 10), (1, 1))
    assert points(some, 2) == ((0, 10), (1, 1), (0, 50))  # 4 steps up to 50, 3 on to 80
    assert points(some, 4) == ((0, 10), (1, 1), (0, 30), (0, 50), (0, 60))
    assert len(points(some, 99)) == 8


@given(st.lists(st.sets(st.integers(1, 60), min_size=1), min_size=1, max_size=5), st.integers(1, 9))
def test_points_are_even_below_full_and_have_the_narrowest(widths: list[set[int]], most: int) -> None:
    some = [FakeUnit(f"u{i}", max(own), tuple(sorted(own))) for i, own in enumerate(widths)]
    chosen = points(some, most)
    assert len(set(chosen)) == len(chosen)
    for i, one in enumerate(some):
        own = [one.widths.index(width) for j, width in chosen if j == i]
        below = len(one.widths) - 1
        assert len(own) == min(most, below)
        if own:
            assert own[0] == 0
            gaps = np.diff([*own, below])
            assert gaps.min() >= 1 and np.ptp(gaps) <= 1
    firsts = [width == some[i].widths[0] for i, width in chosen]
    assert firsts == sorted(firsts, reverse=True)


def test_at_least_one_point_a_unit() -> None:
    with pytest.raises(ValueError, match="most is 0"):
        points(units(64), 0)


def test_measures_each_unit_alone() -> None:
    some = units(64, 32, 48)
    evaluate = Recorder(some)
    table = measure(some, evaluate, most=2)
    assert evaluate.asked == [alone(some, i, width) for i, width in points(some, 2)]
    assert table.base == 0.9
    expected = {u.name: {w: evaluate.accuracy(alone(some, i, w)) for j, w in points(some, 2) if j == i}
                for i, u in enumerate(some)}  # fmt: skip
    assert table.accuracy == expected


def test_what_is_known_is_not_measured_again() -> None:
    some = units(64, 32)
    whole = measure(some, Recorder(some), most=3)
    coarse = measure(some, Recorder(some), most=1)
    evaluate = Recorder(some)
    assert measure(some, evaluate, most=3, known=coarse) == whole
    assert len(evaluate.asked) == len(points(some, 3)) - 2
    idle = Recorder(some)
    assert measure(some, idle, most=3, known=whole) == whole
    assert idle.asked == []


def test_stopped_and_saved_it_goes_on_where_it_was(tmp_path: Path) -> None:
    some = units(64, 32)
    path = tmp_path / "table.json"
    todo = points(some)
    stopping = Recorder(some, {alone(some, *todo[3]): KeyboardInterrupt()})
    with pytest.raises(KeyboardInterrupt):
        measure(some, stopping, on_point=lambda table: table.save(path))
    assert sum(map(len, Sensitivity.load(path).accuracy.values())) == 3
    evaluate = Recorder(some)
    assert measure(some, evaluate, known=Sensitivity.load(path)) == measure(some, Recorder(some))
    assert evaluate.asked == [alone(some, *point) for point in todo[3:]]


def test_a_failed_point_is_left_out_and_tried_again() -> None:
    some = units(64, 32)
    missed = points(some)[1]
    name = some[missed[0]].name
    failing = Recorder(some, {alone(some, *missed): ConversionError("no")})
    saved = []
    table = measure(some, failing, on_point=saved.append)
    assert len(failing.asked) == len(points(some)) and saved[-1] == table
    assert missed[1] not in table.accuracy[name] and len(table.accuracy[name]) == 2
    evaluate = Recorder(some)
    assert missed[1] in measure(some, evaluate, known=table).accuracy[name]
    assert evaluate.asked == [alone(some, *missed)]


def test_a_unit_of_which_all_fails_is_told_when_the_others_are_measured() -> None:
    some = units(64, 32)
    failing = {alone(some, i, width): ConversionError(f"no {width}") for i, width in points(some) if i == 0}
    saved = []
    with pytest.raises(ConversionError, match="no 48"):
        measure(some, Recorder(some, failing), on_point=saved.append)
    assert list(saved[-1].accuracy) == ["unit1"] and len(saved[-1].accuracy["unit1"]) == 3


@pytest.mark.parametrize("error", [RunDirError("full"), ZeroDivisionError("a bug")])
def test_what_is_no_plans_fault_ends_the_measuring(error: Exception) -> None:
    some = units(64, 32)
    evaluate = Recorder(some, {alone(some, *points(some)[1]): error})
    with pytest.raises(type(error)):
        measure(some, evaluate)
    assert len(evaluate.asked) == 2


def test_a_table_of_another_network_is_refused() -> None:
    some = units(64, 32)
    with pytest.raises(ValueError, match="accuracy 0.8, this one has 0.9"):
        measure(some, Recorder(some), known=Sensitivity(0.8, {"unit0": {16: 0.5}}))


def test_a_network_without_a_choice_has_a_base() -> None:
    some = [FakeUnit("a", 8, (8,))]
    table = measure(some, Recorder(some))
    assert table == Sensitivity(0.9, {}) and table.curve(some[0]) == {8: 0.9}


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    Sensitivity(0.9, {"a": {8: 0.5}}).save(tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text()) == {"format": 1, "base": 0.9, "accuracy": {"a": [[8, 0.5]]}}
