"""Measured: an evaluator whose cost is a latency, foretold for every candidate and measured for those that matter."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from amc_tf.search.outcome import Outcome, Trial
from amc_tf.search.rewards import Reward

MARGIN = 0.02  # a price is off by about so much: proposals stay that far below the limit, so that most hold it
EVERY = 10  # at the latest each tenth candidate is measured, so that the correction stays fresh
_LATEST = 15  # measured candidates that the correction is taken from
_LEAST = 3  # one or two measurements are noise
FINALISTS = 5
FINAL_ROUNDS = 3  # the one that is chosen is measured again, as the file that ships


class Measured:
    """Scores like the evaluator it wraps; the cost is microseconds on a device.

    Measured are the base network, the uniform plan, every candidate more accurate than all before it, and at the latest
    every tenth. The others cost what the table says, corrected by those that were measured.

    Args:
        evaluate: widths -> Outcome whose cost is foretold.
        stopwatch: see cost.stopwatch.
        full: widths of the whole network.
        trials: those of an earlier start of the same search.
    """

    def __init__(
        self,
        evaluate: Callable[[Sequence[int]], Outcome],
        stopwatch: Any,
        full: Sequence[int],
        trials: Sequence[Trial] = (),
    ):
        self._evaluate, self._stopwatch, self._full = evaluate, stopwatch, tuple(full)
        self._outcomes = [trial.outcome for trial in trials if trial.outcome is not None]

    def __call__(self, widths: Sequence[int]) -> Outcome:
        """The outcome of keeping `widths[i]` channels of unit i.

        Raises:
            BadPredictions, DeviceError: it cannot be scored or measured.
        """
        outcome = self._evaluate(widths)
        base_us, predicted = self._stopwatch.base_us, outcome.cost
        if tuple(widths) == self._full:
            cost, foretold = base_us, None
        elif self._matters(outcome):
            cost, foretold = self._stopwatch.candidates([widths])[0], predicted
        else:
            cost, foretold = predicted * measured_share(self._outcomes), None
        outcome = Outcome(outcome.accuracy, cost, outcome.base_accuracy, base_us, foretold)
        self._outcomes.append(outcome)
        return outcome

    def _matters(self, outcome: Outcome) -> bool:
        pruned = [o for o in self._outcomes if o.cost != o.base_cost]
        return (
            all(o.accuracy < outcome.accuracy for o in pruned)
            or len(pruned) < _LEAST
            or all(o.predicted is None for o in pruned[-EVERY + 1 :])
        )


def measured_share(outcomes: Sequence[Outcome]) -> float:
    """What candidates took for each microsecond that was foretold, median of the latest; 1 before there are three."""
    shares = [outcome.cost / outcome.predicted for outcome in outcomes if outcome.predicted is not None]
    return float(np.median(shares[-_LATEST:])) if len(shares) >= _LEAST else 1.0


def correction(trials: Sequence[Trial]) -> float:
    """What Search divides its limit by."""
    return measured_share([trial.outcome for trial in trials if trial.outcome is not None]) * (1 + MARGIN)


def finalists(
    trials: Sequence[Trial], stopwatch: Any, limit: float | None, reward: Reward, count: int = FINALISTS
) -> Iterator[tuple[Trial, float]]:
    """The best trials that hold the limit when measured thoroughly, best first, with their microseconds.

    They are measured so many at a time; those further down only when the caller wants more.

    Args:
        trials: of the search.
        stopwatch: see cost.stopwatch.
        limit: microseconds, or None.
        reward: Outcome -> number; taken anew of what was measured.
        count: how many are measured at a time.

    Raises:
        DeviceError: they cannot be measured.
    """
    best_of: dict[tuple[int, ...], Trial] = {}
    for trial in trials:
        if trial.outcome is not None and trial.kind != "base":
            best_of.setdefault(trial.widths, trial)
    ranked = sorted(best_of.values(), key=lambda trial: (-trial.reward, trial.outcome.cost))
    for start in range(0, len(ranked), count):
        few = ranked[start : start + count]
        measured = []
        for trial, us in zip(few, stopwatch.candidates([trial.widths for trial in few], FINAL_ROUNDS), strict=True):
            outcome = Outcome(trial.outcome.accuracy, us, trial.outcome.base_accuracy, trial.outcome.base_cost)
            measured.append((reward(outcome), trial, us))
        for _, trial, us in sorted(measured, key=lambda found: -found[0]):
            if limit is None or us <= limit:
                yield trial, us
