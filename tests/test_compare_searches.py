"""What tools/compare_searches.py calls the first trial that differs."""

from dataclasses import replace

import pytest

from amc_tf.search.trial import Outcome, Trial
from tools.compare_searches import difference


def trial(number: int) -> Trial:
    outcome = Outcome(accuracy=0.5 + number / 100, cost=1.0, base_accuracy=0.9, base_cost=2.0)
    return Trial(number, "complete", "agent", (8,), {"conv": 0.5}, f"plan{number}", outcome, 0.1, 1.0)


TRIALS = [trial(number) for number in range(3)]
SCORED = replace(TRIALS[1], outcome=replace(TRIALS[1].outcome, accuracy=0.25))
FAILED = replace(TRIALS[1], state="failed", outcome=None, reward=None, reason="no room", failure="other")


@pytest.mark.parametrize(
    ("others", "said"),
    [
        (TRIALS, "none"),
        ([replace(one, seconds=9.0) for one in TRIALS], "none"),
        ([TRIALS[0], replace(TRIALS[1], plan="other"), TRIALS[2]], "1, proposal"),
        ([TRIALS[0], SCORED, TRIALS[2]], "1, outcome: accuracy 0.2500 for 0.5100"),
        ([TRIALS[0], FAILED, TRIALS[2]], "1, outcome: accuracy failed for 0.5100"),
        (TRIALS[:2], "2, which one of them lacks"),
    ],
)
def test_the_first_trial_that_differs(others: list[Trial], said: str) -> None:
    assert difference(TRIALS, others) == said
