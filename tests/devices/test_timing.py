import json

import pytest

from amc_tf.devices.timing import Timing


def timing(*processes, **fields) -> Timing:
    return Timing(processes=processes, min_us=min(processes), runs=50 * len(processes), **fields)


def test_figures_are_over_the_processes():
    found = timing(100.0, 110.0, 90.0, 400.0, 105.0)
    assert (found.median_us, found.median_ms, found.mad_us) == (105.0, 0.105, 5.0)
    assert found.p90_us == pytest.approx(110 + 0.6 * (400 - 110))


def test_merged_keeps_every_process_and_the_extremes():
    first = timing(100.0, p95_us=120, memory_mb=4, delegated=(3, 4), environment={"before": 1, "after": 2})
    last = timing(90.0, p95_us=140, environment={"before": 3, "after": 4})
    merged = Timing.merged([first, last])
    assert merged.processes == (100.0, 90.0) and merged.min_us == 90.0 and merged.runs == 100
    assert (merged.p95_us, merged.memory_mb, merged.delegated) == (130, 4, (3, 4))
    assert merged.environment == {"before": 1, "after": 4}


def test_no_process_is_no_timing():
    with pytest.raises(ValueError, match="at least one"):
        Timing.merged([])


@pytest.mark.parametrize("processes", [(), (0.0,), (float("nan"),)])
def test_what_is_no_time_is_refused(processes):
    with pytest.raises(ValueError, match="positive"):
        Timing(processes=processes, min_us=1, runs=1)


def test_it_goes_into_json():
    written = json.loads(json.dumps(timing(100.0, 90.0).to_dict()))
    assert written["median_us"] == 95 and written["processes"] == [100, 90]
