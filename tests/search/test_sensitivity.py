"""The sensitivity table: which samples are measured, the curve through them, and the table of a search's trials."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amc_tf.errors import RunDirError
from amc_tf.search.proposers.sensitivity import Sensitivity, samples_to_measure, table_from_trials
from amc_tf.search.trial import Outcome, Trial
from tests.search.fakes import FakeUnit, alone, trial, unit, units

ONE = FakeUnit("u", 32, (8, 16, 24, 32))


def curve(samples: dict[int, float], one: FakeUnit = ONE) -> dict[int, float]:
    return Sensitivity(0.9, {one.name: samples}).curve(one)


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


def test_a_unit_without_samples_has_no_curve() -> None:
    with pytest.raises(ValueError, match="no sample of unit 'other', but of .'u'"):
        Sensitivity(0.9, {"u": {8: 0.5}}).curve(unit(32, name="other"))
    with pytest.raises(ValueError, match="no sample of unit 'u'"):
        curve({32: 0.9})


@pytest.mark.parametrize(
    "base, samples",
    [(float("nan"), {8: 0.5}), (0.9, {8: float("inf")}), (0.9, {0: 0.5}), (0.9, {8.5: 0.5}), (0.9, {True: 0.5})],
)
def test_what_is_no_table_is_refused(base: float, samples: dict) -> None:
    with pytest.raises(ValueError, match="nan|inf|unit 'u' is"):
        Sensitivity(base, {"u": samples})


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
        b'{"format": 3, "base": 0.9, "accuracy": {}}',
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
    with pytest.raises(RunDirError, match="table.json is no sensitivity table .*give the file of an earlier search"):
        Sensitivity.load(tmp_path / "table.json")


def test_what_is_said_of_a_large_file_of_another_kind_is_short(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"\x80" * 10**6)
    with pytest.raises(RunDirError) as caught:
        Sensitivity.load(tmp_path / "data.npz")
    assert len(str(caught.value)) < 400


def test_a_missing_file_or_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"table.json is no sensitivity table \(No such file or directory\)"):
        Sensitivity.load(tmp_path / "table.json")
    with pytest.raises(RunDirError, match="Could not write"):
        Sensitivity(0.9, {}).save(tmp_path / "none" / "table.json")


def test_samples_by_hand() -> None:
    some = [FakeUnit("a", 80, tuple(range(10, 81, 10))), FakeUnit("b", 3, (1, 3)), FakeUnit("c", 9, (9,))]
    assert samples_to_measure(some, 1) == ((0, 10), (1, 1))
    assert samples_to_measure(some, 2) == ((0, 10), (1, 1), (0, 50))  # 4 steps up to 50, 3 on to 80
    assert samples_to_measure(some, 4) == ((0, 10), (1, 1), (0, 30), (0, 50), (0, 60))
    assert len(samples_to_measure(some, 99)) == 8


@given(st.lists(st.sets(st.integers(1, 60), min_size=1), min_size=1, max_size=5), st.integers(1, 9))
def test_samples_are_even_below_full_and_have_the_narrowest(widths: list[set[int]], most: int) -> None:
    some = [FakeUnit(f"u{i}", max(own), tuple(sorted(own))) for i, own in enumerate(widths)]
    chosen = samples_to_measure(some, most)
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


def test_at_least_one_sample_per_unit() -> None:
    with pytest.raises(ValueError, match="most is 0"):
        samples_to_measure(units(64), 0)


def trials_of(
    some: list[FakeUnit], chosen: Sequence[tuple[int, int]], failed: Sequence[tuple[int, int]] = ()
) -> list[Trial]:
    """The trials of a search that measured the samples; each has its unit's share of channels as accuracy."""
    found = [trial(some, [u.size for u in some], Outcome(0.9, 1, 0.9, 1), 0, "base")]
    for i, width in chosen:
        outcome = None if (i, width) in failed else Outcome(0.9 * width / some[i].size, 1, 0.9, 1)
        found.append(trial(some, alone(some, i, width), outcome, len(found), "sensitivity"))
    return found


def test_a_searchs_samples_make_the_table() -> None:
    some = [FakeUnit("a", 8, (2, 4, 6, 8)), FakeUnit("whole", 9, (9,)), FakeUnit("b", 10, (5, 10))]
    trials = trials_of(some, samples_to_measure(some))
    other = Outcome(0.1, 1, 0.9, 1)
    trials.insert(2, trial(some, alone(some, 0, 4), other))  # of the agent, perhaps of a part of the examples
    table = table_from_trials(some, trials)
    assert table == Sensitivity(0.9, {"a": {w: 0.9 * w / 8 for w in (2, 4, 6)}, "b": {5: 0.45}})
    assert [list(table.curve(u)) for u in some] == [[2, 4, 6, 8], [9], [5, 10]]


def test_there_is_no_table_before_every_unit_has_a_sample() -> None:
    some = units(64, 32)
    trials = trials_of(some, samples_to_measure(some))
    tables = [table_from_trials(some, trials[:count]) for count in range(len(trials) + 1)]
    assert tables[:3] == [None] * 3  # nothing, the base, and the first unit's narrowest
    assert all(set(table.accuracy) == {"unit0", "unit1"} for table in tables[3:])
    assert [sum(map(len, table.accuracy.values())) for table in tables[3:]] == [2, 3, 4, 5, 6]


def test_a_failed_sample_is_left_out() -> None:
    some = units(64, 32)
    missed = samples_to_measure(some)[0]
    table = table_from_trials(some, trials_of(some, samples_to_measure(some), failed=[missed]))
    assert {name: len(own) for name, own in table.accuracy.items()} == {"unit0": 2, "unit1": 3}
    assert missed[1] not in table.accuracy["unit0"] and missed[1] in table.curve(some[0])


def test_where_all_samples_of_a_unit_failed_there_is_no_table() -> None:
    some = units(64, 32)
    samples = samples_to_measure(some)
    failed = [sample for sample in samples if sample[0] == 0]
    assert table_from_trials(some, trials_of(some, samples, failed=failed)) is None


def test_a_digest_names_the_samples(tmp_path: Path) -> None:
    table = Sensitivity(0.9, {"a": {8: 0.5, 16: 0.6}})
    table.save(tmp_path / "t.json")
    same = [Sensitivity(0.9, {"a": {16: 0.6, 8: np.float64(0.5)}}), Sensitivity.load(tmp_path / "t.json")]
    others = [Sensitivity(0.8, table.accuracy), Sensitivity(0.9, {"b": {8: 0.5, 16: 0.6}}),
              Sensitivity(0.9, {"a": {8: 0.5}}), Sensitivity(0.9, {"a": {8: 0.5, 16: 0.61}})]  # fmt: skip
    assert {one.digest for one in same} == {table.digest}
    assert len({one.digest for one in (table, *others)}) == 5


def test_the_file_is_plain_json(tmp_path: Path) -> None:
    Sensitivity(0.9, {"a": {8: 0.5}}).save(tmp_path / "t.json")
    stored = {"format": 2, "base": 0.9, "made_with": {}, "accuracy": {"a": [[8, 0.5]]}}
    assert json.loads((tmp_path / "t.json").read_text()) == stored
