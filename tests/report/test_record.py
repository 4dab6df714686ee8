"""The best trial so far and the Pareto front of a Record."""

from dataclasses import replace

import numpy as np

from amc_tf.report.run_reader import read_run
from amc_tf.search.trial import Outcome, Trial
from tests.report import runs


def trial(number, accuracy, cost, kind="agent", examples=None):
    outcome = Outcome(accuracy, cost, 0.9, 100.0, None, examples)
    return Trial(number, "complete", kind, (8,), {"a": 0.5}, "d", outcome, accuracy - 1, 1.0)


def with_trials(record, *trials, **more):
    return replace(record, trials=trials, **more)


def test_the_best_so_far_is_that_of_the_search(tmp_path):
    record = read_run(runs.run(tmp_path / "run", tried=1))
    trials = (
        trial(0, 0.9, 100, "base"), trial(1, 0.5, 49, "uniform"), trial(2, 0.89, 49, "sensitivity"),
        trial(3, 0.8, 49, examples=64), trial(4, 0.6, 50), trial(5, 0.55, 40), trial(6, 0.6, 45), trial(7, 0.7, 51),
    )  # fmt: skip
    bounded = with_trials(record, *trials, limit=50.0).best_so_far()
    assert {number: trial.number for number, trial in bounded} == {1: 1, 2: 1, 3: 1, 4: 4, 5: 4, 6: 6, 7: 6}
    held = with_trials(record, *trials, limit=None, max_drop=35.0).best_so_far()  # 0.55 and more
    assert [trial.number for _, trial in held] == [0, 0, 2, 2, 2, 5, 5, 5]


def test_the_front_has_the_trials_that_no_other_beats_in_both(tmp_path):
    rng = np.random.default_rng(0)
    trials = [trial(n, rng.integers(1, 9) / 10, float(rng.integers(1, 30))) for n in range(60)]
    trials.append(trial(60, 1.0, 1.0, examples=3))  # an estimate does not count
    front = with_trials(read_run(runs.run(tmp_path / "run", tried=1)), *trials).front()
    points = {(t.outcome.cost, t.outcome.accuracy) for t in trials[:-1]}
    beaten = {p for p in points for q in points if q != p and q[0] <= p[0] and q[1] >= p[1]}
    assert {(t.outcome.cost, t.outcome.accuracy) for t in front} == points - beaten
    assert [t.outcome.cost for t in front] == sorted(t.outcome.cost for t in front)
