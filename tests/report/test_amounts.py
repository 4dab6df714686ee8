"""Numbers formatted for people."""

import pytest

from amc_tf.report import amounts


@pytest.mark.parametrize(
    ("target", "value", "text"),
    [
        ("macs", 62_521_984, "62.52 MMAC"),
        ("macs", 1_250_000_000, "1.25 GMAC"),
        ("params", 479_642, "479.6 k params"),
        ("params", 12, "12 params"),
        ("size", 1_936_544, "1.937 MB"),
        ("latency", 5503.8, "5.504 ms"),
        ("latency", 19.73, "19.73 µs"),
        ("latency", 12_345_678, "12,346 ms"),
    ],
)
def test_amounts_have_a_unit_that_fits(target, value, text):
    assert amounts.amount(target, value) == text


@pytest.mark.parametrize(("target", "largest", "mark"), [("macs", 2e6, "M"), ("params", 12, ""), ("size", 2e4, "kB")])
def test_columns_have_the_unit_without_the_word_mac_or_params(target, largest, mark):
    assert amounts.mark(target, largest) == mark


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1e-6, "0.000001"), (-0.1, "-0.1"), (1234.5, "1,234")])
def test_digits_are_plain_decimals(value, text):
    assert amounts.digits(value) == text


def test_accuracies_are_percent_and_points_but_a_metric_is_a_plain_number():
    assert (amounts.score(0.8298, "accuracy"), amounts.change(0.8298, 0.8944, "accuracy")) == ("82.98%", "−6.46 points")
    assert (amounts.score(-2.5, "metric"), amounts.change(-2.5, -2.0, "metric")) == ("-2.5", "−0.5")
    assert amounts.change(-1.5, -2.0, "metric") == "+0.5"


@pytest.mark.parametrize(("seconds", "text"), [(42, "42 s"), (240, "4 min"), (12_000, "3 h 20 min")])
def test_durations(seconds, text):
    assert amounts.duration(seconds) == text
