from pathlib import Path

import numpy as np
import pytest

from amc_tf.devices.interleave import interleave, ratio
from amc_tf.devices.timing import Timing

US = {"base": 100.0, "half": 50.0, "same": 100.0}


class Warming:
    """A device that gets slower with every measurement, as a phone does that gets hot."""

    def __init__(self, drift: float):
        self.drift, self.measured = drift, []

    def benchmark(self, path, *, min_runs, min_seconds) -> Timing:
        us = US[Path(path).name] * (1 + self.drift * len(self.measured))
        self.measured.append((Path(path).name, min_runs, min_seconds))
        return Timing(processes=(us,), min_us=us, runs=min_runs)


def test_drift_does_not_show_in_the_ratio():
    found = interleave(Warming(drift=0.05), ["base", "half", "same"], rounds=8)
    assert [r.value for r in found.ratios] == pytest.approx([1, 0.5, 1], rel=0.1)
    assert found.timings[0].median_us > 130  # though it shows in the times


def test_every_model_once_a_round_in_changing_order():
    device = Warming(drift=0)
    interleave(device, ["base", "half", "same"], rounds=6, min_runs=7, min_seconds=0.5)
    rounds = [tuple(name for name, *_ in device.measured[i : i + 3]) for i in range(0, 18, 3)]
    assert all(sorted(turn) == ["base", "half", "same"] for turn in rounds) and len(set(rounds)) > 1
    assert {(runs, seconds) for _, runs, seconds in device.measured} == {(7, 0.5)}


def test_of_two_models_neither_always_comes_second():
    """Else a device that warms up makes every candidate of a search slower than it is."""
    device = Warming(drift=0)
    for _ in range(20):
        interleave(device, ["base", "half"], rounds=1)
    firsts = [name for name, *_ in device.measured[::2]]
    assert 3 < firsts.count("base") < 17
    device.measured.clear()
    interleave(device, ["base", "half"], rounds=4)
    assert [name for name, *_ in device.measured[::2]].count("base") == 2


def test_few_rounds_promise_no_interval():
    few, enough = (interleave(Warming(0.01), ["base", "half"], rounds=rounds).ratios[1] for rounds in (4, 5))
    assert few.low is None and few.high is None and few.value > 0
    assert enough.low <= enough.value <= enough.high


def test_the_interval_holds_the_ratio_and_tells_how_sure_it_is():
    rng = np.random.default_rng(0)

    def noisy(us, spread):
        return Timing(processes=tuple(us * rng.normal(1, spread, 15)), min_us=1, runs=15)

    sure, unsure = (ratio(noisy(50, spread), noisy(100, spread)) for spread in (0.01, 0.1))
    assert sure.low < 0.5 < sure.high and unsure.low < 0.5 < unsure.high
    assert unsure.high - unsure.low > 3 * (sure.high - sure.low)


@pytest.mark.parametrize("paths, rounds", [([], 3), (["base"], 0)])
def test_nothing_to_compare_is_refused(paths, rounds):
    with pytest.raises(ValueError, match="rounds"):
        interleave(Warming(0), paths, rounds=rounds)


def test_timings_of_different_rounds_have_no_ratio():
    one, two = (Timing(processes=(1.0,) * n, min_us=1, runs=1) for n in (1, 2))
    with pytest.raises(ValueError, match="same number"):
        ratio(one, two)
